//! The scenes, in the order in which they begin.

use super::cast::*;
use super::teller::{Event, L4, Packet, Teller};
use crate::demo::need::Direction::{Egress, Ingress};
use crate::source::proto::flow::{TrafficDirection, Verdict};

/// Everything that happens.
pub(super) fn all(teller: &mut Teller) {
    teller.connected(0);
    orders(teller);
    money(teller);
    scrapes(teller);
    infrastructure(teller);
    outside(teller);
    radio(teller);
    refused(teller);
    broken(teller);
    passed(teller);
}

/// Two replicas want the cart; the cart wants its store, the payments and another cluster.
fn orders(t: &mut Teller) {
    for (ms, from, source) in [(40, &WEB_1, 40600), (95, &WEB_2, 40762), (700, &WEB_1, 40604)] {
        t.need(ms, Egress, Packet::syn(from, &CART, source, 8080));
    }
    t.retransmits(40, Egress, Packet::syn(&WEB_1, &CART, 40600, 8080));
    t.need(60, Ingress, Packet::syn(&CART, &SHOP_REDIS, 51004, 6379).v6());
    t.need(120, Egress, Packet::syn(&CART, &API, 51010, 8443));
    t.retransmits(120, Egress, Packet::syn(&CART, &API, 51010, 8443));
    t.need(160, Ingress, Packet::syn(&CART, &API, 51012, 8443));
    t.need(210, Egress, Packet::syn(&CART, &INVENTORY, 51020, 9000));
    t.need(240, Ingress, Packet::syn(&INGRESS, &WEB_1, 38800, 8080));
}

/// Payments: a store of their own with the labels of the shop's, and one peer without labels.
fn money(t: &mut Teller) {
    t.need(260, Egress, Packet::syn(&API, &PAY_REDIS, 44100, 6379));
    t.need(280, Ingress, Packet::syn(&LEDGER, &PAY_REDIS, 44110, 6379));
    t.need(300, Egress, Packet::syn(&API, &LEDGER, 44120, 50051));
    t.retransmits(300, Egress, Packet::syn(&API, &LEDGER, 44120, 50051));
    t.need(340, Ingress, Packet::syn(&IMPORTER, &LEDGER, 44130, 50051));
    t.need(360, Egress, Packet::new(&LEDGER, &API, L4::Icmp(8)));
    t.need(380, Egress, Packet::new(&LEDGER, &API, L4::Icmp(128)).v6());
}

/// Prometheus knocks at every door.
fn scrapes(t: &mut Teller) {
    let doors = [
        (&WEB_1, 9113),
        (&WEB_2, 9113),
        (&CART, 9102),
        (&API, 9102),
        (&SHOP_REDIS, 9121),
        (&PAY_REDIS, 9121),
    ];
    for (ms, (door, port)) in (420..).step_by(30).zip(doors) {
        t.need(ms, Ingress, Packet::syn(&PROMETHEUS, door, 35000 + port, port));
        t.need(ms + 1500, Ingress, Packet::syn(&PROMETHEUS, door, 36000 + port, port));
    }
}

/// Names, the API server, and nodes.
fn infrastructure(t: &mut Teller) {
    t.need(620, Egress, Packet::new(&WEB_1, &DNS, L4::Udp(47001, 53)));
    t.need(640, Egress, Packet::new(&CART, &DNS, L4::Udp(47011, 53)));
    t.need(660, Egress, Packet::syn(&CART, &DNS, 47013, 53));
    t.need(680, Egress, Packet::syn(&PROMETHEUS, &APISERVER, 36100, 6443));
    t.retransmits(680, Egress, Packet::syn(&PROMETHEUS, &APISERVER, 36100, 6443));
    t.need(720, Ingress, Packet::syn(&HOST, &CART, 52002, 8081));
    t.need(740, Ingress, Packet::syn(&REMOTE_NODE, &API, 52010, 8443));
    t.need(760, Egress, Packet::syn(&PROMETHEUS, &REMOTE_NODE, 36110, 9100));
}

