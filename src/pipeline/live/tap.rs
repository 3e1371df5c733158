//! Where items go as they came from the relay: to whoever writes a capture.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages that wait to be written; when they are so many the stream is not read on, and the relay tells of
/// events that it lost meanwhile.
const WAITING: usize = 1_024;

/// The sending end: the only one, so that room that was found stays.
#[derive(Debug)]
pub(in crate::pipeline) struct Tap(mpsc::Sender<Bytes>);

// === impl Tap ===

impl Tap {
    /// A tap and the end that is read.
    pub(in crate::pipeline) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Waits until there is room for a message, or nobody takes any.
    pub(super) async fn room(&self) {
        let _ = self.0.reserve().await;
    }

    /// Passes a message on. A reader that is gone has said why by itself.
    pub(super) fn take(&self, raw: Option<Bytes>) {
        if let Some(raw) = raw {
            let _ = self.0.try_send(raw);
        }
    }
}
