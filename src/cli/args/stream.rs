//! One stream of documents in the place of a file for each workload.

use std::path::PathBuf;

use clap::Args as Group;
use clap::builder::FalseyValueParser;

/// Where policies go that are not a file each.
#[derive(Debug, Group)]
#[command(next_help_heading = "One stream")]
pub(in crate::cli) struct StreamArgs {
    /// Write new policies as documents of this one file below the output directory, for example all.yaml
    #[arg(long, env = "CPG_SINGLE_FILE", value_name = "FILE")]
    pub(in crate::cli) single_file: Option<PathBuf>,
    /// Write nothing to disk; at the end write the policies that would change, merged with those of the output
    /// directory, to standard output as one stream
    #[arg(long, env = "CPG_STDOUT", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) stdout: bool,
}
