//! Watches Redis for what no event brings: timers that fall due, and a Redis that has lost data.
//!
//! Owns when it is refilled, and the order of that: lanes stop trusting what stands there, deletes come back, what the documents do not have is told again,
//! and every conversation is filled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::bus::{Backlog, Bus, BusError};
use crate::config::BusConfig;
use crate::documents::{Documents, DocumentsError};
use crate::runtime::clock::{self, Now};
use crate::runtime::health::Pulse;
use crate::runtime::shutdown::Shutdown;
use crate::schema::time::Millis;
use crate::transform::resolve::Claims;
use crate::views::{Mark, ViewsError, Writer};

use super::floor::{Debt, Floor};
use super::gather::Work;

/// Timers taken up at once, an account.
const DUE_MAX: usize = 500;
/// Conversations refilled at once.
const REFILL_PAGE: usize = 500;
/// How long a publish may take from its time of publication until a subscription sees it, and how far clocks may differ.
const PUBLISH_MS: i64 = 10_000;
/// The watcher.
pub(super) struct Watch {
    /// Redis.
    pub writer: Writer,
    /// How far its lanes have got.
    pub marks: Vec<Mark>,
    /// What the lanes trust.
    pub floor: Arc<Floor>,
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
    /// It goes on.
    pub pulse: Pulse,
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
    floor: u64,
    /// Redis lost data, and is not refilled yet.
    lost: bool,
    /// Redis lost something that it had confirmed to our lanes.
    marks_lost: bool,
    /// Work that fills Redis holds clones of this until it is done.
    filling: Option<Arc<()>>,
    /// Something is owed to the views, and Redis has it written that not all is filled.
    noted: bool,
    /// Everything that was published before this was in the documents by the last look.
    documented_until: Millis,
}

impl Watch {
    /// What is known before the first look. To be asked before anything is written.
    ///
    /// # Errors
    /// Where the bus cannot be read.
    pub(super) async fn begin(&self) -> Result<Known, BusError> {
        let documented_until = self.documented_until().await?;
        let mut known = Known { epoch: None, floor: 0, lost: false, marks_lost: false, filling: None, noted: false, documented_until };
        if let Err(error) = self.notice(&mut known).await {
            tracing::debug!(%error, "redis cannot be looked at before the first look");
        }
        Ok(known)
    }

    /// Looks until shutdown is requested. What fails is tried again at the next look.
    pub(super) async fn run(self, mut known: Known, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.pulse.rest();
            tokio::select! {
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            self.pulse.begin();
            let looked = tokio::select! {
                () = shutdown.requested() => return,
                looked = self.look(&mut known) => looked,
            };
            if let Err(error) = looked {
                tracing::debug!(%error, "a look came to nothing: a store cannot be used");
            }
        }
    }

    async fn look(&self, known: &mut Known) -> Result<(), WatchError> {
        self.notice(known).await?;
        let filled = self.fill(known).await;
        if filled.is_ok() {
            known.documented_until = self.documented_until().await?;
        }
        let now = (self.now)();
        for account in self.writer.accounts().await? {
            let due = self.writer.due(&account, now, DUE_MAX).await?;
            if !due.is_empty() {
                self.send(due.into_iter().map(|conversation| Work::Due { account: account.clone(), conversation }).collect()).await;
            }
        }
        filled
    }

    /// Sees whether Redis was emptied, has come back with older data, or was left half filled, and has the lanes take everything that stands there from
    /// the documents from then on.
    async fn notice(&self, known: &mut Known) -> Result<(), ViewsError> {
        let found = self.writer.epoch().await?;
        known.marks_lost |= self.writer.has_lost(&self.marks).await?;
        let is_first = known.epoch.is_none();
        let is_other = !is_first && (known.floor != found.floor || known.epoch.as_ref() != Some(&found.id));
        // Whoever noticed the same before us has raised the floor.
        let went_back = known.marks_lost && !found.created && !(is_other && found.floor > known.floor) || found.floor < known.floor;
        let is_half_filled = found.created || found.floor == 0 || is_first && !found.filled;
        let mut floor = found.floor;
        let mut epoch = found.id;
        if went_back || is_half_filled {
            floor = Floor::above(found.floor.max(known.floor));
            // Readers know from another epoch that what they read is void. One that came back with an older epoch has another one already.
            let renew = went_back && !found.created && known.epoch.as_ref().is_none_or(|known| *known == epoch);
            self.writer.begin_refill(floor, renew).await?;
            if renew {
                tracing::warn!("redis has come back with older data; everything in it is filled again from the documents");
                epoch = self.writer.epoch().await?.id;
            }
        }
        known.lost |= is_other || went_back || is_half_filled;
        known.marks_lost = false;
        (known.epoch, known.floor) = (Some(epoch), floor);
        self.floor.raise(floor);
        if self.floor.is_owing() && !known.noted {
            self.writer.end_refill(0).await?;
            known.noted = true;
        }
        Ok(())
    }

