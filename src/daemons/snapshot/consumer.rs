//! A consumer: one subscription, several lanes. Takes deliveries, gives each conversation's to the same lane, acks what is written.
//!
//! Owns the order *write, then ack*, retries, poison, and the drain. Invariant: a delivery is acked only after its lane wrote it or the
//! quarantine confirmed it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{AckId, Acker, Delivery, Publisher, SubscribeError, Subscriber};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Now;
use crate::runtime::health::{Condition, Health, Pulse};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::telemetry::TRAIL;
use crate::runtime::trace::{Stage, Tracer};
use crate::schema::ids;

use super::backlog::Backlog;
use super::counters::SnapshotCounters;
use super::gather::{Decoded, Work};
use super::lane::{Lane, Target};
use super::poison;
use super::rules::Rules;

/// Chunks that wait for a lane, beside its backlog. Deliveries in them are bounded by the subscription's in-flight window, other work comes 500 at once.
const CHUNKS_MAX: usize = 64;

/// How a consumer behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConsumerSettings {
    /// `views` or `documents`, for logs.
    pub name: &'static str,
    /// What its writes are in a trace.
    pub stage: Stage,
    /// Shortest time between two writes of a lane.
    pub linger: Duration,
    /// Deliveries of one message beyond which it is taken for what the process dies of.
    pub attempts_max: u32,
    /// Age beyond which an event changes nothing.
    pub horizon_ms: i64,
    /// The clock.
    pub now: Now,
}

/// One subscription's consumer.
pub(super) struct Consumer {
    /// Where deliveries come from.
    pub subscriber: Subscriber,
    /// Where poison goes.
    pub quarantine: Publisher,
    /// How it behaves.
    pub settings: ConsumerSettings,
    /// What may change while it runs.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// What it counts.
    pub counters: Arc<SnapshotCounters>,
    /// Whether its lanes go on.
    pub health: Health,
    /// Its subscription is there, and delivers.
    pub subscribed: Condition,
    /// Tells the ways of some events.
    pub tracer: Tracer,
}

impl Consumer {
    /// Runs until shutdown is requested and everything given to a lane is written, or the drain's time is over. Returns how many deliveries
    /// were unanswered then; they are delivered again to somebody.
    ///
    /// # Errors
    /// Where the subscription is gone for good, or a lane panicked.
    pub(super) async fn run<T: Target + 'static>(
        self,
        lanes: Vec<Lane<T>>,
        mut extra: mpsc::Receiver<Vec<Work>>,
        shutdown: Shutdown,
    ) -> Result<u64, ConsumerError> {
        let Self { mut subscriber, quarantine, settings, rules, counters, health, subscribed, tracer } = self;
        let mut tasks = JoinSet::new();
        let mut senders = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
            senders.push(sender);
            let task = LaneTask {
                lane,
                receiver,
                acker: subscriber.acker(),
                quarantine: quarantine.clone(),
                settings,
                rules: rules.clone(),
                counters: Arc::clone(&counters),
                shutdown: shutdown.clone(),
                has_blamed: false,
                pulse: health.pulse(settings.name),
                tracer: tracer.clone(),
            };
            tasks.spawn(task.run());
        }
        tracing::info!(consumer = settings.name, lanes = senders.len(), "consuming");
        subscribed.meet();
        let mut extra_open = true;
        let distributing = async {
            loop {
                let work: Vec<Work> = tokio::select! {
                    biased;
                    () = shutdown.requested() => return Ok(None),
                    ended = tasks.join_next() => return Ok(ended),
                    more = extra.recv(), if extra_open => more.unwrap_or_else(|| { extra_open = false; Vec::new() }),
                    next = subscriber.next() => match next {
                        Ok(deliveries) => {
                            subscribed.meet();
                            count_delivered(&counters, deliveries)
                        }
                        Err(SubscribeError::Closed) => return Err(ConsumerError::Closed(settings.name)),
                        Err(error) => {
                            if let Some(why) = error.barred() {
                                subscribed.miss(why);
                            }
                            tracing::warn!(consumer = settings.name, %error, "the bus cannot be read; trying again");
                            Vec::new()
                        }
                    },
                };
                if !distribute(work, &senders, &shutdown).await {
                    return Ok(None);
                }
            }
        };
        let lane_ended = health.pulse("distributor").watch(distributing).await?;
        drop(senders);
        tracing::info!(consumer = settings.name, in_flight = subscriber.counters().in_flight(), "stopping; writing what was taken");
        // `deadline` starts to count with the request; a lane that ended by itself leaves the others the same time.
        let grace = rules.borrow().drain_timeout;
        let deadline = shutdown.deadline(grace).unwrap_or_else(|| Instant::now() + grace);
        let mut failed = lane_ended.into_iter().any(|ended| ended.is_err());
        let drained = loop {
            match tokio::time::timeout_at(deadline, tasks.join_next()).await {
                Ok(Some(ended)) => failed |= ended.is_err(),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        tasks.shutdown().await;
        // Lanes that came to their end wrote all they were given. What no lane was given is handed back below, so it is not left behind.
        let left = if drained { 0 } else { subscriber.counters().in_flight() };
        if failed {
            // It may panic again over the same event. Each time counts, and in the end that one is set aside.
            subscriber.abandon(Duration::from_secs(1)).await;
            return Err(ConsumerError::LanePanicked(settings.name));
        }
        subscriber.close(Duration::from_secs(1)).await;
        Ok(left)
    }
}

