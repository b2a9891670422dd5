//! Redis and the documents, held against each other conversation by conversation.
//!
//! Walks each account twice: along the documents, which have every conversation there is, and then along the inbox for those that the documents do not
//! have. Memory is one page and the ids of one account.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::{Bus, BusError};
use crate::config::Config;
use crate::daemons::snapshot::Policies;
use crate::documents::{Documents, DocumentsError};
use crate::runtime::clock;
use crate::schema::state::ConversationState;
use crate::schema::time::Millis;
use crate::transform::drift::{Class, DocumentSide, Drift, Judging, ViewSide, compare};
use crate::views::{Reader, StoredView, ViewsError};

/// Conversations compared at once.
const PAGE: usize = 200;

/// How it is checked.
#[derive(Debug, Clone)]
pub struct CheckSettings {
    /// Only these accounts; all where empty.
    pub accounts: Vec<String>,
    /// How long a store may take, in milliseconds.
    pub settle_ms: i64,
    /// Which conversations.
    pub scope: Scope,
}

/// Which conversations are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// About this many of each account, picked at random.
    Samples(usize),
}

/// How far a check has got: all accounts before this one are done, and of it the fans up to `after`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The account.
    pub account: String,
    /// The fan, in the documents' own order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What a check came to, so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Conversations looked at.
    pub conversations: u64,
    /// Those of which something is the matter, by the worst of it.
    pub classes: BTreeMap<Class, u64>,
}

impl Checked {
    /// Conversations of a class.
    #[must_use]
    pub fn of(&self, class: Class) -> u64 {
        self.classes.get(&class).copied().unwrap_or(0)
    }

    /// Whether somebody has to do something.
    #[must_use]
    pub fn has_drifted(&self) -> bool {
        self.classes.iter().any(|(class, &count)| class.is_drift() && count > 0)
    }
}

/// One conversation of which something is the matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The account.
    pub account: String,
    /// The conversation.
    pub conversation: String,
    /// What, the worst first; never empty.
    pub drifts: Vec<Drift>,
    /// The state that Redis has, encoded.
    pub fold: Option<Vec<u8>>,
}

/// What one step found.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What is the matter.
    pub findings: Vec<Finding>,
    /// Conversations looked at.
    pub conversations: u64,
}

/// Why a check could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Redis.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// The documents.
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A check in progress.
pub struct Check {
    reader: Reader,
    documents: Documents,
    policies: Arc<Policies>,
    settings: CheckSettings,
    view_ttl_ms: i64,
    summary_ttl_ms: i64,
    indexes_max: usize,
    views_wait: bool,
    documents_wait: bool,
    accounts: std::vec::IntoIter<String>,
    current: Option<Account>,
    resume: Option<Position>,
}

/// One account in progress.
struct Account {
    name: String,
    inbox: HashSet<String>,
    awaiting: HashMap<String, Millis>,
    /// What the documents had and the walk has seen.
    seen: HashSet<String>,
    after: Option<String>,
    /// The walk along the documents is over; these are left.
    left: Option<std::vec::IntoIter<String>>,
    /// The walk began in the middle, so `seen` is not all.
    resumed: bool,
    /// How many may still be picked.
    budget: usize,
}

impl Check {
    /// Begins, or goes on behind `resume`.
    ///
    /// # Errors
    /// Where a store or the bus cannot be read.
    pub async fn begin(
        config: &Config,
        reader: Reader,
        documents: Documents,
        bus: &Bus,
        settings: CheckSettings,
        policies: Arc<Policies>,
        resume: Option<Position>,
    ) -> Result<Self, CheckError> {
        let names = &config.bus;
        let views_wait = waits(bus, &names.topic, &names.views_subscription).await?;
        let documents_wait = waits(bus, &names.topic, &names.documents_subscription).await?;
        let mut accounts: Vec<String> = reader.accounts().await?.into_iter().map(|(account, _)| account).collect();
        accounts.extend(documents.accounts().await?);
        accounts.retain(|account| settings.accounts.is_empty() || settings.accounts.contains(account));
        accounts.retain(|account| resume.as_ref().is_none_or(|resume| *account >= resume.account));
        accounts.sort_unstable();
        accounts.dedup();
        let ms = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        Ok(Self {
            reader,
            documents,
            policies,
            settings,
            view_ttl_ms: ms(config.redis.conversation_ttl_s),
            summary_ttl_ms: ms(config.documents.summary_ttl_s),
            indexes_max: usize::try_from(config.redis.inbox_max).unwrap_or(usize::MAX),
            views_wait,
            documents_wait,
            accounts: accounts.into_iter(),
            current: None,
            resume,
        })
    }

    /// Whether deliveries wait for the consumer of Redis, and for that of the documents.
    #[must_use]
    pub const fn backlogs(&self) -> (bool, bool) {
        (self.views_wait, self.documents_wait)
    }

    /// How many conversations there are about; the inboxes know, as far as they are not full.
    ///
    /// # Errors
    /// Where Redis cannot be read.
    pub async fn estimate(&self) -> Result<u64, CheckError> {
        let mut total = 0;
        for account in self.accounts.as_slice() {
            let inbox = self.reader.inbox(account, 0, usize::MAX).await?.len();
            total += match self.settings.scope {
                Scope::All => inbox,
                Scope::Samples(samples) => inbox.min(samples),
            } as u64;
        }
        Ok(total)
    }

