//! The contract of the document store, run on every engine; [`file`] has what only the embedded engine has.

mod file;

use std::sync::atomic::{AtomicU32, Ordering};

use convpipe::config::EmbeddedDocumentsConfig;
use convpipe::documents::{Access, Documents, HistoryCursor, HistoryPage, StoredSummary};
use convpipe::schema::document::{FanSummary, MessageDocument};
use convpipe::schema::event::Direction;
use convpipe::schema::time::Millis;
use convpipe::schema::view::{FanView, HighValue, Spend};
use convpipe::transform::materialize::{MessageDeletion, SummaryWrite, WriteOutcome};
use convpipe::transform::resolve::{Claims, Resolved};
use proptest::prelude::*;

const NOW: Millis = Millis(1_784_808_000_000);
const LATER: Millis = NOW.plus(1_000_000);
const ACCOUNT: &str = "200000001";

/// Runs every test of the contract on an engine. `Fresh` is an empty store that can be opened any number of times.
macro_rules! contract {
    ($engine:ident; $($test:ident)+) => {
        mod $engine {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Fresh::$engine()).await;
            })+
        }
    };
}

contract! { embedded;
    what_was_written_is_read
    a_guard_that_does_not_hold_writes_nothing_of_that_fan
    writing_again_changes_nothing
    the_later_version_stays
    a_deletion_marks_its_message_before_and_after
    message_and_delete_learn_of_each_other_in_any_order
    the_index_keeps_the_newest_messages
    readers_do_not_see_what_is_expired
    pages_give_every_message_once
    summaries_are_paged_by_fan
    any_id_is_just_an_id
    writers_side_by_side_lose_nothing
    pruning_deletes_what_is_expired_and_nothing_else
}

struct Fresh {
    dir: tempfile::TempDir,
    config: EmbeddedDocumentsConfig,
}

impl Fresh {
    fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedDocumentsConfig { path: dir.path().join("store/documents.db"), ..EmbeddedDocumentsConfig::default() };
        Self { dir, config }
    }

    async fn open(&self) -> Documents {
        Documents::embedded(&self.config, Access::ReadWrite).await.unwrap()
    }
}

async fn what_was_written_is_read(fresh: Fresh) {
    let documents = fresh.open().await;
    let newest = MessageDocument { price: Some(399), changed_at: Some(NOW), ..message("m2", 20, "<b>hi</b> \u{202e}\u{1b}[31m") };
    let write = SummaryWrite { messages: vec![message("m1", 10, "first"), newest.clone()], ..write("f1", 0) };
    assert_eq!(documents.write(vec![write.clone()]).await.unwrap(), [WriteOutcome::Written]);

    let stored = StoredSummary { rev: 1, fold: write.fold };
    assert_eq!(documents.load(&[key("f1"), key("f2")]).await.unwrap(), [Some(stored), None]);
    let summary = documents.summary(ACCOUNT, "f1", NOW).await.unwrap().unwrap();
    assert_eq!((summary.rev, summary.summary.fan.id.raw()), (1, "f1"));
    assert_eq!(json(&history(&documents, "f1").await), json(&[newest, message("m1", 10, "first")]));
    assert_eq!(documents.accounts().await.unwrap(), [ACCOUNT]);
    assert_eq!(documents.find_fan("f1", NOW).await.unwrap(), [ACCOUNT]);
    assert!(documents.find_fan("f2", NOW).await.unwrap().is_empty());
}

async fn a_guard_that_does_not_hold_writes_nothing_of_that_fan(fresh: Fresh) {
    let documents = fresh.open().await;
    let with_message = |fan: &str, rev, id: &str| SummaryWrite {
        messages: vec![message(id, 1, "x")],
        deletions: vec![deletion("d", 5)],
        ..write(fan, rev)
    };
    let writes = vec![
        with_message("f1", 0, "m1"),
        with_message("f1", 0, "m2"), // exists by now
        with_message("f2", 3, "m3"), // does not exist
        with_message("f1", 1, "m4"),
        with_message("f1", 1, "m5"), // is at 2 by now
    ];
    use WriteOutcome::{Conflict, Written};
    assert_eq!(documents.write(writes).await.unwrap(), [Written, Conflict, Conflict, Written, Conflict]);
    assert_eq!(ids(&history(&documents, "f1").await), ["m4", "m1"]);
    assert!(history(&documents, "f2").await.is_empty());
    assert_eq!(documents.load(&[key("f1"), key("f2")]).await.unwrap().iter().flatten().map(|stored| stored.rev).collect::<Vec<_>>(), [2]);
}

