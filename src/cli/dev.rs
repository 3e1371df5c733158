//! `cpg dev`: tools for people who work on cpg.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::args::{CaptureArgs, DecideArgs, DevArgs, DevCommand, LoadArgs};
use super::{output, settings};
use crate::demo::{DemoRelay, Load, capture, from_json, serve_load};
use crate::engine::question::answer_line;
use crate::policy::spec::Version;

pub(super) async fn run(args: DevArgs) -> ExitCode {
    let done = match args.command {
        DevCommand::Capture(args) => write_capture(&args),
        DevCommand::Load(args) => load(args).await,
        DevCommand::Decide(args) => decide(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => output::failed(&e),
    }
}

fn write_capture(args: &CaptureArgs) -> anyhow::Result<()> {
    let create = |path: &Path| {
        File::create(path).map(BufWriter::new).with_context(|| format!("cannot write {}", path.display()))
    };
    let (mut out, mut truth) = (create(&args.out)?, create(&args.truth)?);
    let summary = capture::generate(args.seed, args.lines, &mut out, &mut truth)?;
    out.flush()?;
    truth.flush()?;
    output::result(&format!("{summary:?}"));
    Ok(())
}

/// Serves the flows of a capture, again and again, as fast as the client reads.
async fn load(args: LoadArgs) -> anyhow::Result<()> {
    let LoadArgs { serve, capture, flows, rate } = args;
    let file = File::open(&capture).with_context(|| format!("cannot read {}", capture.display()))?;
    let mut responses = Vec::new();
    for line in BufReader::new(file).lines() {
        responses.extend(from_json::response(&line?));
    }
    let count = flows.unwrap_or(responses.len() as u64);
    let listener = TcpListener::bind(&serve).await.with_context(|| format!("cannot listen on {serve}"))?;
    output::say(&format!("serving {count} flows a stream on {}", listener.local_addr()?));
    let stop = settings::stop(false)?;
    let load = Load::new(&responses, count);
    let load = match rate {
        Some(rate) => load.at_rate(rate),
        None => load,
    };
    serve_load(listener, DemoRelay::new([]), load, async move { stop.stopped().await }).await?;
    Ok(())
}

/// Answers the questions on standard input, line by line.
fn decide(args: &DecideArgs) -> anyhow::Result<()> {
    let version = Version::parse(&args.version).with_context(|| format!("no version {:?}", args.version))?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if !line.is_empty() {
            for answer in answer_line(&line, version) {
                writeln!(out, "{answer}")?;
            }
            out.flush()?;
        }
    }
    Ok(())
}
