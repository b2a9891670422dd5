//! The embedded engine's file: whose it is, what survives, what is refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use convpipe::config::EmbeddedDocumentsConfig;
use convpipe::documents::{Access, Documents, DocumentsError};
use convpipe::schema::document::MessageDocument;
use convpipe::transform::materialize::{SummaryWrite, WriteOutcome};
use convpipe::transform::resolve::Claims;

use super::{ACCOUNT, NOW, Place, deletion, history, ids, key, message, write};

#[tokio::test]
async fn folder_and_file_are_the_owners_alone() {
    let fresh = Place::new();
    let documents = fresh.open().await;
    documents.write(vec![write("f", 0)]).await.unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(fresh.dir.path().join("store")), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(fresh.dir.path().join(format!("store/documents.db{suffix}"))), 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn what_was_written_survives_a_kill() {
    let fresh = Place::new();
    let documents = fresh.open().await;
    documents.write(vec![SummaryWrite { messages: vec![message("m", 1, "x")], ..write("f", 0) }]).await.unwrap();
    // The files as they lie while the store is open are what a killed process leaves behind.
    let left = Place::new();
    std::fs::create_dir(left.dir.path().join("store")).unwrap();
    for name in ["documents.db", "documents.db-wal"] {
        std::fs::copy(fresh.dir.path().join("store").join(name), left.dir.path().join("store").join(name)).unwrap();
    }
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let reopened = Documents::embedded(&left.config, access).await.unwrap();
        assert_eq!(ids(&history(&reopened, "f").await), ["m"], "{access:?}");
    }
}

/// What lies where the documents should.
enum Lies {
    Nothing,
    Text(&'static str),
    Sql(&'static str),
    Folder,
    WithoutWritePermission,
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_a_reason() {
    use Access::{ReadOnly, ReadWrite};
    let newer = "PRAGMA application_id = 0x63767064; PRAGMA user_version = 2";
    // Each row: what lies at the path, how it is opened, the error's variant, and what its text has to say.
    let rows = [
        (Lies::Nothing, ReadOnly, "Missing", "does not exist yet"),
        (Lies::Text(""), ReadOnly, "Missing", "start `convpipe snapshot`"),
        (
            Lies::Text("this is a letter, not a database; it is longer than the header of one, which is a hundred bytes"),
            ReadWrite,
            "Foreign",
            "is not",
        ),
        (Lies::Sql("CREATE TABLE t (x)"), ReadWrite, "Foreign", "move it away"),
        (Lies::Sql("CREATE TABLE t (x)"), ReadOnly, "Foreign", "documents.embedded.path"),
        (Lies::Sql(newer), ReadWrite, "Newer", "layout 2"),
        (Lies::Sql(newer), ReadOnly, "Newer", "newer convpipe"),
        (Lies::Folder, ReadWrite, "Unavailable", "opening"),
        (Lies::WithoutWritePermission, ReadWrite, "ReadOnly", "mode 0400"),
    ];
    for (row, (lies, access, variant, says)) in rows.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("documents.db");
        match lies {
            Lies::Nothing => {}
            Lies::Text(text) => std::fs::write(&path, text).unwrap(),
            Lies::Sql(sql) => rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap(),
            Lies::Folder => std::fs::create_dir(&path).unwrap(),
            Lies::WithoutWritePermission => {
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
            }
        }
        let before = std::fs::read(&path).ok();
        let config = EmbeddedDocumentsConfig { path: path.clone(), ..EmbeddedDocumentsConfig::default() };
        let error = Documents::embedded(&config, access).await.unwrap_err();
        let text = error.to_string();
        assert!(format!("{error:?}").starts_with(variant), "row {row}: {error:?}");
        assert!(text.contains(says) && text.contains(path.to_str().unwrap()), "row {row}: {text}");
        assert_eq!(std::fs::read(&path).ok(), before, "row {row}: left as it was");
    }
}

#[tokio::test]
async fn a_handle_for_reading_does_not_write() {
    let fresh = Place::new();
    fresh.open().await.write(vec![write("f", 0)]).await.unwrap();
    let reader = Documents::embedded(&fresh.config, Access::ReadOnly).await.unwrap();
    assert!(reader.summary(ACCOUNT, "f", NOW).await.unwrap().is_some());
    assert!(matches!(reader.write(vec![write("f", 1)]).await, Err(DocumentsError::ReadOnly { .. })));
    assert!(matches!(reader.prune(NOW, 1).await, Err(DocumentsError::ReadOnly { .. })));
}

#[tokio::test]
async fn a_lock_is_waited_for_and_does_not_hold_up_reading() {
    let fresh = Place::new();
    let documents = fresh.open().await;
    documents.write(vec![write("f", 0)]).await.unwrap();
    let other = rusqlite::Connection::open(&fresh.config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = tokio::spawn({
        let documents = documents.clone();
        async move { documents.write(vec![write("f", 1)]).await }
    });
    assert!(documents.summary(ACCOUNT, "f", NOW).await.unwrap().is_some());
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), [WriteOutcome::Written]);
}

#[tokio::test]
async fn the_index_keeps_the_newest_messages() {
    let mut fresh = Place::new();
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

#[tokio::test]
async fn pruning_deletes_what_is_expired_and_nothing_else() {
    let fresh = Place::new();
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
