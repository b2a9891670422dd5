//! The lane that writes to Redis.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bus::Delivery;
use crate::documents::Documents;
use crate::runtime::clock;
use crate::schema::state::AccountState;
use crate::schema::time::Millis;
use crate::transform::fold;
use crate::transform::materialize::{AccountBatch, ConversationBatch, ConversationWrite, MaterializeError, WriteOutcome};
use crate::transform::resolve::{Claims, Resolved};
use crate::views::Writer;

use super::counters::SnapshotCounters;
use super::gather::{Decoded, Group, Item, Work};
use super::lane::{Folded, LaneError, Loaded, Target, decode};
use super::policies::Policies;

/// Redis, and the documents that refill it.
pub(super) struct ViewsTarget {
    writer: Writer,
    documents: Option<Documents>,
    policies: Arc<Policies>,
    counters: Arc<SnapshotCounters>,
    /// The few accounts' states; every account of a shard fits.
    accounts: HashMap<String, (AccountState, u64)>,
}

/// Account states kept in memory, a lane. Beyond that all are read again.
const ACCOUNTS_MAX: usize = 10_000;

impl ViewsTarget {
    /// Writes through `writer`; what it has lost is looked up in `documents`.
    #[must_use]
    pub(super) fn new(writer: Writer, documents: Option<Documents>, policies: Arc<Policies>, counters: Arc<SnapshotCounters>) -> Self {
        Self { writer, documents, policies, counters, accounts: HashMap::new() }
    }

