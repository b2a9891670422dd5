//! Ingest: the accounts' sockets in, events on the bus out.
//!
//! Composes the session and socket of [`crate::ws`] with the normalizer and the bus: one task an account, one buffer, one publisher. Owns no
//! conversation state, and nothing behind the bus can stall a socket. Invariants: an event is counted as published only when the bus has
//! confirmed it; every hole in what was read is a `connection.gap`; a stop ends in an empty buffer or says what was left in it.

mod account;
mod artifacts;
mod buffer;
mod counters;
mod intake;
mod marks;
mod metrics;
mod publisher;
mod record;
mod translate;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout, timeout_at};

use self::account::{Account, Shared};
pub use self::artifacts::Artifacts;
use self::buffer::Buffer;
pub use self::counters::{ByReason, Counters, Counts};
pub use self::intake::{Intake, Translate};
pub use self::marks::Marks;
pub use self::metrics::IngestMetrics;
pub use self::publisher::Publish;
use self::publisher::Signs;
pub use self::record::{RecordError, Recorder};
pub use self::translate::translate;
use crate::config::{Config, IngestConfig};
use crate::runtime::clock::Clock;
use crate::runtime::health::{Condition, Health, Pulse};
use crate::runtime::panics::contained;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::trace::Tracer;
use crate::runtime::trust::Trust;
use crate::schema::artifact::Artifact;
use crate::ws::socket::Dial;

/// How often the counters are logged, if they changed.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Called with an account's id whenever it goes live.
pub type OnLive = Arc<dyn Fn(&str) + Send + Sync>;
/// Called with an account's id and the generation of its artifact whenever the platform refused that.
pub type OnRefused = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// What ingest is composed of.
pub struct Ingest<P, S> {
    /// Limits and timers.
    pub config: IngestConfig,
    /// The config whenever it was read again, changed or not.
    pub changes: watch::Receiver<Arc<Config>>,
    /// Whose certificates are trusted.
    pub trust: Trust,
    /// What opens the byte streams below the sockets.
    pub dial: Dial,
    /// What the sessions take for the time.
    pub clock: Clock,
    /// What is remembered of earlier sessions, and of these for later ones.
    pub marks: Option<Arc<Marks>>,
    /// Takes down every frame, where that is wanted.
    pub recorder: Option<Recorder>,
    /// What changed among the artifacts since it was last called; at first, all there are. It may block; it is called on a thread for that.
    /// An artifact that cannot be used leaves its account as it is, and so do all after an error.
    pub scan: S,
    /// How often `scan` is called; besides, whenever an account's artifact has come of age.
    pub scan_every: Duration,
    /// The normalizer.
    pub translate: Translate,
    /// The topic of the events.
    pub events: P,
    /// The topic of what could not be read.
    pub quarantine: P,
    /// The running numbers, for whoever wants to look at them.
    pub counters: Arc<Counters>,
    /// Whether it goes on, and what it lacks.
    pub health: Health,
    /// Tells the ways of some events.
    pub tracer: Tracer,
    /// Told when an account goes live.
    pub on_live: Option<OnLive>,
    /// Told when an account's artifact is refused, so that it can ask for a new one. It must not block.
    pub on_refused: Option<OnRefused>,
}

/// What may change while it runs, read at each use.
#[derive(Debug)]
struct Live {
    /// Whether events carry the source item.
    raw: AtomicBool,
    /// Most events published at once.
    publish_batch_max: AtomicUsize,
}

impl Live {
    fn take(&self, config: &IngestConfig) {
        self.raw.store(config.raw, Ordering::Relaxed);
        self.publish_batch_max.store(config.publish_batch_max, Ordering::Relaxed);
    }
}

/// What happened to an account's artifact.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is there, new or not.
    Present(Arc<Artifact>),
    /// A new one is there that cannot be used; the account goes on with the old one, or waits.
    Unusable {
        /// The account.
        account: String,
        /// Why, in words without a secret.
        why: String,
    },
    /// It is gone: the account is stopped.
    Gone(String),
}

/// Ingest did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The time for draining ended first.
    #[error("stopped with {messages} messages ({bytes} bytes) that the bus had not confirmed within {after_s} s; they are lost")]
    Undrained {
        /// Messages that were left in the buffer; those on their way are counted in `bytes` alone.
        messages: usize,
        /// Bytes that were left, those on their way included.
        bytes: usize,
        /// The time they had, seconds.
        after_s: u64,
    },
    /// A part of ingest ended that never ends: a bug, which its panic message describes.
    #[error("the {0} of ingest ended unexpectedly; this is a bug, see the panic message above")]
    Broken(&'static str),
}

