//! The snapshot service: two consumers, independent of each other. `views` folds the topic into Redis, `documents` into the documents.
//!
//! Owns their composition, start and drain. Does not own the fold, or how a store writes. Invariant: it is the only writer of live chat data.

mod backlog;
mod consumer;
mod counters;
mod documents;
mod floor;
mod gather;
mod lane;
mod metrics;
mod poison;
mod refill;
mod rules;
mod sample;
mod states;
mod views;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};

use crate::bus::{Bus, BusError};
use crate::config::{Config, RedisConfig};
use crate::documents::Documents;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::{self, Now};
use crate::runtime::health::{Condition, Health, Pulse};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::trace::{Stage, Tracer};
use crate::transform::policy::PolicyError;
use crate::views::{ViewsError, Writer};

use consumer::{Consumer, ConsumerSettings};
use lane::Lane;
use sample::Sampler;

pub use consumer::ConsumerError;
pub use counters::SnapshotCounters;
pub use metrics::SnapshotMetrics;
pub use rules::{Policies, Rules};
pub use sample::RedisGauges;

/// Waits between two looks for a Redis that is down at the start.
const REDIS_WAIT_MIN: Duration = Duration::from_millis(100);
const REDIS_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why the service did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The rules do not compile.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Redis refuses us at the start. One that is down is waited for.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// A consumer gave up.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The drain's time was over.
    #[error("the drain is incomplete: {0} deliveries are unanswered and will be delivered again")]
    Undrained(u64),
}

/// What the service is composed of.
pub struct Snapshot {
    /// The config.
    pub config: Arc<Config>,
    /// The config whenever it was read again, changed or not; what cannot change while it runs is as above.
    pub changes: channel::Receiver<Arc<Config>>,
    /// The bus.
    pub bus: Bus,
    /// The documents; written by the `documents` consumer, and read by `views` to refill Redis.
    pub documents: Documents,
    /// Run the consumer of Redis.
    pub views: bool,
    /// Run the consumer of the documents.
    pub write_documents: bool,
    /// The clock, `runtime::clock::now`.
    pub now: Now,
    /// What `views` counts.
    pub views_counters: Arc<SnapshotCounters>,
    /// What `documents` counts.
    pub documents_counters: Arc<SnapshotCounters>,
    /// How Redis stands.
    pub redis: Arc<RedisGauges>,
    /// Whether it goes on, and what it lacks.
    pub health: Health,
    /// Tells the ways of some events.
    pub tracer: Tracer,
}

