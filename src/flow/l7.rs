//! What the L7 proxy wrote down of a request, without what cpg must never keep: hosts, headers,
//! credentials and queries do not come through the door.

use crate::names::DnsName;

/// A record of the L7 proxy (`flow.Layer7`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L7 {
    /// What it is a record of.
    pub kind: L7Kind,
    /// What was asked.
    pub record: L7Record,
}

/// What a record is of (`flow.L7FlowType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum L7Kind {
    /// Hubble does not say.
    Unknown,
    /// A request: allowed or refused.
    Request,
    /// The answer to one.
    Response,
    /// A sample.
    Sample,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum L7Record {
    /// An HTTP request.
    Http {
        /// The method as it was sent.
        method: Box<str>,
        /// The path of `:path` as it was sent, still percent-encoded, without query and fragment. A path
        /// that begins with `//` is not told by Hubble: Cilium reads what follows as a host.
        path: Box<str>,
    },
    /// A DNS query.
    Dns {
        /// The name that was asked for; `None` where no policy can hold it.
        query: Option<DnsName>,
    },
    /// A protocol or a form of which no rule is made.
    Other,
}

// === impl L7Kind ===

impl L7Kind {
    /// From the number of `flow.L7FlowType`.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Sample,
            _ => Self::Unknown,
        }
    }
}

// === impl L7Record ===

impl L7Record {
    /// An HTTP request by the URL that Hubble puts together (`scheme://host/path?query`), or by its path
    /// alone. What stands before the path and from `?` or `#` on is left out.
    pub fn http(method: &str, url: &str) -> Self {
        let rest = match url.split_once("://") {
            Some((scheme, rest))
                if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
            {
                rest.find(['/', '?', '#']).map_or("", |at| &rest[at..])
            }
            _ => url,
        };
        let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        Self::Http { method: method.into(), path: if path.is_empty() { "/" } else { path }.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let L7Record::Http { path, .. } = L7Record::http("GET", url) else { panic!("{url}") };
        assert_eq!(&*path, expected, "{url}");
    }

    #[test]
    fn only_the_path_of_a_url_is_kept() {
        check("http://10.0.0.1:9990/metrics", "/metrics");
        check("http://user:secret@shop.example/a%2Fb/?token=1#x", "/a%2Fb/");
        check("https://shop.example", "/");
        check("https://shop.example?q=/x", "/");
        check("/v1/items?next=http://other/", "/v1/items");
        check("http://shop.example/go/http://other/x", "/go/http://other/x");
        check("http://shop.example//twice", "//twice");
        check("/a?b://c/d", "/a");
        check("", "/");
        check("*", "*");
    }
}
