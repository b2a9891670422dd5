//! Panics of a daemon: each is a record in the log, with its place, and ends the process in order, so that its manager starts a whole one.
//!
//! Owns the panic hook. Does not own what a stop means, nor the exit code. Invariant: a panic that nobody contains, in whatever thread or task, leaves no
//! process that goes on without one of its parts.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shutdown::Shutdown;

/// Longest message that is logged, bytes.
const MESSAGE_MAX: usize = 300;

tokio::task_local! {
    /// Set while a task runs whose end somebody waits for and deals with.
    static CONTAINED: ();
}

/// The panics of a process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Panics {
    all: Arc<AtomicU64>,
    uncontained: Arc<AtomicU64>,
}

impl Panics {
    /// Logs every panic from now on, and asks for a stop with each that nobody contains.
    #[must_use]
    pub fn catch(shutdown: Shutdown) -> Self {
        let panics = Self::default();
        let counted = panics.clone();
        panic::set_hook(Box::new(move |info| {
            counted.all.fetch_add(1, Relaxed);
            let is_contained = CONTAINED.try_with(|()| ()).is_ok();
            log(info, is_contained);
            if !is_contained {
                counted.uncontained.fetch_add(1, Relaxed);
                shutdown.request();
            }
        }));
        panics
    }

    /// All of them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.all.load(Relaxed)
    }

    /// Whether there was one that nobody contained.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.uncontained.load(Relaxed) > 0
    }
}

/// Runs a task whose panic is the end of that task alone: whoever waits for it starts it again, or does without.
pub async fn contained<F: Future>(task: F) -> F::Output {
    CONTAINED.scope((), task).await
}

fn log(info: &PanicHookInfo<'_>, is_contained: bool) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    let message = message(info.payload());
    let next = if is_contained { "the part is started again, or done without" } else { "the process ends, to be started again" };
    let trace = Backtrace::capture();
    let backtrace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(location, thread, message, next, backtrace, "a part of the process panicked; this is a bug");
}

/// What was said, without the text that the standard library quotes where a text is cut at a wrong place.
fn message(payload: &(dyn Any + Send)) -> &str {
    let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let said = said.split_once(" of `").map_or(said, |(before, _)| before);
    &said[..said.floor_char_boundary(MESSAGE_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_ours_and_short() {
        let text = "the fan's own words, ä";
        let cut = panic::catch_unwind(|| text[..text.len() - 1].len()).unwrap_err();
        let said = message(&*cut);
        assert!(said.contains("byte index") && !said.contains("own words"), "{said}");
        assert_eq!(message(&"plain"), "plain");
        assert_eq!(message(&"x".repeat(1_000)).len(), MESSAGE_MAX);
        assert_eq!(message(&7), "");
    }

    #[tokio::test]
    async fn one_that_nobody_contains_asks_for_a_stop() {
        let before = panic::take_hook();
        let shutdown = Shutdown::new();
        let panics = Panics::catch(shutdown.clone());
        let inside = tokio::spawn(contained(async { panic!("contained") })).await;
        // Other tests of this process may panic on purpose at the same time.
        assert!(inside.unwrap_err().is_panic() && panics.count() >= 1);
        std::thread::Builder::new().name("worker".into()).spawn(|| panic!("not contained")).unwrap().join().unwrap_err();
        assert!(panics.is_broken() && shutdown.is_requested());
        panic::set_hook(before);
    }
}
