//! The schemas of Cilium 1.16 to 1.20 and of `networking.k8s.io/v1`, as far as the API server checks them.

use super::text::Text;
use super::{Field, List, Node, Shape};
use crate::policy::spec::Version;

const V16: Version = Version::V1_16;
const V17: Version = Version::V1_17;
const V18: Version = Version::V1_18;
const V19: Version = Version::V1_19;
const V20: Version = Version::V1_20;

const fn field(name: &'static str, node: Node) -> Field {
    Field { name, node, required: None, since: V16, until: None }
}

impl Field {
    const fn required(self) -> Self {
        Self { required: Some((V16, None)), ..self }
    }

    const fn required_before(self, version: Version) -> Self {
        Self { required: Some((V16, Some(version))), ..self }
    }

    const fn since(self, version: Version) -> Self {
        Self { since: version, ..self }
    }

    const fn until(self, version: Version) -> Self {
        Self { until: Some(version), ..self }
    }
}

const fn list(item: Node) -> List {
    List { item, min: 0, max: usize::MAX, set: false }
}

const fn shape(fields: &'static [Field]) -> Shape {
    Shape { fields, one_of: &[], any_of: None }
}

const fn one_of(names: &'static [&'static str], fields: &'static [Field]) -> Shape {
    Shape { fields, one_of: names, any_of: None }
}

const FREE: Node = Node::Text(Text::Free);
const TIME: Node = Node::Text(Text::Time);

static FREE_TEXT: Node = FREE;
static TEXTS: List = list(FREE);
static ANYTHING: Node = Node::Any;

pub(super) static CILIUM: Shape = shape(&[
    field("apiVersion", FREE),
    field("kind", FREE),
    field("metadata", Node::Shape(&METADATA)).required(),
    field("spec", Node::Shape(&RULE)),
    field("specs", Node::List(&RULES)),
    field("status", Node::Shape(&STATUS)),
]);

static STATUS: Shape = shape(&[
    field("conditions", Node::List(&CONDITIONS)),
    field("derivativePolicies", Node::Map(&DERIVATIVE_POLICY)),
]);
static CONDITIONS: List = list(Node::Shape(&CONDITION));
static CONDITION: Shape = shape(&[
    field("lastTransitionTime", TIME),
    field("message", FREE),
    field("reason", FREE),
    field("status", FREE).required(),
    field("type", FREE).required(),
]);
static DERIVATIVE_POLICY: Node = Node::Shape(&shape(&[
    field("annotations", Node::Map(&FREE_TEXT)),
    field("enforcing", Node::Bool),
    field("error", FREE),
    field("lastUpdated", TIME),
    field("localPolicyRevision", Node::Integer(i64::MIN, i64::MAX)),
    field("ok", Node::Bool),
]));

static METADATA: Shape = shape(&[
    field("name", FREE),
    field("generateName", FREE),
    field("namespace", FREE),
    field("selfLink", FREE),
    field("uid", FREE),
    field("resourceVersion", FREE),
    field("generation", Node::Integer(0, i64::MAX)),
    field("creationTimestamp", TIME),
    field("deletionTimestamp", TIME),
    field("deletionGracePeriodSeconds", Node::Integer(i64::MIN, i64::MAX)),
    field("labels", Node::Map(&FREE_TEXT)),
    field("annotations", Node::Map(&FREE_TEXT)),
    field("ownerReferences", Node::List(&OWNERS)),
    field("finalizers", Node::List(&TEXTS)),
    field("managedFields", Node::List(&MANAGERS)),
]);

static MANAGERS: List = list(Node::Shape(&MANAGER));
static MANAGER: Shape = shape(&[
    field("apiVersion", FREE),
    field("fieldsType", Node::Text(Text::Word(&["FieldsV1"]))),
    field("fieldsV1", Node::Any),
    field("manager", FREE),
    field("operation", Node::Text(Text::Word(&["Apply", "Update"]))),
    field("subresource", FREE),
    field("time", TIME),
]);

static OWNERS: List = list(Node::Shape(&OWNER));
static OWNER: Shape = shape(&[
    field("apiVersion", FREE),
    field("kind", FREE),
    field("name", FREE),
    field("uid", FREE),
    field("controller", Node::Bool),
    field("blockOwnerDeletion", Node::Bool),
]);

