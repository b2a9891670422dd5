//! The hand-worked rows on real stores, at the rows' own time: a real Redis, the embedded bus and documents, one to four workers side by side.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convpipe::backends;
use convpipe::bus::Bus;
use convpipe::config::{Config, Tiers};
use convpipe::daemons::snapshot::{Snapshot, SnapshotCounters};
use convpipe::documents::{Access, Documents, HistoryPage};
use convpipe::runtime::health::Health;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::runtime::trace::Tracer;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::Event;
use convpipe::schema::policy::Policy;
use convpipe::schema::time::Millis;
use convpipe::views::{Reader, StreamEntry, StreamRange};
use serde_json::Value;

use crate::oracle::check::check_rows;
use crate::oracle::compare::{Actual, ActualAccount, ActualConversation, Index};
use crate::oracle::deliver::Arrival;
use crate::oracle::generate::NOW;
use crate::support::redis::RedisServer;

/// Longest wait for a backlog to come to its end.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[test]
fn the_stores_hold_the_hand_worked_rows() {
    let stage = Stage::new();
    let checked = check_rows(|arrival, policy, now| stage.run(arrival, policy, now)).unwrap_or_else(|found| panic!("{found}"));
    assert!(checked >= 25, "only {checked} rows were checked");
}

const PRESENCE: &[u8] = b"presence.snapshot";

/// A Redis and a runtime for many runs, each of which begins with nothing.
struct Stage {
    redis: RedisServer,
    runtime: tokio::runtime::Runtime,
    runs: Cell<usize>,
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { redis: RedisServer::start(), runtime, runs: Cell::new(0) }
    }

    fn run(&self, arrival: &Arrival, policy: &Policy, now: Millis) -> Actual {
        assert_eq!(now, NOW, "the service is given this clock");
        let run = self.runs.replace(self.runs.get() + 1);
        self.redis.flush();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&self.redis, folder.path(), policy, run);
        // Who is online is told to conversations that exist, so where that is said the order between lanes would count.
        let in_order = arrival.iter().flatten().any(|json| json.windows(PRESENCE.len()).any(|part| part == PRESENCE));
        let workers = if in_order { 1 } else { 1 + run % 4 };
        if in_order {
            config.snapshot.lanes = 1;
        }
        self.runtime.block_on(consume(&config, arrival, workers))
    }
}

fn config(redis: &RedisServer, folder: &std::path::Path, policy: &Policy, run: usize) -> Config {
    let mut config = Config::default();
    config.redis.url = redis.url();
    config.redis.conversation_ttl_s = u64::try_from(policy.horizon_ms / 1000).unwrap();
    config.bus.embedded.dir = folder.join("bus");
    config.documents.embedded.path = folder.join("documents.db");
    config.documents.linger_ms = 1;
    config.high_value = policy.high_value.clone();
    config.tiers = Tiers(policy.tiers.clone());
    config.priority.rules = policy.rules.clone();
    config.priority.due = policy.due.clone();
    config.snapshot.freshness_s = u64::try_from(policy.freshness_ms / 1000).unwrap();
    config.snapshot.batch_max = [1, 3, 40, 8_192][run % 4];
    config.snapshot.lanes = 1 + run % 3;
    // Small enough that states have to be read back.
    config.snapshot.states_max_bytes = [1_000, 100_000][run % 2] * config.snapshot.lanes;
    config
}

