//! The lane that writes to the documents.

use std::collections::HashMap;
use std::sync::Arc;

use crate::documents::{Documents, HistoryPage, PAGE_MAX};
use crate::runtime::clock;
use crate::schema::state::{AccountState, ConversationState};
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountDocumentBatch, MaterializeError, SummaryBatch, SummaryWrite, Tally, WriteOutcome};
use crate::transform::repair::{self, Store};
use crate::transform::resolve::{Claims, Resolved};

use super::counters::SnapshotCounters;
use super::gather::{AccountGroup, Decoded, Group, Item, Work};
use super::lane::{Folded, LaneError, Loaded, ROUNDS_MAX, Target, Want, decode, decode_account};
use super::rules::Rules;

/// The documents.
pub(super) struct DocumentsTarget {
    documents: Documents,
    rules: Arc<Rules>,
    counters: Arc<SnapshotCounters>,
    /// The few accounts' states, as the store has them.
    accounts: HashMap<String, (AccountState, u64)>,
}

/// Account states kept in memory. Beyond that all are read again.
const ACCOUNTS_MAX: usize = 10_000;

impl DocumentsTarget {
    /// Writes to `documents` what `rules` say.
    #[must_use]
    pub(super) fn new(documents: Documents, rules: Arc<Rules>, counters: Arc<SnapshotCounters>) -> Self {
        Self { documents, rules, counters, accounts: HashMap::new() }
    }

    /// What the newest messages of the history say of a conversation whose summary is lost; `None` where there are none.
    async fn of_history(&self, account: &str, conversation: &str) -> Result<Option<Box<ConversationState>>, LaneError> {
        let page = HistoryPage { before: None, limit: PAGE_MAX };
        let history = self.documents.history(account, conversation, page, clock::now()).await?.messages;
        tracing::info!(messages = history.len(), "a summary is rebuilt from the history");
        Ok((!history.is_empty()).then(|| repair::rebuild(account, conversation, &history)))
    }

    /// Reads the states of accounts that are not in memory.
    async fn load_accounts(&mut self, accounts: &[(&str, &[usize])]) -> Result<(), LaneError> {
        let missing: Vec<String> = accounts
            .iter()
            .filter(|(account, _)| !self.accounts.contains_key(*account))
            .map(|(account, _)| (*account).to_owned())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if self.accounts.len() + missing.len() > ACCOUNTS_MAX {
            self.accounts.retain(|account, _| accounts.iter().any(|(wanted, _)| account == wanted));
        }
        let stored = self.documents.load_accounts(&missing).await?;
        self.accounts.extend(missing.into_iter().zip(stored).map(|(account, stored)| {
            let state = stored.map_or_else(Default::default, |stored| (decode_account(&account, &stored.fold, "documents"), stored.rev));
            (account, state)
        }));
        Ok(())
    }
}

impl Target for DocumentsTarget {
    type Write = SummaryWrite;

    const STORE: Store = Store::Documents;

    /// A write is a transaction, so the whole batch is one.
    const CONVERSATIONS_MAX: usize = usize::MAX;

    fn adopt(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
    }

    async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, LaneError> {
        Ok(self.documents.resolve(claims).await?)
    }

    async fn load(&self, wanted: &[(String, String)], wants: &[Want]) -> Result<Vec<Loaded>, LaneError> {
        let stored = self.documents.load(wanted).await?;
        let loaded = stored.into_iter().zip(wanted).map(|(stored, (account, conversation))| match stored {
            Some(stored) => Loaded { state: decode(account, conversation, &stored.fold, "documents"), rev: stored.rev, first_rev: 0 },
            None => Loaded::default(),
        });
        let mut loaded: Vec<Loaded> = loaded.collect();
        for ((loaded, want), (account, conversation)) in loaded.iter_mut().zip(wants).zip(wanted) {
            if want.repairs && loaded.state.is_none() {
                loaded.state = self.of_history(account, conversation).await?;
            }
        }
        Ok(loaded)
    }

    fn fold(
        &self,
        _: &[Work],
        decoded: &Decoded<'_>,
        group: &Group<'_>,
        loaded: Loaded,
        now: Millis,
    ) -> Result<Option<Folded<SummaryWrite>>, MaterializeError> {
        let policy = self.rules.policies.of(group.account);
        let is_known = loaded.state.is_some();
        let mut folding = SummaryBatch::new(group.account, group.conversation, loaded.state, loaded.rev, policy, now, self.rules.keep);
        for &item in &group.items {
            match item {
                Item::Event(place) => folding.apply(&decoded.events[place].1),
                Item::Deleted(message, at) => folding.delete(message, at),
                Item::Online(place) => folding.online(decoded.events[place].1.at()),
                Item::Repair(place) => match repair::carried(&decoded.events[place].1) {
                    Some(known) => folding.restore(known),
                    None if is_known => folding.refresh(),
                    None => {}
                },
                Item::Due | Item::Refill => {}
            }
        }
        let tally = folding.tally;
        Ok(folding.finish()?.map(|(write, _)| Folded { fold: write.fold.as_slice().into(), rev: write.rev, write, tally }))
    }

    async fn write(&self, writes: Vec<SummaryWrite>) -> Result<Vec<WriteOutcome>, LaneError> {
        Ok(self.documents.write(writes).await?)
    }

    async fn write_accounts(&mut self, decoded: &Decoded<'_>, accounts: &[AccountGroup<'_>], now: Millis) -> Result<(), LaneError> {
        let is_kept = |places: &[usize]| places.iter().any(|&place| AccountDocumentBatch::keeps(&decoded.events[place].1));
        let mut pending: Vec<(&str, &[usize])> = accounts.iter().map(|group| (group.account, &group.places[..])).collect();
        pending.retain(|(_, places)| is_kept(places));
        for _ in 0..ROUNDS_MAX {
            if pending.is_empty() {
                return Ok(());
            }
            self.load_accounts(&pending).await?;
            let (mut writes, mut written) = (Vec::new(), Vec::<((&str, &[usize]), AccountState, u64, Tally)>::new());
            for (account, places) in std::mem::take(&mut pending) {
                let stored = self.accounts.remove(account);
                let rev = stored.as_ref().map_or(0, |(_, rev)| *rev);
                let mut folding =
                    AccountDocumentBatch::new(account, stored, self.rules.policies.of(account), now, self.rules.keep.summary_ttl_ms);
                places.iter().for_each(|&place| folding.apply(&decoded.events[place].1));
                let tally = folding.tally;
                match folding.finish()? {
                    (Some(write), state) => {
                        written.push(((account, places), state, write.rev, tally));
                        writes.push(write);
                    }
                    (None, state) => {
                        self.accounts.insert(account.to_owned(), (state, rev));
                    }
                }
            }
            let outcomes = if writes.is_empty() { Vec::new() } else { self.documents.write_accounts(writes).await? };
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
        Err(LaneError::Conflicts(pending.len()))
    }

    async fn forget(&self, _: &[&Group<'_>]) -> Result<(), LaneError> {
        Ok(())
    }
}