/// Addresses outside the cluster, with and without a prefix that a policy named.
fn outside(t: &mut Teller) {
    t.need(800, Egress, Packet::syn(&API, &STRIPE, 45670, 443));
    t.need(830, Egress, Packet::syn(&API, &MIRROR, 45676, 443).v6());
    t.need(860, Egress, Packet::syn(&LEDGER, &BANK, 45700, 8443));
    t.need(890, Egress, Packet::new(&LEDGER, &CLOCK, L4::Udp(123, 123)));
}

/// SCTP.
fn radio(t: &mut Teller) {
    t.need(930, Egress, Packet::new(&GNB, &AMF, L4::Sctp(38412, 38412)));
    t.need(950, Ingress, Packet::new(&GNB, &AMF, L4::Sctp(38412, 38412)));
}

/// Drops by policy that no new rule may come of.
fn refused(t: &mut Teller) {
    // a reply whose connection was forgotten, and a packet from the middle of one
    t.drop(1010, Egress, 133, Packet::new(&CART, &WEB_2, L4::Tcp(8080, 40990, [true, true, false])));
    t.drop(1040, Egress, 133, Packet::new(&WEB_2, &CART, L4::Tcp(40992, 8080, [false, true, true])));
    t.drop(1060, Ingress, 133, Packet::new(&DNS, &WEB_2, L4::Udp(53, 47999)));
    // an explicit deny, and a rule that asks for authentication
    t.drop(1090, Egress, 181, Packet::syn(&WEB_1, &STRIPE, 41000, 80));
    t.drop(1120, Egress, 189, Packet::syn(&API, &LEDGER, 44190, 9443));
    // the host is no subject of a namespaced policy, and a pod without lasting labels cannot be one
    t.drop(1150, Ingress, 133, Packet::syn(&PROMETHEUS, &HOST, 36200, 9100));
    t.drop(1180, Egress, 133, Packet::syn(&BARE, &CART, 39000, 8080));
    // a name that the DNS proxy refused
    let l7 = Event {
        kind: 129,
        sub_kind: 0,
        verdict: Verdict::Dropped,
        reason: 0,
        direction: TrafficDirection::Egress,
    };
    t.event(1_210_000, Packet::new(&API, &DNS, L4::Udp(57016, 53)), l7);
    // audit mode: would have been dropped, but passed
    let audit = Event { kind: 5, verdict: Verdict::Audit, ..l7 };
    t.event(1_240_000, Packet::syn(&AMF, &SHOP_REDIS, 58000, 6379), audit);
    t.lost(1300, 7);
}

/// Drops that no policy made.
fn broken(t: &mut Teller) {
    for (ms, reason, to) in [(1330, 155, &CART), (1360, 155, &API), (1390, 158, &CART)] {
        t.broken(ms, Egress, reason, Packet::syn(&WEB_2, to, 42_000, 8080));
    }
    t.broken(1420, Ingress, 177, Packet::syn(&STRANGER, &WEB_1, 60001, 443));
    t.broken(1450, Ingress, 171, Packet::syn(&REMOTE_NODE, &CART, 60010, 8080));
    t.broken(1480, Egress, 203, Packet::syn(&GNB, &AMF, 60020, 80));
    t.broken(1510, Ingress, 132, Packet::new(&LINK_LOCAL, &ROUTERS, L4::Icmp(133)).v6());
    t.broken(1540, Egress, 251, Packet::syn(&API, &BANK, 60030, 443));
}

/// What the shop lives on: most of what a relay sends.
fn passed(t: &mut Teller) {
    for round in 0..9u32 {
        let ms = 200 + u64::from(round) * 415;
        let request = [false, true, true];
        t.forwarded(ms, Packet::syn(&WEB_1, &SHOP_REDIS, 30_000 + round, 6379));
        t.forwarded(ms + 3, Packet::new(&WEB_1, &SHOP_REDIS, L4::Tcp(30_000 + round, 6379, request)));
        t.forwarded(ms + 40, Packet::new(&API, &DNS, L4::Udp(33_000 + round, 53)));
        t.forwarded(ms + 90, Packet::syn(&PROMETHEUS, &DNS, 34_000 + round, 9153).v6());
    }
}
