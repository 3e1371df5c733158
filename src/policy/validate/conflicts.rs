//! Rules of one document that the agent cannot combine: it takes the document, but endpoints that it
//! selects keep their old policy.

use std::collections::HashMap;

use crate::policy::spec::node::Cx;
use crate::policy::spec::{L4, L7, Peers, PortRule, Protocols, Refusal, RuleSpec, Spec};

/// What rules for the same peer and port must agree on.
#[derive(Clone, Default)]
struct Agreed {
    parser: Option<String>,
    listener: Option<(String, u16)>,
    authentication: Option<String>,
    terminating: Option<String>,
    originating: Option<String>,
    names: bool,
    rules: bool,
}

/// Notes the first conflict of each peer and port. Rules with different subjects are not compared.
pub(super) fn check(cx: &mut Cx<'_>, specs: &[Spec]) {
    let mut seen: HashMap<(String, String), Agreed> = HashMap::new();
    for spec in specs {
        for (ingress, side) in [(true, &spec.ingress), (false, &spec.egress)] {
            let subject = format!("{ingress} {:?}", spec.subject);
            for rule in side.rules.iter().filter(|rule| !rule.deny) {
                let L4::Ports(port_rules) = &rule.l4 else { continue };
                for (i, ports) in port_rules.iter().enumerate() {
                    let agreed = Agreed::new(rule, ports);
                    for peer in peers(&rule.peers) {
                        for port in keys(ports) {
                            let key = (subject.clone(), format!("{peer} {port}"));
                            let Some(found) = seen.get_mut(&key) else {
                                seen.insert(key, agreed.clone());
                                continue;
                            };
                            if let Some(what) = found.join(&agreed) {
                                let path = rule.path.member("toPorts").item(i);
                                let message = format!(
                                    "{what}: endpoints that this policy selects keep their old policy"
                                );
                                cx.note(Refusal::Warning, path, message);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn peers(peers: &Peers) -> Vec<String> {
    match peers {
        Peers::Any => vec!["any".into()],
        Peers::Nobody => Vec::new(),
        Peers::Of(items) => items.iter().map(|item| format!("{item:?}")).collect(),
    }
}

fn keys(rule: &PortRule) -> Vec<String> {
    let one = |protocols: Protocols, port: &dyn std::fmt::Debug| {
        protocols.list().iter().map(|p| format!("{}/{port:?}", p.as_str())).collect::<Vec<_>>()
    };
    rule.ports.iter().flat_map(|port| one(port.protocols, &port.port)).collect()
}

impl Agreed {
    fn new(rule: &RuleSpec, ports: &PortRule) -> Self {
        let tls = ports.terminating_tls.is_some()
            || ports.originating_tls.is_some()
            || !ports.server_names.is_empty();
        let parser = match (&ports.listener, ports.l7.parser()) {
            (Some(_), _) => Some("crd"),
            (None, Some(parser)) => Some(parser),
            (None, None) if tls => Some("tls"),
            (None, None) => None,
        };
        Self {
            parser: parser.map(Into::into),
            listener: ports
                .listener
                .as_ref()
                .map(|l| (format!("{:?} {} {}", l.kind, l.config, l.name), l.priority)),
            authentication: rule.authentication.as_deref().map(Into::into),
            terminating: ports.terminating_tls.as_ref().map(|tls| format!("{tls:?}")),
            originating: ports.originating_tls.as_ref().map(|tls| format!("{tls:?}")),
            names: !ports.server_names.is_empty(),
            rules: !matches!(ports.l7, L7::None),
        }
    }

    /// Takes the other in; what they disagree about.
    fn join(&mut self, other: &Self) -> Option<String> {
        let (mine, theirs) = (self.parser.clone(), other.parser.clone());
        self.parser = match (mine, theirs) {
            (a, b) if a == b => a,
            (None, b) => b,
            (a, None) => a,
            (Some(a), Some(b)) => {
                let plain = |p: &str| p != "dns" && p != "crd";
                match (a.as_str(), b.as_str()) {
                    ("tls", to) if plain(to) => Some(b),
                    (to, "tls") if plain(to) => Some(a),
                    _ => {
                        return Some(format!(
                            "layer 7 rules of the kinds {a} and {b} for the same peer and port"
                        ));
                    }
                }
            }
        };
        if let (Some(a), Some(b)) = (&self.listener, &other.listener)
            && a.0 != b.0
            && a.1 == b.1
        {
            return Some("two listeners of the same priority for the same peer and port".into());
        }
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        if differ(&self.authentication, &other.authentication) {
            return Some("two kinds of authentication for the same peer and port".into());
        }
        if differ(&self.terminating, &other.terminating) || differ(&self.originating, &other.originating) {
            return Some("two TLS contexts for the same peer and port".into());
        }
        self.listener = self.listener.take().or_else(|| other.listener.clone());
        self.authentication = self.authentication.take().or_else(|| other.authentication.clone());
        self.terminating = self.terminating.take().or_else(|| other.terminating.clone());
        self.originating = self.originating.take().or_else(|| other.originating.clone());
        self.names |= other.names;
        self.rules |= other.rules;
        (self.names && self.rules && self.terminating.is_none()).then(|| {
            "serverNames and layer 7 rules for the same peer and port, without terminatingTLS".into()
        })
    }
}
