//! `cpg demo`: the whole way with nothing but this machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;

use super::args::DemoArgs;
use super::logging::Log;
use super::settings::Ending;
use super::{output, settings};
use crate::classify::Filters;
use crate::demo::{DemoRelay, Options, Script, Step, serve, story};
use crate::pipeline::{Keeper, LEDGER_CAPACITY, Live, Stop, Summary, Writer};
use crate::source::relay::{Address, Connector, Direct, Start};
use crate::store::Store;

/// Short, so that files appear while the story plays.
const FLUSH: Duration = Duration::from_secs(1);
/// After the last flow of the story: time for its window to close.
const EPILOGUE: Duration = Duration::from_millis(1500);

pub(super) async fn run(args: DemoArgs, log: Log) -> ExitCode {
    let DemoArgs { serve, output_dir } = args;
    let stop = match settings::stop(false) {
        Ok(stop) => stop,
        Err(e) => return output::failed(&e),
    };
    if serve.is_some() && output_dir.is_some() {
        tracing::warn!("--serve only serves: --output-dir is not used");
    }
    let done = match serve {
        Some(address) => serve_only(&address, stop).await.map(|()| ExitCode::SUCCESS),
        None => play(output_dir, stop).await.map(|(summary, root)| {
            let code = output::summary(&summary, &Ending::default(), log);
            output::result(&guide(&summary, &root));
            code
        }),
    };
    done.unwrap_or_else(|e| output::failed(&e))
}

/// Serves the story over and over until it is asked to stop.
async fn serve_only(address: &str, stop: Stop) -> anyhow::Result<()> {
    let listener = listen(address).await?;
    let bound = listener.local_addr()?;
    let script = Script::timed(story::play(Timestamp::now()))
        .then(Step::Pause(Duration::from_secs(5)))
        .then(Step::RepeatForever);
    output::say(&format!(
        "a demo relay serves its story on {bound}, over and over; Ctrl-C ends it\n  in another terminal: cpg generate --server {bound}"
    ));
    serve(listener, relay(script), async move { stop.stopped().await }).await?;
    Ok(())
}

/// Plays the story once through a real connection, into files.
async fn play(output_dir: Option<PathBuf>, stop: Stop) -> anyhow::Result<(Summary, PathBuf)> {
    let root = match output_dir {
        Some(dir) => dir,
        None => tempfile::Builder::new()
            .prefix("cpg-demo-")
            .tempdir()
            .context("no temporary directory can be made; name one with --output-dir")?
            .keep(),
    };
    let listener = listen("127.0.0.1:0").await?;
    let (address, _) = Address::parse(&listener.local_addr()?.to_string())?;
    let start = Timestamp::now();
    let length: Duration = story::play(start).iter().map(|(delay, _)| *delay).sum();
    output::say(&format!(
        "a relay inside of this process plays {:.0} seconds in a small shop; cpg follows it on {address}",
        length.as_secs_f64()
    ));
    let filters = Arc::new(Filters::default());
    let store = Store::open(root.clone(), settings::LOCK_PATIENCE)?;
    let keeper = Keeper::new(Arc::clone(&filters), FLUSH, Writer::new(store, LEDGER_CAPACITY));
    let over = Stop::default();
    let served = serve(listener, relay(story::script(start)), async { over.stopped().await });
    let played = async {
        let followed = follow(&address, keeper, &filters, length + EPILOGUE, stop).await;
        over.stop();
        followed
    };
    let (served, followed) = tokio::join!(served, played);
    served.context("the demo relay failed")?;
    Ok((followed?, root))
}

/// Follows the story until it is over, or until it is asked to stop.
async fn follow(
    address: &Address,
    keeper: Keeper,
    filters: &Filters,
    length: Duration,
    stop: Stop,
) -> anyhow::Result<Summary> {
    let way = Direct::new(address.clone());
    let relay = Connector::new(way, None, Duration::from_secs(10)).connect().await?;
    let end = async {
        tokio::select! {
            () = tokio::time::sleep(length) => stop.stop(),
            () = stop.stopped() => {}
        }
    };
    let flows = Live::once(relay.flows(&filters.interest, Start::Now));
    Ok(tokio::join!(keeper.follow(flows, stop.clone()), end).0)
}

fn relay(script: Script) -> DemoRelay {
    let namespaces = story::NAMESPACES.iter().map(|(c, n)| ((*c).to_owned(), (*n).to_owned())).collect();
    let nodes = story::NODES.iter().map(|n| (*n).to_owned()).collect();
    DemoRelay::with([script], Options { namespaces, nodes, ..Options::default() })
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {:?}: name an address of this machine as HOST:PORT",
            crate::text::visible(address, 100)
        )
    })
}

/// What to look at, with the shortest of the files as a sample.
fn guide(summary: &Summary, root: &std::path::Path) -> String {
    let mut text = format!("\nLook at {}:\n", root.display());
    let mut files: Vec<_> = summary.results.policies.values().map(|p| p.path.clone()).collect();
    files.sort();
    for file in &files {
        text += &format!("  {}\n", file.strip_prefix(root).unwrap_or(file).display());
    }
    let sample = files.iter().find(|f| f.ends_with("shop/web.shop.frontend.yaml")).or(files.first());
    if let Some(content) = sample.and_then(|f| std::fs::read_to_string(f).ok().map(|c| (f, c))) {
        text +=
            &format!("\n{}:\n\n{}", content.0.strip_prefix(root).unwrap_or(content.0).display(), content.1);
    }
    text += "\nReplies, doubled events, denies and infrastructure drops became no rule: the summary above says which.";
    text
}