async fn writing_again_changes_nothing(fresh: Fresh) {
    let documents = fresh.open().await;
    let write = SummaryWrite { messages: vec![message("m1", 1, "x")], deletions: vec![deletion("m1", 9)], ..write("f1", 0) };
    documents.write(vec![write.clone()]).await.unwrap();
    let before = history(&documents, "f1").await;
    documents.write(vec![SummaryWrite { expected_rev: 1, rev: 2, ..write }]).await.unwrap();
    assert_eq!(json(&history(&documents, "f1").await), json(&before));
}

async fn the_later_version_stays(fresh: Fresh) {
    let documents = fresh.open().await;
    let version =
        |text: &str, changed: Option<i64>| MessageDocument { changed_at: changed.map(|ms| NOW.plus(ms)), ..message("m", 1, text) };
    // Each row: versions in the order they come, and the text that stays.
    let rows = [
        (vec![version("old", Some(1)), version("new", Some(2))], "new"),
        (vec![version("new", Some(2)), version("old", Some(1))], "new"),
        (vec![version("new", Some(1)), version("none", None)], "new"),
        (vec![version("none", None), version("new", Some(1))], "new"),
        (vec![version("a", Some(1)), version("b", Some(1))], "b"),
        (vec![version("b", Some(1)), version("a", Some(1))], "b"),
        (vec![version("b", None), version("a", None)], "b"),
    ];
    for (row, (versions, expected)) in rows.into_iter().enumerate() {
        let fan = format!("f{row}");
        for (rev, version) in (0..).zip(versions) {
            documents.write(vec![SummaryWrite { messages: vec![version], ..write(&fan, rev) }]).await.unwrap();
        }
        let stored = history(&documents, &fan).await;
        assert_eq!(stored.iter().map(|message| message.text.as_ref().unwrap().raw()).collect::<Vec<_>>(), [expected], "row {row}");
    }
}

async fn a_deletion_marks_its_message_before_and_after(fresh: Fresh) {
    let documents = fresh.open().await;
    let plain = || Part::Message(message("m", 1, "x"));
    let marked = || Part::Message(MessageDocument { deleted_at: Some(NOW.plus(3)), ..message("m", 1, "x") });
    let deleted = |ms| Part::Deletion(deletion("m", ms));
    // Each row: the parts of writes, one after the other, and when the message was deleted.
    let rows = [
        ("after", vec![vec![plain()], vec![deleted(7)]], 7),
        ("before", vec![vec![deleted(7)], vec![plain()]], 7),
        ("together", vec![vec![plain(), deleted(7)]], 7),
        ("then again", vec![vec![plain(), deleted(7)], vec![plain()]], 7),
        ("earliest stays", vec![vec![plain(), deleted(7)], vec![deleted(5)], vec![deleted(9)]], 5),
        ("said by the message", vec![vec![marked()], vec![plain()]], 3),
        ("said by an equal version", vec![vec![plain()], vec![marked()]], 3),
    ];
    for (name, writes, expected) in rows {
        for (rev, parts) in (0..).zip(writes) {
            documents.write(vec![write_of(name, rev, &parts)]).await.unwrap();
        }
        let stored = history(&documents, name).await;
        assert_eq!(stored.iter().map(|message| message.deleted_at).collect::<Vec<_>>(), [Some(NOW.plus(expected))], "{name}");
    }
}

