//! The command line: what was typed, what is meant, one file per command.

mod args;
mod demo;
mod dev;
mod generate;
mod logging;
mod output;
mod replay;
mod settings;
mod validate;

use std::process::ExitCode;

use args::{Args, Command};

/// Runs the program with the process's own arguments; gives its exit code.
pub fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(usage) => return output::usage(&usage),
    };
    let log = match settings::log(&args) {
        Ok(log) => log,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    logging::start(log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return output::failed(&anyhow::Error::new(e).context("cannot start the runtime")),
    };
    let code = runtime.block_on(async {
        match args.command {
            Command::Generate(args) => generate::run(args, log).await,
            Command::Replay(args) => replay::run(args, log).await,
            Command::Demo(args) => demo::run(args, log).await,
            Command::Validate(args) => validate::run(&args),
            Command::Dev(args) => dev::run(args).await,
        }
    });
    // A reader that is stuck in a system call (standard input) must not hold the process.
    runtime.shutdown_background();
    code
}
