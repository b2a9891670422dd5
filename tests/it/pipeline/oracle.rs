//! The stores, held to the oracle: histories published on the bus, in any order, some of it three times, taken by one to four services side by side.

use std::sync::Arc;

use convpipe::backends;
use convpipe::daemons::snapshot::{Snapshot, SnapshotCounters};
use convpipe::documents::Access;
use convpipe::runtime::clock;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Event, EventKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::place::{Place, moved_event};
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
}

fn setups() -> impl Strategy<Value = Setup> {
    let batch_max = prop_oneof![Just(1), Just(2), Just(7), Just(64), Just(8_192)];
    (1..=4_usize, 1..=4_usize, batch_max).prop_map(|(services, lanes, batch_max)| Setup { services, lanes, batch_max })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_converge_to_the_model() {
    #[expect(clippy::disallowed_methods, reason = "the variable is for tests alone")]
    let cases = std::env::var("CONVPIPE_TEST_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(16);
    let redis = RedisServer::start();
    // The same cases every time; more of them go on where fewer ended.
    let mut runner = TestRunner::deterministic();
    for case in 0..cases {
        let (history, delivery, setup) = (histories(), deliveries(), setups()).new_tree(&mut runner).unwrap().current();
        check(&redis, case, &history, &delivery, &setup).await;
    }
}

async fn check(redis: &RedisServer, case: u32, history: &History, delivery: &Delivery, setup: &Setup) {
    let mut place = Place::new(&redis.url(), &format!("case{case}"));
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
            bus: place.bus(),
            documents: backends::documents(&place.config, Access::ReadWrite).await.unwrap(),
            now: convpipe::runtime::clock::now,
            views: true,
            write_documents: true,
            views_counters,
            documents_counters,
        };
        services.push(tokio::spawn(service.run(shutdown.clone())));
    }
    let bus = place.bus();
    for part in [others, online] {
        place.publish(part.into_iter().map(|event| Envelope::of_event(&parse(event)).unwrap()).collect()).await;
        place.wait_backlog(&bus, 0).await;
    }
    shutdown.request();
    for service in services {
        service.await.unwrap().unwrap();
    }

    // The counters do not say of which conversation they count; each may have missed so much.
    let missed: u64 =
        views.iter().chain(&documents).map(|counters| counters.window_misses.load(std::sync::atomic::Ordering::Relaxed)).sum();
    let mut actual = place.read().await;
    actual.conversations.values_mut().for_each(|conversation| conversation.window_miss = missed);
    actual.accounts.values_mut().for_each(|account| account.window_miss = missed);
    // With two services a batch may overtake another by any number of events.
    let exact = delivery.is_within_rings() && setup.services == 1;
    let mut model = Model::default();
    arrival.iter().flatten().for_each(|event| model.see(event, now));
    let found = differences(&model, &actual, &history.policy, exact);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "case {case}, {setup:?}, exact: {exact}, missed: {missed}\n{}\nof\n{history:?}", found.join("\n"));
}

/// Not so close to an edge that the clock crosses it while the case runs.
fn is_off_the_edges(event: &[u8], history: &History) -> bool {
    let age = NOW.since(parse(event).at());
    [history.policy.freshness_ms, history.policy.horizon_ms].iter().all(|edge| !(edge - EDGE_MS..=*edge).contains(&age))
}

fn parse(event: &[u8]) -> Event<'_> {
    serde_json::from_slice(event).unwrap()
}