async fn message_and_delete_learn_of_each_other_in_any_order(fresh: Fresh) {
    let documents = fresh.open().await;
    let claim = |account: &str, messages: &[&str], deletes: &[(&str, i64)]| Claims {
        account: account.to_owned(),
        messages: messages.iter().map(|&id| (id.to_owned(), format!("conversation of {id}"))).collect(),
        deletes: deletes.iter().map(|&(id, ms)| (id.to_owned(), NOW.plus(ms))).collect(),
    };
    let known = |deleted_at: &[Option<i64>], conversations: &[Option<&str>]| Resolved {
        deleted_at: deleted_at.iter().map(|ms| ms.map(|ms| NOW.plus(ms))).collect(),
        conversations: conversations.iter().map(|id| id.map(|id| format!("conversation of {id}"))).collect(),
    };
    let steps = [
        ("message first", claim("a", &["1"], &[]), known(&[None], &[])),
        ("then its delete", claim("a", &[], &[("1", 5)]), known(&[], &[Some("1")])),
        ("delete first", claim("a", &[], &[("2", 5)]), known(&[], &[None])),
        ("then its message", claim("a", &["2"], &[]), known(&[Some(5)], &[])),
        ("both at once", claim("a", &["3"], &[("3", 5)]), known(&[Some(5)], &[Some("3")])),
        ("again", claim("a", &["3", "2"], &[("3", 5), ("2", 5), ("9", 5)]), known(&[Some(5), Some(5)], &[Some("3"), Some("2"), None])),
        ("the earliest delete", claim("a", &["2"], &[("2", 3)]), known(&[Some(3)], &[Some("2")])),
        ("a later delete", claim("a", &["2"], &[("2", 8)]), known(&[Some(3)], &[Some("2")])),
        ("another account", claim("b", &["1"], &[("2", 5)]), known(&[None], &[None])),
        ("nothing", claim("a", &[], &[]), known(&[], &[])),
    ];
    for (name, claims, expected) in steps.clone() {
        assert_eq!(documents.resolve(&[claims]).await.unwrap(), [expected], "{name}");
    }
    // All of it in one call, in a store of its own, answers the same.
    let (claims, expected): (Vec<_>, Vec<_>) = steps.into_iter().map(|(_, claims, expected)| (claims, expected)).unzip();
    assert_eq!(Fresh::embedded().open().await.resolve(&claims).await.unwrap(), expected);
}

