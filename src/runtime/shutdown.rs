//! The stop signal, handed as an argument to everything that runs for long.
//!
//! Owns: who asked to stop, and when. Does not own what a stop means: each part drains as it must. Invariant: once requested, always requested.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// A stop that was asked for, or was not yet. Clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    state: Arc<watch::Sender<Option<Request>>>,
    last_words: Arc<OnceLock<LastWords>>,
}

/// Says what is given up by an end at once.
struct LastWords(Box<dyn Fn() -> Option<String> + Send + Sync>);

impl fmt::Debug for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastWords")
    }
}

/// A signal that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What service managers send.
    Terminate,
}

impl Signal {
    /// The exit code of a process that the signal ended: 128 and the signal's number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Request {
    at: Instant,
    signal: Option<Signal>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A stop that only [`Shutdown::request`] asks for.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(None)), last_words: Arc::default() }
    }

    /// A stop that SIGINT and SIGTERM ask for. A second signal ends the process at once, with 130 or 143, and with a line in the log where somebody has
    /// left [last words](Self::leave_last_words).
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let shutdown = Self::new();
        let requested = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    Some(()) = interrupts.recv() => Signal::Interrupt,
                    Some(()) = terminations.recv() => Signal::Terminate,
                    else => return,
                };
                if requested.is_requested() {
                    requested.say_last_words(signal);
                    std::process::exit(signal.exit_code().into());
                }
                requested.ask(Some(signal));
            }
        });
        Ok(shutdown)
    }

    /// What a second signal has to say: what is given up by it. Only the first who leaves words is heard.
    pub fn leave_last_words(&self, words: impl Fn() -> Option<String> + Send + Sync + 'static) {
        // One daemon has one process.
        let _ = self.last_words.set(LastWords(Box::new(words)));
    }

    fn say_last_words(&self, signal: Signal) {
        if let Some(LastWords(words)) = self.last_words.get() {
            let given_up = words().unwrap_or_else(|| "nothing".to_owned());
            tracing::error!(code = signal.exit_code(), given_up, "ended at once by a second signal");
        }
    }

    /// Asks everything to stop. Asking again changes nothing.
    pub fn request(&self) {
        self.ask(None);
    }

    fn ask(&self, signal: Option<Signal>) {
        self.state.send_if_modified(|state| {
            let first = state.is_none();
            state.get_or_insert(Request { at: Instant::now(), signal });
            first
        });
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.state.borrow().is_some()
    }

    /// Waits until a stop is asked for. Cancel-safe.
    pub async fn requested(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(Option::is_some).await;
    }

    /// When a drain that may take `grace` has to be over; `None` before a stop was asked for.
    #[must_use]
    pub fn deadline(&self, grace: Duration) -> Option<Instant> {
        self.state.borrow().map(|request| request.at + grace)
    }

    /// The signal that asked; `None` where none did.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.state.borrow().and_then(|request| request.signal)
    }
}

/// SIGHUP, by which a daemon is asked to read its config again. It ends a process that has none of these.
#[derive(Debug)]
pub struct Hangups(tokio::signal::unix::Signal);

impl Hangups {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the handler cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one; several that came meanwhile are one. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime is ending.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_are_heard_and_remembered() {
        let shutdown = Shutdown::listen().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        tokio::time::timeout(Duration::from_secs(5), shutdown.requested()).await.unwrap();
        assert_eq!(shutdown.signal().map(Signal::exit_code), Some(143));
    }

    #[tokio::test(start_paused = true)]
    async fn every_clone_hears_it_and_the_deadline_stays() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested() && shutdown.deadline(Duration::ZERO).is_none());
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        let asked = Instant::now();
        shutdown.request();
        waiting.await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        shutdown.request();
        assert_eq!(shutdown.deadline(Duration::from_secs(3)), Some(asked + Duration::from_secs(3)));
        assert_eq!(shutdown.signal(), None);
        shutdown.requested().await;
    }
}
