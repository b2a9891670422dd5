//! The contract of the document store: what holds whatever the engine is.

use convpipe::documents::{DocumentsError, HistoryCursor, HistoryPage, StoredState};
use convpipe::schema::document::MessageDocument;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::{SummaryWrite, WriteOutcome};
use convpipe::transform::resolve::{Claims, Resolved};
use proptest::prelude::*;

use super::*;

pub(super) async fn what_was_written_is_read(fresh: Fresh) {
    let documents = fresh.open().await;
    let newest = MessageDocument { price: Some(399), changed_at: Some(NOW), ..message("m2", 20, "<b>hi</b> \u{202e}\u{1b}[31m") };
    let write = SummaryWrite { messages: vec![message("m1", 10, "first"), newest.clone()], ..write("f1", 0) };
    assert_eq!(documents.write(vec![write.clone()]).await.unwrap(), [WriteOutcome::Written]);

    let stored = StoredState { rev: 1, fold: write.fold };
    assert_eq!(documents.load(&[key("f1"), key("f2")]).await.unwrap(), [Some(stored), None]);
    let summary = documents.summary(ACCOUNT, "f1", NOW).await.unwrap().unwrap();
    assert_eq!((summary.rev, summary.summary.fan.id.raw()), (1, "f1"));
    assert_eq!(json(&history(&documents, "f1").await), json(&[newest, message("m1", 10, "first")]));
    assert_eq!(documents.accounts().await.unwrap(), [ACCOUNT]);
    assert_eq!(documents.find_fan("f1", NOW).await.unwrap(), [ACCOUNT]);
    assert!(documents.find_fan("f2", NOW).await.unwrap().is_empty());
}

