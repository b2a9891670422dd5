//! Every class, at both sides of each of its bounds. The sides are made by the real folds.

use super::*;
use crate::schema::event::{Direction, Event, EventKind, Message};
use crate::schema::policy::Policy;
use crate::schema::state::{Register, Stamp};
use crate::transform::materialize::{ConversationBatch, Keep, SummaryBatch};

const NOW: Millis = Millis(1_784_808_000_000);
const SETTLE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const VIEW_TTL_MS: i64 = 30 * DAY_MS;
const SUMMARY_TTL_MS: i64 = 365 * DAY_MS;
/// Long enough ago to be settled, and short enough to be kept.
const HOUR_AGO: Millis = Millis(NOW.0 - 3_600_000);

fn policy() -> CompiledPolicy {
    CompiledPolicy::new(Policy::default()).expect("the default compiles")
}

fn judging(policy: &CompiledPolicy) -> Judging<'_> {
    Judging {
        policy,
        now: NOW,
        settle_ms: SETTLE_MS,
        view_ttl_ms: VIEW_TTL_MS,
        summary_ttl_ms: SUMMARY_TTL_MS,
        indexes_full: false,
        views_wait: false,
        documents_wait: false,
    }
}

/// The number `number` of messages that came one a second, the first of them an hour before `HOUR_AGO`.
fn message(number: i64) -> Event<'static> {
    let at = HOUR_AGO.plus(-3_600_000 + number * 1_000);
    let mut event = Event::of_account(EventKind::MessageReceived, format!("onlyfans:a:msg:{number}:received"), "a", "00000000000000c1", at);
    (event.conversation_id, event.fan_id, event.direction) = (Some("c".into()), Some("c".into()), Direction::In);
    event.occurred_at = Some(at);
    let (id, text) = (Some(number.to_string().into()), Some(format!("text {number}").into()));
    event.message = Some(Message { id, text, ..Message::default() });
    event
}

/// What Redis has after so many messages, written at this time.
fn view(messages: i64, written_at: Millis) -> ViewSide {
    let policy = policy();
    let mut batch = ConversationBatch::new("a", "c", None, 0, &policy, written_at);
    (1..=messages).for_each(|number| batch.apply(&message(number), Default::default).expect("applies"));
    let (write, state) = batch.finish().expect("serializes").expect("changed");
    let ttl_ms = Some(VIEW_TTL_MS - NOW.since(written_at));
    ViewSide { snapshot: write.snapshot, state: Some(state), ttl_ms, in_inbox: true, awaiting: write.awaiting_since }
}

/// What the documents have after so many messages, written at this time.
fn document(messages: i64, written_at: Millis) -> DocumentSide {
    let policy = policy();
    let keep = Keep { summary_ttl_ms: SUMMARY_TTL_MS, message_ttl_ms: SUMMARY_TTL_MS, high_value_only: false };
    let mut batch = SummaryBatch::new("a", "c", None, 0, &policy, written_at, keep);
    (1..=messages).for_each(|number| batch.apply(&message(number)));
    let (write, state) = batch.finish().expect("serializes").expect("changed");
    DocumentSide { summary: serde_json::from_slice(&write.summary).ok(), state: Some(state) }
}

