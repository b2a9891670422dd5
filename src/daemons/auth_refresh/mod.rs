//! auth-refresh: sees to it that every account has an artifact that can be used, by asking its provider in time.
//!
//! Composes the providers and the store of [`crate::auth`]: looks at the accounts again and again (or once), asks what is due, a bounded number at
//! once, writes what it gets. Owns no secret for longer than an attempt. Invariants: an old artifact stays until a new one is whole and in its place;
//! an account is asked for by one attempt at a time, by one process at a time; what a person has to act on is told and not tried again.

mod gauges;
mod job;
mod metrics;
mod plan;
mod roster;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::gauges::AuthGauges;
use self::job::Job;
pub use self::job::{Ended, Outcome};
pub use self::plan::{Facts, Plan, Summary, Why, plan};
pub use self::roster::{Member, Roster};
pub use self::status::{AccountStatus, Standing, worst};
use crate::auth::provider::{Provider, ProviderError};
use crate::auth::{ArtifactError, ArtifactStore, LockError, RefreshLock, is_account};
use crate::config::Config;
use crate::runtime::clock::Now;
use crate::runtime::health::{Condition, Health, Pulse};
use crate::runtime::shutdown::Shutdown;

/// Longest time between two writes of the metrics, so that they say that somebody still looks.
const METRICS_EVERY: Duration = Duration::from_secs(60);
/// A half-written file that is older than this belongs to nobody any more.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// What auth-refresh is composed of.
pub struct AuthRefresh {
    /// Where artifacts are, which providers there are, when to ask.
    pub config: Arc<Config>,
    /// The config whenever it was read again, changed or not.
    pub changes: watch::Receiver<Arc<Config>>,
    /// Only these accounts; none for all.
    pub accounts: Vec<String>,
    /// Whether every account is asked for at the start, whatever is there.
    pub force: bool,
    /// Whether to end once nothing is due.
    pub once: bool,
    /// The textfile for Prometheus.
    pub metrics_file: Option<PathBuf>,
    /// What is shown to whoever scrapes.
    pub gauges: AuthGauges,
    /// Whether it goes on, and what it lacks.
    pub health: Health,
    /// The clock.
    pub now: Now,
}

