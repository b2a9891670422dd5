//! What is known of accounts beyond their conversations: the documents `accounts/A`, guarded as summaries are.

use std::time::Instant;

use serde_json::Value as Json;

use super::super::{DocumentsError, StoredState};
use super::batch::{self, Outcome};
use super::known::KnownSummary;
use super::value::{self, Fields};
use super::{Store, query, write};
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountDocumentWrite, WriteOutcome};

/// One request for up to 300 accounts.
pub(super) async fn load(store: &Store, accounts: &[String]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
    let names: Vec<String> = accounts.iter().map(|account| store.rpc.names.account(account)).collect();
    store.states(&names).await
}

/// Writes accounts that are all different; of one that is named again the later write meets a guard that does not hold any more.
pub(super) async fn write(store: &Store, writes: &[AccountDocumentWrite]) -> Result<Vec<WriteOutcome>, DocumentsError> {
    let names: Vec<String> = writes.iter().map(|write| store.rpc.names.account(&write.account)).collect();
    let expected: Vec<u64> = writes.iter().map(|write| write.expected_rev).collect();
    let guards = write::guards(store, &names, &expected).await?;
    let (mut guarded, mut places) = (Vec::with_capacity(writes.len()), Vec::with_capacity(writes.len()));
    for (place, ((name, write), guard)) in names.iter().zip(writes).zip(guards).enumerate() {
        if let Some(guard) = guard {
            let fields = fields(write).map_err(|source| store.rpc.document(name.clone(), source))?;
            guarded.push(batch::write(name.clone(), fields, guard));
            places.push(place);
        }
    }
    write::pace(store, places.iter().map(|&place| names[place].as_str())).await;
    let outcomes = batch::submit(&store.rpc, store.limits, &guarded).await?;
    let written = Instant::now();
    let mut told = vec![WriteOutcome::Conflict; writes.len()];
    for (place, outcome) in places.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Written(update_time) => {
                store.known.keep_summary(&names[place], KnownSummary { rev: writes[place].rev, update_time, written });
                told[place] = WriteOutcome::Written;
            }
            Outcome::Unmet => store.known.forget_summary(&names[place]),
        }
    }
    Ok(told)
}

/// Deletes of an account, in the order of their documents, beginning behind that of the message `after`.
pub(super) async fn deletions(
    store: &Store,
    account: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Millis)>, DocumentsError> {
    let deletes = query::ordered(query::of("deletes"), &["__name__"], query::Direction::Ascending);
    let mut deletes = query::limit(query::select(deletes, &["message_id", "deleted_at"]), limit);
    if let Some(after) = after {
        deletes = query::after(deletes, vec![value::reference(store.rpc.names.deletion(account, after))]);
    }
    let found = store.rpc.query(&store.rpc.names.account(account), deletes).await?;
    let deletion = |document: &firestore::FirestoreDocument| {
        Some((value::text(&document.fields, "message_id")?.to_owned(), value::time(&document.fields, "deleted_at")?))
    };
    Ok(found.iter().filter_map(deletion).collect())
}

fn fields(write: &AccountDocumentWrite) -> Result<Fields, serde_json::Error> {
    let json: Json = serde_json::from_slice(&write.document)?;
    let mut fields = value::fields(&json);
    fields.insert("account_id".to_owned(), value::string(&write.account));
    fields.insert("rev".to_owned(), value::integer(i64::try_from(write.rev).unwrap_or(i64::MAX)));
    fields.insert("fold".to_owned(), value::bytes(write.fold.clone()));
    fields.insert("expire_at".to_owned(), value::timestamp(write.expire_at));
    Ok(fields)
}