    /// How far it has got; `None` before the first step of an account.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.current.as_ref().map(|account| Position { account: account.name.clone(), after: account.after.clone() })
    }

    /// Compares some more; `None` at the end.
    ///
    /// # Errors
    /// Where a store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Page>, CheckError> {
        loop {
            let Some(mut account) = self.current.take() else {
                let Some(name) = self.accounts.next() else { return Ok(None) };
                self.current = Some(self.account(name).await?);
                continue;
            };
            if let Some(page) = self.step(&mut account).await? {
                self.current = Some(account);
                return Ok(Some(page));
            }
        }
    }

    async fn account(&mut self, name: String) -> Result<Account, CheckError> {
        let ids = |ranked: Vec<(String, Millis)>| ranked.into_iter();
        let inbox: HashSet<String> = ids(self.reader.inbox(&name, 0, usize::MAX).await?).map(|(id, _)| id).collect();
        let awaiting = ids(self.reader.awaiting(&name, 0, usize::MAX).await?).collect();
        let resume = self.resume.take().filter(|resume| resume.account == name);
        let (after, budget) = match self.settings.scope {
            Scope::All => (resume.as_ref().and_then(|resume| resume.after.clone()), usize::MAX),
            // Half of them along the documents from somewhere, half out of the inbox: neither store has to have them all.
            Scope::Samples(samples) => (sample_start(&inbox), samples.div_ceil(2)),
        };
        Ok(Account { name, inbox, awaiting, seen: HashSet::new(), after, left: None, resumed: resume.is_some(), budget })
    }

    async fn step(&self, account: &mut Account) -> Result<Option<Page>, CheckError> {
        if account.left.is_none() {
            let limit = PAGE.min(account.budget);
            let found = if limit == 0 {
                Vec::new()
            } else {
                self.documents.summaries(&account.name, account.after.as_deref(), limit, clock::now()).await?
            };
            if let Some(last) = found.last() {
                account.after = Some(last.fan.clone());
                account.budget -= found.len();
                let ids: Vec<String> = found.iter().map(|summary| summary.conversation.clone()).collect();
                account.seen.extend(ids.iter().cloned());
                return Ok(Some(self.compare(account, &ids, false).await?));
            }
            let mut left: Vec<String> = account.inbox.iter().filter(|id| !account.seen.contains(*id)).cloned().collect();
            if let Scope::Samples(samples) = self.settings.scope {
                fastrand::shuffle(&mut left);
                left.truncate(samples.saturating_sub(account.seen.len()));
            }
            left.sort_unstable();
            account.left = Some(left.into_iter());
        }
        let ids: Vec<String> = account.left.iter_mut().flatten().take(PAGE).collect();
        // What the documents had before a check was resumed is done.
        let only_absent = account.resumed && self.settings.scope == Scope::All;
        if ids.is_empty() { Ok(None) } else { Ok(Some(self.compare(account, &ids, only_absent).await?)) }
    }

    async fn compare(&self, account: &Account, ids: &[String], only_absent: bool) -> Result<Page, CheckError> {
        let now = clock::now();
        let name = &account.name;
        let views = self.reader.stored(name, ids).await?;
        let fans: Vec<(String, String)> = ids.iter().map(|id| (name.clone(), id.clone())).collect();
        let states = self.documents.load(&fans).await?;
        let judging = Judging {
            policy: self.policies.of(name),
            now,
            settle_ms: self.settings.settle_ms,
            view_ttl_ms: self.view_ttl_ms,
            summary_ttl_ms: self.summary_ttl_ms,
            indexes_full: account.inbox.len() >= self.indexes_max || account.awaiting.len() >= self.indexes_max,
            views_wait: self.views_wait,
            documents_wait: self.documents_wait,
        };
        let mut page = Page::default();
        for ((id, view), state) in ids.iter().zip(views).zip(states) {
            let document = match state {
                None => None,
                Some(stored) => self.document(name, id, &stored.fold, now).await?,
            };
            if only_absent && document.is_some() {
                continue;
            }
            page.conversations += 1;
            let side = view.as_ref().map(|view| view_side(view, account, id));
            let drifts = compare(side.as_ref(), document.as_ref(), &judging);
            if !drifts.is_empty() {
                let fold = view.map(|view| view.fold).filter(|fold| !fold.is_empty());
                page.findings.push(Finding { account: name.clone(), conversation: id.clone(), drifts, fold });
            }
        }
        Ok(page)
    }

    /// The summary beside its state; `None` where its time is over.
    async fn document(&self, account: &str, fan: &str, fold: &[u8], now: Millis) -> Result<Option<DocumentSide>, CheckError> {
        let state = ConversationState::decode(fold).ok().map(Box::new);
        match self.documents.summary(account, fan, now).await {
            Ok(None) => Ok(None),
            Ok(Some(document)) => Ok(Some(DocumentSide { summary: Some(document.summary), state })),
            Err(DocumentsError::Document { .. }) => Ok(Some(DocumentSide { summary: None, state })),
            Err(error) => Err(error.into()),
        }
    }
}

fn view_side(view: &StoredView, account: &Account, id: &str) -> ViewSide {
    ViewSide {
        snapshot: view.snapshot.clone(),
        state: ConversationState::decode(&view.fold).ok().map(Box::new),
        ttl_ms: view.ttl.and_then(|ttl| i64::try_from(ttl.as_millis()).ok()),
        in_inbox: account.inbox.contains(id),
        awaiting: account.awaiting.get(id).copied(),
    }
}

/// Somewhere among the fans.
fn sample_start(inbox: &HashSet<String>) -> Option<String> {
    let at = if inbox.is_empty() { return None } else { fastrand::usize(..inbox.len()) };
    inbox.iter().nth(at).cloned()
}

/// Whether the subscription has deliveries that nobody has acked; not, where that cannot be told.
async fn waits(bus: &Bus, topic: &str, subscription: &str) -> Result<bool, BusError> {
    match bus.backlog(topic, subscription).await {
        Ok(backlog) => Ok(backlog.messages.is_some_and(|messages| messages > 0)),
        Err(BusError::NoSubscription { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
