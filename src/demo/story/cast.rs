//! Who appears in the story: their labels on the wire, and, chosen by hand, those that select them.

/// Labels as (key, value).
pub(super) type Pairs = &'static [(&'static str, &'static str)];

/// A pod, a node or an address.
#[derive(Debug)]
pub(super) struct Actor {
    /// Cilium's numeric identity.
    pub(super) identity: u32,
    /// Empty for what is no pod.
    pub(super) namespace: &'static str,
    /// The pod's name, or empty.
    pub(super) pod: &'static str,
    /// The node it runs on: 0 or 1; 9 for outside.
    pub(super) node: u8,
    /// Its address in IPv4, or empty.
    pub(super) v4: &'static str,
    /// Its address in IPv6, or empty.
    pub(super) v6: &'static str,
    /// Its own labels, sorted by key; what Cilium adds is not among them.
    pub(super) labels: Pairs,
    /// How a policy selects it.
    pub(super) select: Select,
}

/// How a policy selects an actor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Select {
    /// By these of its labels, sorted by key.
    Labels(Pairs),
    /// By its service account, and only as a peer.
    ServiceAccount(&'static str),
    /// As this entity, with these labels on the wire.
    Entity(&'static str, &'static [&'static str]),
    /// By its address, with these labels on the wire.
    Address(&'static [&'static str]),
    /// Not at all; with these labels on the wire.
    Nothing(&'static [&'static str]),
}

impl Actor {
    /// The cluster that a pod runs in.
    pub(super) fn cluster(&self) -> &'static str {
        if self.namespace.is_empty() {
            ""
        } else if self.node == 9 {
            "west"
        } else {
            "east"
        }
    }
}

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const COMPONENT: &str = "app.kubernetes.io/component";

const WEB_LABELS: Pairs = &[
    (COMPONENT, "frontend"),
    (INSTANCE, "shop"),
    ("app.kubernetes.io/managed-by", "Helm"),
    (NAME, "web"),
    ("app.kubernetes.io/version", "1.4.2"),
    ("helm.sh/chart", "web-1.4.2"),
];
const WEB: Select = Select::Labels(&[(COMPONENT, "frontend"), (INSTANCE, "shop"), (NAME, "web")]);

/// A pod from what differs.
macro_rules! pod {
    ($name:ident, $identity:literal, $namespace:literal / $pod:literal @ $node:literal, $address:literal,
     $labels:expr, $select:expr) => {
        pub(super) const $name: Actor = Actor {
            identity: $identity,
            namespace: $namespace,
            pod: $pod,
            node: $node,
            v4: concat!("10.24.", $node, ".", $address),
            v6: concat!("fd00:24:a", $node, "::", $address),
            labels: $labels,
            select: $select,
        };
    };
}

/// Something that is no pod.
macro_rules! other {
    ($name:ident, $identity:literal @ $node:literal, $v4:literal, $v6:literal, $select:expr) => {
        pub(super) const $name: Actor = Actor {
            identity: $identity,
            namespace: "",
            pod: "",
            node: $node,
            v4: $v4,
            v6: $v6,
            labels: &[],
            select: $select,
        };
    };
}

pod!(WEB_1, 20407, "shop" / "web-7d9c6f5b8c-k2x4q" @ 0, "11", WEB_LABELS, WEB);
pod!(WEB_2, 20407, "shop" / "web-7d9c6f5b8c-v7m8t" @ 1, "12", WEB_LABELS, WEB);
pod!(CART, 4997, "shop" / "cart-5b6d7f8c9d-qk2xq" @ 0, "13",
    &[(COMPONENT, "api"), (INSTANCE, "shop"), (NAME, "cart")],
    Select::Labels(&[(COMPONENT, "api"), (INSTANCE, "shop"), (NAME, "cart")]));
