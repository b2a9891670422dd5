//! Writing fans: the guarded summary first, then the messages, then a look at what was deleted meanwhile.
//!
//! A summary's `rev` cannot be a precondition in Firestore, but when the document was last written can, and is known together with the `rev`: so
//! the guard costs nothing while the summary was read or written by this process, and one read else. The messages follow only where the guard
//! held. A process that dies in between has not acked, and the same events bring the same messages again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::super::DocumentsError;
use super::batch::{self, Guard, Outcome};
use super::known::KnownSummary;
use super::message::Stored;
use super::upsert::{self, Intent};
use super::{Store, path, resolve, summary};
use crate::transform::materialize::{SummaryWrite, WriteOutcome};

/// Each write's outcome, in their order. A fan that is named twice is written in two waves.
pub(super) async fn write(store: &Store, writes: Vec<SummaryWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
    let mut outcomes = vec![WriteOutcome::Conflict; writes.len()];
    let mut seen: HashMap<(String, String), usize> = HashMap::with_capacity(writes.len());
    let mut waves: BTreeMap<usize, Vec<(usize, SummaryWrite)>> = BTreeMap::new();
    for (place, write) in writes.into_iter().enumerate() {
        let wave = seen.entry((write.account.clone(), write.fan.clone())).or_default();
        waves.entry(*wave).or_default().push((place, write));
        *wave += 1;
    }
    for wave in waves.into_values() {
        for place in write_wave(store, wave).await? {
            outcomes[place] = WriteOutcome::Written;
        }
    }
    Ok(outcomes)
}

/// Writes fans that are all different; returns the places of those whose guard held.
async fn write_wave(store: &Store, wave: Vec<(usize, SummaryWrite)>) -> Result<Vec<usize>, DocumentsError> {
    let names: Vec<String> = wave.iter().map(|(_, write)| store.rpc.names.fan(&write.account, &write.fan)).collect();
    let expected: Vec<u64> = wave.iter().map(|(_, write)| write.expected_rev).collect();
    let guards = guards(store, &names, &expected).await?;
    let mut guarded = Vec::with_capacity(wave.len());
    for ((name, (place, write)), guard) in names.into_iter().zip(wave).zip(guards) {
        if let Some(guard) = guard {
            let fields = summary::fields(&write).map_err(|source| store.rpc.document(name.clone(), source))?;
            guarded.push((place, write, batch::write(name.clone(), fields, guard), name));
        }
    }
    pace(store, guarded.iter().map(|(_, _, _, name)| name.as_str())).await;
    let (mut writes, mut fans) = (Vec::with_capacity(guarded.len()), Vec::with_capacity(guarded.len()));
    for (place, fan, write, name) in guarded {
        writes.push(write);
        fans.push((place, fan, name));
    }
    let outcomes = batch::submit(&store.rpc, store.limits, &writes).await?;
    drop(writes);
    let written = Instant::now();
    let mut held = Vec::with_capacity(fans.len());
    for ((place, fan, name), outcome) in fans.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Written(update_time) => {
                store.known.keep_summary(&name, KnownSummary { rev: fan.rev, update_time, written });
                held.push((place, fan));
            }
            Outcome::Unmet => store.known.forget_summary(&name),
        }
    }
    let (places, fans): (Vec<usize>, Vec<SummaryWrite>) = held.into_iter().unzip();
    write_messages(store, fans).await?;
    Ok(places)
}

/// What has to hold for each document, so that its `rev` is the expected one; `None` where it is known not to be.
pub(super) async fn guards(store: &Store, names: &[String], expected: &[u64]) -> Result<Vec<Option<Guard>>, DocumentsError> {
    let mut guards = vec![None; names.len()];
    let mut unknown = Vec::new();
    for (at, (name, &expected)) in names.iter().zip(expected).enumerate() {
        match store.known.summary(name) {
            _ if expected == 0 => guards[at] = Some(Guard::Absent),
            Some(known) if known.rev == expected => guards[at] = Some(Guard::WrittenAt(known.update_time)),
            _ => unknown.push(at),
        }
    }
    if !unknown.is_empty() {
        let asked: Vec<String> = unknown.iter().map(|&at| names[at].clone()).collect();
        for (at, found) in unknown.into_iter().zip(store.rpc.get(&asked, &["rev"]).await?) {
            guards[at] = found
                .map(|found| store.keep_read(&found))
                .filter(|known| known.rev == expected[at])
                .map(|known| Guard::WrittenAt(known.update_time));
        }
    }
    Ok(guards)
}

/// Waits until each of these documents was last written a while ago: Firestore takes one write a second of a document, more only for a short time.
pub(super) async fn pace(store: &Store, names: impl Iterator<Item = &str>) {
    let now = Instant::now();
    let due = |name: &str| Some(store.known.summary(name)?.written + store.summary_interval);
    let wait = names.filter_map(due).max().map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// Messages and deletions of fans whose guard held.
async fn write_messages(store: &Store, fans: Vec<SummaryWrite>) -> Result<(), DocumentsError> {
    let (mut intents, mut folded, mut deleted) = (Vec::new(), Vec::new(), HashSet::new());
    for fan in fans {
        let SummaryWrite { account, conversation, expire_at, messages, deletions, unkept, .. } = fan;
        let intent = |message: &str, stored| Intent {
            name: store.rpc.names.message(&account, &conversation, message),
            key: path::key(&account, message),
            conversation: Some(conversation.clone()),
            stored,
        };
        folded.extend(unkept.iter().map(|message| path::key(&account, message)));
        for message in messages {
            let id = message.message_id.raw().to_owned();
            let stored = Stored::message(message).map_err(|source| store.rpc.document(format!("message {id:?}"), source))?;
            let intent = intent(&id, stored);
            folded.push(intent.key.clone());
            intents.push(intent);
        }
        for deletion in &deletions {
            let intent = intent(&deletion.message, Stored::deletion(&deletion.message, deletion.deleted_at, expire_at));
            deleted.insert(intent.key.clone());
            intents.push(intent);
        }
    }
    upsert::upsert(&store.rpc, store.limits, intents).await?;
    folded.retain(|key| !deleted.contains(key));
    resolve::check_deleted(store, folded).await
}
