//! `--hold`: what a run says stays on the screen until a key is pressed.
//!
//! k9s runs cpg as a command and clears the screen when it ends. It also catches the SIGINT of Ctrl-C,
//! which a terminal sends to both, and kills what it runs: the last window would be lost. So from
//! [`Hold::keys`] on the terminal sends no signals; Ctrl-C and q come as keys, and become a SIGINT for
//! cpg alone.

use std::io::{IsTerminal as _, stderr, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::process::{Signal, getpgrp, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::output::say;

/// What Ctrl-C and Ctrl-\ are as keys.
const ENDS: [u8; 3] = [0x03, 0x1c, b'q'];

/// The mode of the terminal before we changed it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the last words of a run on the screen. Gives the terminal its mode back when it goes.
#[derive(Debug)]
pub(super) struct Hold {
    asked: bool,
    keys: OnceLock<Keys>,
}

/// The keys that are pressed.
#[derive(Debug)]
struct Keys {
    /// The run is over: from now on any key counts.
    over: Arc<AtomicBool>,
    pressed: Receiver<()>,
}

// === impl Hold ===

impl Hold {
    /// Holds nothing unless it was `asked` for and a person sits there: input and messages are on a
    /// terminal, and we are in its foreground.
    pub(super) fn new(asked: bool) -> Self {
        Self { asked, keys: OnceLock::new() }
    }

    /// Whether a terminal is to be held.
    pub(super) fn is_on(&self) -> bool {
        self.asked
            && stdin().is_terminal()
            && stderr().is_terminal()
            && tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
    }

    /// Takes the keys from now on, and says which of them end the run; signals must be caught by then. Not
    /// before a credential plugin had the chance to ask something on the terminal.
    pub(super) fn keys(&self) {
        if self.take(false) {
            say("q or Ctrl-C ends the run");
        }
    }

    /// Waits for a key, or for a signal that asks to end. Outside of any runtime.
    pub(super) fn wait(mut self) {
        if self.keys.get().is_none() && !self.is_on() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            // Before the terminal is touched, which a signal must not leave as it is then.
            let Ok(asked_to_end) = signals() else { return };
            self.take(true);
            let Some(mut keys) = self.keys.take() else { return };
            keys.over.store(true, Ordering::Relaxed);
            say("press any key to end");
            tokio::select! {
                _ = keys.pressed.recv() => {}
                () = asked_to_end => {}
            }
        });
    }

    /// Whether keys come from now on that did not before.
    fn take(&self, over: bool) -> bool {
        if self.keys.get().is_some() || !self.is_on() {
            return false;
        }
        if let Err(error) = keys_one_by_one() {
            tracing::debug!(%error, "the terminal's mode cannot be changed");
            return false;
        }
        let (sender, pressed) = channel(1);
        let over = Arc::new(AtomicBool::new(over));
        let keys = Keys { over: Arc::clone(&over), pressed };
        // A thread of its own: it ends with the process, in the middle of a read.
        std::thread::spawn(move || read(&over, &sender));
        self.keys.set(keys).is_ok()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal the mode that it had. For the way out that drops nothing.
pub(super) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // What was typed for cpg is not for what comes after it.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &before);
    }
}

/// No signals, no echo, no waiting for Enter. Output stays as it is.
fn keys_one_by_one() -> rustix::io::Result<()> {
    let before = tcgetattr(stdin())?;
    let mut mode = before.clone();
    mode.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
    mode.special_codes[SpecialCodeIndex::VMIN] = 1;
    mode.special_codes[SpecialCodeIndex::VTIME] = 0;
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    tcsetattr(stdin(), OptionalActions::Now, &mode)
}

/// Reads keys until the terminal has gone, which counts as one.
fn read(over: &AtomicBool, pressed: &Sender<()>) {
    let mut bytes = [0; 64];
    loop {
        let n = match rustix::io::read(stdin(), &mut bytes) {
            Ok(n) if n > 0 => n,
            Err(rustix::io::Errno::INTR) => continue,
            _ => return,
        };
        if over.load(Ordering::Relaxed) {
            // Full: a key is noted already.
            let _ = pressed.try_send(());
        } else {
            for _ in bytes[..n].iter().filter(|byte| ENDS.contains(byte)) {
                // The same way as from outside: the second one ends at once.
                let _ = kill_process(getpid(), Signal::INT);
            }
        }
    }
}

/// Catches the signals that end a run, and the end of a terminal, from now on; waits for any of them.
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    })
}
