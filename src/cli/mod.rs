//! The command line: what was typed, what is meant, one file per command.

mod args;
mod config;
mod config_command;
mod demo;
mod dev;
mod diff;
mod evidence_command;
mod explain;
mod generate;
mod logging;
mod output;
mod preflight;
mod reach;
mod replay;
mod settings;
mod validate;

use std::process::ExitCode;

use args::{Args, Command, Places};

/// Runs the program with the process's own arguments; gives its exit code.
pub fn main() -> ExitCode {
    let (mut args, _) = match Args::read(&[]) {
        Ok(read) => read,
        Err(usage) => return output::usage(&usage),
    };
    let mut places = Places::default();
    if let Some(hubble_config) = args.command.layered() {
        let layers = match config::layers(hubble_config) {
            Ok(layers) => layers,
            Err(mistakes) => return output::mistakes(&mistakes),
        };
        (args, places) = match Args::read(&layers) {
            Ok(read) => read,
            Err(usage) => return output::usage(&usage),
        };
    }
    let log = match settings::log(&args) {
        Ok(log) => log,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    logging::start(log);
    // The one TLS provider, for kube's client too. It stands already when a test runs this twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return output::failed(&anyhow::Error::new(e).context("cannot start the runtime")),
    };
    let code = runtime.block_on(async {
        match args.command {
            Command::Generate(args) => generate::run(*args, &places, log).await,
            Command::Replay(args) => replay::run(args, log).await,
            Command::Demo(args) => demo::run(args, log).await,
            Command::Validate(args) => validate::run(&args),
            Command::Explain(args) => explain::run(args),
            Command::Evidence(args) => evidence_command::run(args),
            Command::Config(args) => config_command::run(args),
            Command::Dev(args) => dev::run(args).await,
        }
    });
    // A reader that is stuck in a system call (standard input) must not hold the process.
    runtime.shutdown_background();
    code
}
