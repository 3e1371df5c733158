//! Tests of the directory.

use super::*;
use crate::flow::{Port, Protocol};
use crate::names::Namespace;
use crate::policy::{Allow, Peer, Selector};

fn addition(labels: &[(&str, &str)], port: u16) -> Addition {
    Addition {
        subject: Subject {
            namespace: Namespace::parse("shop").unwrap(),
            selector: Selector::new(labels.iter().copied()).unwrap(),
        },
        rules: vec![Rule {
            direction: Direction::Ingress,
            peer: Peer::Endpoints(Selector::new([("app", "web")]).unwrap()),
            allow: Allow::Port(Protocol::Tcp, Port::new(port).unwrap()),
        }],
    }
}

fn open(root: &Path) -> Store {
    Store::open(root.to_owned(), Duration::from_secs(5)).unwrap()
}

#[test]
fn a_run_that_learns_nothing_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let applied = store.apply(&[addition(&[("app", "cart")], 80)]).unwrap();
    assert!(matches!(applied[0].outcome, Outcome::Created), "{applied:?}");
    assert_eq!(applied[0].path, directory.path().join("shop/cart.yaml"));
    assert_eq!(applied[0].first_in_direction, [Direction::Ingress]);
    let before = atomic::read(&applied[0].path).unwrap();
    let applied = store.apply(&[addition(&[("app", "cart")], 80)]).unwrap();
    assert!(matches!(applied[0].outcome, Outcome::Unchanged), "{applied:?}");
    assert_eq!((applied[0].present, atomic::read(&applied[0].path).unwrap().stamp), (1, before.stamp));
    let applied = open(directory.path()).apply(&[addition(&[("app", "cart")], 81)]).unwrap();
    assert!(matches!(applied[0].outcome, Outcome::Updated), "{applied:?}");
    assert_eq!(applied[0].first_in_direction, []);
}
