//! A fan's document: the summary's own fields, the state it was folded from, and what it is looked up by.

use firestore::gcloud_sdk::google::firestore::v1::Document;
use serde_json::Value as Json;

use super::super::{DocumentsError, StoredState, SummaryDocument};
use super::path;
use super::rpc::Rpc;
use super::value::{self, Fields};
use crate::schema::time::Millis;
use crate::transform::materialize::SummaryWrite;

/// Fields that are not of the summary.
const OWN: [&str; 4] = ["fold", "fan_id", "fan_key", "recent_keys"];

/// The fields of a write. What the write says of itself goes before what its summary says.
///
/// # Errors
/// Where the summary is no JSON.
pub(super) fn fields(write: &SummaryWrite) -> Result<Fields, serde_json::Error> {
    let json: Json = serde_json::from_slice(&write.summary)?;
    let recent = json["recent"].as_array().into_iter().flatten().filter_map(|message| message["id"].as_str());
    let keys = recent.map(|id| value::string(&path::key(&write.account, id))).collect();
    let mut fields = value::fields(&json);
    fields.insert("recent_keys".to_owned(), value::array(keys));
    fields.insert("account_id".to_owned(), value::string(&write.account));
    fields.insert("conversation_id".to_owned(), value::string(&write.conversation));
    fields.insert("fan_id".to_owned(), value::string(&write.fan));
    fields.insert("fan_key".to_owned(), value::string(&path::segment(&write.fan)));
    fields.insert("rev".to_owned(), value::integer(i64::try_from(write.rev).unwrap_or(i64::MAX)));
    fields.insert("fold".to_owned(), value::bytes(write.fold.clone()));
    fields.insert("expire_at".to_owned(), value::timestamp(write.expire_at));
    Ok(fields)
}

pub(super) fn rev(fields: &Fields) -> u64 {
    value::number(fields, "rev").and_then(|rev| u64::try_from(rev).ok()).unwrap_or(0)
}

/// What the fold starts from.
pub(super) fn stored(fields: &mut Fields) -> StoredState {
    StoredState { rev: rev(fields), fold: value::take_bytes(fields, "fold").unwrap_or_default() }
}

/// The summary.
///
/// # Errors
/// Where the document is not what this version writes.
pub(super) fn read(rpc: &Rpc, mut document: Document) -> Result<SummaryDocument, DocumentsError> {
    let rev = rev(&document.fields);
    document.fields.retain(|name, _| !OWN.contains(&name.as_str()));
    let summary = serde_json::from_value(value::json(&document.fields)).map_err(|source| rpc.document(document.name, source))?;
    Ok(SummaryDocument { rev, summary })
}

/// Readers see nothing of what is past this. What is no document of ours has none, and is not seen either.
pub(super) fn is_live(fields: &Fields, now: Millis) -> bool {
    value::time(fields, "expire_at").is_some_and(|at| at > now)
}