impl Snapshot {
    /// Runs until shutdown, then drains.
    ///
    /// # Errors
    /// Where something is missing at the start, a consumer gives up, or the drain is incomplete.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), SnapshotError> {
        let (rules, current) = channel::channel(Arc::new(Rules::new(&self.config)?));
        let ruling = tokio::spawn(follow(self.changes.clone(), rules));
        let report = tokio::spawn(report([Arc::clone(&self.views_counters), Arc::clone(&self.documents_counters)], shutdown.clone()));
        let needs = |name, is_run: bool| is_run.then(|| self.health.condition(name));
        let (redis, views, documents) = (needs("redis", self.views), needs("views", self.views), needs("documents", self.write_documents));
        self.health.started();
        let sampling = tokio::spawn(self.sampler()?.run(self.health.pulse("sampler")));
        let views = async {
            match (redis, views) {
                (Some(redis), Some(subscribed)) => self.run_views(current.clone(), redis, subscribed, shutdown.clone()).await,
                _ => Ok(0),
            }
        };
        let documents = async {
            match documents {
                Some(subscribed) => self.run_documents(current.clone(), subscribed, shutdown.clone()).await,
                None => Ok(0),
            }
        };
        // Whichever gives up takes the other down in order, so that a supervisor sees one whole process end.
        let (views, documents) = tokio::join!(stop_all(views, &shutdown), stop_all(documents, &shutdown));
        report.abort();
        sampling.abort();
        ruling.abort();
        for counters in [&self.views_counters, &self.documents_counters] {
            log_counters(counters);
        }
        match views? + documents? {
            0 => Ok(()),
            left => Err(SnapshotError::Undrained(left)),
        }
    }

    async fn run_views(
        &self,
        rules: channel::Receiver<Arc<Rules>>,
        redis: Condition,
        subscribed: Condition,
        shutdown: Shutdown,
    ) -> Result<u64, SnapshotError> {
        let config = &self.config;
        let lanes_no = config.snapshot.lanes;
        let Some(watch_writer) = wait_for_redis(&config.redis, &shutdown).await? else { return Ok(0) };
        redis.meet();
        let mut lanes = Vec::with_capacity(lanes_no);
        let (floor, mut marks) = (Arc::new(floor::Floor::default()), Vec::with_capacity(lanes_no));
        for _ in 0..lanes_no {
            let writer = Writer::open(&config.redis)?;
            let counters = Arc::clone(&self.views_counters);
            marks.push(writer.mark());
            let refill = refill::Refill { documents: self.documents.clone(), floor: Arc::clone(&floor), counters: Arc::clone(&counters) };
            let current = Arc::clone(&rules.borrow());
            let target = views::ViewsTarget::new(writer, refill, current, Arc::clone(&counters));
            lanes.push(Lane::new(target, config.snapshot.states_max_bytes / lanes_no, counters, self.now));
        }
        let (work, extra) = mpsc::channel(1);
        let watch = watch::Watch {
            writer: watch_writer,
            marks,
            floor,
            documents: self.documents.clone(),
            bus: self.bus.clone(),
            names: config.bus.clone(),
            work,
            interval: Duration::from_millis(config.snapshot.due_ms),
            now: self.now,
            pulse: self.health.pulse("watcher"),
        };
        let known = watch.begin().await?;
        let watching = tokio::spawn(watch.run(known, shutdown.clone()));
        let consumer = self.consumer(("views", Stage::ApplyViews), Duration::ZERO, &self.views_counters, rules, subscribed).await?;
        let left = consumer.run(lanes, extra, shutdown).await;
        watching.abort();
        Ok(left?)
    }

    async fn run_documents(
        &self,
        rules: channel::Receiver<Arc<Rules>>,
        subscribed: Condition,
        shutdown: Shutdown,
    ) -> Result<u64, SnapshotError> {
        let config = &self.config;
        let current = Arc::clone(&rules.borrow());
        let target = documents::DocumentsTarget::new(self.documents.clone(), current, Arc::clone(&self.documents_counters));
        // One lane: the store has one writer, and batches are larger for it.
        let lanes = vec![Lane::new(target, config.snapshot.states_max_bytes, Arc::clone(&self.documents_counters), self.now)];
        let (_work, extra) = mpsc::channel(1);
        let pruning = tokio::spawn(prune(self.documents.clone(), self.health.pulse("pruning"), shutdown.clone()));
        let linger = Duration::from_millis(config.documents.linger_ms);
        let consumer = self.consumer(("documents", Stage::ApplyDocuments), linger, &self.documents_counters, rules, subscribed).await?;
        let left = consumer.run(lanes, extra, shutdown).await;
        pruning.abort();
        Ok(left?)
    }

    async fn consumer(
        &self,
        (name, stage): (&'static str, Stage),
        linger: Duration,
        counters: &Arc<SnapshotCounters>,
        rules: channel::Receiver<Arc<Rules>>,
        subscribed: Condition,
    ) -> Result<Consumer, SnapshotError> {
        let bus = &self.config.bus;
        let subscription = if name == "views" { &bus.views_subscription } else { &bus.documents_subscription };
        let subscriber = self.bus.subscriber(&bus.topic, subscription).await?;
        let quarantine = self.bus.publisher(&bus.quarantine_topic)?;
        // Each service has counters of its own, so they are set once.
        let _ = counters.subscriber.set(subscriber.counters());
        let _ = counters.quarantine.set(quarantine.counters());
        Ok(Consumer {
            subscriber,
            quarantine,
            settings: ConsumerSettings {
                name,
                stage,
                linger,
                attempts_max: bus.attempts_max(),
                horizon_ms: milliseconds(self.config.redis.conversation_ttl_s),
                now: self.now,
            },
            rules,
            counters: Arc::clone(counters),
            health: self.health.clone(),
            subscribed,
            tracer: self.tracer.clone(),
        })
    }

    /// What looks at the backlogs and at Redis now and then.
    fn sampler(&self) -> Result<Sampler, ViewsError> {
        let bus = &self.config.bus;
        let of = |is_run: bool, subscription: &str, counters: &Arc<SnapshotCounters>| {
            is_run.then(|| (subscription.to_owned(), Arc::clone(counters)))
        };
        let consumers = [
            of(self.views, &bus.views_subscription, &self.views_counters),
            of(self.write_documents, &bus.documents_subscription, &self.documents_counters),
        ];
        Ok(Sampler {
            bus: self.bus.clone(),
            topic: bus.topic.clone(),
            consumers: consumers.into_iter().flatten().collect(),
            redis: if self.views { Some((Writer::open(&self.config.redis)?, Arc::clone(&self.redis))) } else { None },
        })
    }
}

