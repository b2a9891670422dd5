//! The lane that writes to Redis.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bus::Delivery;
use crate::schema::state::AccountState;
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountBatch, ConversationBatch, ConversationWrite, MaterializeError, WriteOutcome};
use crate::transform::repair::Store;
use crate::transform::resolve::{Claims, Resolved};
use crate::views::Writer;

use super::counters::SnapshotCounters;
use super::gather::{AccountGroup, Decoded, Group, Item, Work};
use super::lane::{Folded, LaneError, Loaded, ROUNDS_MAX, Target, Want, decode, decode_account};
use super::refill::Refill;
use super::rules::Rules;

/// Redis, and the documents that refill it.
pub(super) struct ViewsTarget {
    writer: Writer,
    refill: Refill,
    rules: Arc<Rules>,
    counters: Arc<SnapshotCounters>,
    /// The few accounts' states; every account of a shard fits.
    accounts: HashMap<String, Known>,
    /// States that Redis may have lost: they are merged with what it has, or does not have any more.
    aside: HashMap<String, AccountState>,
}

/// An account's state as Redis has it.
#[derive(Debug, Default)]
struct Known {
    state: AccountState,
    rev: u64,
    /// As [`Loaded::first_rev`].
    first_rev: u64,
}

/// Account states kept in memory, a lane. Beyond that all are read again.
const ACCOUNTS_MAX: usize = 10_000;

impl ViewsTarget {
    /// Writes through `writer`; what it has lost comes from `refill`.
    #[must_use]
    pub(super) fn new(writer: Writer, refill: Refill, rules: Arc<Rules>, counters: Arc<SnapshotCounters>) -> Self {
        Self { writer, refill, rules, counters, accounts: HashMap::new(), aside: HashMap::new() }
    }

    /// Takes an account's state out of memory, to merge it with what Redis has.
    fn set_aside(&mut self, account: &str) {
        if let Some(known) = self.accounts.remove(account) {
            self.aside.insert(account.to_owned(), known.state);
        }
    }

