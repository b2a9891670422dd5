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
use crate::schema::time::Millis;
use crate::transform::drift::{Class, Drift};
use crate::views::{Reader, ViewsError};

use super::pairs::{Pairs, Waits};

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
    /// Whether the newest messages of each are looked for in the history, which costs one query a conversation.
    pub history: bool,
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
    pairs: Pairs,
    scope: Scope,
    waits: Waits,
    accounts: std::vec::IntoIter<String>,
    current: Option<Account>,
    resume: Option<Position>,
}

/// What an account's indexes in Redis name.
pub(super) struct Indexes {
    pub(super) inbox: HashSet<String>,
    pub(super) awaiting: HashMap<String, Millis>,
}

impl Indexes {
    pub(super) async fn read(reader: &Reader, account: &str) -> Result<Self, ViewsError> {
        let inbox = reader.inbox(account, 0, usize::MAX).await?.into_iter().map(|(id, _)| id).collect();
        let awaiting = reader.awaiting(account, 0, usize::MAX).await?.into_iter().collect();
        Ok(Self { inbox, awaiting })
    }
}

/// One account in progress.
struct Account {
    name: String,
    indexes: Indexes,
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
        let mut accounts: Vec<String> = reader.accounts().await?.into_iter().map(|(account, _)| account).collect();
        accounts.extend(documents.accounts().await?);
        accounts.retain(|account| settings.accounts.is_empty() || settings.accounts.contains(account));
        accounts.retain(|account| resume.as_ref().is_none_or(|resume| *account >= resume.account));
        accounts.sort_unstable();
        accounts.dedup();
        let pairs = Pairs::new(config, reader, documents, bus, policies, settings.settle_ms, settings.history);
        let waits = pairs.waits().await?;
        Ok(Self { pairs, scope: settings.scope, waits, accounts: accounts.into_iter(), current: None, resume })
    }

    /// Whether deliveries wait for the consumer of Redis, and for that of the documents.
    #[must_use]
    pub const fn backlogs(&self) -> (bool, bool) {
        (self.waits.views, self.waits.documents)
    }

    /// How many conversations there are about; the inboxes know, as far as they are not full.
    ///
    /// # Errors
    /// Where Redis cannot be read.
    pub async fn estimate(&self) -> Result<u64, CheckError> {
        let mut total = 0;
        for account in self.accounts.as_slice() {
            let inbox = self.pairs.reader().inbox(account, 0, usize::MAX).await?.len();
            total += match self.scope {
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
        let indexes = Indexes::read(self.pairs.reader(), &name).await?;
        let resume = self.resume.take().filter(|resume| resume.account == name);
        let (after, budget) = match self.scope {
            Scope::All => (resume.as_ref().and_then(|resume| resume.after.clone()), usize::MAX),
            // Half of them along the documents from somewhere, half out of the inbox: neither store has to have them all.
            Scope::Samples(samples) => (sample_start(&indexes.inbox), samples.div_ceil(2)),
        };
        Ok(Account { name, indexes, seen: HashSet::new(), after, left: None, resumed: resume.is_some(), budget })
    }

    async fn step(&self, account: &mut Account) -> Result<Option<Page>, CheckError> {
        if account.left.is_none() {
            let limit = PAGE.min(account.budget);
            let found = if limit == 0 {
                Vec::new()
            } else {
                self.pairs.documents().summaries(&account.name, account.after.as_deref(), limit, clock::now()).await?
            };
            if let Some(last) = found.last() {
                account.after = Some(last.fan.clone());
                account.budget -= found.len();
                let ids: Vec<String> = found.iter().map(|summary| summary.conversation.clone()).collect();
                account.seen.extend(ids.iter().cloned());
                return Ok(Some(self.compare(account, &ids, false).await?));
            }
            let mut left: Vec<String> = account.indexes.inbox.iter().filter(|id| !account.seen.contains(*id)).cloned().collect();
            if let Scope::Samples(samples) = self.scope {
                fastrand::shuffle(&mut left);
                left.truncate(samples.saturating_sub(account.seen.len()));
            }
            left.sort_unstable();
            account.left = Some(left.into_iter());
        }
        let ids: Vec<String> = account.left.iter_mut().flatten().take(PAGE).collect();
        // What the documents had before a check was resumed is done.
        let only_absent = account.resumed && self.scope == Scope::All;
        if ids.is_empty() { Ok(None) } else { Ok(Some(self.compare(account, &ids, only_absent).await?)) }
    }

    async fn compare(&self, account: &Account, ids: &[String], only_absent: bool) -> Result<Page, CheckError> {
        let judged = self.pairs.judge(&account.name, ids, &account.indexes, self.waits).await?;
        let mut page = Page::default();
        for (id, judged) in ids.iter().zip(judged) {
            if only_absent && judged.is_documented {
                continue;
            }
            page.conversations += 1;
            if !judged.drifts.is_empty() {
                let (account, conversation) = (account.name.clone(), id.clone());
                page.findings.push(Finding { account, conversation, drifts: judged.drifts, fold: judged.fold });
            }
        }
        Ok(page)
    }
}

/// Somewhere among the fans.
fn sample_start(inbox: &HashSet<String>) -> Option<String> {
    let at = if inbox.is_empty() { return None } else { fastrand::usize(..inbox.len()) };
    inbox.iter().nth(at).cloned()
}
