//! `cpg dev`, for people who work on cpg.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};

#[derive(Debug, Group)]
pub(in crate::cli) struct DevArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: DevCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DevCommand {
    /// Write a realistic capture and what has to come of it
    Capture(CaptureArgs),
    /// Serve flows as fast as the client reads, for measuring
    Load(LoadArgs),
    /// Answer questions about policies, one JSON object a line, as the testbed's judge does
    Decide(DecideArgs),
}

#[derive(Debug, Group)]
pub(in crate::cli) struct DecideArgs {
    /// Version of Cilium: 1.16 to 1.20
    #[arg(long = "cilium", value_name = "VERSION", default_value = "1.19")]
    pub(in crate::cli) version: String,
}

#[derive(Debug, Group)]
pub(in crate::cli) struct CaptureArgs {
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Lines of the capture
    #[arg(long, default_value_t = 100_000)]
    pub(in crate::cli) lines: u64,
    /// The capture
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: PathBuf,
    /// The needs that are in it, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) truth: PathBuf,
}

#[derive(Debug, Group)]
pub(in crate::cli) struct LoadArgs {
    /// Where to serve
    #[arg(long, value_name = "ADDR")]
    pub(in crate::cli) serve: String,
    /// Capture whose flows are sent
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) capture: PathBuf,
    /// How many flows one stream gets before it ends (default: each line of the capture once)
    #[arg(long, value_name = "N")]
    pub(in crate::cli) flows: Option<u64>,
    /// How many a second (default: as fast as the client reads)
    #[arg(long, value_name = "N")]
    pub(in crate::cli) rate: Option<u32>,
}
