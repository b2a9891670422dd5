//! Watches Redis for what no event brings: timers that fall due, and a Redis that has lost its data.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::documents::{Documents, DocumentsError};
use crate::runtime::clock::Now;
use crate::runtime::shutdown::Shutdown;
use crate::views::{ViewsError, Writer};

use super::gather::Work;

/// Timers taken up at once, an account.
const DUE_MAX: usize = 500;
/// Conversations refilled at once.
const REFILL_PAGE: usize = 500;

/// The watcher.
pub(super) struct Watch {
    /// Redis.
    pub writer: Writer,
    /// What refills it, where there is something.
    pub documents: Option<Documents>,
    /// Where the work goes.
    pub work: mpsc::Sender<Vec<Work>>,
    /// How often it looks.
    pub interval: Duration,
    /// The clock by which timers fall due.
    pub now: Now,
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Views(#[from] ViewsError),
    #[error(transparent)]
    Documents(#[from] DocumentsError),
}

impl Watch {
    /// Looks until shutdown is requested. What fails is tried again at the next look.
    pub(super) async fn run(self, shutdown: Shutdown) {
        let mut epoch: Option<String> = None;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            let looked = tokio::select! {
                () = shutdown.requested() => return,
                looked = self.look(&mut epoch) => looked,
            };
            if let Err(error) = looked {
                tracing::debug!(%error, "timers are late: a store cannot be read");
            }
        }
    }

    async fn look(&self, epoch: &mut Option<String>) -> Result<(), WatchError> {
        let found = self.writer.epoch().await?;
        let lost = found.created || epoch.as_ref().is_some_and(|known| *known != found.id);
        if lost {
            self.refill().await?;
        }
        *epoch = Some(found.id);
        let now = (self.now)();
        for account in self.writer.accounts().await? {
            let due = self.writer.due(&account, now, DUE_MAX).await?;
            if !due.is_empty() {
                self.send(due.into_iter().map(|conversation| Work::Due { account: account.clone(), conversation }).collect()).await;
            }
        }
        Ok(())
    }

    /// Sends every conversation that the documents know to its lane; the lane writes those that Redis does not have.
    async fn refill(&self) -> Result<(), WatchError> {
        let Some(documents) = &self.documents else { return Ok(()) };
        let mut sent = 0usize;
        for account in documents.accounts().await? {
            let mut after: Option<String> = None;
            loop {
                let page = documents.summaries(&account, after.as_deref(), REFILL_PAGE, (self.now)()).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.fan.clone());
                sent += page.len();
                let work = page.into_iter().map(|summary| Work::Refill { account: account.clone(), conversation: summary.conversation });
                self.send(work.collect()).await;
            }
        }
        if sent > 0 {
            tracing::info!(conversations = sent, "redis is new or was emptied; refilling it from the documents");
        }
        Ok(())
    }

    async fn send(&self, work: Vec<Work>) {
        // The receiver ends only when the consumer does, and then nobody waits for timers.
        let _ = self.work.send(work).await;
    }
}