/// What happens meanwhile, for a log or for a person.
#[derive(Debug)]
pub enum Told<'a> {
    /// This many accounts are looked after.
    Started(usize),
    /// A provider is asked.
    Asking(&'a str, Why),
    /// A provider was asked.
    Ended(&'a Ended),
    /// A person has to act on this account, not only since this attempt.
    Stands(&'a AccountStatus),
    /// A stop was asked for; the providers of these accounts have time to answer.
    Stopping(&'a BTreeSet<String>),
    /// The accounts cannot be looked at; they go on as they are.
    Folder(&'a ArtifactError),
    /// The metrics cannot be written; the old ones stay.
    Metrics(&'a std::io::Error),
}

/// auth-refresh did not begin, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// There is nobody to ask.
    #[error("no account has a provider; name one in auth.refresh.provider or in accounts.<id>.auth_provider")]
    NoProvider,
    /// An account was asked for that cannot be one.
    #[error("{0:?} is no account: those are 1 to 64 letters, digits, `-` or `_`")]
    NoAccount(String),
    /// An account was asked for that has none.
    #[error("account {0:?} has no provider; name one in auth.refresh.provider or in accounts.<id>.auth_provider")]
    Account(String),
    /// A provider cannot be asked at all.
    #[error("auth.providers.{name}: {error}")]
    Provider {
        /// Its name.
        name: String,
        /// Why.
        error: ProviderError,
    },
    /// The artifacts' folder cannot be used.
    #[error(transparent)]
    Store(#[from] ArtifactError),
    /// Another process is at work, or the lock cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The metrics could not be written; everything else is done.
    #[error("{}: the metrics cannot be written: {detail}", file.display())]
    Metrics {
        /// The file.
        file: PathBuf,
        /// Why.
        detail: String,
    },
    /// The time for a stop ended first.
    #[error("stopped while the providers of {} were asked, which had not answered within {after_s} s", .accounts.join(", "))]
    Undrained {
        /// The accounts.
        accounts: Vec<String>,
        /// The time they had, seconds.
        after_s: u64,
    },
    /// An attempt panicked: a bug, which its panic message describes.
    #[error("an attempt to renew an artifact ended unexpectedly; this is a bug, see the panic message above")]
    Broken,
}

/// Runs until a stop is asked for, or with `once` until nothing is due, and says how the accounts stand then. `tell` hears what happens meanwhile.
///
/// # Errors
/// [`RefreshError`]; that a provider fails is none, it is part of how an account stands.
pub async fn run(refresh: AuthRefresh, shutdown: &Shutdown, tell: &mut dyn FnMut(Told<'_>)) -> Result<Vec<AccountStatus>, RefreshError> {
    let store = ArtifactStore::new(&refresh.config.auth.dir);
    let providers = open_providers(&refresh.config)?;
    for account in &refresh.accounts {
        check_account(&refresh.config, account)?;
    }
    store.check_folder()?;
    let _lock = RefreshLock::take(&store)?;
    match store.sweep(LEFT_BEHIND)? {
        0 => {}
        swept => tracing::info!(swept, "removed what killed processes had left half-written"),
    }
    let mut roster = Roster::new(store.clone(), refresh.config.clone(), refresh.accounts.clone());
    let members = roster.look()?;
    store.forget_all_but(|account| refresh.config.accounts.contains_key(account) || members.contains_key(account) || store.has(account))?;
    let looked_after = members.values().filter(|member| member.provider.is_some()).count();
    tell(Told::Started(looked_after));
    let forced = if refresh.force { members.into_keys().collect() } else { BTreeSet::new() };
    let folder = refresh.health.condition("artifacts");
    folder.meet();
    refresh.health.started();
    let running = Running {
        folder,
        pulse: refresh.health.pulse("accounts"),
        refresh,
        store,
        providers,
        roster,
        forced,
        attempts: JoinSet::new(),
        asking: BTreeSet::new(),
        asked: BTreeSet::new(),
        told: BTreeMap::new(),
    };
    running.run(shutdown, tell).await
}

/// How the accounts stand, without asking anybody or changing anything. A folder that does not exist holds no artifact.
///
/// # Errors
/// Where the folder cannot be listed.
pub fn survey(config: &Arc<Config>, accounts: Vec<String>, now: Now) -> Result<Vec<AccountStatus>, ArtifactError> {
    let members = Roster::new(ArtifactStore::new(&config.auth.dir), config.clone(), accounts).look()?;
    let known = members.iter().filter(|(_, member)| member.provider.is_some() || member.facts.artifact.is_some());
    Ok(known.map(|(account, member)| AccountStatus::of(account, member, &config.auth.refresh, now())).collect())
}

/// Whether a provider can be asked for this account.
///
/// # Errors
/// [`RefreshError::NoAccount`] and [`RefreshError::Account`].
pub fn check_account(config: &Config, account: &str) -> Result<(), RefreshError> {
    if !is_account(account) {
        return Err(RefreshError::NoAccount(account.to_owned()));
    }
    config.provider_of(account).map(|_| ()).ok_or_else(|| RefreshError::Account(account.to_owned()))
}

/// Whether the providers of a config can be asked, as far as can be told without asking.
///
/// # Errors
/// [`RefreshError::NoProvider`] and [`RefreshError::Provider`].
pub fn check_providers(config: &Config) -> Result<(), RefreshError> {
    open_providers(config).map(|_| ())
}

/// The providers that some account uses. One that none uses may be unfinished.
fn open_providers(config: &Config) -> Result<BTreeMap<String, Arc<Provider>>, RefreshError> {
    let named = config.accounts.keys().filter_map(|account| config.provider_of(account)).chain(config.auth.refresh.provider.as_deref());
    let names: BTreeSet<&str> = named.collect();
    if names.is_empty() {
        return Err(RefreshError::NoProvider);
    }
    let mut providers = BTreeMap::new();
    for name in names {
        let failed = |error| RefreshError::Provider { name: name.to_owned(), error };
        let provider = config.auth.providers.get(name).ok_or_else(|| failed(ProviderError::Nothing))?;
        let provider = Provider::open(provider, config.auth.refresh.answer_max_bytes).map_err(failed)?;
        providers.insert(name.to_owned(), Arc::new(provider));
    }
    Ok(providers)
}

struct Running {
    refresh: AuthRefresh,
    /// The artifacts' folder can be read.
    folder: Condition,
    /// The loop goes on.
    pulse: Pulse,
    store: ArtifactStore,
    providers: BTreeMap<String, Arc<Provider>>,
    roster: Roster,
    /// Accounts that are still to be asked for because of `force`.
    forced: BTreeSet<String>,
    attempts: JoinSet<Ended>,
    /// Accounts that are being asked for.
    asking: BTreeSet<String>,
    /// With `once`, accounts that were.
    asked: BTreeSet<String>,
    /// How the accounts stood that a person was told of.
    told: BTreeMap<String, Standing>,
}

impl Running {
    async fn run(mut self, shutdown: &Shutdown, tell: &mut dyn FnMut(Told<'_>)) -> Result<Vec<AccountStatus>, RefreshError> {
        let mut metrics_at = Instant::now();
        loop {
            self.pulse.begin();
            match self.roster.look() {
                Ok(members) => {
                    self.folder.meet();
                    self.begin_due(members, tell);
                }
                // The folder may be mounted again.
                Err(error) if !self.refresh.once => {
                    self.folder.miss("cannot be read");
                    tell(Told::Folder(&error));
                }
                Err(error) => return Err(error.into()),
            }
            if self.refresh.once && self.attempts.is_empty() {
                break;
            }
            if !self.refresh.once && metrics_at <= Instant::now() {
                metrics_at = Instant::now() + METRICS_EVERY;
                self.write_metrics(tell);
            }
            self.pulse.rest();
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(ended) = self.attempts.join_next() => {
                    self.take(ended, tell)?;
                    metrics_at = Instant::now();
                }
                Ok(()) = self.refresh.changes.changed() => self.adopt(),
                () = tokio::time::sleep(Duration::from_millis(self.refresh.config.auth.watch_ms)) => {}
            }
        }
        self.drain(shutdown, tell).await?;
        self.end()
    }

    /// Goes on with another config; the folder stays, and who is being asked is asked to the end.
    fn adopt(&mut self) {
        let config = Arc::clone(&self.refresh.changes.borrow_and_update());
        match open_providers(&config) {
            Ok(providers) => {
                self.providers = providers;
                self.roster.adopt(Arc::clone(&config));
                self.refresh.config = config;
            }
            // Whoever read it has tried before; a file of a header may have gone since.
            Err(error) => tracing::error!(%error, "the providers of the config cannot be used; those before them stay in use"),
        }
    }

    /// Starts what is due, the most urgent first, as far as there is room.
    fn begin_due(&mut self, members: BTreeMap<String, Member>, tell: &mut dyn FnMut(Told<'_>)) {
        let now = (self.refresh.now)();
        let config = &self.refresh.config.auth.refresh;
        let mut due = Vec::new();
        for (account, member) in members {
            let Some(provider) = member.provider.clone() else { continue };
            if self.asking.contains(&account) || self.asked.contains(&account) {
                continue;
            }
            let plan = match self.forced.contains(&account) {
                true => Plan::At(now, Why::Forced),
                false => plan(&account, &member.facts, config, now),
            };
            match plan {
                Plan::At(at, why) if at <= now => due.push((why, at, account, provider, member.facts.record)),
                Plan::At(..) => _ = self.told.remove(&account),
                Plan::Held(_) | Plan::Blocked(_) => {
                    let status = AccountStatus::of(&account, &member, config, now);
                    if self.told.insert(account, status.status) != Some(status.status) {
                        tell(Told::Stands(&status));
                    }
                }
            }
        }
        due.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        let room = config.concurrency_max.saturating_sub(self.attempts.len());
        for (why, _, account, provider_name, record) in due.into_iter().take(room) {
            let Some(provider) = self.providers.get(&provider_name).cloned() else { continue };
            tell(Told::Asking(&account, why));
            self.forced.remove(&account);
            self.told.remove(&account);
            self.asking.insert(account.clone());
            self.refresh.gauges.asking(self.asking.len());
            let (store, config) = (self.store.clone(), config.clone());
            self.attempts.spawn(Job { account, why, provider_name, provider, record, store, config, now: self.refresh.now }.run());
        }
    }

    fn take(&mut self, ended: Result<Ended, tokio::task::JoinError>, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), RefreshError> {
        let ended = ended.map_err(|_| RefreshError::Broken)?;
        if let Outcome::Needs(status) = ended.outcome {
            self.told.insert(ended.account.clone(), Standing::from(status));
        }
        tell(Told::Ended(&ended));
        self.refresh.gauges.asked(&ended.outcome);
        self.roster.remember(ended.account.clone(), ended.record.clone());
        self.asking.remove(&ended.account);
        self.refresh.gauges.asking(self.asking.len());
        if self.refresh.once {
            self.asked.insert(ended.account);
        }
        Ok(())
    }

    /// Waits for those who are being asked: a provider that has just made a new session may have ended the old one.
    async fn drain(&mut self, shutdown: &Shutdown, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), RefreshError> {
        let after_s = self.refresh.config.auth.refresh.drain_timeout_s;
        let deadline = shutdown.deadline(Duration::from_secs(after_s)).unwrap_or_else(Instant::now);
        if !self.attempts.is_empty() {
            tell(Told::Stopping(&self.asking));
        }
        while !self.attempts.is_empty() {
            let Ok(Some(ended)) = timeout_at(deadline, self.attempts.join_next()).await else {
                // Each gives up its provider, which is killed with all that it started.
                self.attempts.shutdown().await;
                return Err(RefreshError::Undrained { accounts: self.asking.iter().cloned().collect(), after_s });
            };
            self.take(ended, tell)?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<Vec<AccountStatus>, RefreshError> {
        let accounts = self.statuses()?;
        if let Some(file) = &self.refresh.metrics_file {
            metrics::write(file, &accounts, (self.refresh.now)())
                .map_err(|error| RefreshError::Metrics { file: file.clone(), detail: error.to_string() })?;
        }
        Ok(accounts)
    }

    fn write_metrics(&mut self, tell: &mut dyn FnMut(Told<'_>)) {
        match self.statuses() {
            Ok(accounts) => {
                let now = (self.refresh.now)();
                self.refresh.gauges.look(&accounts, now);
                if let Some(file) = &self.refresh.metrics_file
                    && let Err(error) = metrics::write(file, &accounts, now)
                {
                    tell(Told::Metrics(&error));
                }
            }
            Err(error) => tell(Told::Folder(&error)),
        }
    }

    fn statuses(&mut self) -> Result<Vec<AccountStatus>, ArtifactError> {
        let now = (self.refresh.now)();
        let members = self.roster.look()?;
        Ok(members.iter().map(|(account, member)| AccountStatus::of(account, member, &self.refresh.config.auth.refresh, now)).collect())
    }
}
