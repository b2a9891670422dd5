//! Messages and deletions, written by id.
//!
//! Nearly every message is new, so it is first written on the condition that there is none: one write and no read. Where there is one, it is read,
//! both become one document by the rule of [`Stored::merge`], and that is written on the condition that nobody wrote in between. So no version and
//! no deletion is lost whoever writes at the same time, and a second delivery costs a read and no write.

use std::collections::HashMap;

use firestore::gcloud_sdk::prost_types::Timestamp;

use super::super::DocumentsError;
use super::batch::{self, Guard, Limits, Outcome};
use super::message::Stored;
use super::rpc::Rpc;

/// Rounds that may be lost against other writers of the same messages; each is lost to one that got further.
const ROUNDS_MAX: u32 = 20;

/// What is to be stored at a place.
pub(super) struct Intent {
    /// The document's name.
    pub name: String,
    /// What the message is looked up by.
    pub key: String,
    /// Its conversation; none of a deletion whose conversation is not known.
    pub conversation: Option<String>,
    /// What is to be there.
    pub stored: Stored,
}

/// What is there already.
struct Base {
    stored: Stored,
    update_time: Timestamp,
}

/// Stores each, merged with what is there; the results stand in the order in which a name occurs first.
pub(super) async fn upsert(rpc: &Rpc, limits: Limits, intents: Vec<Intent>) -> Result<Vec<Intent>, DocumentsError> {
    let mut intents = merge(intents);
    let mut bases: Vec<Option<Base>> = intents.iter().map(|_| None).collect();
    let mut pending: Vec<usize> = (0..intents.len()).collect();
    for _ in 0..ROUNDS_MAX {
        if pending.is_empty() {
            return Ok(intents);
        }
        let write = |&place: &usize| {
            let intent = &intents[place];
            let guard = bases[place].as_ref().map_or(Guard::Absent, |base| Guard::WrittenAt(base.update_time));
            batch::write(intent.name.clone(), intent.stored.fields(&intent.key, intent.conversation.as_deref()), guard)
        };
        let writes: Vec<_> = pending.iter().map(write).collect();
        let outcomes = batch::submit(rpc, limits, &writes).await?;
        let lost: Vec<usize> = pending.iter().zip(outcomes).filter(|(_, outcome)| *outcome == Outcome::Unmet).map(|(&at, _)| at).collect();
        pending.clear();
        for (place, base) in lost.iter().copied().zip(read(rpc, &intents, &lost).await?) {
            let Some(base) = base else {
                // Deleted by the TTL policy in between.
                bases[place] = None;
                pending.push(place);
                continue;
            };
            let merged = intents[place].stored.clone().merge(base.stored.clone());
            if merged != base.stored {
                pending.push(place);
            }
            intents[place].stored = merged;
            bases[place] = Some(base);
        }
    }
    Err(DocumentsError::Unavailable {
        store: rpc.store.clone(),
        what: "writing messages",
        detail: format!("{} were written by others {ROUNDS_MAX} times in a row", pending.len()),
    })
}

/// One intent a name.
fn merge(intents: Vec<Intent>) -> Vec<Intent> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(intents.len());
    let mut merged: Vec<Intent> = Vec::with_capacity(intents.len());
    for intent in intents {
        match places.get(&intent.name) {
            Some(&place) => merged[place].stored = merged[place].stored.clone().merge(intent.stored),
            None => {
                places.insert(intent.name.clone(), merged.len());
                merged.push(intent);
            }
        }
    }
    merged
}

async fn read(rpc: &Rpc, intents: &[Intent], places: &[usize]) -> Result<Vec<Option<Base>>, DocumentsError> {
    let names: Vec<String> = places.iter().map(|&place| intents[place].name.clone()).collect();
    let found = rpc.get(&names, &[]).await?;
    let base = |(found, name): (Option<super::rpc::Found>, &String)| {
        let Some(found) = found else { return Ok(None) };
        let stored = Stored::read(&found.document.fields).map_err(|source| rpc.document(name.clone(), source))?;
        Ok(Some(Base { stored, update_time: found.document.update_time.unwrap_or_default() }))
    };
    found.into_iter().zip(&names).map(base).collect()
}
