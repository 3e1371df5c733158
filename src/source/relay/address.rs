//! Where a relay listens, as people write it: checked before anything is dialled.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crate::text;

/// The address of a relay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or an IP address, and a port.
    Tcp(Host, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// What stands before the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or an IPv4 address.
    Name(Box<str>),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

/// Why a text is no address of a relay: one sentence with the remedy, safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

// === impl Address ===

impl Address {
    /// Parses `host:port`, `tls://host:port` or `unix:///path`; and whether the scheme asks for TLS.
    pub fn parse(text: &str) -> Result<(Self, bool), AddressError> {
        let shown = text::visible(text, 100);
        let error = |what: &str| Err(AddressError(format!("\"{shown}\" is no address of a relay: {what}")));
        if text.is_empty() {
            return Err(AddressError("the address of the relay is empty: give host:port".to_owned()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.contains('\0') {
                return error("behind unix: stands an absolute path; give unix:///path/of/the.sock");
            }
            return Ok((Self::Unix(Path::new(path).to_owned()), false));
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("tls", rest)) => (true, rest),
            Some((scheme, rest)) => {
                let rest = text::visible(rest.trim_matches('/'), 100);
                return match scheme.to_ascii_lowercase().as_str() {
                    "tls" | "https" | "grpcs" => error(&format!("with TLS it is \"tls://{rest}\"")),
                    _ => error(&format!(
                        "leave out \"{}://\" and give host:port, so \"{rest}\"",
                        text::visible(scheme, 20)
                    )),
                };
            }
            None => (false, text),
        };
        match Self::tcp(rest) {
            Ok(address) => Ok((address, tls)),
            Err(what) => error(what),
        }
    }

    /// `host:port`, or what is wrong with it.
    fn tcp(text: &str) -> Result<Self, &'static str> {
        let missing = "the port is missing; give host:port, usually port 4245 or 80";
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inner, after) =
                rest.split_once(']').ok_or("the bracket is not closed; give [IPv6 address]:port")?;
            let v6 = inner
                .parse()
                .map_err(|_| "there is no IPv6 address in the brackets; give [IPv6 address]:port")?;
            match after.strip_prefix(':') {
                Some(port) => (Host::V6(v6), port),
                None if after.is_empty() => return Err(missing),
                None => {
                    return Err(
                        "behind the bracket a colon and the port are missing; give [IPv6 address]:port",
                    );
                }
            }
        } else {
            let (host, port) = text.rsplit_once(':').ok_or(missing)?;
            if text.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() || host.contains(':') {
                return Err("an IPv6 address stands in brackets; give [IPv6 address]:port");
            }
            if host.is_empty() {
                return Err("the host is missing; give host:port, for example localhost:4245");
            }
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if host.len() > 253 || !host.bytes().all(known) {
                return Err("the host has characters that no host name has; give host:port");
            }
            (Host::Name(host.into()), port)
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if digits && port != 0 => Ok(Self::Tcp(host, port)),
            _ => Err("the port is no number from 1 to 65535; give host:port"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host @ Host::Name(_), port) => write!(f, "{host}:{port}"),
            Self::Tcp(host @ Host::V6(_), port) => write!(f, "[{host}]:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", text::visible(&path.to_string_lossy(), 200)),
        }
    }
}

/// Without brackets, as a resolver and a certificate want it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V6(v6) => write!(f, "{v6}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (Address::parse(text), expected) {
            (Ok((address, tls)), Ok(expected)) => {
                assert_eq!(format!("{}{address}", if tls { "tls://" } else { "" }), expected);
            }
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
        check("tls://relay:443", Ok("tls://relay:443"));
        check("tls://[::1]:443", Ok("tls://[::1]:443"));
        check("tls://relay", Err("port is missing"));
        check("tls://relay:443/", Err("1 to 65535"));
        check("https://relay:443", Err("\"tls://relay:443\""));
        check("TLS://relay:443", Err("\"tls://relay:443\""));
        check("unix:///var/run/cilium/hubble.sock", Ok("unix:///var/run/cilium/hubble.sock"));
        check("unix:/var/run/cilium/hubble.sock", Ok("unix:///var/run/cilium/hubble.sock"));
        check("unix:hubble.sock", Err("absolute path"));
        check("a\u{1b}[2J:80", Err("\\u{1b}"));
    }
}
