//! Firestore's bad days: what the emulator never answers, from a server in front of it. Each test says what comes of it, and what was counted.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use convpipe::config::FirestoreConfig;
use convpipe::documents::firestore::FirestoreCounters;
use convpipe::documents::{Access, Documents, DocumentsError};
use convpipe::transform::materialize::{SummaryWrite, WriteOutcome};
use tonic::Code;

use super::proxy::{Fault, Proxy};
use super::{ACCOUNT, NOW, deletion, emulated, history, ids, key, message, write};
use crate::support::emulator::Emulator;

/// A handle whose calls go through a proxy; nothing where there is no emulator behind it.
async fn proxied(change: impl FnOnce(&mut FirestoreConfig)) -> Option<(Proxy, Documents)> {
    let emulator = Emulator::firestore()?;
    let proxy = Proxy::start(&emulator.address).await;
    let mut config = FirestoreConfig { emulator: Some(proxy.address.clone()), ..emulated(emulator) };
    change(&mut config);
    let documents = Documents::firestore(&config, Access::ReadWrite).await.unwrap();
    Some((proxy, documents))
}

fn counters(documents: &Documents) -> &FirestoreCounters {
    let Documents::Firestore(firestore) = documents else { unreachable!("opened as such") };
    firestore.counters()
}

/// A new fan with messages of these ids.
fn with_messages(fan: &str, ids: &[&str]) -> SummaryWrite {
    SummaryWrite { messages: (0..).zip(ids).map(|(ms, id)| message(id, ms, "x")).collect(), ..write(fan, 0) }
}