static RULES: List = list(Node::Shape(&RULE));
static RULE: Shape = Shape {
    fields: &[
        field("description", FREE),
        field("egress", Node::List(&EGRESS)),
        field("egressDeny", Node::List(&EGRESS_DENY)),
        field("enableDefaultDeny", Node::Shape(&DEFAULT_DENY)),
        field("endpointSelector", Node::Shape(&SELECTOR)),
        field("ingress", Node::List(&INGRESS)),
        field("ingressDeny", Node::List(&INGRESS_DENY)),
        field("labels", Node::List(&LABELS)),
        field("log", Node::Shape(&LOG)).since(V18),
        field("nodeSelector", Node::Shape(&SELECTOR)),
    ],
    one_of: &["endpointSelector", "nodeSelector"],
    any_of: Some((V17, &["ingress", "ingressDeny", "egress", "egressDeny"])),
};

static DEFAULT_DENY: Shape = shape(&[field("ingress", Node::Bool), field("egress", Node::Bool)]);
static LOG: Shape = shape(&[field("value", Node::Text(Text::Log))]);
static LABELS: List = list(Node::Shape(&LABEL));
static LABEL: Shape = shape(&[field("key", FREE).required(), field("source", FREE), field("value", FREE)]);

static INGRESS: List = list(Node::Shape(&INGRESS_RULE));
static INGRESS_RULE: Shape = shape(&[
    field("authentication", Node::Shape(&AUTHENTICATION)),
    field("fromCIDR", Node::List(&CIDRS)),
    field("fromCIDRSet", Node::List(&CIDR_SET)),
    field("fromEndpoints", Node::List(&SELECTORS)),
    field("fromEntities", Node::List(&ENTITIES)),
    field("fromGroups", Node::List(&GROUPS)),
    field("fromNodes", Node::List(&SELECTORS)),
    field("fromRequires", REQUIRES),
    field("icmps", Node::List(&ICMPS)),
    field("toPorts", Node::List(&PORT_RULES)),
]);
static INGRESS_DENY: List = list(Node::Shape(&INGRESS_DENY_RULE));
static INGRESS_DENY_RULE: Shape = shape(&[
    field("fromCIDR", Node::List(&CIDRS)),
    field("fromCIDRSet", Node::List(&CIDR_SET)),
    field("fromEndpoints", Node::List(&SELECTORS)),
    field("fromEntities", Node::List(&ENTITIES)),
    field("fromGroups", Node::List(&GROUPS)),
    field("fromNodes", Node::List(&SELECTORS)),
    field("fromRequires", REQUIRES),
    field("icmps", Node::List(&ICMPS)),
    field("toPorts", Node::List(&DENY_PORT_RULES)),
]);
static EGRESS: List = list(Node::Shape(&EGRESS_RULE));
static EGRESS_RULE: Shape = shape(&[
    field("authentication", Node::Shape(&AUTHENTICATION)),
    field("icmps", Node::List(&ICMPS)),
    field("toCIDR", Node::List(&CIDRS)),
    field("toCIDRSet", Node::List(&CIDR_SET)),
    field("toEndpoints", Node::List(&SELECTORS)),
    field("toEntities", Node::List(&ENTITIES)),
    field("toFQDNs", Node::List(&DNS_RULES)),
    field("toGroups", Node::List(&GROUPS)),
    field("toNodes", Node::List(&SELECTORS)),
    field("toPorts", Node::List(&PORT_RULES)),
    field("toRequires", REQUIRES),
    field("toServices", Node::List(&SERVICES)),
]);
static EGRESS_DENY: List = list(Node::Shape(&EGRESS_DENY_RULE));
static EGRESS_DENY_RULE: Shape = shape(&[
    field("icmps", Node::List(&ICMPS)),
    field("toCIDR", Node::List(&CIDRS)),
    field("toCIDRSet", Node::List(&CIDR_SET)),
    field("toEndpoints", Node::List(&SELECTORS)),
    field("toEntities", Node::List(&ENTITIES)),
    field("toGroups", Node::List(&GROUPS)),
    field("toNodes", Node::List(&SELECTORS)),
    field("toPorts", Node::List(&DENY_PORT_RULES)),
    field("toRequires", REQUIRES),
    field("toServices", Node::List(&SERVICES)),
]);

const REQUIRES: Node = Node::Since(V19, &REQUIRED_SELECTORS, &NOTHING_REQUIRED);
static REQUIRED_SELECTORS: Node = Node::List(&SELECTORS);
static NOTHING_REQUIRED: Node = Node::List(&List { item: FREE, min: 0, max: 0, set: false });

static AUTHENTICATION: Shape =
    shape(&[field("mode", Node::Text(Text::Word(&["disabled", "required", "test-always-fail"]))).required()]);