    /// Reads the states of accounts that are not in memory: what Redis has, what the documents know where it may have lost some, and what was known here
    /// before. All are folds of the same events, so they are merged.
    async fn load_accounts(&mut self, groups: &[&AccountGroup<'_>]) -> Result<(), LaneError> {
        let missing: Vec<String> =
            groups.iter().filter(|group| !self.accounts.contains_key(group.account)).map(|group| group.account.to_owned()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if self.accounts.len() + missing.len() > ACCOUNTS_MAX {
            self.accounts.retain(|account, _| groups.iter().any(|group| group.account == account));
            self.aside.retain(|account, _| missing.contains(account));
        }
        let stored = self.writer.load_accounts(&missing).await?;
        let is_current = |at: usize| stored[at].as_ref().is_some_and(|stored| self.refill.floor.is_current(stored.rev));
        let lost: Vec<usize> = (0..missing.len()).filter(|&at| !is_current(at)).collect();
        let asked: Vec<String> = lost.iter().map(|&at| missing[at].clone()).collect();
        let first_rev = self.refill.floor.first_rev();
        let found = self.refill.accounts(&asked).await;
        let mut known: Vec<Known> = stored
            .into_iter()
            .zip(&missing)
            .map(|(stored, account)| {
                stored.map_or_else(Known::default, |stored| Known {
                    state: decode_account(account, &stored.fold, "redis"),
                    rev: stored.rev,
                    first_rev: 0,
                })
            })
            .collect();
        for (at, found) in lost.into_iter().zip(found.into_iter().flatten()) {
            known[at].first_rev = first_rev;
            if let Some(found) = found {
                known[at].state.merge(found);
                SnapshotCounters::add(&self.counters.refilled, 1);
            }
        }
        for (account, mut known) in missing.into_iter().zip(known) {
            if let Some(aside) = self.aside.remove(&account) {
                known.state.merge(aside);
            }
            self.accounts.insert(account, known);
        }
        Ok(())
    }

    /// Looks up in the documents which conversation a deleted message is of, where Redis does not know it: a Redis that was emptied has lost its
    /// index. Most such deletes are of messages that nobody has seen, and the documents will be told of them anyway.
    async fn resolve_lost(&self, claims: &[Claims], resolved: &mut [Resolved]) {
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
        match self.refill.documents.resolve(&lost).await {
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
}

impl Target for ViewsTarget {
    type Write = ConversationWrite;

    const STORE: Store = Store::Views;

    const CONVERSATIONS_MAX: usize = 128;

    fn is_current(&self, rev: u64) -> bool {
        self.refill.floor.is_current(rev)
    }

    fn adopt(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
    }

    async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, LaneError> {
        let mut resolved = self.writer.resolve(claims).await?;
        self.resolve_lost(claims, &mut resolved).await;
        Ok(resolved)
    }

    async fn load(&self, wanted: &[(String, String)], wants: &[Want]) -> Result<Vec<Loaded>, LaneError> {
        let stored = self.writer.load_conversations(wanted).await?;
        let mut loaded: Vec<Loaded> = stored
            .into_iter()
            .zip(wanted)
            .map(|(stored, (account, conversation))| match stored {
                Some(stored) => Loaded { state: decode(account, conversation, &stored.fold, "redis"), rev: stored.rev, first_rev: 0 },
                None => Loaded::default(),
            })
            .collect();
        self.refill.conversations(wanted, wants, &mut loaded).await;
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
        let policy = self.rules.policies.of(group.account);
        let (is_known, is_filled) = (loaded.state.is_some(), loaded.first_rev > 0 && loaded.state.is_some());
        let mut folding = ConversationBatch::new(group.account, group.conversation, loaded.state, loaded.rev, policy, now)
            .beginning_with(loaded.first_rev);
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
                Item::Refill if is_filled => folding.refresh(),
                // What the documents do not know is written from what Redis itself has, so that at least the two parts of it agree.
                Item::Repair(_) if is_known => folding.refresh(),
                Item::Refill | Item::Repair(_) => {}
            }
        }
        let tally = folding.tally;
        Ok(folding.finish()?.map(|(write, _)| Folded { fold: write.fold.as_slice().into(), rev: write.rev, write, tally }))
    }

    async fn write(&self, writes: Vec<ConversationWrite>) -> Result<Vec<WriteOutcome>, LaneError> {
        Ok(self.writer.write_conversations(&writes).await?)
    }

    async fn write_accounts(&mut self, decoded: &Decoded<'_>, accounts: &[AccountGroup<'_>], now: Millis) -> Result<(), LaneError> {
        let mut pending: Vec<&AccountGroup<'_>> = accounts.iter().collect();
        for group in &pending {
            // What stands in memory says nothing of what Redis still has.
            if group.refill || self.accounts.get(group.account).is_some_and(|known| !self.refill.floor.is_current(known.rev)) {
                self.set_aside(group.account);
            }
        }
        for _ in 0..ROUNDS_MAX {
            if pending.is_empty() {
                return Ok(());
            }
            self.load_accounts(&pending).await?;
            let (mut writes, mut written) = (Vec::new(), Vec::new());
            for group in std::mem::take(&mut pending) {
                let Known { state, rev, first_rev } = self.accounts.remove(group.account).unwrap_or_default();
                let stored = Some((state.clone(), rev));
                let mut folding =
                    AccountBatch::new(group.account, stored, self.rules.policies.of(group.account), now).beginning_with(first_rev);
                if first_rev > 0 && state != AccountState::default() {
                    folding.refresh();
                }
                // Kept until it is written: an emptied Redis gets it back from here.
                self.aside.insert(group.account.to_owned(), state);
                for &place in &group.places {
                    folding.apply(&decoded.events[place].1)?;
                }
                let tally = folding.tally;
                if let Some((write, state)) = folding.finish()? {
                    written.push((group, state, write.rev, tally));
                    writes.push(write);
                }
            }
            let outcomes = self.writer.write_accounts(&writes).await?;
            for ((group, state, rev, tally), outcome) in written.into_iter().zip(outcomes) {
                match outcome {
                    WriteOutcome::Written => {
                        self.counters.count(tally);
                        self.aside.remove(group.account);
                        self.accounts.insert(group.account.to_owned(), Known { state, rev, first_rev: 0 });
                    }
                    WriteOutcome::Conflict => pending.push(group),
                }
            }
            SnapshotCounters::add(&self.counters.conflicts, pending.len());
        }
        Err(LaneError::Conflicts(pending.len()))
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

fn delivery(batch: &[Work], index: usize) -> Option<&Delivery> {
    match batch.get(index) {
        Some(Work::Delivery(delivery)) => Some(delivery),
        _ => None,
    }
}
