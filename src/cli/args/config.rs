//! `cpg config`.

use clap::{Args as Group, Subcommand};

#[derive(Debug, Group)]
pub(in crate::cli) struct ConfigArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Print every setting, its value and where that comes from
    View,
    /// Print the value of one setting
    Get {
        /// The flag without its dashes
        key: String,
    },
    /// Write a value to the config file
    Set {
        /// The flag without its dashes
        key: String,
        /// Several where the flag can be repeated
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Take a value out of the config file, or remove the file
    Reset {
        /// The flag without its dashes
        key: Option<String>,
    },
}
