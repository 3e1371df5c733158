//! What stands below flags and `CPG_` variables: the Hubble CLI's variables, its config file where that is
//! asked for, and cpg's own config file.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::args::{Kind, Layer, Place, Setting, settings_of};
use super::settings::Mistakes;
use crate::text::visible;

/// The settings that the Hubble CLI has too, with its name for them.
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
/// What is taken from the Hubble CLI's config file; that it may talk to whoever answers is not.
const OF_HUBBLE_CONFIG: &[&str] =
    &["server", "tls", "tls-ca-cert-files", "tls-client-cert-file", "tls-client-key-file", "tls-server-name"];

/// A value in a config file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Value {
    Switch(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Other(serde::de::IgnoredAny),
}

/// The layers of this process, each setting once; all mistakes in the files.
pub(super) fn layers(hubble_config: Option<&Path>) -> Result<Vec<Layer>, Mistakes> {
    let variable = |name: &str| env::var(name).ok();
    let mut mistakes = Vec::new();
    let mut layers = hubble_variables(variable);
    let mut under = |more: Vec<Layer>| {
        for layer in more {
            if layers.iter().all(|stronger| stronger.key != layer.key) {
                layers.push(layer);
            }
        }
    };
    let own = match path(variable) {
        Some((path, named)) => read_own(&path, named).unwrap_or_else(|e| {
            mistakes.extend(e);
            Vec::new()
        }),
        None => Vec::new(),
    };
    let in_own = own.iter().find(|layer| layer.key == "hubble-config").and_then(|l| l.values.first());
    if let Some(path) = hubble_config.or(in_own.map(Path::new)) {
        match hubble_config_file(path) {
            Ok(layers) => under(layers),
            Err(e) => mistakes.extend(e),
        }
    }
    under(own);
    if mistakes.is_empty() { Ok(layers) } else { Err(mistakes) }
}

/// Where cpg's own config file is, and whether CPG_CONFIG says so; `None` without a home directory.
pub(super) fn path(variable: impl Fn(&str) -> Option<String>) -> Option<(PathBuf, bool)> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = given("CPG_CONFIG") {
        return Some((path, true));
    }
    let base = given("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| given("HOME").map(|home| home.join(".config")))?;
    Some((base.join("cpg").join("config.yaml"), false))
}

/// Everything that a config file may set.
pub(super) fn known() -> Vec<Setting> {
    let mut all = settings_of("generate");
    for setting in settings_of("replay") {
        if all.iter().all(|one| one.key != setting.key) {
            all.push(setting);
        }
    }
    all
}

/// cpg's own config file. That it is not there is a mistake only when it was named.
pub(super) fn read_own(path: &Path, named: bool) -> Result<Vec<Layer>, Mistakes> {
    let from = format!("config file {}", visible(&path.display().to_string(), 300));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => return Ok(Vec::new()),
        Err(e) => return Err(vec![format!("{from} (CPG_CONFIG) cannot be read: {e}")]),
    };
    own_layers(&text, &from)
}

/// What the text of cpg's own config file sets.
pub(super) fn own_layers(text: &str, from: &str) -> Result<Vec<Layer>, Mistakes> {
    let known = known();
    let mut mistakes = Vec::new();
    let mut layers = Vec::new();
    for (key, value) in parse(text, from)? {
        let shown = visible(&key, 60);
        let Some(setting) = known.iter().find(|setting| setting.key == key) else {
            let near = known.iter().find(|setting| setting.key == key.replace('_', "-").to_ascii_lowercase());
            let near = near.map_or_else(String::new, |n| format!("is {:?} meant? ", n.key));
            mistakes.push(format!("{from}: unknown key {shown:?}: {near}cpg config view lists all keys"));
            continue;
        };
        match values(setting.kind, &value) {
            Ok(values) => layers.push(Layer { key, values, place: Place::ConfigFile }),
            Err(wants) => mistakes.push(format!("{from}: key {shown:?} {wants}")),
        }
    }
    if mistakes.is_empty() { Ok(layers) } else { Err(mistakes) }
}

/// What the Hubble CLI's config file says of server and TLS.
fn hubble_config_file(path: &Path) -> Result<Vec<Layer>, Mistakes> {
    let from = format!("--hubble-config {}", visible(&path.display().to_string(), 300));
    let text = std::fs::read_to_string(path).map_err(|e| vec![format!("{from} cannot be read: {e}")])?;
    let known = known();
    let mut mistakes = Vec::new();
    let mut layers = Vec::new();
    for (key, value) in parse(&text, &from)? {
        let setting = known.iter().find(|s| s.key == key && OF_HUBBLE_CONFIG.contains(&key.as_str()));
        // Its other keys are none of our business.
        let Some(setting) = setting else { continue };
        match values(setting.kind, &value) {
            Ok(values) if values.iter().all(String::is_empty) => {}
            Ok(values) => layers.push(Layer { key, values, place: Place::HubbleConfig }),
            Err(wants) => mistakes.push(format!("{from}: key {key:?} {wants}")),
        }
    }
    if mistakes.is_empty() { Ok(layers) } else { Err(mistakes) }
}

fn parse(text: &str, from: &str) -> Result<BTreeMap<String, Value>, Mistakes> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(BTreeMap::new());
    }
    serde_yaml::from_str(text).map_err(|e| {
        let e = e.to_string();
        let e = visible(e.lines().next().unwrap_or_default(), 200).into_owned();
        vec![format!("{from} is not YAML of the form \"flag: value\": {e}")]
    })
}

/// A value as texts, or what the setting wants.
fn values(kind: Kind, value: &Value) -> Result<Vec<String>, &'static str> {
    let one = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (kind, value) {
        (Kind::Switch, Value::Switch(switch)) => Ok(vec![switch.to_string()]),
        (Kind::Switch, _) => Err("wants true or false"),
        (Kind::Choice, Value::Switch(switch)) => Ok(vec![switch.to_string()]),
        (Kind::Choice, Value::Text(text)) => Ok(vec![text.clone()]),
        (Kind::Choice, _) => Err("wants one word, or true or false"),
        (Kind::One, value) => one(value).map(|v| vec![v]).ok_or("wants one text, in quotes if need be"),
        (Kind::Many, Value::List(list)) => {
            list.iter().map(one).collect::<Option<_>>().ok_or("wants a list of texts: [a, b]")
        }
        (Kind::Many, value) => one(value).map(|v| vec![v]).ok_or("wants a list of texts: [a, b]"),
    }
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