pub(super) async fn a_guard_that_does_not_hold_writes_nothing_of_that_fan(fresh: Fresh) {
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

pub(super) async fn writing_again_changes_nothing(fresh: Fresh) {
    let documents = fresh.open().await;
    let write = SummaryWrite { messages: vec![message("m1", 1, "x")], deletions: vec![deletion("m1", 9)], ..write("f1", 0) };
    documents.write(vec![write.clone()]).await.unwrap();
    let before = history(&documents, "f1").await;
    documents.write(vec![SummaryWrite { expected_rev: 1, rev: 2, ..write }]).await.unwrap();
    assert_eq!(json(&history(&documents, "f1").await), json(&before));
}

pub(super) async fn the_later_version_stays(fresh: Fresh) {
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

pub(super) async fn a_deletion_marks_its_message_before_and_after(fresh: Fresh) {
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

pub(super) async fn message_and_delete_learn_of_each_other_in_any_order(fresh: Fresh) {
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
    let other = fresh.another();
    let (claims, expected): (Vec<_>, Vec<_>) = steps.into_iter().map(|(_, claims, expected)| (claims, expected)).unzip();
    assert_eq!(other.open().await.resolve(&claims).await.unwrap(), expected);
}

/// As `snapshot` does it: claim, fold what was learned into the write, write; all of it again where the store says so.
async fn deliver(documents: &Documents, fan: &str, parts: &[Part], is_kept: bool) {
    loop {
        let mut claims = Claims { account: ACCOUNT.to_owned(), ..Claims::default() };
        for part in parts {
            match part {
                Part::Message(message) => {
                    claims.messages.push((message.message_id.raw().to_owned(), format!("conversation {fan}")));
                }
                Part::Deletion(deletion) => claims.deletes.push((deletion.message.clone(), deletion.deleted_at)),
            }
        }
        let resolved = documents.resolve(std::slice::from_ref(&claims)).await.unwrap().remove(0);
        let mut folded: Vec<Part> = parts.iter().filter(|part| matches!(part, Part::Message(_))).cloned().collect();
        let learned = claims.messages.iter().zip(&resolved.deleted_at).filter_map(|((id, _), at)| Some((id, (*at)?)));
        folded.extend(learned.map(|(id, at)| Part::Deletion(MessageDeletion { message: id.clone(), deleted_at: at })));
        let known = claims.deletes.iter().zip(&resolved.conversations).filter(|(_, conversation)| conversation.is_some());
        folded.extend(known.map(|((id, at), _)| Part::Deletion(MessageDeletion { message: id.clone(), deleted_at: *at })));
        if folded.is_empty() {
            return;
        }
        let rev = documents.load(&[key(fan)]).await.unwrap()[0].as_ref().map_or(0, |stored| stored.rev);
        let mut write = write_of(fan, rev, &folded);
        if !is_kept {
            let ids = write.messages.drain(..).map(|message| message.message_id.raw().to_owned());
            write.unkept = ids.filter(|id| write.deletions.iter().all(|deletion| deletion.message != *id)).collect();
        }
        match documents.write(vec![write]).await {
            Ok(outcomes) if outcomes == [WriteOutcome::Written] => return,
            Ok(_) => {}
            Err(error) => assert!(matches!(error, DocumentsError::DeletedMeanwhile { .. }) && error.is_transient(), "{error}"),
        }
    }
}

pub(super) async fn a_delete_meets_its_message_whoever_writes_them(fresh: Fresh) {
    let (a, b) = (fresh.open().await, fresh.open().await);
    let (message, deleted) = ([Part::Message(message("m", 1, "x"))], [Part::Deletion(deletion("m", 7))]);
    deliver(&a, "after", &message, true).await;
    deliver(&b, "after", &deleted, true).await;
    assert_eq!(history(&a, "after").await[0].deleted_at, Some(NOW.plus(7)));

    let fresh = fresh.another();
    let (a, b) = (fresh.open().await, fresh.open().await);
    deliver(&b, "before", &deleted, true).await;
    deliver(&a, "before", &message, true).await;
    assert_eq!(history(&b, "before").await[0].deleted_at, Some(NOW.plus(7)));

    let fresh = fresh.another();
    let (a, b) = (fresh.open().await, fresh.open().await);
    tokio::join!(deliver(&a, "meanwhile", &message, true), deliver(&b, "meanwhile", &deleted, true));
    // Either side may have been first; a second delivery of either changes nothing any more.
    deliver(&b, "meanwhile", &deleted, true).await;
    assert_eq!(history(&a, "meanwhile").await[0].deleted_at, Some(NOW.plus(7)));
}

pub(super) async fn a_delete_is_learned_of_also_where_messages_are_not_kept(fresh: Fresh) {
    let (a, b) = (fresh.open().await, fresh.open().await);
    deliver(&b, "f", &[Part::Deletion(deletion("m", 7))], false).await;
    // It returns, so its message learned of the delete: else it would be folded for ever, or kept as if it were there.
    deliver(&a, "f", &[Part::Message(message("m", 1, "x"))], false).await;
    let claims = Claims { messages: vec![("m".into(), "conversation f".into())], account: ACCOUNT.to_owned(), ..Claims::default() };
    assert_eq!(a.resolve(&[claims]).await.unwrap()[0].deleted_at, [Some(NOW.plus(7))]);
    assert!(history(&a, "f").await.is_empty());
}

pub(super) async fn readers_do_not_see_what_is_expired(fresh: Fresh) {
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

pub(super) async fn pages_of_what_is_expired_are_not_given(fresh: Fresh) {
    let documents = fresh.open().await;
    let message = |n: i64| MessageDocument { expire_at: NOW.plus(n), ..message(&format!("m{n:02}"), n, "x") };
    documents.write(vec![SummaryWrite { messages: (0..30).map(message).rev().collect(), ..write("f", 0) }]).await.unwrap();
    for (limit, now, expected) in [(4, NOW.plus(27), vec!["m29", "m28"]), (1, NOW.plus(28), vec!["m29"]), (7, LATER, vec![])] {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let history = documents.history(ACCOUNT, "conversation f", HistoryPage { before, limit }, now).await.unwrap();
            assert!(!history.messages.is_empty() || history.next.is_none(), "an empty page is the last");
            seen.extend(history.messages);
            before = history.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(ids(&seen), expected, "{now}");
    }
}

pub(super) async fn pages_give_every_message_once(fresh: Fresh) {
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

pub(super) async fn summaries_are_paged_by_fan(fresh: Fresh) {
    let documents = fresh.open().await;
    let fans = ["", "1", "10", "2", "a/b", "é"];
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
        let mut seen_fans: Vec<&str> = seen.iter().map(|summary| summary.fan.as_str()).collect();
        seen_fans.sort_unstable();
        assert_eq!(seen_fans, fans, "limit {limit}");
        assert!(seen.iter().all(|summary| summary.conversation == format!("conversation {}", summary.fan) && summary.stored.rev == 1));
    }
    assert_eq!(documents.accounts().await.unwrap(), [ACCOUNT, "other"]);
}

pub(super) async fn accounts_are_guarded_as_summaries_are(fresh: Fresh) {
    use WriteOutcome::{Conflict, Written};
    let (documents, other) = (fresh.open().await, fresh.open().await);
    let names = ["a", "b", "c/d"].map(str::to_owned);
    assert_eq!(documents.load_accounts(&names).await.unwrap(), [None, None, None]);
    assert_eq!(documents.write_accounts(vec![write_account("a", 0), write_account("c/d", 0)]).await.unwrap(), [Written, Written]);
    let writes = vec![write_account("a", 0), write_account("b", 3), write_account("c/d", 1)];
    assert_eq!(other.write_accounts(writes).await.unwrap(), [Conflict, Conflict, Written]);
    assert_eq!(documents.write_accounts(vec![write_account("c/d", 1)]).await.unwrap(), [Conflict], "another was faster");
    assert_eq!(documents.write_accounts(vec![write_account("a", 1)]).await.unwrap(), [Written]);
    let stored = |text: &str| Some(StoredState { rev: 2, fold: text.as_bytes().to_vec() });
    assert_eq!(documents.load_accounts(&names).await.unwrap(), [stored("a 1"), None, stored("c/d 1")]);
    // An account is there with its own document, with summaries, or with both.
    documents.write(vec![write("f", 0), SummaryWrite { account: "a".to_owned(), ..write("f", 0) }]).await.unwrap();
    assert_eq!(documents.accounts().await.unwrap(), [ACCOUNT, "a", "c/d"]);
}

pub(super) async fn deletes_are_paged(fresh: Fresh) {
    let documents = fresh.open().await;
    assert!(documents.deletions(ACCOUNT, None, 10).await.unwrap().is_empty());
    // Of some the message is known, of others it is still to come; ids are no numbers alone.
    let deletes: Vec<(String, Millis)> = (0..7).map(|ms| (format!("{}m{ms}", ms * 3), NOW.plus(ms))).collect();
    let claims = Claims { account: ACCOUNT.into(), messages: vec![(deletes[2].0.clone(), "c".into())], deletes: deletes.clone() };
    let elsewhere = Claims { account: "other".into(), messages: Vec::new(), deletes: vec![("x".into(), NOW)] };
    documents.resolve(&[claims, elsewhere]).await.unwrap();
    for limit in [1, 3, 100] {
        let (mut seen, mut after): (Vec<(String, Millis)>, Option<String>) = (Vec::new(), None);
        loop {
            let page = documents.deletions(ACCOUNT, after.as_deref(), limit).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(last.clone());
            seen.extend(page);
        }
        seen.sort_by_key(|(_, at)| *at);
        assert_eq!(seen, deletes, "limit {limit}");
    }
}

pub(super) async fn any_id_is_just_an_id(fresh: Fresh) {
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

pub(super) async fn writers_side_by_side_lose_nothing(fresh: Fresh) {
    let each = fresh.rounds();
    // Opening a store that nobody made yet, all at once; each handle is to the others what another process is.
    let (a, b, c) = tokio::join!(fresh.open(), fresh.open(), fresh.open());
    let increments = [a, b, c].map(|documents| {
        tokio::spawn(async move {
            let mut written = 0;
            while written < each {
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
    assert_eq!(documents.load(&[key("f")]).await.unwrap()[0].as_ref().unwrap().rev, 3 * each as u64);
    assert_eq!(history(&documents, "f").await.len(), 3 * each);
}

/// Versions and deletions of a few messages, an order to put them in, and how many come at once.
pub(super) type History = (Vec<(u8, Option<i64>, u8, Option<i64>, bool)>, Vec<prop::sample::Index>, usize);

pub(super) fn any_history() -> impl Strategy<Value = History> {
    let part = (0..3u8, prop::option::of(0..3i64), 0..3u8, prop::option::of(0..4i64), any::<bool>());
    (prop::collection::vec(part, 1..12), prop::collection::vec(any::<prop::sample::Index>(), 0..12), 1..5usize)
}

/// Whatever versions and deletions of a few messages come, in whatever order, batches and repetition: the same history stays.
pub(super) async fn histories_converge(fresh: Fresh, (parts, order, batch): History) -> Result<(), TestCaseError> {
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