async fn consume(config: &Config, arrival: &Arrival, workers: usize) -> Actual {
    let stop = Shutdown::new();
    let mut running = Vec::new();
    let mut counters = Vec::new();
    for _ in 0..workers {
        let worker = worker(config).await;
        counters.push(Arc::clone(&worker.views_counters));
        let stop = stop.clone();
        running.push(tokio::spawn(worker.run(stop)));
    }
    let bus = backends::bus(config).await.unwrap();
    let publisher = bus.publisher(&config.bus.topic).unwrap();
    for batch in arrival {
        let envelopes = batch.iter().map(|json| Envelope::of_event(&serde_json::from_slice::<Event<'_>>(json).unwrap()).unwrap());
        publisher.publish(envelopes.collect()).await.unwrap();
    }
    for subscription in [&config.bus.views_subscription, &config.bus.documents_subscription] {
        drained(&bus, &config.bus.topic, subscription, &counters).await;
    }
    stop.request();
    for worker in running {
        worker.await.unwrap().unwrap();
    }
    let documents = backends::documents(config, Access::ReadOnly).await.unwrap();
    read_back(&Reader::connect(&config.redis).await.unwrap(), &documents).await
}

async fn worker(config: &Config) -> Snapshot {
    Snapshot {
        config: Arc::new(config.clone()),
        changes: tokio::sync::watch::channel(Arc::default()).1,
        bus: backends::bus(config).await.unwrap(),
        documents: backends::documents(config, Access::ReadWrite).await.unwrap(),
        now: || NOW,
        views: true,
        write_documents: true,
        views_counters: Arc::new(SnapshotCounters::default()),
        documents_counters: Arc::new(SnapshotCounters::default()),
        redis: Arc::default(),
        health: Health::default(),
        tracer: Tracer::default(),
    }
}

async fn drained(bus: &Bus, topic: &str, subscription: &str, counters: &[Arc<SnapshotCounters>]) {
    let deadline = Instant::now() + DRAIN_MAX;
    // An error is a subscription that its first subscriber has not made yet.
    while bus.backlog(topic, subscription).await.map_or(1, |backlog| backlog.messages.unwrap()) > 0 {
        assert!(
            Instant::now() < deadline,
            "{subscription} does not come to its end: {:?} {counters:?}",
            bus.backlog(topic, subscription).await
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn read_back(reader: &Reader, documents: &Documents) -> Actual {
    let mut actual = Actual::default();
    for (account, _) in reader.accounts().await.unwrap() {
        let awaiting: BTreeMap<String, Millis> = reader.awaiting(&account, 0, 1_000).await.unwrap().into_iter().collect();
        for (conversation, active_at) in reader.inbox(&account, 0, 1_000).await.unwrap() {
            let view = reader.conversation(&account, &conversation).await.unwrap().expect("what is in the inbox has a snapshot");
            let fan_events = reader.fan_events(&account, &conversation, StreamRange::Last(1_000)).await.unwrap();
            let found = ActualConversation {
                snapshot: Some(serde_json::from_str(&view.raw).unwrap()),
                summary: summary(documents, &account, &conversation).await,
                history: Some(history(documents, &account, &conversation).await),
                fan_events: Some(ids(&fan_events, "/id")),
                index: Some(Index { active_at, awaiting_since: awaiting.get(&conversation).copied() }),
                // The service counts misses over all conversations, so what may be missing cannot be told apart here.
                window_miss: 1_000_000,
            };
            actual.conversations.insert((account.clone(), conversation), found);
        }
        let priority = reader.priority(&account, StreamRange::Last(10_000)).await.unwrap();
        let view = serde_json::to_value(reader.account(&account).await.unwrap()).unwrap();
        let mut priority = ids(&priority, "/event/id");
        priority.retain(|id| !id.starts_with("due:"));
        actual.accounts.insert(account, ActualAccount { view: Some(view), priority: Some(priority), window_miss: 1_000_000 });
    }
    actual
}

async fn summary(documents: &Documents, account: &str, conversation: &str) -> Option<Value> {
    let summary = documents.summary(account, conversation, NOW).await.unwrap()?;
    Some(serde_json::to_value(summary.summary).unwrap())
}

async fn history(documents: &Documents, account: &str, conversation: &str) -> BTreeMap<String, Value> {
    let page = HistoryPage { before: None, limit: 1_000 };
    let history = documents.history(account, conversation, page, NOW).await.unwrap();
    assert!(history.next.is_none(), "one page holds it");
    let messages = history.messages.into_iter();
    messages.map(|message| (message.message_id.raw().to_owned(), serde_json::to_value(message).unwrap())).collect()
}

fn ids(entries: &[StreamEntry], pointer: &str) -> Vec<String> {
    let id =
        |entry: &StreamEntry| serde_json::from_str::<Value>(&entry.json).unwrap().pointer(pointer).unwrap().as_str().unwrap().to_owned();
    entries.iter().map(id).collect()
}
