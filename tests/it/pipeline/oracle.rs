//! The stores, held to the oracle: histories published on the bus, in any order, some of it three times, taken by several services side by side. Once
//! with the embedded engines, and once, with fewer of all, with Google's.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use convpipe::backends;
use convpipe::config::BusBackend;
use convpipe::daemons::snapshot::{Snapshot, SnapshotCounters};
use convpipe::documents::Access;
use convpipe::runtime::clock;
use convpipe::runtime::health::Health;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::runtime::trace::Tracer;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Event, EventKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::place::{Place, moved_event, wait_until};
use crate::oracle::compare::differences;
use crate::oracle::deliver::{Arrival, Delivery, deliveries};
use crate::oracle::generate::{History, NOW, histories};
use crate::oracle::model::Model;
use crate::support::redis::RedisServer;

/// What happens within this time after an edge may be judged either way while the clock goes on; such events are left out.
const EDGE_MS: i64 = 60_000;

/// How the services of one case are set up.
#[derive(Debug)]
struct Setup {
    services: usize,
    lanes: usize,
    batch_max: usize,
    /// Of the topic, by key; the embedded engine keeps the order of all in any case.
    ordering: bool,
}

fn setups(services_max: usize) -> impl Strategy<Value = Setup> {
    let batch_max = prop_oneof![Just(1), Just(2), Just(7), Just(64), Just(8_192)];
    (1..=services_max, 1..=4_usize, batch_max, any::<bool>()).prop_map(|(services, lanes, batch_max, ordering)| Setup {
        services,
        lanes,
        batch_max,
        ordering,
    })
}

fn cases() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the variable is for tests alone")]
    std::env::var("CONVPIPE_TEST_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(16)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_converge_to_the_model() {
    let redis = RedisServer::start();
    // The same cases every time; more of them go on where fewer ended.
    let mut runner = TestRunner::deterministic();
    for case in 0..cases() {
        let (history, delivery, setup) = (histories(), deliveries(), setups(4)).new_tree(&mut runner).unwrap().current();
        check(Place::new(&redis.url(), &format!("case{case}")), case, &history, &delivery, &setup).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_of_google_converge_to_the_model() {
    let redis = RedisServer::start();
    let mut runner = TestRunner::deterministic();
    for case in 0..cases().div_ceil(4) {
        let (history, delivery, setup) = (histories(), deliveries(), setups(2)).new_tree(&mut runner).unwrap().current();
        let Some(place) = Place::on_google(&redis.url(), &format!("case{case}"), setup.ordering).await else { return };
        check(place, case, &history, &delivery, &setup).await;
    }
}

async fn check(mut place: Place, case: u32, history: &History, delivery: &Delivery, setup: &Setup) {
    place.config.snapshot.lanes = setup.lanes;
    place.config.snapshot.batch_max = setup.batch_max;
    place.config.high_value = history.policy.high_value.clone();
    assert_eq!(place.config.policy(""), history.policy, "the config says what the history was made for");

    let events: Vec<Vec<u8>> = history.events.iter().filter(|event| is_off_the_edges(event, history)).cloned().collect();
    let shift = clock::now().since(NOW);
    let now = NOW.plus(shift);
    let arrival: Arrival = delivery
        .of(&events, NOW.plus(-history.policy.horizon_ms))
        .iter()
        .map(|batch| batch.iter().map(|event| moved_event(event, shift)).collect())
        .collect();
    // Who is online changes existing conversations only, and another lane may be slower to create one: it is published when all are there.
    let (online, others): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) =
        arrival.iter().flatten().partition(|event| parse(event).kind == EventKind::PresenceSnapshot);

    let shutdown = Shutdown::new();
    let mut services = Vec::new();
    let (mut views, mut documents) = (Vec::new(), Vec::new());
    for _ in 0..setup.services {
        let (views_counters, documents_counters) = (Arc::<SnapshotCounters>::default(), Arc::<SnapshotCounters>::default());
        views.push(Arc::clone(&views_counters));
        documents.push(Arc::clone(&documents_counters));
        let service = Snapshot {
            config: Arc::new(place.config.clone()),
            changes: tokio::sync::watch::channel(Arc::default()).1,
            bus: backends::bus(&place.config).await.unwrap(),
            documents: backends::documents(&place.config, Access::ReadWrite).await.unwrap(),
            now: convpipe::runtime::clock::now,
            views: true,
            write_documents: true,
            views_counters,
            documents_counters,
            redis: Arc::default(),
            health: Health::default(),
            tracer: Tracer::default(),
        };
        services.push(tokio::spawn(service.run(shutdown.clone())));
    }
    let mut published = 0;
    for part in [others, online] {
        let part: Vec<Envelope> = part.into_iter().map(|event| Envelope::of_event(&parse(event)).unwrap()).collect();
        published += part.len() as u64;
        place.publish(part).await;
        for consumer in [&views, &documents] {
            wait_until("ack of all that was published", async || acked(consumer) >= published).await;
        }
    }
    shutdown.request();
    for service in services {
        service.await.unwrap().unwrap();
    }

    // The counters do not say of which conversation they count; each may have missed so much.
    let missed: u64 = views.iter().chain(&documents).map(|counters| counters.window_misses.load(Relaxed)).sum();
    let mut actual = place.read().await;
    actual.conversations.values_mut().for_each(|conversation| conversation.window_miss = missed);
    actual.accounts.values_mut().for_each(|account| account.window_miss = missed);
    // With two services a batch may overtake another by any number of events.
    let is_in_order = setup.ordering || place.config.bus.backend == BusBackend::Embedded;
    let exact = delivery.is_within_rings() && setup.services == 1 && is_in_order;
    let mut model = Model::default();
    arrival.iter().flatten().for_each(|event| model.see(event, now));
    let found = differences(&model, &actual, &history.policy, exact);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "case {case}, {setup:?}, exact: {exact}, missed: {missed}\n{}\nof\n{history:?}", found.join("\n"));
}

/// How many messages were acked by the services together. What was delivered again counts once.
fn acked(services: &[Arc<SnapshotCounters>]) -> u64 {
    let acked = |counters: &Arc<SnapshotCounters>| counters.acked.load(Relaxed).saturating_sub(counters.redelivered.load(Relaxed));
    services.iter().map(acked).sum()
}

/// Not so close to an edge that the clock crosses it while the case runs.
fn is_off_the_edges(event: &[u8], history: &History) -> bool {
    let age = NOW.since(parse(event).at());
    [history.policy.freshness_ms, history.policy.horizon_ms].iter().all(|edge| !(edge - EDGE_MS..=*edge).contains(&age))
}

fn parse(event: &[u8]) -> Event<'_> {
    serde_json::from_slice(event).unwrap()
}
