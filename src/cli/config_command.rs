//! `cpg config`: what is set and where that comes from; changes to cpg's own config file.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::args::{Args, ConfigArgs, ConfigCommand, Kind, Place, Places, Setting};
use super::{config, output};
use crate::text::visible;

pub(super) fn run(args: ConfigArgs) -> ExitCode {
    let done = match args.command {
        ConfigCommand::View => view(),
        ConfigCommand::Get { key } => get(&key),
        ConfigCommand::Set { key, values } => set(&key, &values),
        ConfigCommand::Reset { key } => reset(key.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => output::failed(&e),
    }
}

/// Every setting of generate and replay, as a run without flags would have it.
fn effective() -> anyhow::Result<Vec<(Setting, Place, Vec<String>)>> {
    let hubble = env::var_os("CPG_HUBBLE_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
    let layers = config::layers(hubble.as_deref()).map_err(|all| anyhow::anyhow!(all.join("\n")))?;
    let places = |line: &[&str]| -> anyhow::Result<Places> {
        let read = Args::parse_from_all(line.iter().map(Into::into), &layers);
        read.map(|(_, places)| places).map_err(|usage| anyhow::anyhow!(usage.text))
    };
    let all = [places(&["cpg", "generate"])?, places(&["cpg", "replay", "-"])?];
    Ok(config::known()
        .into_iter()
        .map(|setting| {
            let found = all.iter().flat_map(Places::all).find(|(key, ..)| *key == setting.key);
            let (place, values) =
                found.map_or((Place::Default, Vec::new()), |(_, place, values)| (place, values.to_vec()));
            (setting, place, values)
        })
        .collect())
}

fn view() -> anyhow::Result<()> {
    let (path, _) = file()?;
    let all = effective()?;
    let mut text = String::new();
    for (setting, place, values) in &all {
        let from = match place {
            Place::Default => "default".to_owned(),
            Place::ConfigFile => visible(&path.display().to_string(), 300).into_owned(),
            Place::HubbleConfig => "the file of --hubble-config".to_owned(),
            Place::HubbleVariable => "environment, HUBBLE_…".to_owned(),
            Place::Variable => format!("environment, {}", variable(&setting.key)),
            Place::Flag => "flag".to_owned(),
        };
        text += &format!("{}: {}  # {from}\n", setting.key, written(setting.kind, values));
    }
    output::result(text.trim_end());
    Ok(())
}

fn get(key: &str) -> anyhow::Result<()> {
    known(key)?;
    let all = effective()?;
    if let Some((_, _, values)) = all.iter().find(|(setting, ..)| setting.key == key) {
        let values: Vec<_> = values.iter().map(|v| visible(v, 1000)).collect();
        output::result(&values.join("\n"));
    }
    Ok(())
}

fn set(key: &str, values: &[String]) -> anyhow::Result<()> {
    let setting = known(key)?;
    if setting.kind != Kind::Many && values.len() != 1 {
        bail!("{key} takes one value, and {} were given", values.len());
    }
    if setting.kind == Kind::Switch && !["true", "false"].contains(&values[0].as_str()) {
        bail!("{key} is true or false, not {:?}", visible(&values[0], 40));
    }
    let (path, _) = file()?;
    let line = format!("{key}: {}", written(setting.kind, values));
    change(&path, key, Some(&line))
}

fn reset(key: Option<&str>) -> anyhow::Result<()> {
    let (path, _) = file()?;
    match key {
        Some(key) => change(&path, key, None),
        None => match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("{} cannot be removed", path.display()))
            }
            _ => Ok(()),
        },
    }
}

fn known(key: &str) -> anyhow::Result<Setting> {
    let found = config::known().into_iter().find(|setting| setting.key == key);
    found.with_context(|| format!("unknown key {:?}: cpg config view lists all keys", visible(key, 60)))
}

fn file() -> anyhow::Result<(PathBuf, bool)> {
    config::path(|name| env::var(name).ok())
        .context("there is no place for a config file: set CPG_CONFIG, XDG_CONFIG_HOME or HOME")
}

/// Replaces the lines of one key, or takes them away; every other line stays as it is.
fn change(path: &Path, key: &str, line: Option<&str>) -> anyhow::Result<()> {
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("{} cannot be read", path.display())),
    };
    let mut new = replaced(&old, key, line);
    if new.lines().all(|line| line.trim().is_empty()) {
        new.clear();
    }
    // What people wrote by hand in another form would now stand there twice, or be cut in two.
    let from = format!("{} would not be right any more, so it is left as it is", path.display());
    config::own_layers(&new, &from).map_err(|mistakes| anyhow::anyhow!(mistakes.join("\n")))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::Builder::new().prefix(".config-").tempfile_in(dir)?;
        file.write_all(new.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// The text with another line for this key. The lines of a key are the one that begins with it and those
/// below it that are indented or items of its list.
fn replaced(text: &str, key: &str, line: Option<&str>) -> String {
    let mut out: Vec<&str> = Vec::new();
    let (mut inside, mut done) = (false, false);
    for old in text.lines() {
        if old.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')) {
            inside = true;
            if let (Some(line), false) = (line, done) {
                out.push(line);
                done = true;
            }
            continue;
        }
        inside &= old.starts_with([' ', '\t', '-']);
        if !inside {
            out.push(old);
        }
    }
    if let (Some(line), false) = (line, done) {
        out.push(line);
    }
    out.iter().flat_map(|line| [line, "\n"]).collect()
}

/// A value as it stands in the file: JSON, which is YAML.
fn written(kind: Kind, values: &[String]) -> String {
    let text = |value: &String| serde_json::Value::from(value.as_str()).to_string();
    match (kind, values) {
        (Kind::Many, values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
        (Kind::Switch | Kind::Choice, [value]) if ["true", "false"].contains(&value.as_str()) => {
            value.clone()
        }
        (_, [value]) => text(value),
        (_, []) => "\"\"".to_owned(),
        (_, _) => text(&values.join(",")),
    }
}

fn variable(key: &str) -> String {
    format!("CPG_{}", key.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_changes_and_the_rest_stays() {
        let text = "# mine\nserver: a:1 # why\ntls-ca-cert-files:\n- x\n- y\n# more\nserver-x: 1\n";
        assert_eq!(
            replaced(text, "server", Some("server: \"b:2\"")),
            "# mine\nserver: \"b:2\"\ntls-ca-cert-files:\n- x\n- y\n# more\nserver-x: 1\n"
        );
        assert_eq!(
            replaced(text, "tls-ca-cert-files", None),
            "# mine\nserver: a:1 # why\n# more\nserver-x: 1\n"
        );
        assert_eq!(replaced("", "server", Some("server: \"a:1\"")), "server: \"a:1\"\n");
        assert_eq!(replaced("a: 1", "server", Some("server: b")), "a: 1\nserver: b\n");
        assert_eq!(written(Kind::Many, &["a".into(), "b\"".into()]), "[\"a\", \"b\\\"\"]");
    }
}
