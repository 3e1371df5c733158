//! Tests of the directory.

use super::*;
use crate::flow::{Port, Protocol};
use crate::names::Namespace;
use crate::policy::{Allow, Peer, Rule, Selector, Subject};

/// A directory for one test, with its store.
struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

// === impl Place ===

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[allow(clippy::disallowed_methods, reason = "tests play the person who writes by hand")]
    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn apply(&mut self, additions: &[Addition]) -> Vec<Applied> {
        self.store.apply(additions).unwrap()
    }

    /// Applies one and checks which file it went to.
    fn one(&mut self, addition: &Addition, name: &str) -> Applied {
        let applied = self.apply(std::slice::from_ref(addition)).remove(0);
        assert_eq!(applied.path, self.path(name), "{applied:?}");
        applied
    }

    /// Every file, sorted.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    directories.push(path);
                } else {
                    files.push(path.strip_prefix(self.directory.path()).unwrap().display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

fn open(root: &Path) -> Store {
    Store::open(root.to_owned(), Duration::from_secs(5)).unwrap()
}

fn subject(labels: &[(&str, &str)]) -> Subject {
    Subject {
        namespace: Namespace::parse("shop").unwrap(),
        selector: Selector::new(labels.iter().copied()).unwrap(),
    }
}

fn rule(port: u16) -> Rule {
    Rule::plain(
        Direction::Ingress,
        Peer::Endpoints(Selector::new([("app", "web")]).unwrap()),
        Allow::Port(Protocol::Tcp, Port::new(port).unwrap()),
    )
}

fn addition(labels: &[(&str, &str)], port: u16) -> Addition {
    Addition { subject: subject(labels), rules: vec![rule(port)] }
}

fn cart(port: u16) -> Addition {
    addition(&[("app", "cart")], port)
}

/// A hand-written policy for `app: cart` in namespace `shop`.
fn by_hand(name: &str) -> String {
    format!(
        "# mine\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{'k8s:app': cart}}}}\n  ingress: [{{}}]\n"
    )
}

#[test]
fn a_run_that_learns_nothing_touches_nothing() {
    let mut place = Place::new();
    let applied = place.one(&cart(80), "shop/cart.yaml");
    assert!(matches!(applied.outcome, Outcome::Created), "{applied:?}");
    assert_eq!((applied.first_in_direction, applied.added), (vec![Direction::Ingress], vec![rule(80)]));
    assert!(place.text("shop/cart.yaml").contains("\n  name: cpg-cart\n  namespace: shop\n"));
    let before = atomic::read(&place.path("shop/cart.yaml")).unwrap();

    let applied = place.one(&cart(80), "shop/cart.yaml");
    assert!(matches!(applied.outcome, Outcome::Unchanged), "{applied:?}");
    assert_eq!((applied.present, applied.added.len()), (1, 0));
    assert_eq!(atomic::read(&place.path("shop/cart.yaml")).unwrap().stamp, before.stamp);

    place.store = open(place.directory.path());
    let applied = place.one(&cart(81), "shop/cart.yaml");
    assert!(matches!(applied.outcome, Outcome::Updated), "{applied:?}");
    assert_eq!(applied.first_in_direction, []);
    assert_eq!(place.files(), ["shop/cart.yaml"]);
    let none = Addition { subject: subject(&[("app", "none")]), rules: Vec::new() };
    assert!(matches!(place.apply(&[none])[0].outcome, Outcome::Unchanged));
    assert_eq!(place.files(), ["shop/cart.yaml"]);
}

#[test]
fn files_are_found_by_their_meaning() {
    let mut place = Place::new();
    place.put("any/where/policy.yml", &by_hand("web"));
    place.put("any/where/README.md", &by_hand("web"));
    place.put(".git/policy.yaml", &by_hand("web"));
    let applied = place.one(&cart(80), "any/where/policy.yml");
    assert!(matches!(applied.outcome, Outcome::Updated) && applied.first_in_direction.is_empty());
    assert!(place.text("any/where/policy.yml").starts_with("# mine\n"));
    // One that cpg named comes first, whatever its path.
    place.put("z.yaml", &by_hand("cpg-cart"));
    place.one(&cart(81), "z.yaml");
    // It moves, and is found again.
    fs::rename(place.path("z.yaml"), place.path("zz.yaml")).unwrap();
    place.one(&cart(82), "zz.yaml");
}

#[test]
fn the_directory_names_the_namespace_where_the_document_does_not() {
    let mut place = Place::new();
    let text = by_hand("web").replace(", namespace: shop", "");
    place.put("other/policy.yaml", &text);
    place.put("policy.yaml", &text);
    place.put("shop/deep/policy.yaml", &text);
    place.one(&cart(80), "shop/deep/policy.yaml");
}

#[test]
fn names_belong_to_one_owner() {
    let mut place = Place::new();
    // Both would be called `cart.db`: the smaller hash stays plain, in whatever order they come.
    let one = addition(&[("app", "cart"), ("tier", "db")], 80);
    let two = addition(&[("app", "cart"), ("zone", "db")], 80);
    let (plain, other) = if one.subject.selector.hash64() < two.subject.selector.hash64() {
        (&one, &two)
    } else {
        (&two, &one)
    };
    let hashed = format!("shop/cart.db-{:08x}.yaml", other.subject.selector.hash64() >> 32);
    for order in [[one.clone(), two.clone()], [two.clone(), one.clone()]] {
        let mut place = Place::new();
        let applied = place.apply(&order);
        for (applied, addition) in applied.iter().zip(&order) {
            assert_eq!(applied.subject, addition.subject);
            let name = if addition == plain { "shop/cart.db.yaml" } else { &hashed };
            assert_eq!(applied.path, place.path(name));
        }
    }
    // Across windows the first one keeps it.
    place.one(other, "shop/cart.db.yaml");
    place.one(plain, &format!("shop/cart.db-{:08x}.yaml", plain.subject.selector.hash64() >> 32));
    // A metadata.name elsewhere counts too.
    place.put("x.yaml", &by_hand("cpg-api"));
    let api = addition(&[("app", "api")], 80);
    let hashed = format!("shop/api-{:08x}.yaml", api.subject.selector.hash64() >> 32);
    place.one(&api, &hashed);
    // So does a file of another subject at the path.
    place.put("shop/pay.yaml", &by_hand("web").replace("cart", "elsewhere"));
    let pay = addition(&[("app", "pay")], 80);
    place.one(&pay, &format!("shop/pay-{:08x}.yaml", pay.subject.selector.hash64() >> 32));
}

#[test]
fn a_refused_file_stays_and_the_additions_go_beside_it() {
    let mut place = Place::new();
    let anchored = by_hand("cart").replace("[{}]", "&a [{}]");
    place.put("shop/mine.yaml", &anchored);
    let applied = place.one(&cart(80), "shop/mine.cpg.yaml");
    assert!(matches!(applied.outcome, Outcome::Created), "{applied:?}");
    assert!(
        applied.note.as_ref().is_some_and(|note| note.contains("mine.yaml uses YAML anchors")),
        "{applied:?}"
    );
    assert_eq!(applied.first_in_direction, [], "the refused file has rules in this direction");
    assert!(place.text("shop/mine.cpg.yaml").contains("name: cpg-mine-additions\n"));
    // Later windows find it by its meaning.
    let applied = place.one(&cart(81), "shop/mine.cpg.yaml");
    assert!(matches!(applied.outcome, Outcome::Updated));
    assert_eq!(place.text("shop/mine.yaml"), anchored);
    // When people make that one unfit too, a third one is made.
    place.put("shop/mine.cpg.yaml", &anchored.replace("name: cart", "name: cpg-mine-additions"));
    let hash = cart(0x50).subject.selector.hash64() >> 32;
    place.one(&cart(82), &format!("shop/mine-{hash:08x}.cpg.yaml"));
}

#[test]
fn a_foreign_file_in_the_way_stays() {
    for (text, why) in [
        ("a: [\n", "not readable as YAML"),
        ("{{ if .x }}\nkind: CiliumNetworkPolicy\n{{ end }}\n", "template"),
        ("apiVersion: v1\nkind: Pod\n", "v1 Pod"),
        ("", "no Kubernetes object"),
        ("a: 1\na: 2\n", "twice"),
    ] {
        let mut place = Place::new();
        place.put("shop/cart.yaml", text);
        let applied = place.one(&cart(80), "shop/cart.cpg.yaml");
        assert!(applied.note.as_ref().is_some_and(|note| note.contains(why)), "{why}: {applied:?}");
        place.one(&cart(81), "shop/cart.cpg.yaml");
        assert_eq!(place.text("shop/cart.yaml"), text);
        let overlooked = text.contains("CiliumNetworkPolicy");
        assert_eq!(place.store.overlooked().count(), usize::from(overlooked), "{text}");
        assert_eq!(place.files(), ["shop/cart.cpg.yaml", "shop/cart.yaml"]);
    }
    // A directory of that name.
    let mut place = Place::new();
    fs::create_dir_all(place.path("shop/cart.yaml")).unwrap();
    place.one(&cart(80), "shop/cart.cpg.yaml");
}

#[test]
fn an_unreadable_file_fails_its_policy_only() {
    let mut place = Place::new();
    fs::create_dir(place.path("shop")).unwrap();
    // Not UTF-8: cannot be read as text, so nobody knows whose it is.
    #[allow(clippy::disallowed_methods, reason = "a test")]
    fs::write(place.path("shop/cart.yaml"), b"kind: \xff\n").unwrap();
    let applied = place.apply(&[cart(80), addition(&[("app", "api")], 80)]);
    let Outcome::Failed(error) = &applied[0].outcome else { panic!("{applied:?}") };
    assert!(error.to_string().contains("shop/cart.yaml: ") && error.to_string().contains("UTF-8"), "{error}");
    assert!(matches!(applied[1].outcome, Outcome::Created));
    // A link that leads nowhere.
    let mut place = Place::new();
    fs::create_dir(place.path("shop")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("shop/cart.yaml")).unwrap();
    place.one(&cart(80), "shop/cart.cpg.yaml");
}

#[test]
fn errors_name_the_path_and_what_to_do() {
    let place = Place::new();
    place.put("file", "");
    let error = Store::open(place.path("file"), Duration::ZERO).unwrap_err();
    assert!(matches!(error, StoreError::NotADirectory(_)), "{error}");
    let error = Store::open(place.path("file/below"), Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("file/below is not a directory: "), "{error}");
    // A file where the namespace's directory should be.
    let mut place = Place::new();
    place.put("shop", "");
    let applied = place.apply(&[cart(80)]).remove(0);
    let Outcome::Failed(error) = &applied.outcome else { panic!("{applied:?}") };
    assert_eq!(
        error.to_string(),
        format!(
            "{} is not a directory: move it away or choose another output directory",
            place.path("shop").display()
        )
    );
    assert_eq!(place.files(), ["shop"]);
    // A link to a directory is not written through.
    let mut place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), place.path("shop")).unwrap();
    let applied = place.apply(&[cart(80)]).remove(0);
    assert!(matches!(applied.outcome, Outcome::Failed(StoreError::LinkedDirectory(_))), "{applied:?}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn the_lock_is_waited_for_and_then_given_up() {
    let mut place = Place::new();
    place.store = Store::open(place.directory.path().to_owned(), Duration::from_millis(60)).unwrap();
    let lock = Lock::take(place.directory.path(), Duration::ZERO).unwrap();
    let error = place.store.apply(&[cart(80)]).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert!(place.files().is_empty());
    let root = place.directory.path().to_owned();
    let waiting = std::thread::spawn(move || open(&root).apply(&[cart(80)]).map(|applied| applied.len()));
    std::thread::sleep(Duration::from_millis(50));
    drop(lock);
    assert_eq!(waiting.join().unwrap().unwrap(), 1);
}

#[test]
fn two_stores_write_one_directory() {
    let place = Place::new();
    let writers: Vec<_> = (0..4u16)
        .map(|writer| {
            let mut store = Store::open(place.directory.path().to_owned(), Duration::from_secs(60)).unwrap();
            std::thread::spawn(move || {
                for i in 0..10 {
                    let applied = store.apply(&[cart(1000 + writer * 10 + i)]).unwrap();
                    assert_eq!(applied[0].added.len(), 1);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let text = place.text("shop/cart.yaml");
    assert_eq!(text.matches("- port: ").count(), 40);
    assert!(Policy::from_canonical(&text).is_some());
    assert_eq!(place.files(), ["shop/cart.yaml"]);
}

#[cfg(unix)]
#[test]
fn modes_and_links_are_kept() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut place = Place::new();
    place.put("plain", "");
    place.one(&cart(80), "shop/cart.yaml");
    assert_eq!(mode(place.path("shop/cart.yaml")), mode(place.path("plain")), "as the umask says");
    fs::set_permissions(place.path("shop/cart.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    place.one(&cart(81), "shop/cart.yaml");
    assert_eq!(mode(place.path("shop/cart.yaml")), 0o640);

    // A link inside the directory: its target is replaced, the link stays.
    let mut place = Place::new();
    place.put("base/cart.txt", &by_hand("cart"));
    fs::create_dir(place.path("shop")).unwrap();
    symlink("../base/cart.txt", place.path("shop/cart.yaml")).unwrap();
    let applied = place.one(&cart(80), "shop/cart.yaml");
    assert!(matches!(applied.outcome, Outcome::Updated), "{applied:?}");
    assert!(fs::symlink_metadata(place.path("shop/cart.yaml")).unwrap().is_symlink());
    assert!(place.text("base/cart.txt").contains("\"80\""));

    // A link out of it belongs to others too.
    let mut place = Place::new();
    let elsewhere = Place::new();
    elsewhere.put("cart.yaml", &by_hand("cart"));
    fs::create_dir(place.path("shop")).unwrap();
    symlink(elsewhere.path("cart.yaml"), place.path("shop/cart.yaml")).unwrap();
    let applied = place.one(&cart(80), "shop/cart.cpg.yaml");
    assert!(applied.note.as_ref().is_some_and(|note| note.contains("outside")), "{applied:?}");
    assert_eq!(elsewhere.text("cart.yaml"), by_hand("cart"));

    // A hard link: a snapshot of the directory keeps what it was.
    let mut place = Place::new();
    place.put("shop/cart.yaml", &by_hand("cart"));
    fs::hard_link(place.path("shop/cart.yaml"), place.path("snapshot")).unwrap();
    let applied = place.one(&cart(80), "shop/cart.yaml");
    assert!(applied.note.as_ref().is_some_and(|note| note.contains("hard links")), "{applied:?}");
    assert_eq!(place.text("snapshot"), by_hand("cart"));
    assert!(place.text("shop/cart.yaml").contains("\"80\""));
}

#[test]
fn what_a_killed_run_left_is_swept() {
    let place = Place::new();
    for name in [
        ".cpg-abc.tmp",
        "shop/.cpg-x.tmp",
        ".cpg/.cpg-y.tmp",
        "shop/mine.tmp",
        ".git/.cpg-z.tmp",
        "cpg-a.tmp",
    ] {
        place.put(name, "half");
    }
    open(place.directory.path());
    assert_eq!(place.files(), [".git/.cpg-z.tmp", "cpg-a.tmp", "shop/mine.tmp"]);
}

#[test]
fn a_file_that_changed_meanwhile_is_not_overwritten() {
    let place = Place::new();
    place.put("a.yaml", "one");
    let path = place.path("a.yaml");
    let old = atomic::read(&path).unwrap();
    place.put("a.yaml", "two and more");
    assert_eq!(atomic::replace(&path, "three", Some(&old)).unwrap(), Replaced::Stale);
    assert_eq!(atomic::replace(&path, "three", None).unwrap(), Replaced::Stale);
    assert_eq!(place.text("a.yaml"), "two and more");
    let old = atomic::read(&path).unwrap();
    assert_eq!(atomic::replace(&path, "three", Some(&old)).unwrap(), Replaced::Done);
    assert_eq!((place.text("a.yaml").as_str(), place.files().len()), ("three", 1));
    fs::remove_file(&path).unwrap();
    assert_eq!(atomic::replace(&path, "four", Some(&old)).unwrap(), Replaced::Stale);
    // Nowhere to write: nothing is left behind.
    assert!(atomic::replace(&place.path("none/b.yaml"), "x", None).is_err());
    assert!(place.files().is_empty());
}

#[test]
fn a_directory_that_vanished_is_made_again() {
    let mut place = Place::new();
    place.one(&cart(80), "shop/cart.yaml");
    fs::remove_dir_all(place.directory.path()).unwrap();
    let applied = place.one(&cart(81), "shop/cart.yaml");
    assert!(matches!(applied.outcome, Outcome::Created));
}

#[test]
fn several_subjects_of_one_file_and_one_window() {
    let mut place = Place::new();
    let two = format!("{}---\n{}", by_hand("a"), by_hand("b").replace("'k8s:app': cart", "app: api"));
    place.put("all.yaml", &two);
    let applied = place.apply(&[addition(&[("app", "api")], 80), cart(81), cart(82)]);
    assert!(applied.iter().all(|applied| applied.path == place.path("all.yaml") && applied.added.len() == 1));
    let text = place.text("all.yaml");
    let mut lines = text.lines();
    let mut kept = two.lines().filter(|line| !line.starts_with("  ingress"));
    assert!(kept.all(|line| lines.any(|l| l == line)), "{text}");
    assert!(place.apply(&[cart(81), cart(82)]).iter().all(|a| matches!(a.outcome, Outcome::Unchanged)));
}