/// Runs until a stop is asked for; then closes the sockets and publishes what was read, within `drain_timeout_s`.
///
/// # Errors
/// [`IngestError::Undrained`] where that time was not enough; [`IngestError::Broken`] where a part of ingest panicked.
pub async fn run<P, S, E>(ingest: Ingest<P, S>, shutdown: Shutdown) -> Result<Counts, IngestError>
where
    P: Publish,
    S: FnMut() -> Result<Vec<Change>, E> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let Ingest {
        mut config,
        mut changes,
        trust,
        dial,
        clock,
        marks,
        recorder,
        scan,
        scan_every,
        translate,
        events,
        quarantine,
        counters,
        health,
        tracer,
        on_live,
        on_refused,
    } = ingest;
    let look = Arc::new(Notify::new());
    let buffer = Buffer::new(config.buffer_max_bytes, counters.clone());
    let live = Arc::new(Live { raw: config.raw.into(), publish_batch_max: config.publish_batch_max.into() });
    let shared = Shared {
        timing: (&config).into(),
        limits: (&config).into(),
        trust,
        dial,
        clock,
        marks: marks.clone(),
        recorder,
        live: live.clone(),
        health: health.clone(),
        depth_max: config.depth_max,
        translate,
        buffer: buffer.clone(),
        counters: counters.clone(),
        look: look.clone(),
        on_live,
        on_refused,
    };
    let signs = Signs { pulse: health.pulse("publisher"), topics: health.condition("topic"), tracer };
    // Whether a managed service lets us publish shows with the first message, which has to come from a socket.
    signs.topics.meet();
    let mut publisher = JoinSet::new();
    publisher.spawn(publisher::run(buffer.clone(), events, quarantine, live.clone(), counters.clone(), signs));
    let (found, mut scans) = mpsc::channel(1);
    let mut scanner = JoinSet::new();
    scanner.spawn(scan_on(scan, scan_every, look.clone(), found, health.pulse("scanner"), health.condition("artifacts")));
    health.started();
    let mut keeper = JoinSet::new();
    if let Some(marks) = &marks {
        keeper.spawn(marks::keep(marks.clone(), buffer.clone(), health.pulse("marks")));
    }

    let mut accounts = Accounts::new(shared, shutdown.clone(), config.start_spread_ms);
    let mut reports = interval(REPORT_EVERY);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = Counts::default();
    let accounting = async {
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                Some(ended) = accounts.tasks.join_next_with_id() => accounts.forget(&ended),
                _ = publisher.join_next() => return Err(IngestError::Broken("publisher")),
                changes = scans.recv() => match changes {
                    Some(changes) => accounts.apply(changes),
                    None => return Err(IngestError::Broken("scanner")),
                },
                Ok(()) = changes.changed() => {
                    config = changes.borrow_and_update().ingest.clone();
                    live.take(&config);
                    // Whoever has put artifacts there and says so need not wait for the next look.
                    look.notify_one();
                }
                _ = reports.tick() => {
                    let counts = counters.read();
                    if counts != reported {
                        reported = counts;
                        counts.log("ingest");
                    }
                }
            }
        }
    };
    health.pulse("accounts").watch(accounting).await?;

    let grace = Duration::from_secs(config.drain_timeout_s);
    // A stop was asked for, so there is a deadline.
    let deadline = shutdown.deadline(grace).unwrap_or_else(tokio::time::Instant::now);
    let drained = timeout_at(deadline, async {
        while accounts.tasks.join_next().await.is_some() {}
        buffer.close();
        publisher.join_next().await
    })
    .await;
    let counts = counters.read();
    counts.log("ingest stopped");
    match drained {
        Ok(Some(Ok(()))) => {
            if let Some(marks) = marks {
                keeper.shutdown().await;
                let written = tokio::task::spawn_blocking(move || marks.write()).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(%error, "the marks of the connections cannot be written; the next gaps begin a little early");
                }
            }
            Ok(counts)
        }
        Ok(_) => Err(IngestError::Broken("publisher")),
        Err(_) => {
            let (messages, bytes) = buffer.depth();
            Err(IngestError::Undrained { messages, bytes, after_s: config.drain_timeout_s })
        }
    }
}

