//! The oracle's own tests: the model agrees with the examples, does not mind the order, and the oracle notices what is wrong.

use std::collections::BTreeSet;

use convpipe::schema::event::{Event, EventKind, Message};
use convpipe::schema::policy::Policy;
use convpipe::schema::time::Millis;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::check::{check_arrival, check_fold, check_rows, model_of, search};
use super::compare::{Actual, ActualAccount, ActualConversation, Index};
use super::deliver::{Arrival, Delivery, deliveries};
use super::generate::{NOW, histories};
use super::model::{Model, RECENT_IN_DOCUMENTS, RECENT_IN_VIEWS};
use super::rows::{ACCOUNT, policy, rows};

/// The model in the place of an implementation.
fn as_implementation(arrival: &Arrival, policy: &Policy) -> Actual {
    let model = model_of(arrival);
    let mut actual = Actual::default();
    for account in model.accounts() {
        let expected = model.account(account, policy);
        let mut priority = expected.priority.certain;
        for conversation in model.conversations(account, policy) {
            let expect = |recent_k| model.conversation(account, conversation, policy, recent_k).unwrap();
            let (views, documents) = (expect(RECENT_IN_VIEWS), expect(RECENT_IN_DOCUMENTS));
            priority.extend(views.priority.certain);
            let written = ActualConversation {
                snapshot: Some(views.snapshot),
                summary: Some(documents.summary),
                history: Some(documents.history),
                fan_events: Some(views.fan_events.certain.into_iter().collect()),
                index: Some(Index { active_at: views.active_at, awaiting_since: views.awaiting_since }),
                window_miss: 0,
            };
            actual.conversations.insert((account.to_owned(), conversation.to_owned()), written);
        }
        let written = ActualAccount { view: Some(expected.view), priority: Some(priority.into_iter().collect()), window_miss: 0 };
        actual.accounts.insert(account.to_owned(), written);
    }
    actual
}

#[test]
fn the_model_agrees_with_the_examples() {
    let checked = check_rows(|arrival, policy, _| as_implementation(arrival, policy)).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(checked, rows().len());
}

#[test]
fn examples_have_names_of_their_own() {
    let rows = rows();
    let fields: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row.name, row.field)).collect();
    assert_eq!(fields.len(), rows.len());
}

