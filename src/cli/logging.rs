//! The log: tracing to standard error. Standard output is for results.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// How the log looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    /// The least important level that is shown.
    pub(super) level: Level,
    /// One JSON object a line.
    pub(super) json: bool,
}

/// Starts logging. A second call changes nothing.
pub(super) fn start(log: Log) {
    // Libraries (h2, tonic, hyper) speak only when they fail; what kube has to say is in our own message,
    // and what its verifier of certificates has.
    let filter = EnvFilter::new(format!(
        "warn,kube_client=off,rustls_platform_verifier=off,cpg={}",
        log.level.as_str().to_ascii_lowercase()
    ));
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let started = if log.json {
        builder.json().flatten_event(true).with_target(false).try_init()
    } else {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        builder.with_ansi(colour).with_target(false).try_init()
    };
    if let Err(e) = started {
        tracing::debug!(error = %e, "the log was started before");
    }
}
