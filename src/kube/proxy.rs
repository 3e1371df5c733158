//! Which proxy leads to an API server, by the rules of kubectl: `proxy-url` of the kubeconfig's cluster, else
//! the environment. (kube holds `NO_PROXY` against the proxy's own address, so it is not asked.)

use std::net::IpAddr;

use ipnet::IpNet;
use tonic::codegen::http::Uri;

use crate::text::visible;

/// The proxy that the environment names for this address, read by `var`; an error names the variable.
/// As `golang.org/x/net/http/httpproxy` does it.
pub(super) fn from_environment(
    target: &Uri,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, String> {
    let either = |name: &str| {
        [name.to_uppercase(), name.to_lowercase()].into_iter().find_map(|name| {
            let value = var(&name).filter(|value| !value.is_empty())?;
            Some((name, value))
        })
    };
    let scheme = if target.scheme_str() == Some("http") { "http_proxy" } else { "https_proxy" };
    let Some((name, value)) = either(scheme) else { return Ok(None) };
    let no_proxy = either("no_proxy").map(|(_, list)| list).unwrap_or_default();
    if !goes_through(target, &no_proxy) {
        return Ok(None);
    }
    parse(&name, &value).map(Some)
}

/// A proxy's address as it was written; without a scheme it is an HTTP proxy.
pub(super) fn parse(name: &str, value: &str) -> Result<Uri, String> {
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let bad = |why: &str| {
        format!("{name} is no address of a proxy ({why}): give http://host:port or socks5://host:port")
    };
    let uri = whole.parse::<Uri>().map_err(|e| bad(&e.to_string()))?;
    match uri.scheme_str() {
        Some("http" | "https" | "socks5") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        Some("http" | "https" | "socks5") => Err(bad("it has no host")),
        scheme => Err(bad(&format!("{:?} cannot be used", visible(scheme.unwrap_or_default(), 40)))),
    }
}

/// Where it is, without the password that may stand in it; safe to print.
pub(super) fn shown(proxy: &Uri) -> String {
    let authority = proxy.authority().map_or("", |authority| authority.as_str());
    let place = authority.rsplit('@').next().unwrap_or_default();
    visible(&format!("{}://{place}", proxy.scheme_str().unwrap_or_default()), 200).into_owned()
}

/// Whether the way to this address leads through a proxy, with this value of `NO_PROXY`.
fn goes_through(target: &Uri, no_proxy: &str) -> bool {
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let port = target.port_u16().unwrap_or(if target.scheme_str() == Some("http") { 80 } else { 443 });
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return false;
    }
    !no_proxy.split(',').map(str::trim).any(|entry| entry == "*" || matches(entry, host, ip, port))
}

/// Whether an entry of `NO_PROXY` means this host.
fn matches(entry: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    let entry = entry.to_ascii_lowercase();
    if let Ok(net) = entry.parse::<IpNet>() {
        return ip.is_some_and(|ip| net.contains(&ip));
    }
    // A bare IPv6 address has colons too.
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, number)) if entry.parse::<IpAddr>().is_err() => (name, number.parse::<u16>().ok()),
        _ => (entry.as_str(), None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    if let Ok(address) = name.parse::<IpAddr>() {
        return ip == Some(address);
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        // Only what is below it.
        Some(domain) => !domain.is_empty() && host.len() > name.len() && host.ends_with(name),
        None => {
            let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
            !name.is_empty() && (host == name || below)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_need_no_proxy() {
        let check = |target: &str, no_proxy: &str, expected: bool| {
            let uri: Uri = target.parse().unwrap();
            assert_eq!(goes_through(&uri, no_proxy), expected, "{target} with {no_proxy:?}");
        };
        check("https://api.example.com", "", true);
        check("https://localhost:6443", "", false);
        check("https://127.0.0.1:6443", "", false);
        check("https://[::1]:6443", "", false);
        check("https://api.example.com", "*", false);
        check("https://api.example.com", "other.com, example.com", false);
        check("https://api.example.com", "EXAMPLE.com", false);
        check("https://api.example.com", ".example.com", false);
        check("https://api.example.com", "*.example.com", false);
        check("https://example.com", ".example.com", true);
        check("https://badexample.com", "example.com", true);
        check("https://api.example.com", "ample.com", true);
        check("https://api.example.com", "api.example.com:6443", true);
        check("https://api.example.com:6443", "api.example.com:6443", false);
        check("https://api.example.com", "api.example.com:443", false);
        check("https://10.1.2.3:6443", "10.0.0.0/8", false);
        check("https://10.1.2.3:6443", "10.1.2.3", false);
        check("https://10.1.2.3:6443", "10.1.2.3:443", true);
        check("https://11.1.2.3:6443", "10.0.0.0/8", true);
        check("https://[2001:db8::7]:6443", "2001:db8::/32", false);
        check("https://[2001:db8::7]:6443", "2001:db8::7", false);
        check("https://[2001:db8::7]:6443", "[2001:db8::7]:6443", false);
        check("https://[2001:db8::7]", "2001:db8::8", true);
        check("https://api.example.com", ",, ,.", true);
    }

    #[test]
    fn the_variable_of_the_scheme() {
        let check = |target: &str, set: &[(&str, &str)], expected: Result<Option<&str>, &str>| {
            let var =
                |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            let got = from_environment(&target.parse().unwrap(), var);
            let got = got.map(|uri| uri.map(|uri| uri.to_string()));
            match expected {
                Ok(expected) => assert_eq!(got, Ok(expected.map(str::to_owned)), "{target} {set:?}"),
                Err(says) => assert!(got.as_ref().is_err_and(|e| e.contains(says)), "{got:?}"),
            }
        };
        let both = [("HTTPS_PROXY", "http://one:3128"), ("http_proxy", "two:80")];
        check("https://api:6443", &both, Ok(Some("http://one:3128/")));
        check("http://api:8080", &both, Ok(Some("http://two:80/")));
        check("https://api:6443", &[("https_proxy", "socks5://s:1080")], Ok(Some("socks5://s:1080/")));
        check("https://api:6443", &[("HTTPS_PROXY", "")], Ok(None));
        check("https://api:6443", &[], Ok(None));
        check("https://api:6443", &[("HTTPS_PROXY", "p:1"), ("no_proxy", "api")], Ok(None));
        check("https://api:6443", &[("https_proxy", "http://a b")], Err("https_proxy is no address"));
        check("https://api:6443", &[("https_proxy", "ftp://p:1")], Err("\"ftp\" cannot be used"));
        check("https://api:6443", &[("https_proxy", "http://")], Err("is no address of a proxy"));
        assert_eq!(shown(&parse("x", "http://joe:secret@p:3128").unwrap()), "http://p:3128");
    }
}
