//! What stands below flags and `CPG_` variables: the Hubble CLI's variables.

use super::args::{Kind, Layer, Place, settings_of};
use super::settings::Mistakes;

/// The settings that the Hubble CLI has too, with its own flag where that is called otherwise.
const OF_HUBBLE: &[(&str, &str)] = &[
    ("server", "server"),
    ("tls", "tls"),
    ("tls-ca-cert-files", "tls-ca-cert-files"),
    ("tls-client-cert-file", "tls-client-cert-file"),
    ("tls-client-key-file", "tls-client-key-file"),
    ("tls-server-name", "tls-server-name"),
    ("tls-allow-insecure", "tls-allow-insecure"),
    ("kubeconfig", "kubeconfig"),
    ("context", "kube-context"),
    ("kube-namespace", "kube-namespace"),
];

/// The layers of this process, each setting once.
pub(super) fn layers() -> Result<Vec<Layer>, Mistakes> {
    Ok(hubble_variables(|name| std::env::var(name).ok()))
}

/// What the Hubble CLI's variables say.
fn hubble_variables(variable: impl Fn(&str) -> Option<String>) -> Vec<Layer> {
    let known = settings_of("generate");
    let mut layers = Vec::new();
    for (key, hubble) in OF_HUBBLE {
        let name = format!("HUBBLE_{}", hubble.to_ascii_uppercase().replace('-', "_"));
        let Some(value) = variable(&name).filter(|value| !value.is_empty()) else { continue };
        let many = known.iter().any(|setting| setting.key == *key && setting.kind == Kind::Many);
        let values = if many { value.split([',', ' ']).map(str::to_owned).collect() } else { vec![value] };
        layers.push(Layer { key: (*key).to_owned(), values, place: Place::HubbleVariable });
    }
    layers
}