#[test]
fn the_model_does_not_mind_order_number_and_batches() {
    let strategy = (histories(), deliveries());
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&strategy, |(history, delivery)| {
        let horizon = NOW.plus(-history.policy.horizon_ms);
        let delivered = delivery.of(&history.events, horizon);
        let reversed: Arrival = delivered.iter().rev().map(|batch| batch.iter().rev().cloned().collect()).collect();
        let (model, other) = (model_of(&delivered), model_of(&reversed));
        for account in model.accounts() {
            prop_assert_eq!(model.account(account, &history.policy), other.account(account, &history.policy));
            for conversation in model.conversations(account, &history.policy) {
                let expect = |model: &Model<'_>| model.conversation(account, conversation, &history.policy, RECENT_IN_VIEWS);
                prop_assert_eq!(expect(&model), expect(&other));
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_implementation_that_is_right_passes() {
    check_fold(48, |arrival, policy, _| as_implementation(arrival, policy)).unwrap_or_else(|found| panic!("{found}"));
}

/// A change to the events before they reach an implementation: `None` loses the event.
type Fault = fn(Event<'_>) -> Option<Event<'_>>;

/// Faults that an implementation could have, each as a change to what it gets to see.
const FAULTS: &[(&str, Fault)] = &[
    ("loses deletes", |event| (event.kind != EventKind::MessageDeleted).then_some(event)),
    ("takes bulk messages for answers", |event| Some(of_message(event, |message| message.is_bulk = None))),
    ("forgets that a message was opened", |event| Some(of_message(event, |message| message.is_opened = None))),
    ("lets the last version win", |event| Some(of_message(event, |message| message.changed_at = None))),
    ("counts stories and streams as other tips", |event| Some(Event { target: None, ..event })),
    ("lets a blank name win", |mut event| {
        if let Some(fan) = &mut event.fan {
            fan.name = fan.name.take().map(|name| if name.is_blank() { "_".into() } else { name });
        }
        Some(event)
    }),
    ("believes any clock", |event| Some(Event { received_at: event.occurred_at.unwrap_or(event.received_at), ..event })),
    ("ignores the source's clock", |event| Some(Event { occurred_at: None, ..event })),
    ("drops reports of spend", |event| Some(Event { spend: None, ..event })),
    ("does not know who is online", |event| (event.kind != EventKind::PresenceSnapshot).then_some(event)),
    ("loses notifications", |event| (event.kind != EventKind::NotificationReceived).then_some(event)),
    ("takes what is seen again for another event", |mut event| {
        event.id = format!("{}/{}", event.id.raw(), event.frame_no).into();
        Some(event)
    }),
];

fn of_message<'a>(mut event: Event<'a>, change: impl FnOnce(&mut Message<'a>)) -> Event<'a> {
    if let Some(message) = event.message.as_mut() {
        change(message);
    }
    event
}

/// A change to all that arrives.
type ArrivalFault = fn(&Arrival) -> Arrival;

/// Faults that depend on what came before, as what gets through to the implementation.
const ORDER_FAULTS: &[(&str, ArrivalFault)] = &[
    ("ignores what is older than what it has", |arrival| {
        let mut newest = Millis(i64::MIN);
        passing(arrival, |event| {
            let is_late = event.at() < newest;
            newest = newest.max(event.at());
            !is_late
        })
    }),
    ("forgets a delete whose message has not come", |arrival| {
        let mut known = BTreeSet::new();
        passing(arrival, |event| {
            let id = event.message_id().unwrap_or_default().to_owned();
            event.kind != EventKind::MessageDeleted && known.insert(id.clone()) || known.contains(&id)
        })
    }),
];

fn passing(arrival: &Arrival, mut passes: impl FnMut(&Event<'_>) -> bool) -> Arrival {
    let mut passes = |bytes: &Vec<u8>| passes(&serde_json::from_slice(bytes).unwrap()).then(|| bytes.clone());
    arrival.iter().map(|batch| batch.iter().filter_map(&mut passes).collect()).collect()
}

/// Whether the oracle notices when an implementation gets to see this instead. Always the same search, so it cannot pass by luck.
fn is_noticed(change: impl Fn(&Arrival) -> Arrival) -> bool {
    let config = ProptestConfig { cases: 200, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() };
    let runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    search(runner, |arrival, policy, _| as_implementation(&change(arrival), policy)).is_err()
}

#[test]
fn implementations_that_are_wrong_are_found() {
    for (name, fault) in FAULTS {
        let change = |bytes: &Vec<u8>| Some(serde_json::to_vec(&fault(serde_json::from_slice(bytes).unwrap())?).unwrap());
        let is_noticed = is_noticed(|arrival| arrival.iter().map(|batch| batch.iter().filter_map(change).collect()).collect());
        assert!(is_noticed, "the oracle does not notice an implementation that {name}");
    }
    for (name, fault) in ORDER_FAULTS {
        assert!(is_noticed(fault), "the oracle does not notice an implementation that {name}");
    }
}

#[test]
fn feeds_tell_repeats_strangers_and_losses() {
    let events: Vec<Vec<u8>> = rows().into_iter().find(|row| row.field == "/77/fan_events").unwrap().events;
    let arrival = Delivery::plain().of(&events, NOW.plus(-policy().horizon_ms));
    for (what, stream, window_miss, exact, is_fine) in [
        ("right", &["received:10", "toast.received@-4"][..], 0, true, true),
        ("twice", &["received:10", "toast.received@-4", "received:10"], 5, false, false),
        ("a stranger's", &["received:10", "toast.received@-4", "received:11"], 5, false, false),
        ("lost", &["received:10"], 0, false, false),
        ("missed, and said so", &["received:10"], 1, false, true),
        ("missed where nothing can be", &["received:10"], 1, true, false),
    ] {
        let run = |arrival: &Arrival, policy: &Policy, _: Millis| {
            let mut actual = as_implementation(arrival, policy);
            let conversation = actual.conversations.get_mut(&(ACCOUNT.to_owned(), "77".to_owned())).unwrap();
            conversation.fan_events = Some(stream.iter().map(|&id| id.to_owned()).collect());
            conversation.window_miss = window_miss;
            actual
        };
        let found = check_arrival(&arrival, &policy(), exact, run);
        assert_eq!(found.is_empty(), is_fine, "{what}: {found:?}");
    }
}

#[test]
fn deletes_of_messages_that_never_came_are_known() {
    let events: Vec<Vec<u8>> = rows().into_iter().find(|row| row.name == "deleted before it came").unwrap().events;
    let mut model = Model::default();
    model.see(&events[0], NOW);
    assert_eq!(model.unknown_deletes(ACCOUNT, &policy()), BTreeSet::from(["10"]));
    model.see(&events[1], NOW);
    assert_eq!(model.unknown_deletes(ACCOUNT, &policy()), BTreeSet::new());
}

/// What the histories are meant to contain, so that a change to the generator cannot quietly empty the property tests.
#[test]
fn histories_reach_the_corners() {
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..200 {
        let (history, delivery) = (histories(), deliveries()).new_tree(&mut runner).unwrap().current();
        let arrival = delivery.of(&history.events, NOW.plus(-history.policy.horizon_ms));
        let model = model_of(&arrival);
        for account in model.accounts() {
            let live = model.live(account, &history.policy);
            for conversation in model.conversations(account, &history.policy) {
                let paid = live.iter().map(|(event, _)| event).filter(|event| event.money.is_some());
                let paid = paid.filter(|event| event.conversation_id.as_ref().is_some_and(|id| id.raw() == conversation));
                let paid: BTreeSet<&str> = paid.map(|event| event.id.raw()).collect();
                let expected = model.conversation(account, conversation, &history.policy, RECENT_IN_VIEWS).unwrap();
                assert!(expected.money_in_memory, "a history beyond the money memory");
                let snapshot = &expected.snapshot;
                let observed = &snapshot["spend"]["observed"];
                let deleted = |document: &serde_json::Value| !document["deleted_at"].is_null();
                let corners = [
                    ("more unread than are counted", snapshot["unread_more"] == true),
                    ("no last message though there are some", snapshot["last_message"].is_null() && !expected.history.is_empty()),
                    ("a deleted message", expected.history.values().any(deleted)),
                    ("nobody waits", !expected.history.is_empty() && expected.awaiting_since.is_none()),
                    ("unlocked with a price", snapshot["last_ppv"]["state"] == "unlocked" && !snapshot["last_ppv"]["price"].is_null()),
                    ("a tip that was told twice", observed["payments"].as_u64() < Some(paid.len() as u64)),
                    ("a tip on a stream", observed["streams"] != 0),
                    ("a tier by report alone", snapshot["tier"] == "high" && observed["total"].as_i64() < Some(25_000)),
                    ("several reasons", snapshot["high_value"]["why"].as_array().is_some_and(|why| why.len() > 2)),
                    ("seen online", !snapshot["presence"].is_null()),
                    ("typing", !snapshot["typing_until"].is_null()),
                    ("a stream with more than a ring", expected.fan_events.certain.len() > 64),
                    ("a fan who was never high-value", expected.fan_events.possible.is_empty() && expected.fan_events.certain.is_empty()),
                    ("an entry that only the moment decides", !expected.priority.possible.is_empty()),
                ];
                reached.extend(corners.iter().filter(|(_, is_so)| *is_so).map(|(name, _)| *name));
            }
            reached.extend((!model.unknown_deletes(account, &history.policy).is_empty()).then_some("a delete of nothing"));
            reached.extend((!model.account(account, &history.policy).view["gap"].is_null()).then_some("a gap"));
        }
    }
    assert_eq!(reached.len(), 16, "only these were reached: {reached:#?}");
}
