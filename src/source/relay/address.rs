//! Where a relay listens: `host:port`, checked before anything is dialled.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::text;

/// The address of a relay, without TLS: a host name or an IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    /// A name or an IPv4 address.
    Name(Box<str>),
    V6(Ipv6Addr),
}

/// Why a text is no address of a relay: one sentence with the remedy, safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

// === impl Address ===

impl Address {
    /// Parses `host:port`, `1.2.3.4:port` or `[::1]:port`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let shown = text::visible(text, 100);
        let error = |what: &str| Err(AddressError(format!("\"{shown}\" is no address of a relay: {what}")));
        if text.is_empty() {
            return Err(AddressError("the address of the relay is empty: give host:port".to_owned()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let rest = text::visible(rest.trim_matches('/'), 100);
            return match scheme.to_ascii_lowercase().as_str() {
                "tls" | "https" => error("TLS is not supported yet; it comes in a later version"),
                "unix" => error("Unix sockets are not supported yet; they come together with TLS"),
                _ => error(&format!(
                    "leave out \"{}://\" and give host:port, so \"{rest}\"",
                    text::visible(scheme, 20)
                )),
            };
        }
        if text.starts_with("unix:") {
            return error("Unix sockets are not supported yet; they come together with TLS");
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((inner, after)) = rest.split_once(']') else {
                return error("the bracket is not closed; give [IPv6 address]:port");
            };
            let Ok(v6) = inner.parse() else {
                return error("there is no IPv6 address in the brackets; give [IPv6 address]:port");
            };
            match after.strip_prefix(':') {
                Some(port) => (Host::V6(v6), port),
                None if after.is_empty() => {
                    return error("the port is missing; give host:port, usually port 4245 or 80");
                }
                None => {
                    return error(
                        "behind the bracket a colon and the port are missing; give [IPv6 address]:port",
                    );
                }
            }
        } else {
            let Some((host, port)) = text.rsplit_once(':') else {
                return error("the port is missing; give host:port, usually port 4245 or 80");
            };
            if text.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() || host.contains(':') {
                return error("an IPv6 address stands in brackets; give [IPv6 address]:port");
            }
            if host.is_empty() {
                return error("the host is missing; give host:port, for example localhost:4245");
            }
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if host.len() > 253 || !host.bytes().all(known) {
                return error("the host has characters that no host name has; give host:port");
            }
            (Host::Name(host.into()), port)
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if digits && port != 0 => Ok(Self { host, port }),
            _ => error("the port is no number from 1 to 65535; give host:port"),
        }
    }

    /// As a URI for the channel.
    pub(super) fn uri(&self) -> String {
        format!("http://{self}")
    }

    /// For a plain TCP connection.
    pub(super) fn host_and_port(&self) -> (String, u16) {
        let host = match &self.host {
            Host::Name(name) => name.to_string(),
            Host::V6(v6) => v6.to_string(),
        };
        (host, self.port)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::V6(v6) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (Address::parse(text), expected) {
            (Ok(address), Ok(expected)) => assert_eq!(address.to_string(), expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text:?}: {error}"),
            (got, expected) => panic!("{text:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn addresses() {
        check("localhost:4245", Ok("localhost:4245"));
        check("10.0.0.1:80", Ok("10.0.0.1:80"));
        check(
            "hubble-relay.kube-system.svc.cluster.local:80",
            Ok("hubble-relay.kube-system.svc.cluster.local:80"),
        );
        check("[::1]:4245", Ok("[::1]:4245"));
        check("[fd00:0::1]:4245", Ok("[fd00::1]:4245"));
        check("", Err("give host:port"));
        check("localhost", Err("give host:port"));
        check("[::1]", Err("give host:port"));
        check("::1", Err("in brackets"));
        check("::1:4245", Err("in brackets"));
        check("fd00::1:4245", Err("in brackets"));
        check("a:b:80", Err("in brackets"));
        check("[::1:4245", Err("not closed"));
        check("[fe80::1%eth0]:80", Err("no IPv6 address"));
        check("[::1]4245", Err("a colon"));
        check(":4245", Err("host is missing"));
        check("localhost:", Err("1 to 65535"));
        check("localhost:0", Err("1 to 65535"));
        check("localhost:65536", Err("1 to 65535"));
        check("localhost:+80", Err("1 to 65535"));
        check("a b:80", Err("no host name"));
        check("a/b:80", Err("no host name"));
        check("http://relay:80/", Err("leave out \"http://\" and give host:port, so \"relay:80\""));
        check("grpc://relay:80", Err("leave out"));
        check("tls://relay:443", Err("TLS"));
        check("https://relay:443", Err("TLS"));
        check("unix:///var/run/cilium/hubble.sock", Err("Unix sockets"));
        check("unix:/var/run/cilium/hubble.sock", Err("Unix sockets"));
        check("a\u{1b}[2J:80", Err("\\u{1b}"));
    }
}
