//! SIGHUP: the config is read again, from the same layers and with the same flags, and what can change while a daemon runs changes.
//!
//! Owns what is said of it: each key that changed, whether it holds now or needs a restart, and why a config was refused. Invariants: a config that a start
//! would refuse changes nothing; what holds and what is told to hold are the same.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::daemon::Daemon;
use super::{CommandError, Context, Exit};
use crate::config::{Change, Config, Loaded, changes};
use crate::runtime::exposition::{Labels, Page};
use crate::runtime::shutdown::Hangups;
use crate::runtime::supervise::Supervised;
use crate::runtime::telemetry::Logs;

/// How often it is looked whether repeated records are to be told.
const REPEATS_EVERY: Duration = Duration::from_secs(1);
/// Most keys told one by one.
const KEYS_MAX: usize = 100;

/// What came of reading the config again; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reloads(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ok: AtomicU64,
    failed: AtomicU64,
    pending: AtomicU64,
}

impl Reloads {
    /// Shows the numbers.
    pub(super) fn expose(&self, page: &mut Page<'_>) {
        let Counts { ok, failed, pending } = &*self.0;
        page.counters(
            "config_reloads",
            "Times that the config was read again, by what came of it: taken, or refused as a whole.",
            [(&[("result", "ok")] as Labels<'_>, ok.load(Relaxed)), (&[("result", "failed")], failed.load(Relaxed))],
        );
        page.gauge("config_restart_pending_keys", "Keys that were changed and hold after a restart.", pending.load(Relaxed));
    }
}

/// Reads the config of a daemon again whenever that is asked for.
pub(super) struct Reloader<'a, D> {
    pub(super) context: &'a Context,
    pub(super) daemon: &'a D,
    /// The file that the config came from at the start, if it came from one with anything in it.
    pub(super) file: Option<PathBuf>,
    /// Where the config that holds is told.
    pub(super) sender: watch::Sender<Arc<Config>>,
    pub(super) supervised: Supervised,
    pub(super) reloads: Reloads,
    pub(super) logs: &'a Logs,
}

impl<D: Daemon> Reloader<'_, D> {
    /// Waits for SIGHUP, again and again; and sees to the records that are repeated, as nobody else has a clock here.
    pub(super) async fn run(self, mut hangups: Hangups) -> Infallible {
        let mut ticks = interval(REPEATS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = hangups.next() => {
                    self.supervised.reloading();
                    self.reload();
                    self.supervised.reloaded();
                }
                _ = ticks.tick() => self.logs.tell_repeats(false),
            }
        }
    }

    fn reload(&self) {
        let counts = &*self.reloads.0;
        let read = self.context.config_with(self.daemon.overrides()).and_then(|loaded| {
            self.daemon.check(&loaded)?;
            self.is_of_a_file(&loaded)?;
            Ok(loaded)
        });
        match read.and_then(|loaded| self.take(&loaded)) {
            Ok(pending) => {
                counts.pending.store(pending as u64, Relaxed);
                counts.ok.fetch_add(1, Relaxed);
            }
            Err(error) => {
                counts.failed.fetch_add(1, Relaxed);
                for line in error.told() {
                    tracing::error!(why = line, "the config was read again and is refused; the one before it stays in use");
                }
            }
        }
    }

    /// A file that is gone or empty says nothing of what it once said: nobody means to go back to all defaults that way.
    fn is_of_a_file(&self, loaded: &Loaded) -> Result<(), CommandError> {
        let Some(file) = &self.file else { return Ok(()) };
        let is_there = loaded.file.as_deref().is_some_and(has_content);
        let why = || CommandError::new(Exit::Config, format!("{} is gone or empty, and was not when this was started", file.display()));
        if is_there { Ok(()) } else { Err(why()) }
    }

    /// Takes up what can be; the number of keys that cannot.
    fn take(&self, loaded: &Loaded) -> Result<usize, CommandError> {
        let running = Arc::clone(&self.sender.borrow());
        let next = D::adopt(&running, &loaded.config);
        self.logs.adopt(&next.log)?;
        let concerns = |change: &Change| D::concerns(&change.key);
        let in_effect: Vec<Change> = changes(&running, &next).into_iter().filter(concerns).collect();
        let pending: Vec<Change> = changes(&next, &loaded.config).into_iter().filter(concerns).collect();
        let keys: BTreeSet<&str> = pending.iter().map(|change| change.key.as_str()).collect();
        tracing::info!(in_effect = in_effect.len(), need_restart = keys.len(), "the config was read again");
        for Change { key, old, new } in in_effect.iter().take(KEYS_MAX) {
            tracing::info!(key, old, new, from = from(loaded, key), "a key changed and is in effect");
        }
        for Change { key, old, new } in pending.iter().take(KEYS_MAX) {
            tracing::warn!(key, old, new, from = from(loaded, key), "a key changed and takes effect with a restart");
        }
        // Told also where nothing differs: some parts look at the world again.
        self.sender.send_replace(Arc::new(next));
        Ok(pending.len())
    }
}

/// Whether anything stands in a config file.
pub(super) fn has_content(file: &Path) -> bool {
    file.metadata().is_ok_and(|about| about.len() > 0)
}

/// The place that says so.
fn from(loaded: &Loaded, key: &str) -> String {
    loaded.origins.get(key).map_or_else(|| "default".to_owned(), |origin| origin.place())
}
