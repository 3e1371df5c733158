//! Values that stand below flags and variables, and which place a value came from: by clap's own rules, since
//! each takes the place of a default.

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use super::{Args, Usage};

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    Switch,
    /// One of a few words, true and false among them.
    Choice,
    One,
    Many,
}

/// One setting, as its flag declares it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Setting {
    /// The flag without its dashes.
    pub(in crate::cli) key: String,
    pub(in crate::cli) kind: Kind,
}

/// Where the value of a setting comes from, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Place {
    Default,
    ConfigFile,
    HubbleConfig,
    HubbleVariable,
    Variable,
    Flag,
}

/// A value that stands below flag and `CPG_` variable: it takes the place of the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Layer {
    pub(in crate::cli) key: String,
    pub(in crate::cli) values: Vec<String>,
    pub(in crate::cli) place: Place,
}

/// Which place each setting of this command line came from.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Places(std::collections::BTreeMap<String, (Place, Vec<String>)>);

// === impl Places ===

impl Places {
    /// Where this setting came from.
    pub(in crate::cli) fn of(&self, key: &str) -> Place {
        self.0.get(key).map_or(Place::Default, |(place, _)| *place)
    }

    /// Every setting, with its value as it was written.
    pub(in crate::cli) fn all(&self) -> impl Iterator<Item = (&str, Place, &[String])> {
        self.0.iter().map(|(key, (place, values))| (key.as_str(), *place, values.as_slice()))
    }
}

/// The settings that a command has, global ones too.
pub(in crate::cli) fn settings_of(command: &str) -> Vec<Setting> {
    let root = Args::command();
    let own = root.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    root.get_arguments()
        .chain(own)
        .filter(|arg| arg.get_env().is_some())
        .filter_map(|arg| {
            let kind = match arg.get_action() {
                clap::ArgAction::Append => Kind::Many,
                _ if arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>() => Kind::Switch,
                _ if arg.get_possible_values().iter().any(|value| value.get_name() == "true") => Kind::Choice,
                _ => Kind::One,
            };
            Some(Setting { key: arg.get_long()?.to_owned(), kind })
        })
        .collect()
}

impl Args {
    /// Parses the process's own arguments, over these layers.
    pub(in crate::cli) fn read(layers: &[Layer]) -> Result<(Self, Places), Usage> {
        Self::parse_from_all(std::env::args_os(), layers)
    }

    /// Parses this command line, over these layers. Layers that no flag of the command knows are left out.
    pub(in crate::cli) fn parse_from_all(
        line: impl IntoIterator<Item = std::ffi::OsString>,
        layers: &[Layer],
    ) -> Result<(Self, Places), Usage> {
        let mut command = Self::command();
        for layer in layers {
            let id = layer.key.replace('-', "_");
            let under = |mut command: clap::Command| {
                if command.get_arguments().any(|arg| arg.get_id() == id.as_str()) {
                    command = command.mut_arg(&id, |arg| arg.default_values(layer.values.clone()));
                }
                command
            };
            command = under(command).mut_subcommand("generate", under).mut_subcommand("replay", under);
            command = command.mut_subcommand("explain", under).mut_subcommand("capture", under);
        }
        let usage = |e: clap::Error| Usage { text: e.render().to_string(), is_mistake: e.use_stderr() };
        let matches = command.try_get_matches_from(line).map_err(usage)?;
        let args = Self::from_arg_matches(&matches).map_err(usage)?;
        let mut places = Places::default();
        if let Some((name, own)) = matches.subcommand() {
            for setting in settings_of(name) {
                let id = setting.key.replace('-', "_");
                let place = match own.value_source(&id) {
                    Some(ValueSource::CommandLine) => Place::Flag,
                    Some(ValueSource::EnvVariable) => Place::Variable,
                    _ => layers.iter().find(|l| l.key == setting.key).map_or(Place::Default, |l| l.place),
                };
                let values = own.get_raw(&id).into_iter().flatten();
                let values = values.map(|v| v.to_string_lossy().into_owned()).collect();
                places.0.insert(setting.key, (place, values));
            }
        }
        Ok((args, places))
    }
}