/// A class, a store and the first thing that is told of it.
type Told = (Class, Store, &'static str);

#[track_caller]
fn check(name: &str, view: Option<&ViewSide>, document: Option<&DocumentSide>, judging: &Judging<'_>, expected: &[Told]) {
    let found = compare(view, document, judging);
    let told: Vec<(Class, Store, &str)> =
        found.iter().map(|drift| (drift.class, drift.store, drift.what.first().map_or("", String::as_str))).collect();
    assert_eq!(told, expected, "{name}: {found:?}");
}

#[test]
fn stores_that_agree_have_nothing_the_matter() {
    let policy = policy();
    for (name, view_at, document_at) in [
        ("written together", HOUR_AGO, HOUR_AGO),
        ("one long after the other", HOUR_AGO, NOW),
        ("just now", NOW, NOW),
        ("by a clock that is ahead", NOW.plus(5_000), NOW.plus(5_000)),
    ] {
        check(name, Some(&view(9, view_at)), Some(&document(9, document_at)), &judging(&policy), &[]);
    }
    check("nowhere", None, None, &judging(&policy), &[]);
}

#[test]
fn what_a_store_does_not_have_is_late_lost_or_expired_by_its_age() {
    use Class::{Expired, Late, Lost};
    let policy = policy();
    for (age_ms, waits, expected) in [
        (0, false, Late),
        (SETTLE_MS, false, Late),
        (SETTLE_MS + 1, false, Lost),
        (SETTLE_MS + 1, true, Late),
        (VIEW_TTL_MS - 1, false, Lost),
        (VIEW_TTL_MS - 1, true, Late),
        (VIEW_TTL_MS, false, Expired),
        (VIEW_TTL_MS, true, Expired),
        // A clock may be ahead by so much, and no more.
        (-AHEAD_MAX_MS, false, Late),
        (-AHEAD_MAX_MS - 1, false, Lost),
    ] {
        let judging = Judging { views_wait: waits, ..judging(&policy) };
        let name = format!("{age_ms} ms, deliveries wait: {waits}");
        check(&name, None, Some(&document(3, NOW.plus(-age_ms))), &judging, &[(expected, Store::Views, "all")]);
    }
    for (age_ms, waits, expected) in [
        (SETTLE_MS, false, Late),
        (SETTLE_MS + 1, false, Lost),
        (SETTLE_MS + 1, true, Late),
        (SUMMARY_TTL_MS - 1, false, Lost),
        (SUMMARY_TTL_MS, false, Expired),
    ] {
        // Redis keeps it longer here than the documents do.
        let view_ttl_ms = 2 * SUMMARY_TTL_MS;
        let judging = Judging { documents_wait: waits, view_ttl_ms, ..judging(&policy) };
        let side = ViewSide { ttl_ms: Some(view_ttl_ms - age_ms), ..view(3, NOW.plus(-age_ms)) };
        check(&format!("{age_ms} ms, deliveries wait: {waits}"), Some(&side), None, &judging, &[(expected, Store::Documents, "all")]);
    }
    // What waits for one consumer explains nothing of the other store.
    let other = Judging { documents_wait: true, ..judging(&policy) };
    check("another's backlog", None, Some(&document(3, HOUR_AGO)), &other, &[(Lost, Store::Views, "all")]);
}

#[test]
fn a_store_that_is_behind_is_late_until_it_should_have_settled() {
    use Class::{Late, Lost};
    let policy = policy();
    let settled = NOW.plus(-SETTLE_MS - 1);
    for (name, view_has, view_at, document_has, document_at, waits, expected) in [
        ("Redis behind", 3, settled, 4, settled, false, (Lost, Store::Views, "newest events")),
        ("documents behind", 4, settled, 3, settled, false, (Lost, Store::Documents, "newest events")),
        ("Redis behind, and its deliveries wait", 3, settled, 4, settled, true, (Late, Store::Views, "event_id")),
        ("documents behind, one moment ago", 4, NOW, 3, settled, false, (Late, Store::Documents, "event_id")),
        ("Redis behind, at the edge", 3, settled, 4, settled.plus(1), false, (Late, Store::Views, "event_id")),
        ("Redis behind and written to, at the edge", 3, settled.plus(1), 4, settled, false, (Late, Store::Views, "event_id")),
    ] {
        let judging = Judging { views_wait: waits, ..judging(&policy) };
        check(name, Some(&view(view_has, view_at)), Some(&document(document_has, document_at)), &judging, &[expected]);
    }
    let found = compare(Some(&view(4, settled)), Some(&document(3, settled)), &judging(&policy));
    assert_eq!(found[0].remedy, Remedy::Carry, "the documents are mended from what Redis knows");
    let found = compare(Some(&view(3, settled)), Some(&document(4, settled)), &judging(&policy));
    assert_eq!(found[0].remedy, Remedy::Rewrite);
}

/// A snapshot of which somebody changed a field.
fn altered(mut side: ViewSide) -> ViewSide {
    let mut snapshot: Value = serde_json::from_slice(&side.snapshot).expect("JSON");
    snapshot["unread"] = 77.into();
    side.snapshot = snapshot.to_string().into_bytes();
    side
}

#[test]
fn what_is_not_what_its_own_state_says_conflicts_unless_it_is_just_written() {
    use Class::{Conflicting, Late};
    let policy = policy();
    for (age_ms, class) in [(SETTLE_MS + 1, Conflicting), (SETTLE_MS, Late), (0, Late)] {
        let at = NOW.plus(-age_ms);
        let (sound_view, sound_document) = (view(3, HOUR_AGO), document(3, HOUR_AGO));
        let with = |change: &dyn Fn(&mut FanSummary)| {
            let mut side = document(3, at);
            side.summary.iter_mut().for_each(change);
            side
        };
        for (name, view, document, store, what) in [
            ("snapshot", altered(view(3, at)), sound_document.clone(), Store::Views, "unread"),
            ("state of Redis", ViewSide { state: None, ..view(3, at) }, sound_document.clone(), Store::Views, "fold"),
            ("summary", sound_view.clone(), with(&|summary| summary.messages_in = 4_242), Store::Documents, "messages_in"),
            ("last seen", sound_view.clone(), with(&|summary| summary.last_seen_at = Some(NOW)), Store::Documents, "last_seen_at"),
            ("state of the documents", sound_view.clone(), DocumentSide { state: None, ..document(3, at) }, Store::Documents, "fold"),
        ] {
            let judging = Judging { views_wait: true, documents_wait: true, ..judging(&policy) };
            check(&format!("{name}, {age_ms} ms"), Some(&view), Some(&document), &judging, &[(class, store, what)]);
        }
    }
    // Where nothing says when it was written, there is nothing to wait for.
    let unreadable = DocumentSide { summary: None, ..document(3, NOW) };
    check("no summary", Some(&view(3, NOW)), Some(&unreadable), &judging(&policy), &[(Conflicting, Store::Documents, "summary")]);
    let unreadable = ViewSide { snapshot: b"{".to_vec(), ..view(3, HOUR_AGO) };
    let told = compare(Some(&unreadable), Some(&document(3, NOW)), &judging(&policy));
    assert!(told.iter().all(|drift| drift.class == Conflicting && drift.store == Store::Views), "{told:?}");
    // Of two states that have heard the same, and are each sound, the documents' is right.
    for (age_ms, class) in [(SETTLE_MS + 1, Conflicting), (SETTLE_MS, Late)] {
        let mut other = view(3, NOW.plus(-age_ms));
        let state = other.state.as_mut().expect("a state");
        state.profile.name = Some(Register { stamp: Stamp::default(), value: "Eve".into() });
        let snapshot = view::snapshot(state, &Standing::of(state, &policy), 1, NOW.plus(-age_ms));
        other.snapshot = serde_json::to_vec(&snapshot).expect("serializes");
        check("another name", Some(&other), Some(&document(3, HOUR_AGO)), &judging(&policy), &[(class, Store::Views, "fan")]);
    }
}

#[test]
fn bounds_in_redis_are_late_trimmed_or_wrong() {
    use Class::{Conflicting, Late, Trimmed};
    let policy = policy();
    let right = VIEW_TTL_MS - NOW.since(HOUR_AGO);
    let (at, settled, same) = (HOUR_AGO, document(3, HOUR_AGO), view(3, HOUR_AGO));
    let of = |change: &dyn Fn(&mut ViewSide)| {
        let mut side = same.clone();
        change(&mut side);
        side
    };
    for (name, view, indexes_full, expected) in [
        ("a TTL within the settle window", of(&|side| side.ttl_ms = Some(right - SETTLE_MS)), false, &[][..]),
        ("a TTL before it", of(&|side| side.ttl_ms = Some(right - SETTLE_MS - 1)), false, &[(Conflicting, Store::Views, "ttl")]),
        ("a TTL after it", of(&|side| side.ttl_ms = Some(right + SETTLE_MS + 1)), false, &[(Conflicting, Store::Views, "ttl")]),
        ("no TTL", of(&|side| side.ttl_ms = None), false, &[(Conflicting, Store::Views, "ttl")]),
        ("no TTL, and full indexes", of(&|side| side.ttl_ms = None), true, &[(Conflicting, Store::Views, "ttl")]),
        ("not in the inbox", of(&|side| side.in_inbox = false), false, &[(Conflicting, Store::Views, "inbox")]),
        ("not in a full inbox", of(&|side| side.in_inbox = false), true, &[(Trimmed, Store::Views, "inbox")]),
        ("not among those that wait", of(&|side| side.awaiting = None), false, &[(Conflicting, Store::Views, "awaiting")]),
        ("not among the many that wait", of(&|side| side.awaiting = None), true, &[(Trimmed, Store::Views, "awaiting")]),
        ("waits since another time", of(&|side| side.awaiting = Some(at)), false, &[(Conflicting, Store::Views, "awaiting")]),
    ] {
        check(name, Some(&view), Some(&settled), &Judging { indexes_full, ..judging(&policy) }, expected);
    }
    for (age_ms, class) in [(SETTLE_MS, Late), (SETTLE_MS + 1, Conflicting)] {
        let side = ViewSide { in_inbox: false, ..view(3, NOW.plus(-age_ms)) };
        check("just written", Some(&side), Some(&settled), &judging(&policy), &[(class, Store::Views, "inbox")]);
    }
    // Without a settle window the reading itself still takes its time.
    for (off_ms, expected) in [(TTL_SLACK_MS, &[][..]), (TTL_SLACK_MS + 1, &[(Conflicting, Store::Views, "ttl")])] {
        let side = ViewSide { ttl_ms: Some(right - off_ms), ..same.clone() };
        check("no settle window", Some(&side), Some(&settled), &Judging { settle_ms: 0, ..judging(&policy) }, expected);
    }
}

#[test]
fn the_worst_comes_first() {
    let policy = policy();
    let side = ViewSide { in_inbox: false, ..altered(view(3, HOUR_AGO)) };
    let expected =
        [(Class::Lost, Store::Documents, "all"), (Class::Conflicting, Store::Views, "unread"), (Class::Conflicting, Store::Views, "inbox")];
    check("all at once", Some(&side), None, &judging(&policy), &expected);
    let drifts: Vec<bool> = Class::ALL.iter().map(|class| class.is_drift()).collect();
    assert_eq!(drifts, [true, true, false, false, false]);
}

#[test]
fn a_suspect_that_moved_between_two_looks_is_late() {
    let drift = |class, what: &str| Drift { class, store: Store::Views, what: vec![what.to_owned()], remedy: Remedy::Rewrite };
    let classes = |drifts: &[Drift]| drifts.iter().map(|drift| drift.class).collect::<Vec<_>>();
    let again = || vec![drift(Class::Lost, "all"), drift(Class::Conflicting, "ttl"), drift(Class::Trimmed, "inbox")];
    assert_eq!(settled(again(), false), again(), "both looks saw the same");
    assert_eq!(classes(&settled(again(), true)), [Class::Late, Class::Late, Class::Trimmed]);
    assert_eq!(settled(Vec::new(), true), []);
}

/// The documents of the first so many messages, the newest first.
fn history(messages: i64) -> Vec<MessageDocument> {
    let document = |number: i64| {
        let event = message(number);
        serde_json::from_value(serde_json::json!({
            "message_id": number.to_string(), "direction": "in", "sent_at": event.at(), "text": format!("text {number}"),
            "event_id": event.id.raw(), "expire_at": NOW.plus(SUMMARY_TTL_MS),
        }))
        .expect("a document")
    };
    (1..=messages).rev().map(document).collect()
}

#[test]
fn messages_of_the_history_are_lost_or_conflict() {
    use Class::{Conflicting, Late, Lost};
    let policy = policy();
    let settled = document(30, HOUR_AGO);
    let of = |change: &dyn Fn(&mut Vec<MessageDocument>)| {
        let mut messages = history(30);
        change(&mut messages);
        messages
    };
    let deleted = Some(NOW);
    for (name, messages, is_all, expected) in [
        ("all there", history(30), true, None),
        ("one is lost", of(&|messages| drop(messages.remove(0))), true, Some((Lost, vec!["message 30"]))),
        ("one that the summary forgot is lost", of(&|messages| drop(messages.remove(25))), true, None),
        ("the oldest that it knows is lost", of(&|messages| drop(messages.remove(19))), true, Some((Lost, vec!["message 11"]))),
        ("only the newest were read", of(&|messages| messages.truncate(10)), false, None),
        ("only the newest are there", of(&|messages| messages.truncate(19)), true, Some((Lost, vec!["message 11"]))),
        ("another text", of(&|messages| messages[0].text = Some("x".into())), true, Some((Conflicting, vec!["message 30"]))),
        ("another price", of(&|messages| messages[1].price = Some(5)), true, Some((Conflicting, vec!["message 29"]))),
        ("another side", of(&|messages| messages[1].direction = Direction::Out), true, Some((Conflicting, vec!["message 29"]))),
        ("deleted by hand", of(&|messages| messages[1].deleted_at = deleted), true, Some((Conflicting, vec!["message 29"]))),
        (
            "another version of the same time",
            of(&|messages| (messages[0].text, messages[0].event_id) = (Some("x".into()), "another".into())),
            true,
            None,
        ),
        (
            "lost and altered",
            of(&|messages| {
                messages[0].text = None;
                messages.remove(1);
            }),
            true,
            Some((Lost, vec!["message 29", "message 30"])),
        ),
    ] {
        let found = missing(&settled, &messages, is_all, SUMMARY_TTL_MS, &judging(&policy));
        let told = found.as_ref().map(|drift| (drift.class, drift.what.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(told, expected, "{name}");
        assert!(found.is_none_or(|drift| drift.store == Store::Documents && drift.remedy == Remedy::Replay), "{name}");
    }
    // By age: a message that is past its time, and a summary that is just written.
    let age_ms = NOW.since(message(30).at());
    for (ttl_ms, is_told) in [(age_ms, false), (age_ms + 1, true)] {
        assert_eq!(missing(&settled, &[], true, ttl_ms, &judging(&policy)).is_some(), is_told, "{ttl_ms}");
    }
    for (age_ms, expected) in [(SETTLE_MS, Late), (SETTLE_MS + 1, Lost)] {
        let found = missing(&document(30, NOW.plus(-age_ms)), &[], true, SUMMARY_TTL_MS, &judging(&policy));
        assert_eq!(found.map(|drift| drift.class), Some(expected), "{age_ms}");
    }
    let unreadable = DocumentSide { state: None, ..settled };
    assert_eq!(missing(&unreadable, &[], true, SUMMARY_TTL_MS, &judging(&policy)), None);
}
