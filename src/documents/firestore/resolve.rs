//! Which conversation a deleted message is of, and which messages were deleted before they came.
//!
//! The embedded engine keeps an index of all messages for this; here that would be one more write for every message. Instead both sides leave
//! a mark and then look for the other's: a delete writes `accounts/A/deletes/K` and then looks for the message, a message is written and then
//! looks for its delete. So whichever comes second sees the first, whoever writes them and however they interleave. A delete that is seen only
//! after its message was folded fails the write, so that the batch is folded again, and [`resolve`] knows by then.

use std::collections::{BTreeMap, HashMap};

use firestore::gcloud_sdk::google::firestore::v1::Document;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::field_filter::Operator;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::super::DocumentsError;
use super::message::Stored;
use super::upsert::{self, Intent};
use super::{Store, path, query, value};
use crate::transform::resolve::{Claims, Resolved};

/// Claims all of it; the answers stand in the order of the claims. An account that is named again is asked again, after the first time.
pub(super) async fn resolve(store: &Store, claims: &[Claims]) -> Result<Vec<Resolved>, DocumentsError> {
    let mut resolved = vec![Resolved::default(); claims.len()];
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut waves: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, claims) in claims.iter().enumerate() {
        let wave = seen.entry(&claims.account).or_default();
        waves.entry(*wave).or_default().push(place);
        *wave += 1;
    }
    for wave in waves.into_values() {
        let claims: Vec<&Claims> = wave.iter().map(|&place| &claims[place]).collect();
        for (place, answer) in wave.into_iter().zip(resolve_wave(store, &claims).await?) {
            resolved[place] = answer;
        }
    }
    Ok(resolved)
}

/// Claims of accounts that are all different.
async fn resolve_wave(store: &Store, claims: &[&Claims]) -> Result<Vec<Resolved>, DocumentsError> {
    for claims in claims {
        for (message, conversation) in &claims.messages {
            store.known.keep_conversation(&path::key(&claims.account, message), conversation);
        }
    }
    mark_deleted(store, claims).await?;
    let lost = |claims: &&Claims| {
        let keys = claims.deletes.iter().map(|(message, _)| path::key(&claims.account, message));
        (claims.account.clone(), keys.filter(|key| store.known.conversation(key).is_none()).collect::<Vec<String>>())
    };
    let lost: Vec<(String, Vec<String>)> = claims.iter().map(lost).filter(|(_, keys)| !keys.is_empty()).collect();
    if !lost.is_empty() {
        find_conversations(store, lost).await?;
    }
    let answer = |claims: &&Claims| {
        let key = |message: &str| path::key(&claims.account, message);
        Resolved {
            deleted_at: claims.messages.iter().map(|(message, _)| store.known.deleted_at(&key(message))).collect(),
            conversations: claims.deletes.iter().map(|(message, _)| store.known.conversation(&key(message))).collect(),
        }
    };
    Ok(claims.iter().map(answer).collect())
}

/// Leaves the mark of every delete, and learns since when each message is deleted.
async fn mark_deleted(store: &Store, claims: &[&Claims]) -> Result<(), DocumentsError> {
    let intents = claims.iter().flat_map(|claims| {
        claims.deletes.iter().map(|(message, at)| Intent {
            name: store.rpc.names.deletion(&claims.account, message),
            key: path::key(&claims.account, message),
            conversation: None,
            stored: Stored::deletion(message, *at, at.plus(store.delete_ttl_ms)),
        })
    });
    for marked in upsert::upsert(&store.rpc, store.limits, intents.collect()).await? {
        if let Some(at) = marked.stored.deleted_at {
            store.known.keep_deletion(&marked.key, at);
        }
    }
    Ok(())
}

/// Looks for messages in the histories, and for those that no history has among the last messages of the fans.
async fn find_conversations(store: &Store, lost: Vec<(String, Vec<String>)>) -> Result<(), DocumentsError> {
    let keys: Vec<String> = lost.iter().flat_map(|(_, keys)| keys.iter().cloned()).collect();
    for document in by_key(store, "messages", keys, &["key", "conversation_id"]).await? {
        keep_conversations(store, &document, "key");
    }
    for (account, mut keys) in lost {
        keys.retain(|key| store.known.conversation(key).is_none());
        for chunk in keys.chunks(query::VALUES_MAX) {
            let any = value::array(chunk.iter().map(|key| value::string(key)).collect());
            let fans = query::matching(query::of("fans"), "recent_keys", Operator::ArrayContainsAny, any);
            let fans = query::select(fans, &["recent_keys", "conversation_id"]);
            for document in store.rpc.query(&store.rpc.names.account(&account), fans).await? {
                keep_conversations(store, &document, "recent_keys");
            }
        }
    }
    Ok(())
}

/// What a found document says of where messages are.
fn keep_conversations(store: &Store, document: &Document, keys: &str) {
    let Some(conversation) = value::text(&document.fields, "conversation_id") else { return };
    let one = value::text(&document.fields, keys);
    for key in value::texts(&document.fields, keys).into_iter().chain(one) {
        store.known.keep_conversation(key, conversation);
    }
}

/// Looks whether messages that were folded and written were deleted meanwhile.
///
/// # Errors
/// Where some were: [`resolve`] tells of them from now on.
pub(super) async fn check_deleted(store: &Store, folded: Vec<String>) -> Result<(), DocumentsError> {
    let mut count = 0;
    for document in by_key(store, "deletes", folded, &["key", "deleted_at"]).await? {
        let key = value::text(&document.fields, "key");
        if let (Some(key), Some(at)) = (key, value::time(&document.fields, "deleted_at")) {
            store.known.keep_deletion(key, at);
            count += 1;
        }
    }
    if count == 0 { Ok(()) } else { Err(DocumentsError::DeletedMeanwhile { store: store.rpc.store.clone(), count }) }
}

/// The documents of a collection's name, of whatever account, that have one of these keys.
async fn by_key(store: &Store, collection: &str, mut keys: Vec<String>, fields: &[&str]) -> Result<Vec<Document>, DocumentsError> {
    keys.sort_unstable();
    keys.dedup();
    let one = |chunk: &[String]| {
        let values = value::array(chunk.iter().map(|key| value::string(key)).collect());
        let query = query::matching(query::of_group(collection), "key", Operator::In, values);
        Box::pin(store.rpc.query(&store.rpc.names.root, query::select(query, fields)))
    };
    let queries: Vec<_> = keys.chunks(query::VALUES_MAX).map(one).collect();
    let found: Vec<Vec<Document>> = stream::iter(queries).buffer_unordered(store.rpc.concurrency).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
