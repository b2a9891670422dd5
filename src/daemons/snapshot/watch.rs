//! Watches Redis for what no event brings: timers that fall due, and a Redis that has lost its data.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::bus::{Backlog, Bus, BusError};
use crate::config::BusConfig;
use crate::documents::{Documents, DocumentsError};
use crate::runtime::clock::{self, Now};
use crate::runtime::shutdown::Shutdown;
use crate::schema::time::Millis;
use crate::views::{ViewsError, Writer};

use super::gather::Work;

/// Timers taken up at once, an account.
const DUE_MAX: usize = 500;
/// Conversations refilled at once.
const REFILL_PAGE: usize = 500;
/// How long a publish may take from its time of publication until a subscription sees it, and how far clocks may differ.
const PUBLISH_MS: i64 = 10_000;
/// How long before its message a delete may come and still be known after Redis lost it: the documents do not tell of deletes without a message, so that
/// much of the topic is read again.
const DELETE_AHEAD_MS: i64 = 5 * 60 * 1000;

/// The watcher.
pub(super) struct Watch {
    /// Redis.
    pub writer: Writer,
    /// What refills it.
    pub documents: Documents,
    /// What the documents do not have yet comes from here.
    pub bus: Bus,
    /// Names of the topic and its subscriptions.
    pub names: BusConfig,
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
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What is known from one look to the next.
pub(super) struct Known {
    epoch: Option<String>,
    /// Redis was empty, and is not refilled yet.
    lost: bool,
    /// Everything that was published before this was in the documents by the last look.
    documented_until: Millis,
}

impl Watch {
    /// What is known before the first look. To be asked before anything is written.
    ///
    /// # Errors
    /// Where the bus cannot be read.
    pub(super) async fn begin(&self) -> Result<Known, BusError> {
        Ok(Known { epoch: None, lost: false, documented_until: self.documented_until().await? })
    }

    /// Looks until shutdown is requested. What fails is tried again at the next look.
    pub(super) async fn run(self, mut known: Known, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            let looked = tokio::select! {
                () = shutdown.requested() => return,
                looked = self.look(&mut known) => looked,
            };
            if let Err(error) = looked {
                tracing::debug!(%error, "timers are late: a store cannot be read");
            }
        }
    }

    async fn look(&self, known: &mut Known) -> Result<(), WatchError> {
        let found = self.writer.epoch().await?;
        known.lost |= found.created || known.epoch.as_ref().is_some_and(|epoch| *epoch != found.id);
        known.epoch = Some(found.id);
        if known.lost {
            // A lane that missed a conversation may have filled it since the last look, when the documents had just so much.
            self.rewind(known.documented_until.plus(-DELETE_AHEAD_MS)).await?;
            self.refill().await?;
            known.lost = false;
        }
        known.documented_until = self.documented_until().await?;
        let now = (self.now)();
        for account in self.writer.accounts().await? {
            let due = self.writer.due(&account, now, DUE_MAX).await?;
            if !due.is_empty() {
                self.send(due.into_iter().map(|conversation| Work::Due { account: account.clone(), conversation }).collect()).await;
            }
        }
        Ok(())
    }

    /// Everything that was published before this is in the documents; the beginning of time, where nobody writes any.
    async fn documented_until(&self) -> Result<Millis, BusError> {
        let now = clock::now();
        match self.bus.backlog(&self.names.topic, &self.names.documents_subscription).await {
            Ok(Backlog { oldest_age, .. }) => {
                let age_ms = oldest_age.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
                Ok(Millis(now.0.saturating_sub(age_ms).saturating_sub(PUBLISH_MS)))
            }
            Err(BusError::NoSubscription { .. }) => Ok(Millis(0)),
            Err(error) => Err(error),
        }
    }

    /// Has the views told again what Redis lost and the documents do not have.
    async fn rewind(&self, since: Millis) -> Result<(), BusError> {
        match self.bus.rewind(&self.names.topic, &self.names.views_subscription, since).await {
            // One that its first subscriber has not made yet begins with the oldest message.
            Err(BusError::NoSubscription { .. }) => Ok(()),
            rewound => rewound,
        }
    }

    /// Sends every conversation that the documents know to its lane; the lane writes those that Redis does not have.
    async fn refill(&self) -> Result<(), WatchError> {
        let documents = &self.documents;
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
