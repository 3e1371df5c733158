//! The way to the relay: what was typed, checked, becomes a connector.

use super::args::{ClusterDedup, Place, Places, ReachArgs};
use super::dedup::{Dedup, WayToCluster};
use super::settings::{Mistakes, duration, keep};
use crate::kube::{RelayService, Target};
use crate::names::Namespace;
use crate::source::relay::{Address, Connector, Direct, TlsOptions, Way};
use crate::text::visible;

/// How the relay is reached.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) connector: Connector,
    /// The cluster, when it is reached through its API server.
    pub(super) cluster: Option<RelayService>,
    /// Whether the cluster's policies count, and of which.
    pub(super) dedup: Dedup,
}

/// What was asked for, or every mistake in it.
pub(super) fn reach(
    mut args: ReachArgs,
    mode: ClusterDedup,
    places: &Places,
    mistakes: &mut Mistakes,
) -> Option<Reach> {
    let before = mistakes.len();
    args.kube = args.kube.given();
    let timeout = keep(duration("--timeout", &args.timeout), mistakes);
    let server = match server_that_counts(&args, mode, places, mistakes) {
        Some(server) => Some(keep(Address::parse(server).map_err(|e| format!("--server: {e}")), mistakes)?),
        None => None,
    };
    let scheme = server.as_ref().is_some_and(|(_, tls)| *tls);
    let tls = tls(&args, scheme, mistakes);
    let target = target(&args, tls.is_some(), mistakes);
    let check = |way: &dyn Way, mistakes: &mut Mistakes| {
        if let Some(Err(e)) = tls.as_ref().map(|tls| tls.check(way.server_name().as_deref())) {
            mistakes.push(e.to_string());
        }
    };
    let is_named = args.kube.named().next().is_some();
    let access = args.kube.access();
    let (connector, cluster, of) = match server {
        Some((address, _)) => {
            let way = Direct::new(address);
            check(&way, mistakes);
            let of = if is_named { WayToCluster::Named(access) } else { WayToCluster::Unnamed(access) };
            (Connector::new(way, tls, timeout?), None, of)
        }
        None => {
            let way = RelayService::new(access, target?);
            check(&way, mistakes);
            let of = WayToCluster::Relay(Box::new(way.clone()));
            (Connector::new(way.clone(), tls, timeout?), Some(way), of)
        }
    };
    let dedup = Dedup { mode, way: of, timeout: timeout? };
    (mistakes.len() == before).then_some(Reach { connector, cluster, dedup })
}

/// The address, unless a cluster was named in a stronger place: `--context prod` wins over
/// HUBBLE_SERVER, and both as flags contradict each other, unless the cluster is wanted for its policies.
fn server_that_counts<'a>(
    args: &'a ReachArgs,
    mode: ClusterDedup,
    places: &Places,
    mistakes: &mut Mistakes,
) -> Option<&'a str> {
    let server = args.server.as_deref()?;
    let strongest = args.kube.named().map(|key| (places.of(key), key)).max();
    match strongest {
        Some((place, _)) if place > places.of("server") => None,
        Some((Place::Flag, key)) if mode != ClusterDedup::Always => {
            mistakes.push(format!(
                "--server and --{key} contradict each other: one is an address, the other a cluster to \
                 find the relay in; with --cluster-dedup=true it is the cluster whose policies count"
            ));
            None
        }
        _ => Some(server),
    }
}

/// The relay's Service.
fn target(args: &ReachArgs, tls: bool, mistakes: &mut Mistakes) -> Option<Target> {
    let before = mistakes.len();
    let namespace = Namespace::parse(&args.kube_namespace)
        .map_err(|e| format!("--kube-namespace {:?} {e}", visible(&args.kube_namespace, 80)));
    let namespace = keep(namespace, mistakes);
    // A Service is called like a namespace: a DNS label.
    let service = Namespace::parse(&args.relay_service)
        .map_err(|e| format!("--relay-service {:?} {e}", visible(&args.relay_service, 80)));
    let service = keep(service, mistakes);
    let port = args.relay_port.as_deref().map(|text| match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("--relay-port {:?}: a number from 1 to 65535", visible(text, 40))),
    });
    let port = keep(port.transpose(), mistakes).flatten();
    let target = Target { namespace: namespace?, service: service?.to_string(), port, tls };
    (mistakes.len() == before).then_some(target)
}

/// The TLS that was asked for, by flag or by the scheme of the address.
fn tls(args: &ReachArgs, scheme: bool, mistakes: &mut Mistakes) -> Option<TlsOptions> {
    let asked = args.tls || scheme;
    let client = match (args.tls_client_cert_file.clone(), args.tls_client_key_file.clone()) {
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
        ca_cert_files: args.tls_ca_cert_files.clone(),
        client,
        server_name: args.tls_server_name.clone(),
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