static SELECTORS: List = list(Node::Shape(&SELECTOR));
static SELECTOR: Shape = shape(&[
    field("matchExpressions", Node::List(&EXPRESSIONS)),
    field("matchLabels", Node::Map(&LABEL_VALUE)),
]);
static LABEL_VALUE: Node = Node::Text(Text::LabelValue);
static EXPRESSIONS: List = list(Node::Shape(&EXPRESSION));
static EXPRESSION: Shape = shape(&[
    field("key", FREE).required(),
    field("operator", Node::Text(Text::Word(&["In", "NotIn", "Exists", "DoesNotExist"]))).required(),
    field("values", Node::List(&TEXTS)),
]);

static CIDRS: List = list(Node::Text(Text::Cidr));
static CIDR_SET: List = list(Node::Shape(&CIDR_RULE));
static CIDR_RULE: Shape = one_of(
    &["cidr", "cidrGroupRef", "cidrGroupSelector"],
    &[
        field("cidr", Node::Text(Text::Cidr)),
        field("cidrGroupRef", Node::Text(Text::GroupName)),
        field("cidrGroupSelector", Node::Shape(&SELECTOR)).since(V17),
        field("except", Node::List(&CIDRS)),
    ],
);

static ENTITIES: List = list(Node::Text(Text::Entity));

static GROUPS: List = list(Node::Shape(&GROUP));
static GROUP: Shape = shape(&[field("aws", Node::Shape(&AWS))]);
static AWS: Shape = shape(&[
    field("labels", Node::Map(&FREE_TEXT)),
    field("region", FREE),
    field("securityGroupsIds", Node::List(&TEXTS)),
    field("securityGroupsNames", Node::List(&TEXTS)),
]);

static SERVICES: List = list(Node::Shape(&SERVICE));
static SERVICE: Shape = shape(&[
    field("k8sService", Node::Shape(&SERVICE_BY_NAME)),
    field("k8sServiceSelector", Node::Shape(&SERVICE_BY_LABELS)),
]);
static SERVICE_BY_NAME: Shape = shape(&[field("namespace", FREE), field("serviceName", FREE)]);
static SERVICE_BY_LABELS: Shape =
    shape(&[field("namespace", FREE), field("selector", Node::Shape(&SELECTOR)).required()]);

static ICMPS: List = list(Node::Shape(&ICMP_RULE));
static ICMP_RULE: Shape = shape(&[field("fields", Node::List(&ICMP_FIELDS))]);
static ICMP_FIELDS: List = List { item: Node::Shape(&ICMP_FIELD), min: 0, max: 40, set: false };
static ICMP_FIELD: Shape = shape(&[
    field("family", Node::Text(Text::Word(&["IPv4", "IPv6"]))),
    field("type", Node::IcmpType).required(),
]);

static DENY_PORT_RULES: List = list(Node::Shape(&DENY_PORT_RULE));
static DENY_PORT_RULE: Shape = shape(&[field("ports", Node::List(&DENY_PORTS))]);
static DENY_PORTS: List = list(Node::Shape(&PORT));
static PORT_RULES: List = list(Node::Shape(&PORT_RULE));
static PORT_RULE: Shape = shape(&[
    field("listener", Node::Shape(&LISTENER)),
    field("originatingTLS", Node::Shape(&TLS)),
    field("ports", Node::List(&PORTS)),
    field("rules", Node::Shape(&L7_RULES)),
    field("serverNames", Node::Since(V18, &ANY_SERVER_NAMES, &SERVER_NAMES)),
    field("terminatingTLS", Node::Shape(&TLS)),
]);
static PORTS: List = List { item: Node::Shape(&PORT), min: 0, max: 40, set: false };
static PORT: Shape = shape(&[
    field("endPort", Node::Integer(0, 65535)),
    field("port", Node::Text(Text::Port)).required_before(V19),
    field("protocol", Node::Text(Text::Protocol)),
]);
static ANY_SERVER_NAMES: Node = Node::List(&TEXTS);
static SERVER_NAMES: Node =
    Node::List(&List { item: Node::Text(Text::ServerName), min: 1, max: usize::MAX, set: true });

static LISTENER: Shape = shape(&[
    field("envoyConfig", Node::Shape(&ENVOY_CONFIG)).required(),
    field("name", Node::Text(Text::NotEmpty)).required(),
    field("priority", Node::Integer(1, 100)),
]);
static ENVOY_CONFIG: Shape = shape(&[
    field("kind", Node::Text(Text::Word(&["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"]))),
    field("name", Node::Text(Text::NotEmpty)).required(),
]);