/// A writer that Redis has answered; `None` where a stop was asked for before it did. A Redis that is down is waited for, as it is later; what
/// waiting does not mend, such as a wrong password, is an error at once.
async fn wait_for_redis(config: &RedisConfig, shutdown: &Shutdown) -> Result<Option<Writer>, ViewsError> {
    let mut backoff = Backoff::new(REDIS_WAIT_MIN, REDIS_WAIT_MAX);
    loop {
        match Writer::connect(config).await {
            Ok(writer) => {
                if backoff.failures() > 0 {
                    tracing::info!("Redis has answered; going on");
                }
                return Ok(Some(writer));
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for Redis; until it answers, deliveries wait on the topic");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(None),
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

async fn stop_all<F>(part: F, shutdown: &Shutdown) -> Result<u64, SnapshotError>
where
    F: Future<Output = Result<u64, SnapshotError>>,
{
    let result = part.await;
    if result.is_err() {
        shutdown.request();
    }
    result
}

/// Has the lanes take up what the config says whenever it was read again.
async fn follow(mut configs: channel::Receiver<Arc<Config>>, rules: channel::Sender<Arc<Rules>>) {
    while configs.changed().await.is_ok() {
        let config = Arc::clone(&configs.borrow_and_update());
        match Rules::new(&config) {
            Ok(new) => {
                rules.send_replace(Arc::new(new));
                tracing::debug!("the rules of the config hold from the next batch on");
            }
            // Whoever read it has compiled it before.
            Err(error) => tracing::error!(%error, "the rules of the config do not compile; those before them stay in use"),
        }
    }
}

/// Deletes expired documents, a little at a time.
async fn prune(documents: Documents, pulse: Pulse, shutdown: Shutdown) {
    const PAGE: usize = 500;
    let mut wait = Duration::from_secs(60);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match pulse.step(documents.prune(clock::now(), PAGE)).await {
            Ok(pruned) if pruned >= PAGE as u64 => Duration::from_secs(1),
            Ok(_) => Duration::from_secs(60),
            Err(error) => {
                tracing::warn!(%error, "expired documents are not deleted; trying again in a minute");
                Duration::from_secs(60)
            }
        };
    }
}

/// Logs what changed, once a minute.
async fn report(counters: [Arc<SnapshotCounters>; 2], shutdown: Shutdown) {
    let mut logged = counters.each_ref().map(|counters| counters.values());
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        for (counters, logged) in counters.iter().zip(&mut logged) {
            let values = counters.values();
            if values != *logged {
                log_counters(counters);
                *logged = values;
            }
        }
    }
}

fn log_counters(counters: &SnapshotCounters) {
    let values = counters.values();
    if values.iter().all(|(_, value)| *value == 0) {
        return;
    }
    let text: Vec<String> = values.iter().filter(|(_, value)| *value > 0).map(|(name, value)| format!("{name}={value}")).collect();
    tracing::info!("counted: {}", text.join(" "));
}

fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}
