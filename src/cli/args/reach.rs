//! The way to the relay and to the cluster.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args as Group, ValueEnum};

use crate::kube::Access;

/// The way to the relay. `HUBBLE_SERVER`, `HUBBLE_TLS` and so on, as the Hubble CLI knows them, count
/// where neither the flag nor the `CPG_` variable is given.
#[derive(Debug, Group)]
#[command(next_help_heading = "The way to the relay")]
pub(in crate::cli) struct ReachArgs {
    /// Address of the Hubble Relay: host:port, tls://host:port or unix:///path (default: found through the
    /// kubeconfig, and reached by a port-forward that cpg makes itself)
    #[arg(long, env = "CPG_SERVER", value_name = "ADDRESS")]
    pub(in crate::cli) server: Option<String>,
    /// How long connecting may take
    #[arg(long, env = "CPG_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(in crate::cli) timeout: String,
    /// Config file of the Hubble CLI: its server and TLS settings are used
    #[arg(long, env = "CPG_HUBBLE_CONFIG", value_name = "FILE")]
    pub(in crate::cli) hubble_config: Option<PathBuf>,
    /// End when the stream ends, instead of connecting again
    #[arg(long, env = "CPG_NO_RECONNECT", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_reconnect: bool,
    #[command(flatten)]
    pub(in crate::cli) kube: KubeArgs,
    /// Namespace of Cilium and of the relay's Service
    #[arg(long, env = "CPG_KUBE_NAMESPACE", value_name = "NAME", default_value = "kube-system")]
    pub(in crate::cli) kube_namespace: String,
    /// Service of the relay
    #[arg(long, env = "CPG_RELAY_SERVICE", value_name = "NAME", default_value = "hubble-relay")]
    pub(in crate::cli) relay_service: String,
    /// Port of the relay in its pod (default: where the Service leads)
    #[arg(long, env = "CPG_RELAY_PORT", value_name = "PORT")]
    pub(in crate::cli) relay_port: Option<String>,
    /// Talk TLS to the relay
    #[arg(long, env = "CPG_TLS", value_name = "BOOL", value_parser = FalseyValueParser::new(),
          num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(in crate::cli) tls: bool,
    /// CAs that may have signed the relay's certificate, PEM (repeatable; default: those of the system)
    #[arg(long, env = "CPG_TLS_CA_CERT_FILES", value_name = "FILE", value_delimiter = ',')]
    pub(in crate::cli) tls_ca_cert_files: Vec<PathBuf>,
    /// Certificate that cpg shows to the relay, PEM
    #[arg(long, env = "CPG_TLS_CLIENT_CERT_FILE", value_name = "FILE")]
    pub(in crate::cli) tls_client_cert_file: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, env = "CPG_TLS_CLIENT_KEY_FILE", value_name = "FILE")]
    pub(in crate::cli) tls_client_key_file: Option<PathBuf>,
    /// Name that must stand in the relay's certificate (default: the host of --server, and without --server
    /// instance.hubble-relay.cilium.io, as Cilium's chart makes it)
    #[arg(long, env = "CPG_TLS_SERVER_NAME", value_name = "NAME")]
    pub(in crate::cli) tls_server_name: Option<String>,
    /// Do not check who answers; encryption without knowing with whom
    #[arg(long, env = "CPG_TLS_ALLOW_INSECURE", value_name = "BOOL", value_parser = FalseyValueParser::new(),
          num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(in crate::cli) tls_allow_insecure: bool,
}

/// The cluster whose policies replay counts.
#[derive(Debug, Group)]
#[command(next_help_heading = "The cluster's policies")]
pub(in crate::cli) struct ClusterArgs {
    #[command(flatten)]
    pub(in crate::cli) kube: KubeArgs,
    /// How long reaching the cluster and listing its policies may take
    #[arg(long, env = "CPG_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(in crate::cli) timeout: String,
    /// Write to the output directory even if its policies are those of another cluster; it is this one's then
    #[arg(long, env = "CPG_ACCEPT_CLUSTER", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) accept_cluster: bool,
}

/// The cluster, as kubectl names one.
#[derive(Debug, Group)]
pub(in crate::cli) struct KubeArgs {
    /// Kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config, then the pod's service account)
    #[arg(long, env = "CPG_KUBECONFIG", value_name = "FILE")]
    pub(in crate::cli) kubeconfig: Option<OsString>,
    /// Context in the kubeconfig (default: the current one)
    #[arg(long, env = "CPG_CONTEXT", value_name = "NAME")]
    pub(in crate::cli) context: Option<String>,
}

/// Whether what the cluster's policies allow already is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ClusterDedup {
    /// Where the cluster is reached through a kubeconfig or as a pod in it, and RBAC permits
    Auto,
    /// Always; that it is not possible is an error
    #[value(name = "true")]
    Always,
    /// Never
    #[value(name = "false")]
    Never,
}

// === impl KubeArgs ===

impl KubeArgs {
    /// Without empty texts: k9s gives what it does not have as one.
    #[must_use]
    pub(in crate::cli) fn given(self) -> Self {
        Self {
            kubeconfig: self.kubeconfig.filter(|path| !path.is_empty()),
            context: self.context.filter(|context| !context.is_empty()),
        }
    }

    /// The settings that name a cluster.
    pub(in crate::cli) fn named(&self) -> impl Iterator<Item = &'static str> {
        let keys = [("kubeconfig", self.kubeconfig.is_some()), ("context", self.context.is_some())];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }

    /// What leads to that cluster.
    pub(in crate::cli) fn access(self) -> Access {
        Access { kubeconfig: self.kubeconfig.map(Into::into), context: self.context }
    }
}
