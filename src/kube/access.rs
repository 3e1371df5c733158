//! Which cluster, and as whom: kubeconfig by the rules of kubectl, or the pod's service account.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::runtime::Handle;

use super::error::auth_words;
use super::proxy;
use crate::text::visible;

/// What the user said about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig, or several with the path separator between them; `None`: `KUBECONFIG`, then
    /// `~/.kube/config`, then the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; `None`: the current one.
    pub context: Option<String>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// Its API server, with the user's credentials.
    pub client: Client,
    /// The context that it is called by, safe to print; empty with a service account.
    pub context: String,
    /// The address of its API server, safe to print.
    pub url: String,
    /// We run in a pod of this cluster.
    pub inside: bool,
}

/// Why there is no cluster to ask: one message with the remedy, safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AccessError(pub String);

// === impl Access ===

impl Access {
    /// Reads the configuration and makes a client; runs a credential plugin where one is configured.
    /// Nothing is sent to the cluster yet.
    pub async fn open(&self) -> Result<Cluster, AccessError> {
        let access = self.clone();
        let handle = Handle::current();
        // Files, and a plugin that may take its time: not on a thread that others need.
        let opened = tokio::task::spawn_blocking(move || access.open_here(&handle)).await;
        opened.unwrap_or_else(|e| Err(AccessError(format!("the kubeconfig could not be read: {e}"))))
    }

    fn open_here(&self, handle: &Handle) -> Result<Cluster, AccessError> {
        let (mut config, context, inside) = match self.kubeconfig()? {
            Some((kubeconfig, from)) => {
                let context = self.context(&kubeconfig, &from)?;
                let named = named_proxy(&kubeconfig, &context);
                let options = KubeConfigOptions { context: Some(context.clone()), ..Default::default() };
                let mut config = handle
                    .block_on(Config::from_custom_kubeconfig(kubeconfig, &options))
                    .map_err(|e| unreadable(&from, &e))?;
                config.proxy_url =
                    named.map(|url| proxy::parse("its proxy-url", &url)).transpose().map_err(AccessError)?;
                (config, context, false)
            }
            None => (self.service_account()?, String::new(), true),
        };
        // We try again by ourselves, and say what we saw.
        config.default_retry = false;
        if config.proxy_url.is_none() {
            let var = |name: &str| env::var(name).ok();
            config.proxy_url = proxy::from_environment(&config.cluster_url, var).map_err(AccessError)?;
        }
        let mut url = visible(&config.cluster_url.to_string(), 200).trim_end_matches('/').to_owned();
        if let Some(proxy) = &config.proxy_url {
            url += &format!(" through the proxy {}", proxy::shown(proxy));
        }
        let context = visible(&context, 100).into_owned();
        let plugin = config.auth_info.exec.clone();
        let client =
            Client::try_from(config).map_err(|e| AccessError(auth_words(&e, &context, plugin.as_ref())))?;
        Ok(Cluster { client, context, url, inside })
    }

    /// The merged kubeconfig and where it came from; `None` where there is none and we run in a pod.
    fn kubeconfig(&self) -> Result<Option<(Kubeconfig, String)>, AccessError> {
        if let Some(path) = &self.kubeconfig {
            let files = if path.exists() { vec![path.clone()] } else { env::split_paths(path).collect() };
            return merged(&files, "--kubeconfig").map(Some);
        }
        let named = env::var_os("KUBECONFIG").filter(|v| !v.is_empty());
        if let Some(named) = named {
            let files: Vec<PathBuf> =
                env::split_paths(&named).filter(|p| !p.as_os_str().is_empty()).collect();
            return merged(&files, "KUBECONFIG").map(Some);
        }
        let home = env::home_dir().map(|home| home.join(".kube").join("config"));
        match home.filter(|path| path.exists()) {
            Some(path) => merged(&[path], "the kubeconfig").map(Some),
            None if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Ok(None),
            None => Err(AccessError(
                "there is no kubeconfig: neither --kubeconfig nor KUBECONFIG names one, ~/.kube/config does not \
                 exist, and cpg does not run in a pod. Give one, or give the relay's address with --server"
                    .to_owned(),
            )),
        }
    }

    /// The context that counts.
    fn context(&self, kubeconfig: &Kubeconfig, from: &str) -> Result<String, AccessError> {
        let names: Vec<&str> = kubeconfig.contexts.iter().map(|c| c.name.as_str()).collect();
        let there = if names.is_empty() {
            "it has none".to_owned()
        } else {
            let shown: Vec<_> = names.iter().take(20).map(|n| visible(n, 60)).collect();
            format!("it has {}", shown.join(", "))
        };
        let current = kubeconfig.current_context.clone().filter(|c| !c.is_empty());
        let Some(context) = self.context.clone().or(current) else {
            return Err(AccessError(format!(
                "{from} has no current context; name one with --context ({there})"
            )));
        };
        if !names.contains(&context.as_str()) {
            let context = visible(&context, 60);
            return Err(AccessError(format!(
                "{from} has no context {context:?}; {there}. Name one of them with --context"
            )));
        }
        Ok(context)
    }

    fn service_account(&self) -> Result<Config, AccessError> {
        if let Some(context) = &self.context {
            let context = visible(context, 60);
            return Err(AccessError(format!(
                "--context {context:?} needs a kubeconfig, and there is none in this pod: give --kubeconfig"
            )));
        }
        Config::incluster().map_err(|e| {
            let why = visible(&e.to_string(), 200).into_owned();
            AccessError(format!(
                "this pod has no service account that can be used ({why}): mount one \
                 (automountServiceAccountToken), or give the relay's address with --server"
            ))
        })
    }
}

/// These files as one; those that do not exist are passed over, as kubectl does, unless all are missing.
fn merged(files: &[PathBuf], from: &str) -> Result<(Kubeconfig, String), AccessError> {
    let shown: Vec<String> =
        files.iter().map(|f| visible(&f.display().to_string(), 200).into_owned()).collect();
    let from = format!("{from} {}", shown.join(":"));
    let there: Vec<&Path> = files.iter().map(PathBuf::as_path).filter(|f| f.exists()).collect();
    if there.is_empty() {
        return Err(AccessError(format!(
            "{from} does not exist. Give a kubeconfig, or the relay's address with --server"
        )));
    }
    let mut all: Option<Kubeconfig> = None;
    for file in there {
        let next = Kubeconfig::read_from(file).map_err(|e| unreadable(&from, &e))?;
        all = Some(match all {
            Some(all) => all.merge(next).map_err(|e| unreadable(&from, &e))?,
            None => next,
        });
    }
    Ok((all.unwrap_or_default(), from))
}

/// The proxy that the cluster of this context names itself.
fn named_proxy(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let of = kubeconfig.contexts.iter().find(|c| c.name == context).and_then(|c| c.context.as_ref());
    let cluster = of.and_then(|of| kubeconfig.clusters.iter().find(|c| c.name == of.cluster));
    cluster.and_then(|c| c.cluster.as_ref()?.proxy_url.clone()).filter(|url| !url.is_empty())
}

fn unreadable(from: &str, error: &KubeconfigError) -> AccessError {
    // kube quotes a path twice.
    let error = error.to_string().replace("error: ", "").replace(['\'', '"'], "");
    let error = visible(error.lines().next().unwrap_or_default(), 300);
    AccessError(format!("{from} cannot be used: {error}. kubectl must work with the same kubeconfig"))
}

// === impl Cluster ===

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inside {
            write!(f, "this pod's cluster ({})", self.url)
        } else {
            write!(f, "context {} ({})", self.context, self.url)
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("context", &self.context)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
