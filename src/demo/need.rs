//! What would have had to be allowed, in plain strings: the truth of stories and captures.

use std::fmt::Write;

/// One thing that one workload needs: what a policy for it has to allow. Labels are sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// The subject's namespace.
    pub namespace: String,
    /// The labels that select the subject, as a policy writes them.
    pub selector: Vec<(String, String)>,
    /// As seen from the subject.
    pub direction: Direction,
    /// The other end.
    pub peer: Peer,
    /// What it is about.
    pub allow: Allow,
}

/// A direction as seen from the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the subject.
    Ingress,
    /// Away from it.
    Egress,
}

/// The other end of a need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods with these labels; Cilium's own keys carry `k8s:`.
    Endpoints(Vec<(String, String)>),
    /// An entity of Cilium.
    Entity(String),
    /// One address outside the cluster, as /32 or /128.
    Cidr(String),
}

/// What a need is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allow {
    /// A port.
    Port {
        /// `TCP`, `UDP` or `SCTP`.
        protocol: &'static str,
        /// 1 to 65535.
        port: u16,
    },
    /// An ICMP type.
    Icmp {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The number of the type.
        kind: u8,
    },
}

// === impl Need ===

impl Need {
    /// The members `"namespace"` to `"port"` of its JSON object, without braces.
    pub fn json_members(&self) -> String {
        let mut out = String::with_capacity(256);
        out.push_str("\"namespace\":");
        json_text(&mut out, &self.namespace);
        out.push_str(",\"selector\":");
        json_object(&mut out, &self.selector);
        let _ = write!(out, ",\"direction\":\"{}\",\"peer\":", self.direction.as_str());
        match &self.peer {
            Peer::Endpoints(labels) => {
                out.push_str("{\"endpoints\":");
                json_object(&mut out, labels);
                out.push('}');
            }
            Peer::Entity(name) => json_object(&mut out, &[("entity".to_owned(), name.clone())]),
            Peer::Cidr(cidr) => json_object(&mut out, &[("cidr".to_owned(), cidr.clone())]),
        }
        let _ = match &self.allow {
            Allow::Port { protocol, port } => {
                write!(out, ",\"port\":{{\"protocol\":\"{protocol}\",\"port\":{port}}}")
            }
            Allow::Icmp { family, kind } => {
                write!(out, ",\"port\":{{\"icmp\":{{\"family\":\"{family}\",\"type\":{kind}}}}}")
            }
        };
        out
    }
}

// === impl Direction ===

impl Direction {
    /// `ingress` or `egress`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Appends a JSON string.
pub(super) fn json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn json_object(out: &mut String, members: &[(String, String)]) {
    out.push('{');
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        json_text(out, key);
        out.push(':');
        json_text(out, value);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json() {
        let need = Need {
            namespace: "shop".into(),
            selector: vec![("app".into(), "a\"b".into())],
            direction: Direction::Egress,
            peer: Peer::Cidr("192.0.2.7/32".into()),
            allow: Allow::Icmp { family: "IPv4", kind: 8 },
        };
        let json: serde_json::Value = serde_json::from_str(&format!("{{{}}}", need.json_members())).unwrap();
        assert_eq!(json["selector"]["app"], "a\"b");
        assert_eq!(json["peer"]["cidr"], "192.0.2.7/32");
        assert_eq!(json["port"]["icmp"]["type"], 8);
    }
}