    /// Looks up in the documents which conversation a deleted message is of, where Redis does not know it: a Redis that was emptied has lost its
    /// index. Most such deletes are of messages that nobody has seen, and the documents will be told of them anyway.
    async fn resolve_lost(&self, claims: &[Claims], resolved: &mut [Resolved]) {
        let Some(documents) = &self.documents else { return };
        let (mut lost, mut places) = (Vec::new(), Vec::new());
        for (at, (claims, resolved)) in claims.iter().zip(&*resolved).enumerate() {
            let unknown: Vec<usize> = (0..claims.deletes.len()).filter(|&place| resolved.conversations[place].is_none()).collect();
            if !unknown.is_empty() {
                let deletes = unknown.iter().map(|&place| claims.deletes[place].clone()).collect();
                lost.push(Claims { account: claims.account.clone(), deletes, ..Claims::default() });
                places.push((at, unknown));
            }
        }
        if lost.is_empty() {
            return;
        }
        match documents.resolve(&lost).await {
            Ok(found) => {
                for ((at, unknown), found) in places.into_iter().zip(found) {
                    for (place, conversation) in unknown.into_iter().zip(found.conversations) {
                        resolved[at].conversations[place] = conversation;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "deletes are not looked up in the documents"),
        }
    }

    /// Fills what Redis does not have from the documents. Where they cannot be asked, the views go on without.
    async fn refill(&self, wanted: &[(String, String)], creates: &[bool], loaded: &mut [Loaded]) {
        let Some(documents) = &self.documents else { return };
        let places: Vec<usize> = (0..wanted.len()).filter(|&place| creates[place] && loaded[place].state.is_none()).collect();
        if places.is_empty() {
            return;
        }
        let missing: Vec<(String, String)> = places.iter().map(|&place| wanted[place].clone()).collect();
        match documents.load(&missing).await {
            Ok(found) => {
                for (place, stored) in places.into_iter().zip(found) {
                    let Some(stored) = stored else { continue };
                    let (account, conversation) = &wanted[place];
                    loaded[place].state = decode(account, conversation, &stored.fold, "documents").map(fold::for_views);
                    SnapshotCounters::add(&self.counters.refilled, 1);
                }
            }
            Err(error) => {
                SnapshotCounters::add(&self.counters.refill_failed, missing.len());
                tracing::warn!(%error, conversations = missing.len(), "views are written without what the documents know");
            }
        }
    }
}

impl Target for ViewsTarget {
    type Write = ConversationWrite;

    const CONVERSATIONS_MAX: usize = 128;

    async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, LaneError> {
        let mut resolved = self.writer.resolve(claims).await?;
        self.resolve_lost(claims, &mut resolved).await;
        Ok(resolved)
    }

    async fn load(&self, wanted: &[(String, String)], creates: &[bool]) -> Result<Vec<Loaded>, LaneError> {
        let stored = self.writer.load_conversations(wanted).await?;
        let mut loaded: Vec<Loaded> = stored
            .into_iter()
            .zip(wanted)
            .map(|(stored, (account, conversation))| match stored {
                Some(stored) => Loaded { state: decode(account, conversation, &stored.fold, "redis"), rev: stored.rev },
                None => Loaded::default(),
            })
            .collect();
        self.refill(wanted, creates, &mut loaded).await;
        Ok(loaded)
    }

    fn fold(
        &self,
        batch: &[Work],
        decoded: &Decoded<'_>,
        group: &Group<'_>,
        loaded: Loaded,
        now: Millis,
    ) -> Result<Option<Folded<ConversationWrite>>, MaterializeError> {
        let policy = self.policies.of(group.account);
        let missing_in_redis = loaded.rev == 0 && loaded.state.is_some();
        let mut folding =
            ConversationBatch::new(group.account, group.conversation, loaded.state, loaded.rev, policy, now).beginning_with(first_rev());
        for &item in &group.items {
            match item {
                Item::Event(place) => {
                    let (index, event) = &decoded.events[place];
                    folding.apply(event, || delivery(batch, *index).map(|delivery| delivery.envelope.data_bytes()).unwrap_or_default())?;
                }
                Item::Deleted(message, _) => folding.delete(message),
                Item::Online(place) => folding.online(&decoded.events[place].1)?,
                Item::Due => {
                    SnapshotCounters::add(&self.counters.due, 1);
                    folding.fire_due()?;
                }
                Item::Refill if missing_in_redis => folding.refresh(),
                Item::Refill => {}
            }
        }
        let tally = folding.tally;
        Ok(folding.finish()?.map(|(write, _)| Folded { fold: write.fold.as_slice().into(), rev: write.rev, write, tally }))
    }

    async fn write(&self, writes: Vec<ConversationWrite>) -> Result<Vec<WriteOutcome>, LaneError> {
        Ok(self.writer.write_conversations(&writes).await?)
    }

    async fn write_accounts(&mut self, decoded: &Decoded<'_>, accounts: &[(&str, Vec<usize>)], now: Millis) -> Result<(), LaneError> {
        let mut pending: Vec<&(&str, Vec<usize>)> = accounts.iter().collect();
        // What is said of an account stands in no document, so an emptied Redis gets it back from this memory: a gap stays told.
        let mut remembered: HashMap<&str, AccountState> = HashMap::new();
        while !pending.is_empty() {
            let missing: Vec<String> = pending
                .iter()
                .filter(|(account, _)| !self.accounts.contains_key(*account))
                .map(|(account, _)| (*account).to_owned())
                .collect();
            if !missing.is_empty() {
                if self.accounts.len() + missing.len() > ACCOUNTS_MAX {
                    self.accounts.clear();
                    continue;
                }
                for (account, stored) in missing.iter().zip(self.writer.load_accounts(&missing).await?) {
                    let stored = match stored {
                        Some(stored) => (decode_account(account, &stored.fold), stored.rev),
                        None => (remembered.remove(account.as_str()).unwrap_or_default(), 0),
                    };
                    self.accounts.insert(account.clone(), stored);
                }
            }
            let (mut writes, mut written) = (Vec::new(), Vec::new());
            for entry @ (account, places) in pending {
                let stored = self.accounts.remove(*account);
                remembered.extend(stored.as_ref().map(|(state, _)| (*account, state.clone())));
                let mut folding = AccountBatch::new(account, stored, self.policies.of(account), now).beginning_with(first_rev());
                for &place in places {
                    folding.apply(&decoded.events[place].1)?;
                }
                let tally = folding.tally;
                if let Some((write, state)) = folding.finish()? {
                    written.push((entry, state, write.rev, tally));
                    writes.push(write);
                }
            }
            let outcomes = self.writer.write_accounts(&writes).await?;
            pending = Vec::new();
            for ((entry, state, rev, tally), outcome) in written.into_iter().zip(outcomes) {
                match outcome {
                    WriteOutcome::Written => {
                        self.counters.count(tally);
                        self.accounts.insert(entry.0.to_owned(), (state, rev));
                    }
                    WriteOutcome::Conflict => pending.push(entry),
                }
            }
            SnapshotCounters::add(&self.counters.conflicts, pending.len());
        }
        Ok(())
    }

    async fn forget(&self, groups: &[&Group<'_>]) -> Result<(), LaneError> {
        let due: Vec<(String, String)> = groups
            .iter()
            .filter(|group| group.items.contains(&Item::Due))
            .map(|group| (group.account.to_owned(), group.conversation.to_owned()))
            .collect();
        if !due.is_empty() {
            self.writer.forget_due(&due).await?;
        }
        Ok(())
    }
}

/// The `rev` of what Redis does not have: greater than any that it had before it lost its data, as long as nothing is written more than a thousand
/// times a second.
fn first_rev() -> u64 {
    u64::try_from(clock::now().0).unwrap_or(1).max(1)
}

fn decode_account(account: &str, bytes: &[u8]) -> AccountState {
    AccountState::decode(bytes)
        .inspect_err(|error| tracing::error!(%error, account = ?account, "a stored account state is unreadable and is rebuilt"))
        .unwrap_or_default()
}

fn delivery(batch: &[Work], index: usize) -> Option<&Delivery> {
    match batch.get(index) {
        Some(Work::Delivery(delivery)) => Some(delivery),
        _ => None,
    }
}
