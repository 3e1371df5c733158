//! What runs beside the stream: the time limit, the metrics, the pulse. When one of them fails, the run ends in
//! order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::{Id, JoinSet};

use super::logging::Log;
use super::status_line::StatusLine;
use crate::metrics;
use crate::pipeline::{Stop, Vitals, ended, named};
use crate::text::visible;

/// Tasks beside the stream; they end when this is dropped.
pub(super) struct Beside {
    stop: Stop,
    /// Each gives what went wrong, if something did.
    tasks: JoinSet<Option<String>>,
    names: HashMap<Id, &'static str>,
}

// === impl Beside ===

impl Beside {
    pub(super) fn new(stop: Stop) -> Self {
        Self { stop, tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// One task more, which may end.
    pub(super) fn task(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            None
        });
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Option<String>> + Send + 'static) {
        let id = self.tasks.spawn(named(name, task)).id();
        self.names.insert(id, name);
    }

    /// The run ends after this time, counted from now.
    pub(super) fn end_after(&mut self, duration: Duration) {
        let stop = self.stop.clone();
        self.task("time-limit", async move {
            tokio::time::sleep(duration).await;
            tracing::info!("--duration is over: writing what was learned, then ending");
            stop.stop();
        });
    }

    /// Serves the metrics; an error names the address.
    pub(super) async fn serve_metrics(&mut self, address: &str, vitals: Arc<Vitals>) -> anyhow::Result<()> {
        let listener = match address.strip_prefix(':') {
            // Every address of this machine, in both families where there are two.
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Ok(listener) => Ok(listener),
                Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
            },
            None => TcpListener::bind(address).await,
        };
        let listener = listener
            .with_context(|| format!("--metrics-listen: cannot listen on {:?}", visible(address, 100)))?;
        tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
        self.spawn("metrics", async move { Some(metrics::serve(listener, vitals).await) });
        Ok(())
    }

    /// Keeps the pulse, and the status line on a terminal.
    pub(super) fn show(&mut self, vitals: Arc<Vitals>, log: Log) {
        self.task("pulse", async move {
            let mut line = StatusLine::new(log);
            let each = |vitals: &Vitals| {
                if let Some(line) = &mut line {
                    line.show(&vitals.snapshot());
                }
            };
            vitals.pulse(each).await;
        });
    }

    /// Waits for the run. When a task fails, the run is asked to stop; what failed is given back.
    pub(super) async fn wait<T>(mut self, run: impl Future<Output = T>) -> (T, Vec<String>) {
        let mut faults = Vec::new();
        let mut run = std::pin::pin!(run);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut run => break done,
                Some(over) = self.tasks.join_next_with_id() => {
                    let fault = match over {
                        Ok((_, fault)) => fault,
                        Err(e) => Some(ended(self.names.get(&e.id()).copied().unwrap_or("unknown"), e)),
                    };
                    if let Some(fault) = fault {
                        tracing::error!("{fault}; the run ends");
                        faults.push(fault);
                        self.stop.stop();
                    }
                }
            }
        };
        self.tasks.shutdown().await;
        (done, faults)
    }
}