async fn the_index_keeps_the_newest_messages(mut fresh: Fresh) {
    fresh.config.message_index_max = 3;
    let documents = fresh.open().await;
    let messages = |ids: &[u64]| Claims {
        account: ACCOUNT.to_owned(),
        messages: ids.iter().map(|id| (id.to_string(), "c".to_owned())).collect(),
        deletes: Vec::new(),
    };
    let known = async |ids: &[u64]| {
        let deletes = ids.iter().map(|id| (id.to_string(), NOW)).collect();
        let claims = Claims { account: ACCOUNT.to_owned(), messages: Vec::new(), deletes };
        documents.resolve(&[claims]).await.unwrap().remove(0).conversations.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    documents.resolve(&[messages(&[100, 101]), messages(&[102, 103, 104])]).await.unwrap();
    assert_eq!(known(&[102, 103, 104]).await, [true; 3]);
    // An older message does not push a newer one out, whether it comes as a message or as a delete.
    documents.resolve(&[messages(&[50])]).await.unwrap();
    assert_eq!(known(&[50, 101]).await, [false; 2]);
    assert_eq!(known(&[102, 103, 104]).await, [true; 3]);
    // A smaller bound holds from the next claim on.
    fresh.config.message_index_max = 1;
    let smaller = fresh.open().await;
    smaller.resolve(&[messages(&[105])]).await.unwrap();
    assert_eq!(known(&[105, 104, 103]).await, [true, false, false]);
}

async fn readers_do_not_see_what_is_expired(fresh: Fresh) {
    let documents = fresh.open().await;
    let short = MessageDocument { expire_at: NOW.plus(10), ..message("short", 1, "x") };
    let messages = vec![short, message("long", 2, "y")];
    documents.write(vec![SummaryWrite { messages, expire_at: NOW.plus(10), ..write("f", 0) }]).await.unwrap();
    for (now, messages, summaries) in [(NOW.plus(9), 2, 1), (NOW.plus(10), 1, 0), (LATER, 0, 0)] {
        let page = HistoryPage { before: None, limit: 10 };
        assert_eq!(documents.history(ACCOUNT, "conversation f", page, now).await.unwrap().messages.len(), messages, "{now}");
        assert_eq!(documents.summary(ACCOUNT, "f", now).await.unwrap().into_iter().count(), summaries, "{now}");
        assert_eq!(documents.find_fan("f", now).await.unwrap().len(), summaries, "{now}");
        assert_eq!(documents.summaries(ACCOUNT, None, 10, now).await.unwrap().len(), summaries, "{now}");
    }
    // The fold goes on from what is stored, and so does the guard.
    assert!(documents.load(&[key("f")]).await.unwrap()[0].is_some());
    assert_eq!(documents.write(vec![write("f", 1)]).await.unwrap(), [WriteOutcome::Written]);
}

async fn pages_give_every_message_once(fresh: Fresh) {
    let documents = fresh.open().await;
    // Three messages a second, as the platform's times have it; deletions without a message are not part of the history.
    let messages: Vec<_> = (0..50i64).map(|n| message(&format!("m{n:02}"), n / 3 * 1000, "x")).collect();
    let deletions = vec![deletion("never seen", 3_000)];
    documents.write(vec![SummaryWrite { messages: messages.clone(), deletions, ..write("f", 0) }]).await.unwrap();
    documents.write(vec![SummaryWrite { messages: vec![message("x", 5, "x")], ..write("g", 0) }]).await.unwrap();
    let expected: Vec<_> = messages.iter().rev().map(|message| message.message_id.raw()).collect();

    for limit in [0, 1, 2, 7, 49, 50, 51, usize::MAX] {
        let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = HistoryPage { before, limit };
            let history = documents.history(ACCOUNT, "conversation f", page, NOW).await.unwrap();
            seen.extend(history.messages);
            pages += 1;
            before = history.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(ids(&seen), expected, "limit {limit}");
        assert_eq!(pages, 50usize.div_ceil(limit.clamp(1, 50)), "limit {limit}");
    }
    let page = HistoryPage { before: Some(HistoryCursor::at(NOW.plus(1_000))), limit: 10 };
    assert_eq!(ids(&documents.history(ACCOUNT, "conversation f", page, NOW).await.unwrap().messages), ["m02", "m01", "m00"]);
}

async fn summaries_are_paged_by_fan(fresh: Fresh) {
    let documents = fresh.open().await;
    let fans = ["", "1", "10", "2", "é"];
    documents.write(fans.iter().map(|fan| write(fan, 0)).collect()).await.unwrap();
    documents.write(vec![SummaryWrite { account: "other".to_owned(), ..write("3", 0) }]).await.unwrap();
    for limit in 1..=6 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = documents.summaries(ACCOUNT, after.as_deref(), limit, NOW).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(last.fan.clone());
            seen.extend(page);
        }
        assert_eq!(seen.iter().map(|summary| summary.fan.as_str()).collect::<Vec<_>>(), fans, "limit {limit}");
        assert!(seen.iter().all(|summary| summary.conversation == format!("conversation {}", summary.fan) && summary.stored.rev == 1));
    }
    assert_eq!(documents.accounts().await.unwrap(), [ACCOUNT, "other"]);
}

async fn any_id_is_just_an_id(fresh: Fresh) {
    let documents = fresh.open().await;
    let long = "9".repeat(2_048);
    let hostile = [
        "",
        ".",
        "..",
        "a/b",
        "../../etc/passwd",
        "__x__",
        "a\nb",
        "a\0b",
        "a",
        "A",
        "'; DROP TABLE messages; --",
        "%",
        &long,
        "é💥\u{202e}",
    ];
    for id in hostile {
        let write = SummaryWrite {
            account: id.to_owned(),
            fan: id.to_owned(),
            conversation: id.to_owned(),
            messages: vec![message(id, 1, id)],
            ..write(id, 0)
        };
        assert_eq!(documents.write(vec![write]).await.unwrap(), [WriteOutcome::Written], "{id:?}");
        let claims = Claims { account: id.to_owned(), messages: vec![(id.to_owned(), id.to_owned())], deletes: vec![(id.to_owned(), NOW)] };
        assert_eq!(documents.resolve(&[claims]).await.unwrap()[0].conversations, [Some(id.to_owned())], "{id:?}");
    }
    for id in hostile {
        let page = HistoryPage { before: None, limit: 10 };
        assert_eq!(ids(&documents.history(id, id, page, NOW).await.unwrap().messages), [id], "{id:?}");
        assert_eq!(documents.find_fan(id, NOW).await.unwrap(), [id], "{id:?}");
        assert_eq!(documents.load(&[(id.to_owned(), id.to_owned())]).await.unwrap()[0].as_ref().unwrap().rev, 1, "{id:?}");
    }
    assert_eq!(documents.accounts().await.unwrap().len(), hostile.len());
}