static TLS: Shape = shape(&[
    field("certificate", FREE),
    field("privateKey", FREE),
    field("secret", Node::Shape(&SECRET)).required(),
    field("trustedCA", FREE),
]);
static SECRET: Shape = shape(&[field("name", FREE).required(), field("namespace", FREE)]);

static L7_RULES: Shape = one_of(
    &["http", "kafka", "dns", "l7proto"],
    &[
        field("dns", Node::List(&DNS_RULES)),
        field("http", Node::List(&HTTP_RULES)),
        field("kafka", Node::List(&KAFKA_RULES)).until(V20),
        field("l7", Node::List(&PROXYLIB_RULES)).until(V20),
        field("l7proto", FREE).until(V20),
    ],
);
static DNS_RULES: List = list(Node::Shape(&DNS_RULE));
static DNS_RULE: Shape = one_of(
    &["matchName", "matchPattern"],
    &[field("matchName", Node::Text(Text::Name)), field("matchPattern", Node::Text(Text::Pattern))],
);
static HTTP_RULES: List = list(Node::Shape(&HTTP_RULE));
static HTTP_RULE: Shape = shape(&[
    field("headerMatches", Node::List(&HEADER_MATCHES)),
    field("headers", Node::List(&TEXTS)),
    field("host", FREE),
    field("method", FREE),
    field("path", FREE),
]);
static HEADER_MATCHES: List = list(Node::Shape(&HEADER_MATCH));
static HEADER_MATCH: Shape = shape(&[
    field("mismatch", Node::Text(Text::Word(&["LOG", "ADD", "DELETE", "REPLACE"]))),
    field("name", Node::Text(Text::NotEmpty)).required(),
    field("secret", Node::Shape(&SECRET)),
    field("value", FREE),
]);
static KAFKA_RULES: List = list(Node::Shape(&KAFKA_RULE));
static KAFKA_RULE: Shape = shape(&[
    field("apiKey", FREE),
    field("apiVersion", FREE),
    field("clientID", FREE),
    field("role", Node::Text(Text::Word(&["produce", "consume"]))),
    field("topic", Node::Text(Text::Short)),
]);
static PROXYLIB_RULES: List = list(Node::Map(&FREE_TEXT));

pub(super) static KUBERNETES: Shape = shape(&[
    field("apiVersion", FREE),
    field("kind", FREE),
    field("metadata", Node::Shape(&METADATA)).required(),
    field("spec", Node::Shape(&NETWORK_POLICY)),
    field("status", Node::Map(&ANYTHING)),
]);
static NETWORK_POLICY: Shape = shape(&[
    field("podSelector", Node::Shape(&SELECTOR)),
    field("policyTypes", Node::List(&POLICY_TYPES)),
    field("ingress", Node::List(&K8S_INGRESS)),
    field("egress", Node::List(&K8S_EGRESS)),
]);
static POLICY_TYPES: List =
    List { item: Node::Text(Text::Word(&["Ingress", "Egress"])), min: 0, max: 2, set: false };
static K8S_INGRESS: List = list(Node::Shape(&K8S_INGRESS_RULE));
static K8S_INGRESS_RULE: Shape =
    shape(&[field("from", Node::List(&K8S_PEERS)), field("ports", Node::List(&K8S_PORTS))]);
static K8S_EGRESS: List = list(Node::Shape(&K8S_EGRESS_RULE));
static K8S_EGRESS_RULE: Shape =
    shape(&[field("to", Node::List(&K8S_PEERS)), field("ports", Node::List(&K8S_PORTS))]);
static K8S_PEERS: List = list(Node::Shape(&K8S_PEER));
static K8S_PEER: Shape = Shape {
    fields: &[
        field("podSelector", Node::Shape(&SELECTOR)),
        field("namespaceSelector", Node::Shape(&SELECTOR)),
        field("ipBlock", Node::Shape(&IP_BLOCK)),
    ],
    one_of: &[],
    any_of: Some((V16, &["podSelector", "namespaceSelector", "ipBlock"])),
};
static IP_BLOCK: Shape =
    shape(&[field("cidr", Node::Text(Text::Cidr)).required(), field("except", Node::List(&CIDRS))]);
static K8S_PORTS: List = list(Node::Shape(&K8S_PORT));
static K8S_PORT: Shape = shape(&[
    field("protocol", Node::Text(Text::Word(&["TCP", "UDP", "SCTP"]))),
    field("port", Node::IntOrString),
    field("endPort", Node::Integer(1, 65535)),
]);
