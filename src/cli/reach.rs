//! The way to the relay: what was typed, checked, becomes a connector.

use super::args::ReachArgs;
use super::settings::{Mistakes, duration, keep};
use crate::source::relay::{Address, Connector, Direct, TlsOptions, Way as _};

/// The connector that was asked for; every mistake is told.
pub(super) fn connector(args: ReachArgs, mistakes: &mut Mistakes) -> Option<Connector> {
    let before = mistakes.len();
    let timeout = keep(duration("--timeout", &args.timeout), mistakes);
    let server = match &args.server {
        Some(server) => keep(Address::parse(server).map_err(|e| format!("--server: {e}")), mistakes),
        None => {
            mistakes.push("--server is missing: give the address of the Hubble Relay".into());
            None
        }
    };
    let scheme = server.as_ref().is_some_and(|(_, tls)| *tls);
    let tls = tls(args, scheme, mistakes);
    let ((address, _), timeout) = (server?, timeout?);
    let way = Direct::new(address);
    if let Some(tls) = &tls
        && let Err(e) = tls.check(way.server_name().as_deref())
    {
        mistakes.push(e.to_string());
    }
    (mistakes.len() == before).then(|| Connector::new(way, tls, timeout))
}

/// The TLS that was asked for, by flag or by the scheme of the address.
fn tls(args: ReachArgs, scheme: bool, mistakes: &mut Mistakes) -> Option<TlsOptions> {
    let asked = args.tls || scheme;
    let client = match (args.tls_client_cert_file, args.tls_client_key_file) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            mistakes.push("--tls-client-cert-file needs its key: give --tls-client-key-file too".into());
            None
        }
        (None, Some(_)) => {
            mistakes
                .push("--tls-client-key-file needs its certificate: give --tls-client-cert-file too".into());
            None
        }
    };
    let options = TlsOptions {
        ca_cert_files: args.tls_ca_cert_files,
        client,
        server_name: args.tls_server_name,
        allow_insecure: args.tls_allow_insecure,
    };
    if !asked {
        let needs = [
            ("--tls-ca-cert-files", !options.ca_cert_files.is_empty()),
            ("--tls-client-cert-file", options.client.is_some()),
            ("--tls-server-name", options.server_name.is_some()),
            ("--tls-allow-insecure", options.allow_insecure),
        ];
        for (flag, given) in needs {
            if given {
                mistakes.push(format!(
                    "{flag} is given, but TLS was not asked for: give --tls, or take {flag} away"
                ));
            }
        }
        return None;
    }
    Some(options)
}