/// Why a consumer gave up.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The subscriber is closed.
    #[error("{0}: the subscription was closed under the consumer")]
    Closed(&'static str),
    /// Our own broken invariant.
    #[error("{0}: a lane panicked; its deliveries are delivered again after the restart")]
    LanePanicked(&'static str),
}

fn count_delivered(counters: &SnapshotCounters, deliveries: Vec<Delivery>) -> Vec<Work> {
    SnapshotCounters::add(&counters.delivered, deliveries.len());
    SnapshotCounters::add(&counters.redelivered, deliveries.iter().filter(|delivery| delivery.attempt > 1).count());
    deliveries.into_iter().map(Work::Delivery).collect()
}

/// Gives each piece of work to its lane; false where shutdown came in between, or a lane is gone.
async fn distribute(work: Vec<Work>, senders: &[mpsc::Sender<Vec<Work>>], shutdown: &Shutdown) -> bool {
    let mut chunks: Vec<Vec<Work>> = senders.iter().map(|_| Vec::new()).collect();
    for piece in work {
        let key = match &piece {
            Work::Delivery(delivery) => delivery.envelope.ordering_key(),
            Work::Due { account, conversation }
            | Work::Refill { account, conversation, .. }
            | Work::Deleted { account, conversation, .. } => ids::ordering_key(account, Some(conversation)),
            Work::RefillAccount { account, .. } => ids::ordering_key(account, None),
        };
        chunks[usize::from(key) % senders.len()].push(piece);
    }
    for (sender, chunk) in senders.iter().zip(chunks) {
        if chunk.is_empty() {
            continue;
        }
        tokio::select! {
            sent = sender.send(chunk) => if sent.is_err() { return false },
            () = shutdown.requested() => return false,
        }
    }
    true
}

/// One lane's loop.
struct LaneTask<T> {
    lane: Lane<T>,
    receiver: mpsc::Receiver<Vec<Work>>,
    acker: Acker,
    quarantine: Publisher,
    settings: ConsumerSettings,
    rules: watch::Receiver<Arc<Rules>>,
    counters: Arc<SnapshotCounters>,
    shutdown: Shutdown,
    /// It has set aside what the process may have died of.
    has_blamed: bool,
    pulse: Pulse,
    tracer: Tracer,
}

impl<T: Target> LaneTask<T> {
    async fn run(mut self) {
        let mut backlog = Backlog::default();
        let mut not_before = Instant::now();
        let mut rules = Arc::clone(&self.rules.borrow_and_update());
        self.lane.adopt(Arc::clone(&rules));
        while self.gather(&mut backlog, not_before).await {
            not_before = Instant::now() + self.settings.linger;
            // A look at a number; the rules themselves are fetched where they are others.
            if self.rules.has_changed().unwrap_or(false) {
                rules = Arc::clone(&self.rules.borrow_and_update());
                self.lane.adopt(Arc::clone(&rules));
            }
            let mut batch = backlog.take(T::CONVERSATIONS_MAX, rules.batch_max);
            self.settle_suspects(&mut batch).await;
            self.settle(&batch).await;
            SnapshotCounters::add(&self.counters.batches, 1);
            self.pulse.rest();
        }
    }

    /// Adds what has come in, and waits for more until `not_before`, or until there is any. False where nothing is left and nothing will come.
    async fn gather(&mut self, backlog: &mut Backlog, not_before: Instant) -> bool {
        loop {
            while !backlog.is_full()
                && let Ok(more) = self.receiver.try_recv()
            {
                more.into_iter().for_each(|work| backlog.push(work));
            }
            let is_late = backlog.is_full() || Instant::now() >= not_before || self.shutdown.is_requested();
            let more = match backlog.is_empty() {
                true => self.receiver.recv().await,
                false if is_late => return true,
                false => tokio::time::timeout_at(not_before, self.receiver.recv()).await.unwrap_or_default(),
            };
            match more {
                Some(more) => more.into_iter().for_each(|work| backlog.push(work)),
                None => return !backlog.is_empty(),
            }
        }
    }

    /// Sets aside what is no event, writes the rest of a batch, and acks it.
    async fn settle(&mut self, batch: &[Work]) {
        let mut decoded = Decoded::of(batch);
        SnapshotCounters::add(&self.counters.stale, decoded.drop_stale((self.settings.now)(), self.settings.horizon_ms));
        for (index, error) in &decoded.poison {
            self.set_aside(&batch[*index], "not_an_event", &error.to_string(), "decode").await;
        }
        self.write(batch, &decoded).await;
    }

    /// Writes a batch and acks it, however often the store fails.
    async fn write(&mut self, batch: &[Work], decoded: &Decoded<'_>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut failures = 0u32;
        let (began, began_at) = (Instant::now(), SystemTime::now());
        self.trail(batch, decoded, "delivery");
        loop {
            self.pulse.begin();
            match self.lane.process(batch, decoded).await {
                Ok(()) => break,
                Err(error) => {
                    if let Some(blame) = error.blame() {
                        self.isolate(batch, blame, &error.to_string()).await;
                        return;
                    }
                    SnapshotCounters::add(&self.counters.retries, 1);
                    if failures.is_multiple_of(10) {
                        tracing::warn!(consumer = self.settings.name, %error, events = batch.len(), "not written, deliveries wait; trying again");
                    }
                    failures += 1;
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
        if failures > 0 {
            tracing::info!(consumer = self.settings.name, failures, "written again");
        }
        self.trail(batch, decoded, "written");
        let now = (self.settings.now)();
        let ages = decoded.events.iter().map(|(_, event)| u64::try_from(now.since(event.received_at)).unwrap_or(0));
        self.counters.lag.observe_all(ages.map(Duration::from_millis));
        self.counters.write_took.observe(began.elapsed());
        self.trace(decoded, began_at);
        // A second answer to what the quarantine took is ignored.
        let acks: Vec<AckId> = batch.iter().filter_map(ack_id).collect();
        SnapshotCounters::add(&self.counters.acked, acks.len());
        self.acker.ack(&acks);
    }

    fn trace(&self, decoded: &Decoded<'_>, began_at: SystemTime) {
        if !self.tracer.is_on() {
            return;
        }
        let written_at = SystemTime::now();
        for (_, event) in &decoded.events {
            if let Some(trace) = self.tracer.of(event.id.raw()) {
                trace.tell(self.settings.stage, began_at, written_at, event);
            }
        }
    }

    /// Says of each event of the batch how far it is.
    fn trail(&self, batch: &[Work], decoded: &Decoded<'_>, stage: &'static str) {
        if !tracing::enabled!(target: TRAIL, tracing::Level::DEBUG) {
            return;
        }
        for (index, event) in &decoded.events {
            if let Work::Delivery(Delivery { ack, attempt, .. }) = &batch[*index] {
                let (id, connection) = (event.id.raw(), event.connection.raw());
                tracing::debug!(target: TRAIL, consumer = self.settings.name, event = id, connection, delivery = %ack, attempt, "{stage}");
            }
        }
    }

    /// Something of the batch breaks an invariant of ours, or makes a document that the store will never take: found by halving, set aside, loud. The
    /// others go on.
    async fn isolate(&mut self, batch: &[Work], (reason, stage): (&str, &str), error: &str) {
        match batch {
            [] => {}
            [work] => {
                tracing::error!(consumer = self.settings.name, error, reason, "an event cannot be written and is set aside");
                self.set_aside(work, reason, error, stage).await;
            }
            _ => {
                let (first, second) = batch.split_at(batch.len() / 2);
                for half in [first, second] {
                    let mut decoded = Decoded::of(half);
                    decoded.drop_stale((self.settings.now)(), self.settings.horizon_ms);
                    Box::pin(self.write(half, &decoded)).await;
                }
            }
        }
    }

    /// What was delivered again and again may take the process down; or it only stood behind what does, or was held whenever somebody killed
    /// the process. So it is taken one at a time, in order: a process that dies over one of these dies over the first. Beyond `attempts_max` that
    /// first one is set aside, once in a lane's life, and the others have their turn.
    async fn settle_suspects(&mut self, batch: &mut Vec<Work>) {
        let max = self.settings.attempts_max;
        let is_beyond = |work: &Work, most: u32| matches!(work, Work::Delivery(delivery) if delivery.attempt > most);
        let is_suspect = |work: &Work| is_beyond(work, max.div_ceil(2));
        if !batch.iter().any(is_suspect) {
            return;
        }
        let (suspects, rest) = std::mem::take(batch).into_iter().partition::<Vec<Work>, _>(is_suspect);
        *batch = rest;
        for suspect in suspects.chunks(1) {
            if !self.has_blamed && is_beyond(&suspect[0], max) {
                self.has_blamed = true;
                self.set_aside(&suspect[0], "attempts", &format!("delivered more than {max} times"), "apply").await;
            } else {
                self.settle(suspect).await;
            }
        }
    }

    /// Publishes a poison delivery to the quarantine and, once that is confirmed, acks it.
    async fn set_aside(&self, work: &Work, reason: &str, detail: &str, stage: &str) {
        let Work::Delivery(delivery) = work else { return };
        let envelope = poison::envelope(&delivery.envelope, reason, detail, stage);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        self.pulse.begin();
        while let Err(error) = self.quarantine.publish(vec![envelope.clone()]).await {
            tracing::warn!(consumer = self.settings.name, %error, "the quarantine cannot be written; trying again");
            tokio::time::sleep(backoff.next_wait()).await;
            self.pulse.begin();
        }
        SnapshotCounters::add(&self.counters.poison, 1);
        tracing::warn!(consumer = self.settings.name, reason, stage, "a delivery was set aside in the quarantine");
        self.acker.ack(&[delivery.ack]);
    }
}

fn ack_id(work: &Work) -> Option<AckId> {
    match work {
        Work::Delivery(delivery) => Some(delivery.ack),
        Work::Due { .. } | Work::Refill { .. } | Work::Deleted { .. } | Work::RefillAccount { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::bus::Bus;
    use crate::bus::embedded::EmbeddedBus;
    use crate::config::EmbeddedBusConfig;
    use crate::daemons::snapshot::gather::{AccountGroup, Group};
    use crate::daemons::snapshot::lane::{Folded, LaneError, Loaded, Want};
    use crate::documents::DocumentsError;
    use crate::runtime::clock;
    use crate::schema::envelope::Envelope;
    use crate::schema::event::{Event, EventKind};
    use crate::schema::time::Millis;
    use crate::transform::materialize::{MaterializeError, WriteOutcome};
    use crate::transform::repair::Store;
    use crate::transform::resolve::{Claims, Resolved};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Writes nothing, and panics over one event, or says of another that its document is refused for good.
    struct Fragile {
        panics_over: &'static str,
        refuses: &'static str,
        refused: Arc<AtomicUsize>,
        hangs: bool,
    }

    impl Target for Fragile {
        type Write = ();

        const STORE: Store = Store::Views;

        const CONVERSATIONS_MAX: usize = 10;

        fn adopt(&mut self, _: Arc<Rules>) {}

        async fn resolve(&self, _: &[Claims]) -> Result<Vec<Resolved>, LaneError> {
            Ok(Vec::new())
        }

        async fn load(&self, wanted: &[(String, String)], _: &[Want]) -> Result<Vec<Loaded>, LaneError> {
            Ok(vec![Loaded::default(); wanted.len()])
        }

        fn fold(&self, _: &[Work], _: &Decoded<'_>, _: &Group<'_>, _: Loaded, _: Millis) -> Result<Option<Folded<()>>, MaterializeError> {
            Ok(None)
        }

        async fn write(&self, _: Vec<()>) -> Result<Vec<WriteOutcome>, LaneError> {
            Ok(Vec::new())
        }

        async fn write_accounts(&mut self, decoded: &Decoded<'_>, _: &[AccountGroup<'_>], _: Millis) -> Result<(), LaneError> {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            assert!(decoded.events.iter().all(|(_, event)| event.id.raw() != self.panics_over), "the event that nobody survives");
            if decoded.events.iter().any(|(_, event)| event.id.raw() == self.refuses) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let (store, document, detail) = ("store".to_owned(), "fans/f".to_owned(), "too large".to_owned());
                return Err(DocumentsError::RefusedDocument { store, document, detail }.into());
            }
            Ok(())
        }

        async fn forget(&self, _: &[&Group<'_>]) -> Result<(), LaneError> {
            Ok(())
        }
    }

    async fn start(bus: &Bus) -> Consumer {
        let settings = ConsumerSettings {
            name: "views",
            stage: Stage::ApplyViews,
            linger: Duration::ZERO,
            attempts_max: 3,
            horizon_ms: 1 << 40,
            now: clock::now,
        };
        let mut config = crate::config::Config::default();
        (config.snapshot.batch_max, config.snapshot.drain_timeout_s) = (8, PATIENCE.as_secs());
        let rules = watch::channel(Arc::new(Rules::new(&config).unwrap())).1;
        let subscriber = bus.subscriber("events", "views").await.unwrap();
        let (quarantine, health) = (bus.publisher("quarantine").unwrap(), Health::new(Duration::from_millis(20)));
        let subscribed = health.condition("views");
        health.started();
        Consumer { subscriber, quarantine, settings, rules, counters: Arc::default(), health, subscribed, tracer: Tracer::default() }
    }

    async fn run_with(consumer: Consumer, shutdown: &Shutdown) -> Result<u64, ConsumerError> {
        run_over(consumer, "id-17", "", &Arc::default(), shutdown).await
    }

    async fn run_over(
        consumer: Consumer,
        panics_over: &'static str,
        refuses: &'static str,
        refused: &Arc<AtomicUsize>,
        shutdown: &Shutdown,
    ) -> Result<u64, ConsumerError> {
        let lane =
            || Lane::new(Fragile { panics_over, refuses, refused: Arc::clone(refused), hangs: false }, 1_000, Arc::default(), clock::now);
        let (_work, extra) = mpsc::channel(1);
        tokio::time::timeout(PATIENCE, consumer.run(vec![lane(), lane()], extra, shutdown.clone())).await.unwrap()
    }

    /// A bus whose topic has 40 events of the account, `id-0` and so on, then what is no event.
    async fn forty() -> (tempfile::TempDir, Bus) {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedBusConfig { dir: dir.path().join("bus"), ..EmbeddedBusConfig::default() };
        let bus = Bus::Embedded(EmbeddedBus::open(&config).unwrap());
        let event = |number| Event::of_account(EventKind::PostPublished, format!("id-{number}"), "1", "c", clock::now());
        let envelopes = (0..40).map(|number| Envelope::of_event(&event(number)).unwrap()).collect();
        bus.publisher("events").unwrap().publish(envelopes).await.unwrap();
        (dir, bus)
    }

    #[tokio::test]
    async fn a_lane_that_hangs_is_told_and_one_that_works_is_ready() {
        let (_dir, bus) = forty().await;
        let consumer = start(&bus).await;
        let (health, shutdown) = (consumer.health.clone(), Shutdown::new());
        assert_eq!(health.missing().len(), 1);
        let fragile = Fragile { panics_over: "", refuses: "", refused: Arc::default(), hangs: true };
        let lane = Lane::new(fragile, 1_000, Arc::default(), clock::now);
        let (_work, extra) = mpsc::channel(1);
        let looking = async {
            while health.stalled().is_empty() {
                tokio::task::yield_now().await;
            }
            (health.stalled()[0].part, health.missing())
        };
        let seen = tokio::select! {
            seen = tokio::time::timeout(PATIENCE, looking) => seen.unwrap(),
            ended = consumer.run(vec![lane], extra, shutdown) => panic!("{ended:?}"),
        };
        assert_eq!(seen, ("views", Vec::new()));
        let gone = async {
            while !health.stalled().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("what is gone does not stall");
    }

    /// Asks for shutdown when everything is acked.
    async fn settled(bus: &Bus, shutdown: &Shutdown) {
        while bus.backlog("events", "views").await.unwrap().messages.is_none_or(|messages| messages > 0) {
            tokio::task::yield_now().await;
        }
        shutdown.request();
    }

    /// Ids, or texts of what is no event, and reasons.
    async fn quarantined(bus: &Bus) -> Vec<(String, String)> {
        let mut quarantine = bus.subscriber("quarantine", "test").await.unwrap();
        let set_aside = tokio::time::timeout(PATIENCE, quarantine.next()).await.unwrap().unwrap();
        let id = |delivery: &Delivery| match delivery.envelope.event() {
            Ok(event) => event.id.raw().to_owned(),
            Err(_) => String::from_utf8_lossy(delivery.envelope.data()).into_owned(),
        };
        let reason = |delivery: &Delivery| delivery.envelope.attribute("reason").unwrap_or_default().to_owned();
        set_aside.iter().map(|delivery| (id(delivery), reason(delivery))).collect()
    }

    #[tokio::test]
    async fn what_the_store_refuses_for_good_is_set_aside_and_the_others_are_written() {
        let (_dir, bus) = forty().await;
        bus.publisher("events").unwrap().publish(vec![Envelope::new(1, &[], b"nonsense")]).await.unwrap();
        let (consumer, shutdown, refused) = (start(&bus).await, Shutdown::new(), Arc::default());
        let (ended, ()) = tokio::join!(run_over(consumer, "", "id-23", &refused, &shutdown), settled(&bus, &shutdown));
        assert_eq!(ended.unwrap(), 0);
        let mut found = quarantined(&bus).await;
        found.sort();
        assert_eq!(found, [("id-23".into(), "refused_by_store".into()), ("nonsense".into(), "not_an_event".into())], "each once");
        assert!((1..=4).contains(&refused.load(Ordering::Relaxed)), "halves of a batch of 8, no endless trying: {refused:?}");
    }

    #[tokio::test]
    async fn an_event_that_a_lane_panics_over_is_set_aside_after_some_restarts() {
        let (_dir, bus) = forty().await;
        for start_no in 1..=3 {
            let ended = run_with(start(&bus).await, &Shutdown::new()).await;
            assert!(matches!(ended, Err(ConsumerError::LanePanicked("views"))), "start {start_no}: {ended:?}");
        }
        let (consumer, shutdown) = (start(&bus).await, Shutdown::new());
        let (ended, ()) = tokio::join!(run_with(consumer, &shutdown), settled(&bus, &shutdown));
        assert_eq!(ended.unwrap(), 0);
        assert_eq!(quarantined(&bus).await, [("id-17".into(), "attempts".into())], "it, and no sound one");
    }
}
