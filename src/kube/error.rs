//! What the API server or the way to it said, in words with a remedy.

use kube::Error;
use kube::client::{AuthError, UpgradeConnectionError};
use kube::config::ExecConfig;

use crate::source::relay::DialError;
use crate::text::{causes, visible};

/// What was asked of the API server.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// As Kubernetes calls it: get, list.
    pub(super) verb: &'static str,
    /// As RBAC calls it: services, pods/portforward.
    pub(super) resource: &'static str,
    /// Empty for what belongs to no namespace.
    pub(super) namespace: String,
    /// `kubectl` with the context that was used.
    pub(super) kubectl: String,
}

// === impl Question ===

impl Question {
    /// What this error means.
    pub(super) fn failed(&self, error: &Error) -> DialError {
        match error {
            Error::Api(status) => self.status(status.code, &status.message),
            Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
                self.status(code.as_u16(), "")
            }
            Error::UpgradeConnection(e) => DialError::new(format!(
                "the port-forward did not begin ({e}): something between here and the API server does not \
                 let WebSockets pass"
            ))
            .remedy(format!(
                "Run {} -n {} port-forward service/hubble-relay 4245:80, and give --server localhost:4245",
                self.kubectl, self.namespace
            )),
            Error::Auth(_) => DialError::new(auth_words(error, "", None)),
            Error::Service(e) if e.downcast_ref::<Error>().is_some_and(|e| matches!(e, Error::Auth(_))) => {
                DialError::new(visible(&e.to_string(), 400).into_owned())
                    .remedy(format!("Log in again: {} get namespaces must work", self.kubectl))
            }
            error => {
                let words = chain(error);
                let words = words.trim_start_matches("ServiceError: ");
                let what = if words.contains("UnknownIssuer") {
                    "the API server's certificate is not signed by the certificate-authority that the kubeconfig \
                     has for this cluster"
                        .to_owned()
                } else if words.contains("certificate") {
                    format!("the API server's certificate is refused: {words}")
                } else {
                    format!("the API server cannot be reached: {words}")
                };
                DialError::new(what).remedy(format!("Check that {} get namespaces works", self.kubectl))
            }
        }
    }

    fn status(&self, code: u16, message: &str) -> DialError {
        let Self { verb, resource, namespace, kubectl } = self;
        let message = visible(message.trim_end_matches('.'), 300);
        let says = if message.is_empty() { String::new() } else { format!(": {message}") };
        match code {
            401 if kubectl == "kubectl" => DialError::new(
                "the API server does not know this pod's service account (401 Unauthorized): its token has expired, \
                 or the account was deleted",
            )
            .remedy("Restart the pod, so that a new token is mounted, and check its serviceAccountName"),
            401 => DialError::new(
                "the API server does not know you (401 Unauthorized): the token or certificate in the \
                 kubeconfig has expired or is wrong",
            )
            .remedy(format!("Log in again: {kubectl} get namespaces must work")),
            403 if message.contains("\"system:anonymous\"") => DialError::new(format!(
                "the API server took the request for an anonymous one{says}: the kubeconfig has no credentials for \
                 this context, or its credential plugin gave none"
            ))
            .remedy(format!("Check the context's user; {kubectl} get namespaces must work")),
            400 if message.contains("HTTP request to an HTTPS server") => {
                DialError::new(format!("the API server answered 400 to {verb} {resource}{says}"))
                    .remedy("The cluster's server in the kubeconfig must begin with https://")
            }
            403 => {
                // The WebSocket's own verb is get; newer API servers want create too.
                let verbs = if *resource == "pods/portforward" {
                    "get (and create, from Kubernetes 1.35) on pods/portforward".to_owned()
                } else {
                    format!("{verb} on {resource}")
                };
                DialError::new(format!(
                    "the API server forbids {verb} on {resource} in namespace {namespace}{says}"
                ))
                .remedy(format!(
                    "Ask for a Role with {verbs} in {namespace}, or give the relay's address with --server"
                ))
            }
            404 => DialError::new(format!("the API server does not find it ({verb} {resource}{says})"))
                .remedy(format!("Check with {kubectl} -n {namespace} get services,pods")),
            429 => DialError::new(format!("the API server is overloaded (429 Too Many Requests{says})"))
                .remedy("Try again later")
                .transient(),
            code if code >= 500 => {
                let check = match *resource {
                    "pods/portforward" => "port-forward service/hubble-relay 4245:80",
                    _ => "get pods",
                };
                DialError::new(format!("the API server failed ({code} at {verb} {resource}{says})"))
                    .remedy(format!("Check that {kubectl} -n {namespace} {check} works"))
                    .transient()
            }
            code => DialError::new(format!("the API server answered {code} to {verb} {resource}{says}"))
                .remedy(format!("Check that {kubectl} -n {namespace} get pods works")),
        }
    }
}

/// The HTTP status that the API server answered with.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => Some(code.as_u16()),
        _ => None,
    }
}

/// Why the credentials could not be had: a credential plugin, a token file.
pub(super) fn auth_words(error: &Error, context: &str, plugin: Option<&ExecConfig>) -> String {
    let of = if context.is_empty() { String::new() } else { format!(" of context {context}") };
    let Error::Auth(auth) = error else {
        let why = chain(error);
        return format!(
            "the kubeconfig{of} cannot be used: {why}; kubectl must work with the same kubeconfig"
        );
    };
    let command = plugin.and_then(|plugin| plugin.command.as_deref()).unwrap_or_default();
    let plugin_is = format!("its credential plugin {}", visible(command, 200));
    let what = match auth {
        AuthError::AuthExecStart(e) => {
            let hint = plugin.and_then(|plugin| plugin.install_hint.as_deref()).unwrap_or_default().trim();
            let hint = if hint.is_empty() { String::new() } else { format!(" ({})", visible(hint, 300)) };
            format!("{plugin_is} cannot be started: {e}{hint}")
        }
        // Its arguments may hold secrets.
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
            let said = if said.is_empty() { "it said nothing" } else { said };
            format!("{plugin_is} failed ({}): {}", out.status, visible(said, 200))
        }
        AuthError::AuthExecParse(e) => {
            let first = e.to_string();
            let first = first.lines().next().unwrap_or_default();
            let first = visible(first.trim_start_matches("error: "), 200).into_owned();
            format!("{plugin_is} printed what is no ExecCredential ({first})")
        }
        AuthError::ExecPluginFailed => format!("{plugin_is} printed an ExecCredential without a status"),
        AuthError::ReadTokenFile(e, path) => {
            format!("its token file {} cannot be read: {e}", visible(&path.display().to_string(), 200))
        }
        other => chain(other),
    };
    format!(
        "the credentials{of} cannot be had: {what}. Log in again; kubectl must work with the same kubeconfig"
    )
}

/// An error and its causes, each once; safe to print.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    visible(&causes(error), 400).into_owned()
}