/// Calls `scan` again and again and hands on what it finds, also where that is nothing.
async fn scan_on<S, E>(
    mut scan: S,
    every: Duration,
    look: Arc<Notify>,
    found: mpsc::Sender<Vec<Change>>,
    pulse: Pulse,
    artifacts: Condition,
) where
    S: FnMut() -> Result<Vec<Change>, E> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    loop {
        pulse.begin();
        let scanned = tokio::task::spawn_blocking(move || {
            let changes = scan();
            (scan, changes)
        });
        let Ok((again, changes)) = scanned.await else { return };
        scan = again;
        match changes {
            Ok(changes) => {
                if found.send(changes).await.is_err() {
                    return;
                }
                artifacts.meet();
            }
            Err(error) => {
                artifacts.miss("cannot be read");
                tracing::warn!(%error, "the artifacts cannot be read; the accounts go on as they are");
            }
        }
        pulse.rest();
        // Sooner where an account waits for a new artifact.
        let _ = timeout(every, look.notified()).await;
    }
}

/// The accounts: those that have an artifact, and those that run.
struct Accounts {
    shared: Shared,
    shutdown: Shutdown,
    artifacts: HashMap<String, Arc<Artifact>>,
    running: HashMap<String, Running>,
    tasks: JoinSet<()>,
    spread_ms: u64,
}

struct Running {
    task: AbortHandle,
    /// `None` once the artifact is gone: the task is closing its socket.
    artifact: Option<watch::Sender<Arc<Artifact>>>,
}

impl Accounts {
    fn new(shared: Shared, shutdown: Shutdown, spread_ms: u64) -> Self {
        Self { shared, shutdown, artifacts: HashMap::new(), running: HashMap::new(), tasks: JoinSet::new(), spread_ms }
    }

    /// Tells what changed, stops what is gone, starts what does not run: new accounts, those whose artifact came back before their old
    /// task had ended, and those whose task panicked.
    fn apply(&mut self, changes: Vec<Change>) {
        let before = self.artifacts.len();
        for change in changes {
            match change {
                Change::Present(artifact) => {
                    let running = self.running.get(&artifact.account_id).and_then(|running| running.artifact.as_ref());
                    if let Some(sender) = running {
                        sender.send_replace(artifact.clone());
                    }
                    self.artifacts.insert(artifact.account_id.clone(), artifact);
                }
                Change::Unusable { account, why } => {
                    Counters::add(&self.shared.counters.artifacts_unusable, 1);
                    let next = if self.artifacts.contains_key(&account) { "the one before it stays in use" } else { "waiting for another" };
                    tracing::warn!(account, why, next, "an artifact cannot be used");
                }
                Change::Gone(account) => {
                    self.artifacts.remove(&account);
                    if let Some(running) = self.running.get_mut(&account) {
                        running.artifact = None;
                    }
                }
            }
        }
        self.shared.counters.accounts.store(self.artifacts.len() as u64, Ordering::Relaxed);
        if self.artifacts.len() != before {
            tracing::info!(accounts = self.artifacts.len(), "accounts");
        }
        // A single account connects at once; a thousand take their time, so that neither side has to shake a thousand hands in one moment.
        let starting = self.artifacts.keys().filter(|name| !self.running.contains_key(*name)).count() as u64;
        let wait_max = self.spread_ms.saturating_mul(starting.saturating_sub(1));
        for (name, artifact) in &self.artifacts {
            if !self.running.contains_key(name) {
                let (sender, receiver) = watch::channel(artifact.clone());
                let account = Account::new(self.shared.clone(), receiver, fastrand::u64(0..=wait_max));
                let (pulse, shutdown) = (self.shared.health.pulse("account"), self.shutdown.clone());
                let task = self.tasks.spawn(contained(async move { pulse.watch(account.run(shutdown)).await }));
                self.running.insert(name.clone(), Running { task, artifact: Some(sender) });
            }
        }
    }

    /// An account's task ended: because its artifact is gone, or because of a bug.
    fn forget(&mut self, ended: &Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = self.running.iter().find(|(_, running)| running.task.id() == id).map(|(name, _)| name.clone()) else { return };
        self.running.remove(&name);
        if ended.is_err() {
            tracing::error!(account = name, "the account's task panicked, as the record before says where; it is started again");
        }
    }
}