    /// Fills what Redis lost, and what the views were written without, as soon as the documents can be read.
    async fn fill(&self, known: &mut Known) -> Result<(), WatchError> {
        if !known.lost && !self.floor.is_owing() {
            return self.finish(known).await;
        }
        let accounts = self.documents.accounts().await?;
        // From here on lanes ask the documents again. What they owe from now on is paid at the next look.
        let debt = self.floor.take();
        known.lost |= debt == Some(Debt::Everything);
        let filled = Arc::new(());
        if known.lost {
            self.restore_deletions(&accounts).await?;
            // What the documents do not have yet is told again: a lane may have filled a conversation since the last look, when they had just so much.
            self.rewind(known.documented_until).await?;
            self.refill(&accounts, &filled).await?;
            known.lost = false;
        } else if let Some(Debt::Conversations(conversations)) = debt {
            if let Err(error) = self.rewind(known.documented_until).await {
                self.floor.owe(conversations, false);
                return Err(error.into());
            }
            tracing::info!(
                conversations = conversations.len(),
                "the documents can be read again; filling what the views were written without"
            );
            let work = conversations.into_iter().map(|(account, conversation)| Work::Refill {
                account,
                conversation,
                filled: Arc::clone(&filled),
            });
            self.send(work.collect()).await;
        }
        known.filling = Some(filled);
        Ok(())
    }

    /// Notes in Redis that all is filled, when the lanes have done it: a service that starts after a crash in between fills it again.
    async fn finish(&self, known: &mut Known) -> Result<(), WatchError> {
        if known.filling.take_if(|filled| Arc::strong_count(filled) == 1).is_some() {
            self.writer.end_refill(known.floor).await?;
            known.noted = false;
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

    /// Tells Redis which messages were deleted, as far as the documents still know: also of those that are still to come.
    async fn restore_deletions(&self, accounts: &[String]) -> Result<(), WatchError> {
        for account in accounts {
            let mut after: Option<String> = None;
            loop {
                let deletes = self.documents.deletions(account, after.as_deref(), REFILL_PAGE).await?;
                let Some((last, _)) = deletes.last() else { break };
                after = Some(last.clone());
                let claims = [Claims { account: account.clone(), deletes, ..Claims::default() }];
                let resolved = self.writer.resolve(&claims).await?;
                let [Claims { deletes, .. }] = claims;
                // Their messages came before the news of the delete came back.
                let conversations = resolved.into_iter().flat_map(|resolved| resolved.conversations);
                let work = conversations.zip(deletes).filter_map(|(conversation, (message, at))| {
                    conversation.map(|conversation| Work::Deleted { account: account.clone(), conversation, message, at })
                });
                let work: Vec<Work> = work.collect();
                if !work.is_empty() {
                    self.send(work).await;
                }
            }
        }
        Ok(())
    }

    /// Sends every account and conversation that the documents know to its lane; the lane writes those that Redis does not have, or has from before.
    async fn refill(&self, accounts: &[String], filled: &Arc<()>) -> Result<(), WatchError> {
        let documents = &self.documents;
        let mut sent = 0usize;
        for account in accounts {
            self.send(vec![Work::RefillAccount { account: account.clone(), filled: Arc::clone(filled) }]).await;
            let mut after: Option<String> = None;
            loop {
                let page = documents.summaries(account, after.as_deref(), REFILL_PAGE, (self.now)()).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.fan.clone());
                sent += page.len();
                let work = page.into_iter().map(|summary| Work::Refill {
                    account: account.clone(),
                    conversation: summary.conversation,
                    filled: Arc::clone(filled),
                });
                self.send(work.collect()).await;
            }
        }
        if sent > 0 {
            tracing::info!(conversations = sent, "redis is new or has lost data; refilling it from the documents");
        }
        Ok(())
    }

    async fn send(&self, work: Vec<Work>) {
        // The lanes may take as long as the stores do.
        self.pulse.rest();
        // The receiver ends only when the consumer does, and then nobody waits for timers.
        let _ = self.work.send(work).await;
        self.pulse.begin();
    }
}
