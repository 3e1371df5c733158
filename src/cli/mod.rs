//! The command line: what was typed, what is meant, one file per command.

mod args;
mod beside;
mod bootstrap;
mod config;
mod config_command;
mod dedup;
mod demo;
mod dev;
mod diff;
mod evidence_command;
mod explain;
mod generate;
mod hold;
mod logging;
mod output;
mod preflight;
mod reach;
mod replay;
mod settings;
mod status_line;
mod stream;
mod validate;
mod watching;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use args::{Args, Command, Places};
use hold::Hold;

/// Runs the program with the process's own arguments; gives its exit code.
pub fn main() -> ExitCode {
    let (args, _) = match Args::read(&[]) {
        Ok(read) => read,
        Err(usage) => return output::usage(&usage),
    };
    let asked = args.hold();
    match layered(args) {
        Ok((args, places)) => {
            let hold = Hold::new(args.hold());
            let code = run(args, &places, &hold);
            hold.wait();
            code
        }
        Err(code) => {
            Hold::new(asked).wait();
            code
        }
    }
}

/// The arguments again, over the files that count for their command.
fn layered(args: Args) -> Result<(Args, Places), ExitCode> {
    let Some(hubble_config) = args.command.layered() else { return Ok((args, Places::default())) };
    let layers = config::layers(hubble_config).map_err(|mistakes| output::mistakes(&mistakes))?;
    Args::read(&layers).map_err(|usage| output::usage(&usage))
}

fn run(args: Args, places: &Places, hold: &Hold) -> ExitCode {
    let log = match settings::log(&args) {
        Ok(log) => log,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    logging::start(log);
    // The message of a panic may hold text from a flow; by itself it would reach the terminal as it is.
    std::panic::set_hook(Box::new(|info| tracing::error!("{}", crate::pipeline::panic_line(info))));
    // The one TLS provider, for kube's client too. It stands already when a test runs this twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return output::failed(&anyhow::Error::new(e).context("cannot start the runtime")),
    };
    let run = AssertUnwindSafe(|| {
        runtime.block_on(async {
            match args.command {
                Command::Generate(args) => generate::run(*args, places, hold, log).await,
                Command::Replay(args) => replay::run(*args, places, hold, log).await,
                Command::Demo(args) => demo::run(args, log).await,
                Command::Bootstrap(args) => bootstrap::run(&args),
                Command::Validate(args) => validate::run(&args),
                Command::Explain(args) => explain::run(*args),
                Command::Evidence(args) => evidence_command::run(args),
                Command::Config(args) => config_command::run(args),
                Command::Dev(args) => dev::run(args).await,
            }
        })
    });
    let code = catch_unwind(run).unwrap_or_else(|_| {
        output::failed(&anyhow::anyhow!("cpg itself failed, see above: please report it"))
    });
    // A reader that is stuck in a system call (standard input) must not hold the process.
    runtime.shutdown_background();
    code
}