async fn writers_side_by_side_lose_nothing(fresh: Fresh) {
    const EACH: usize = 40;
    // Opening a store that nobody made yet, all at once; each handle is to the others what another process is.
    let (a, b, c) = tokio::join!(fresh.open(), fresh.open(), fresh.open());
    let increments = [a, b, c].map(|documents| {
        tokio::spawn(async move {
            let mut written = 0;
            while written < EACH {
                let rev = documents.load(&[key("f")]).await.unwrap()[0].as_ref().map_or(0, |stored| stored.rev);
                let messages = vec![message(&format!("m{rev:04}"), 1, "x")];
                let outcomes = documents.write(vec![SummaryWrite { messages, ..write("f", rev) }]).await.unwrap();
                written += usize::from(outcomes == [WriteOutcome::Written]);
            }
        })
    });
    for increment in increments {
        increment.await.unwrap();
    }
    let documents = fresh.open().await;
    assert_eq!(documents.load(&[key("f")]).await.unwrap()[0].as_ref().unwrap().rev, 3 * EACH as u64);
    assert_eq!(history(&documents, "f").await.len(), 3 * EACH);
}

async fn pruning_deletes_what_is_expired_and_nothing_else(fresh: Fresh) {
    let documents = fresh.open().await;
    let expiring = |id: &str| MessageDocument { expire_at: NOW, ..message(id, 1, "x") };
    let messages = vec![expiring("a"), expiring("b"), message("c", 2, "y")];
    documents.write(vec![SummaryWrite { messages, ..write("f", 0) }]).await.unwrap();
    let (messages, deletions) = (vec![expiring("d")], vec![deletion("e", 1)]);
    documents.write(vec![SummaryWrite { expire_at: NOW, messages, deletions, ..write("g", 0) }]).await.unwrap();

    assert_eq!(documents.prune(NOW.plus(-1), 10).await.unwrap(), 0);
    let mut deleted = Vec::new();
    while deleted.last() != Some(&0) {
        deleted.push(documents.prune(NOW, 2).await.unwrap());
    }
    assert_eq!(deleted, [2, 2, 1, 0], "three messages, a deletion without a message, a summary");
    assert_eq!(ids(&history(&documents, "f").await), ["c"]);
    assert_eq!(documents.load(&[key("f"), key("g")]).await.unwrap().iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    // A summary that is gone starts over.
    assert_eq!(documents.write(vec![write("g", 1), write("g", 0)]).await.unwrap(), [WriteOutcome::Conflict, WriteOutcome::Written]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever versions and deletions of a few messages come, in whatever order, batches and repetition: the same history stays.
    #[test]
    fn histories_converge(
        parts in prop::collection::vec((0..3u8, prop::option::of(0..3i64), 0..3u8, prop::option::of(0..4i64), any::<bool>()), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        batch in 1..5usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fresh = Fresh::embedded();
            let documents = fresh.open().await;
            let part = |&(id, changed, text, deleted, is_message): &(u8, Option<i64>, u8, Option<i64>, bool)| {
                let id = format!("m{id}");
                if is_message {
                    let version = message(&id, i64::from(text), &text.to_string());
                    Part::Message(MessageDocument { changed_at: changed.map(Millis), deleted_at: deleted.map(|ms| NOW.plus(ms)), ..version })
                } else {
                    Part::Deletion(deletion(&id, deleted.unwrap_or(9)))
                }
            };
            let straight: Vec<Part> = parts.iter().map(part).collect();
            let mut shuffled: Vec<Part> = parts.iter().rev().map(part).collect();
            for index in &order {
                let moved = index.get(&shuffled).clone();
                shuffled.insert(index.index(shuffled.len()) / 2, moved);
            }
            let expected = model(&straight);
            for (fan, parts) in [("straight", straight), ("shuffled", shuffled)] {
                for (rev, parts) in (0..).zip(parts.chunks(batch)) {
                    documents.write(vec![write_of(fan, rev, parts)]).await.unwrap();
                }
                prop_assert_eq!(json(&history(&documents, fan).await), json(&expected), "{}", fan);
            }
            Ok(())
        })?;
    }
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a handful of values in a test")]
enum Part {
    Message(MessageDocument),
    Deletion(MessageDeletion),
}

/// The contract in the plainest words: of each message the greatest version, marked with the earliest deletion.
fn model(parts: &[Part]) -> Vec<MessageDocument> {
    let mut messages: Vec<MessageDocument> = Vec::new();
    for id in ["m0", "m1", "m2"] {
        let mut versions: Vec<&MessageDocument> = Vec::new();
        let mut deleted_at: Vec<Millis> = Vec::new();
        for part in parts {
            match part {
                Part::Message(message) if message.message_id.raw() == id => {
                    versions.push(message);
                    deleted_at.extend(message.deleted_at);
                }
                Part::Deletion(deletion) if deletion.message == id => deleted_at.push(deletion.deleted_at),
                _ => {}
            }
        }
        let plain = |message: &MessageDocument| serde_json::to_vec(&MessageDocument { deleted_at: None, ..message.clone() }).unwrap();
        let greatest = versions.into_iter().max_by_key(|message| (message.changed_at, plain(message)));
        messages.extend(greatest.map(|message| MessageDocument { deleted_at: deleted_at.into_iter().min(), ..message.clone() }));
    }
    messages.sort_by_key(|message| std::cmp::Reverse((message.sent_at, message.message_id.raw().to_owned())));
    messages
}

// Builders.

fn key(fan: &str) -> (String, String) {
    (ACCOUNT.to_owned(), fan.to_owned())
}

/// A write of a fan without messages, from `expected_rev` to the next.
fn write(fan: &str, expected_rev: u64) -> SummaryWrite {
    static FOLDS: AtomicU32 = AtomicU32::new(0);
    let summary = FanSummary {
        account_id: ACCOUNT.into(),
        conversation_id: format!("conversation {fan}").into(),
        fan: FanView { id: fan.into(), ..FanView::default() },
        tier: "none".to_owned(),
        high_value: HighValue::default(),
        spend: Spend::default(),
        messages_in: 0,
        messages_out: 0,
        first_seen_at: None,
        last_seen_at: None,
        subscription: None,
        last_ppv: None,
        awaiting_reply_since: None,
        recent: Vec::new(),
        rev: expected_rev + 1,
        applied_at: NOW,
        expire_at: LATER,
    };
    SummaryWrite {
        account: ACCOUNT.to_owned(),
        fan: fan.to_owned(),
        conversation: format!("conversation {fan}"),
        expected_rev,
        rev: expected_rev + 1,
        summary: serde_json::to_vec(&summary).unwrap(),
        fold: FOLDS.fetch_add(1, Ordering::Relaxed).to_le_bytes().to_vec(),
        expire_at: LATER,
        messages: Vec::new(),
        deletions: Vec::new(),
        unkept: Vec::new(),
    }
}

/// A write of a fan with these parts.
fn write_of(fan: &str, expected_rev: u64, parts: &[Part]) -> SummaryWrite {
    let mut write = write(fan, expected_rev);
    for part in parts.iter().cloned() {
        match part {
            Part::Message(message) => write.messages.push(message),
            Part::Deletion(deletion) => write.deletions.push(deletion),
        }
    }
    write
}

fn message(id: &str, sent_ms: i64, text: &str) -> MessageDocument {
    MessageDocument {
        message_id: id.into(),
        direction: Direction::In,
        sent_at: NOW.plus(sent_ms),
        text: Some(text.into()),
        html: None,
        reply_to: None,
        price: None,
        money: None,
        media: Vec::new(),
        is_tip: false,
        is_bulk: false,
        deleted_at: None,
        changed_at: None,
        event_id: "event".into(),
        expire_at: LATER,
    }
}

fn deletion(message: &str, ms: i64) -> MessageDeletion {
    MessageDeletion { message: message.to_owned(), deleted_at: NOW.plus(ms) }
}

/// The newest messages of the conversation with a fan.
async fn history(documents: &Documents, fan: &str) -> Vec<MessageDocument> {
    let page = HistoryPage { before: None, limit: 1_000 };
    documents.history(ACCOUNT, &format!("conversation {fan}"), page, NOW).await.unwrap().messages
}

fn ids(messages: &[MessageDocument]) -> Vec<&str> {
    messages.iter().map(|message| message.message_id.raw()).collect()
}

fn json(messages: &[MessageDocument]) -> serde_json::Value {
    serde_json::to_value(messages).unwrap()
}