#[tokio::test]
async fn what_is_refused_for_now_is_sent_again() {
    let Some((proxy, documents)) = proxied(|_| {}).await else { return };
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Aborted, Code::Internal, Code::DeadlineExceeded] {
        proxy.fault("BatchWrite", Fault::Refuse(code, "not now"));
    }
    assert_eq!(documents.write(vec![with_messages("f", &["m1", "m2"])]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(ids(&history(&documents, "f").await), ["m2", "m1"]);
    let counted = counters(&documents);
    assert_eq!((counted.writes.load(Relaxed), counted.retried.load(Relaxed), counted.throttled.load(Relaxed)), (3, 5, 1));
}

#[tokio::test]
async fn of_a_batch_only_what_was_not_taken_is_sent_again() {
    let Some((proxy, documents)) = proxied(|_| {}).await else { return };
    // Summaries, then messages: each time another part of them is not taken.
    proxy.fault("BatchWrite", Fault::Writes(Code::Aborted, |place| place == 1));
    proxy.fault("BatchWrite", Fault::Writes(Code::ResourceExhausted, |_| true));
    documents.write(vec![write("a", 0), write("b", 0), write("c", 0)]).await.unwrap();
    assert_eq!(proxy.calls("BatchWrite"), 3);
    proxy.fault("BatchWrite", Fault::Writes(Code::Unavailable, |place| place > 0));
    proxy.fault("BatchWrite", Fault::Writes(Code::Unavailable, |place| place % 2 == 0));
    documents.write(vec![with_messages("d", &["m1", "m2", "m3", "m4"]), with_messages("e", &["m1"])]).await.unwrap();
    for fan in ["a", "b", "c", "d", "e"] {
        assert_eq!(documents.load(&[key(fan)]).await.unwrap()[0].as_ref().unwrap().rev, 1, "{fan}");
    }
    assert_eq!(ids(&history(&documents, "d").await), ["m4", "m3", "m2", "m1"]);
    assert_eq!(counters(&documents).writes.load(Relaxed), 3 + 2 + 5);
}

#[tokio::test]
async fn a_lost_answer_loses_no_write_and_makes_none_twice() {
    let Some((proxy, documents)) = proxied(|_| {}).await else { return };
    // The summary was written, and its own guard refuses the second try: a conflict, after which what is loaded tells.
    proxy.fault("BatchWrite", Fault::Lose(Code::Unavailable));
    let write = with_messages("f", &["m1", "m2"]);
    assert_eq!(documents.write(vec![write.clone()]).await.unwrap(), [WriteOutcome::Conflict]);
    let stored = documents.load(&[key("f")]).await.unwrap().remove(0).unwrap();
    assert_eq!((stored.rev, &stored.fold), (1, &write.fold));
    // The messages were written: the second try finds them as they should be.
    proxy.fault("BatchWrite", Fault::Writes(Code::Unavailable, |_| false));
    proxy.fault("BatchWrite", Fault::Lose(Code::DeadlineExceeded));
    let again = SummaryWrite { expected_rev: 1, rev: 2, ..write };
    assert_eq!(documents.write(vec![again]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(ids(&history(&documents, "f").await), ["m2", "m1"]);
    assert_eq!(counters(&documents).unmet.load(Relaxed), 1 + 2);
}

#[tokio::test]
async fn another_writer_between_reading_and_writing_a_message_loses_nothing() {
    let Some((proxy, documents)) = proxied(|_| {}).await else { return };
    documents.write(vec![with_messages("f", &["m"])]).await.unwrap();
    // The merged message is refused as if somebody had written it meanwhile; it is read and merged again.
    proxy.fault("BatchWrite", Fault::Writes(Code::Unavailable, |_| false));
    proxy.fault("BatchWrite", Fault::Writes(Code::Unavailable, |_| false));
    proxy.fault("BatchWrite", Fault::Writes(Code::FailedPrecondition, |_| true));
    documents.write(vec![SummaryWrite { deletions: vec![deletion("m", 7)], ..write("f", 1) }]).await.unwrap();
    assert_eq!(history(&documents, "f").await[0].deleted_at, Some(NOW.plus(7)));
}

#[tokio::test]
async fn what_lasts_too_long_is_given_up() {
    let bounds = |config: &mut FirestoreConfig| (config.timeout_ms, config.retry_max_ms) = (250, 250);
    let Some((proxy, documents)) = proxied(bounds).await else { return };
    // Each row: what happens to every call, and the error's variant.
    for (fault, variant) in [
        (Fault::Refuse(Code::ResourceExhausted, "slow down"), "Throttled"),
        (Fault::Refuse(Code::Unavailable, "away"), "Unavailable"),
        (Fault::Hang, "Unavailable"),
    ] {
        (0..20).for_each(|_| proxy.fault("BatchWrite", fault));
        let begun = Instant::now();
        let error = documents.write(vec![write("f", 0)]).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(variant) && error.is_transient() && !error.is_auth(), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        // Those that were not met, the next row should not meet.
        proxy.forget_faults();
    }
    assert_eq!(documents.write(vec![write("f", 0)]).await.unwrap(), [WriteOutcome::Written]);
}

#[tokio::test]
async fn what_nobody_should_try_again_is_told_at_once() {
    let Some((proxy, documents)) = proxied(|_| {}).await else { return };
    let index = "The query requires a COLLECTION_GROUP_ASC index for collection messages and field key";
    // Each row: the call, its fault, and what the error has to be and say.
    for (method, fault, variant, says) in [
        ("BatchWrite", Fault::Refuse(Code::PermissionDenied, "missing rights"), "Refused", "roles/datastore.user"),
        ("BatchWrite", Fault::Refuse(Code::Unauthenticated, "who?"), "Refused", "who?"),
        ("BatchWrite", Fault::Writes(Code::PermissionDenied, |_| true), "Refused", "writing documents"),
        ("BatchWrite", Fault::Refuse(Code::NotFound, "no database"), "NoDatabase", "gcloud firestore databases create"),
        ("BatchWrite", Fault::Writes(Code::InvalidArgument, |place| place == 0), "RefusedDocument", "/fans/f"),
        ("BatchWrite", Fault::Refuse(Code::FailedPrecondition, "Datastore Mode"), "Rejected", "Datastore Mode"),
        ("RunQuery", Fault::Refuse(Code::FailedPrecondition, index), "NotProvisioned", "convpipe provision"),
        ("BatchGetDocuments", Fault::Refuse(Code::PermissionDenied, "missing rights"), "Refused", "reading documents"),
    ] {
        let before = proxy.calls(method);
        proxy.fault(method, fault);
        let error = match method {
            "BatchWrite" => documents.write(vec![write("f", 0)]).await.unwrap_err(),
            "RunQuery" => documents.find_fan("f", NOW).await.unwrap_err(),
            _ => documents.load(&[key("f")]).await.unwrap_err(),
        };
        let text = error.to_string();
        assert!(format!("{error:?}").starts_with(variant), "{error:?}");
        assert!(text.contains(says) && text.contains("firestore database projects/demo-"), "{text}");
        assert!(!error.is_transient() && error.is_auth() == (variant == "Refused"), "{error:?}");
        assert_eq!(error.is_of_one_document(), variant == "RefusedDocument", "{error:?}");
        assert_eq!(proxy.calls(method), before + 1, "{error:?}");
    }
}

#[tokio::test]
async fn reads_are_tried_again() {
    let Some((proxy, documents)) = proxied(|_| {}).await else { return };
    documents.write(vec![with_messages("f", &["m"])]).await.unwrap();
    for method in ["RunQuery", "BatchGetDocuments", "ListDocuments"] {
        proxy.fault(method, Fault::Refuse(Code::Unavailable, "not now"));
        proxy.fault(method, Fault::Refuse(Code::ResourceExhausted, "not now"));
    }
    assert_eq!(ids(&history(&documents, "f").await), ["m"]);
    assert!(documents.summary(ACCOUNT, "f", NOW).await.unwrap().is_some());
    assert_eq!(documents.accounts().await.unwrap(), [ACCOUNT]);
    assert_eq!(counters(&documents).throttled.load(Relaxed), 3);
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_where() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = FirestoreConfig { project: Some("demo".into()), emulator: Some(nobody.clone()), ..FirestoreConfig::default() };
    let error = Documents::firestore(&config, Access::ReadOnly).await.unwrap_err();
    assert!(matches!(error, DocumentsError::Unavailable { .. }) && error.to_string().contains(&nobody), "{error}");
}