pod!(SHOP_REDIS, 31820, "shop" / "redis-0" @ 1, "14", &[("app", "redis")], Select::Labels(&[("app", "redis")]));
pod!(BARE, 52077, "shop" / "debug-6c8f-zz9pl" @ 0, "15", &[("pod-template-hash", "6c8f")], Select::Nothing(&[]));
pod!(API, 41640, "pay" / "api-6f8b9c7d5-lm9ns" @ 0, "21", &[("app", "api"), ("version", "v2")],
    Select::Labels(&[("app", "api")]));
pod!(LEDGER, 44175, "pay" / "ledger-0" @ 1, "22", &[("team", "payments"), ("tier", "backend")],
    Select::Labels(&[("team", "payments"), ("tier", "backend")]));
pod!(PAY_REDIS, 31821, "pay" / "redis-0" @ 1, "23", &[("app", "redis")], Select::Labels(&[("app", "redis")]));
pod!(IMPORTER, 18011, "pay" / "importer-x7c2p" @ 1, "24", &[], Select::ServiceAccount("importer"));
pod!(PROMETHEUS, 27113, "obs" / "prometheus-k8s-0" @ 1, "31",
    &[(INSTANCE, "k8s"), (NAME, "prometheus"), ("app.kubernetes.io/version", "3.1.0")],
    Select::Labels(&[(INSTANCE, "k8s"), (NAME, "prometheus")]));
pod!(DNS, 6493, "kube-system" / "coredns-668d6bf9bc-5tq8j" @ 0, "41", &[("k8s-app", "kube-dns")],
    Select::Labels(&[("k8s-app", "kube-dns")]));
pod!(AMF, 10021, "telco" / "amf-0" @ 0, "51", &[("app", "amf"), ("tier", "core")],
    Select::Labels(&[("app", "amf"), ("tier", "core")]));
pod!(GNB, 10022, "telco" / "gnb-0" @ 1, "52", &[("app", "gnb")], Select::Labels(&[("app", "gnb")]));
pod!(INVENTORY, 150_117, "shop" / "inventory-84d7c5d6bb-9n4rd" @ 9, "61", &[("app", "inventory")],
    Select::Labels(&[("app", "inventory")]));

other!(HOST, 1 @ 0, "10.24.0.1", "fd00:24:a0::1", Select::Entity("host", &["reserved:host"]));
other!(REMOTE_NODE, 6 @ 1, "10.24.1.1", "fd00:24:a1::1", Select::Entity("remote-node", &["reserved:remote-node"]));
other!(APISERVER, 7 @ 1, "10.24.1.2", "fd00:24:a1::2",
    Select::Entity("kube-apiserver", &["reserved:kube-apiserver", "reserved:remote-node"]));
other!(INGRESS, 8 @ 0, "10.24.0.99", "fd00:24:a0::99", Select::Entity("ingress", &["reserved:ingress"]));
other!(STRIPE, 9 @ 9, "192.0.2.7", "", Select::Address(&["reserved:world-ipv4"]));
other!(MIRROR, 10 @ 9, "", "2001:db8:100::7", Select::Address(&["reserved:world-ipv6"]));
other!(BANK, 16_777_221 @ 9, "198.51.100.20", "",
    Select::Address(&["cidr:198.51.100.0/24", "reserved:world-ipv4"]));
other!(CLOCK, 9 @ 9, "203.0.113.123", "", Select::Address(&["reserved:world-ipv4"]));
// a pod by an address that is not its own: Hubble knows its identity, but not the pod
other!(LINK_LOCAL, 31820 @ 1, "", "fe80::b80b:16ff:fe59:db5d",
    Select::Nothing(&["k8s:app=redis", "k8s:io.cilium.k8s.policy.cluster=east",
        "k8s:io.cilium.k8s.policy.serviceaccount=default", "k8s:io.kubernetes.pod.namespace=shop"]));
other!(ROUTERS, 10 @ 9, "", "ff02::2", Select::Nothing(&["reserved:world-ipv6"]));
other!(STRANGER, 2 @ 9, "203.0.113.66", "", Select::Nothing(&["reserved:world-ipv4"]));
