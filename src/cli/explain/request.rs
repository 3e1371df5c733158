//! Which rules are wanted by what may be said: requests and names.

use super::super::args::ExplainArgs;
use crate::engine::{full_match, name_matches};
use crate::policy::{HttpMatch, L7Match, Peer, Rule};
use crate::text::visible;

/// What the user asked to see of layer 7 and of names; everything must hold.
#[derive(Debug, Default)]
pub(super) struct Said {
    method: Option<String>,
    path: Option<String>,
    dns: Option<String>,
    fqdn: Option<String>,
}

// === impl Said ===

impl Said {
    pub(super) fn new(args: &ExplainArgs, mistakes: &mut Vec<String>) -> Self {
        let mut wrong = |flag: &str, text: &str, wants: &str| {
            mistakes.push(format!("{flag} {:?}: {wants}", visible(text, 80)));
        };
        let method = args.http_method.clone().map(|method| method.to_ascii_uppercase());
        if let Some(method) =
            method.as_deref().filter(|m| m.is_empty() || m.contains(|c: char| !c.is_ascii_graphic()))
        {
            wrong("--http-method", method, "a method like GET");
        }
        let path = args.http_path.clone();
        // Every expression that is none of a single path has one of these.
        let is_path = |text: &str| text.starts_with('/') || text.contains(['*', '+', '(', '[', '^', '.']);
        if let Some(path) = path.as_deref().filter(|path| !is_path(path)) {
            wrong("--http-path", path, "a path like /v1/items, or the expression of a rule");
        }
        let name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.*".contains(&b))
        };
        for (flag, text) in [("--dns-pattern", &args.dns_pattern), ("--fqdn", &args.fqdn)] {
            if let Some(text) = text.as_deref().filter(|text| !name(text)) {
                wrong(flag, text, "a name like api.example.com, or a pattern like *.example.com");
            }
        }
        Self { method, path, dns: args.dns_pattern.clone(), fqdn: args.fqdn.clone() }
    }

    /// Whether nothing was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.method.is_none() && self.path.is_none() && self.dns.is_none() && self.fqdn.is_none()
    }

    pub(super) fn wants(&self, rule: &Rule) -> bool {
        let http = |wanted: &Option<String>, of: fn(&HttpMatch) -> &str| {
            wanted.as_deref().is_none_or(|wanted| match &rule.l7 {
                Some(L7Match::Http(http)) => of(http) == wanted || full_match(of(http), wanted) == Some(true),
                Some(L7Match::Dns(_)) | None => false,
            })
        };
        let dns = self.dns.as_deref().is_none_or(|wanted| match &rule.l7 {
            Some(L7Match::Dns(name)) => name_matches(wanted, name.as_str()),
            Some(L7Match::Http(_)) | None => false,
        });
        let fqdn = self.fqdn.as_deref().is_none_or(|wanted| match &rule.peer {
            Peer::Fqdn(name) => name_matches(wanted, name.as_str()),
            Peer::Endpoints(_) | Peer::Entity(_) | Peer::Cidr(_) => false,
        });
        http(&self.method, |http| &http.method) && http(&self.path, |http| &http.path) && dns && fqdn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Direction, Port, Protocol};
    use crate::names::DnsName;
    use crate::policy::{Allow, Entity};

    fn rule(l7: Option<L7Match>, peer: Peer) -> Rule {
        let allow = Allow::Port(Protocol::Tcp, Port::new(80).unwrap());
        Rule { direction: Direction::Egress, peer, allow, l7 }
    }

    #[test]
    fn paths_as_observed_and_as_written() {
        let check = |path: &str, wanted: &str, expected: bool| {
            let http = HttpMatch { method: "GET".into(), path: path.into() };
            let rule = rule(Some(L7Match::Http(http)), Peer::Entity(Entity::Host));
            let said = |method: &str| Said {
                method: Some(method.to_owned()),
                path: Some(wanted.to_owned()),
                ..Said::default()
            };
            assert_eq!(said("GET").wants(&rule), expected, "{path} {wanted}");
            assert!(!said("PUT").wants(&rule));
        };
        let items = r"/v1/items/[^/]+(\?.*)?";
        check(items, "/v1/items/42", true);
        check(items, "/v1/items/42?x=1", true);
        check(items, items, true);
        check(items, "/v1/items", false);
        check(r"/a\.b(\?.*)?", "/a.b", true);
        check(r"/a\.b(\?.*)?", "/axb", false);
        check("/by-hand/.*", "/by-hand/x", true);
    }

    #[test]
    fn names_and_patterns() {
        let name = DnsName::parse("api.example.com").unwrap();
        let dns = rule(Some(L7Match::Dns(name.clone())), Peer::Entity(Entity::Host));
        let fqdn = rule(None, Peer::Fqdn(name));
        let check = |wanted: &str, expected: bool| {
            let wants_dns = Said { dns: Some(wanted.to_owned()), ..Said::default() };
            let wants_fqdn = Said { fqdn: Some(wanted.to_owned()), ..Said::default() };
            assert_eq!((wants_dns.wants(&dns), wants_fqdn.wants(&fqdn)), (expected, expected), "{wanted}");
            assert!(!wants_dns.wants(&fqdn) && !wants_fqdn.wants(&dns));
        };
        check("api.example.com", true);
        check("API.example.com.", true);
        check("*.example.com", true);
        check("*", true);
        check("*.com", false);
        check("**.com", true);
        check("example.com", false);
    }
}
