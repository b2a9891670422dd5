//! The lane that writes to the documents.

use std::sync::Arc;

use crate::documents::Documents;
use crate::schema::time::Millis;
use crate::transform::materialize::{Keep, MaterializeError, SummaryBatch, SummaryWrite, WriteOutcome};
use crate::transform::resolve::{Claims, Resolved};

use super::gather::{Decoded, Group, Item, Work};
use super::lane::{Folded, LaneError, Loaded, Target, decode};
use super::policies::Policies;

/// The documents.
pub(super) struct DocumentsTarget {
    documents: Documents,
    policies: Arc<Policies>,
    keep: Keep,
}

impl DocumentsTarget {
    /// Writes to `documents` what `keep` says.
    #[must_use]
    pub(super) fn new(documents: Documents, policies: Arc<Policies>, keep: Keep) -> Self {
        Self { documents, policies, keep }
    }
}

impl Target for DocumentsTarget {
    type Write = SummaryWrite;

    /// A write is a transaction, so the whole batch is one.
    const CONVERSATIONS_MAX: usize = usize::MAX;

    async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, LaneError> {
        Ok(self.documents.resolve(claims).await?)
    }

    async fn load(&self, wanted: &[(String, String)], _: &[bool]) -> Result<Vec<Loaded>, LaneError> {
        let stored = self.documents.load(wanted).await?;
        let loaded = stored.into_iter().zip(wanted).map(|(stored, (account, conversation))| match stored {
            Some(stored) => Loaded { state: decode(account, conversation, &stored.fold, "documents"), rev: stored.rev },
            None => Loaded::default(),
        });
        Ok(loaded.collect())
    }

    fn fold(
        &self,
        _: &[Work],
        decoded: &Decoded<'_>,
        group: &Group<'_>,
        loaded: Loaded,
        now: Millis,
    ) -> Result<Option<Folded<SummaryWrite>>, MaterializeError> {
        let policy = self.policies.of(group.account);
        let mut folding = SummaryBatch::new(group.account, group.conversation, loaded.state, loaded.rev, policy, now, self.keep);
        for &item in &group.items {
            match item {
                Item::Event(place) => folding.apply(&decoded.events[place].1),
                Item::Deleted(message, at) => folding.delete(message, at),
                Item::Online(place) => folding.online(decoded.events[place].1.at()),
                Item::Due | Item::Refill => {}
            }
        }
        let tally = folding.tally;
        Ok(folding.finish()?.map(|(write, _)| Folded { fold: write.fold.as_slice().into(), rev: write.rev, write, tally }))
    }

    async fn write(&self, writes: Vec<SummaryWrite>) -> Result<Vec<WriteOutcome>, LaneError> {
        Ok(self.documents.write(writes).await?)
    }

    async fn write_accounts(&mut self, _: &Decoded<'_>, _: &[(&str, Vec<usize>)], _: Millis) -> Result<(), LaneError> {
        Ok(())
    }

    async fn forget(&self, _: &[&Group<'_>]) -> Result<(), LaneError> {
        Ok(())
    }
}
