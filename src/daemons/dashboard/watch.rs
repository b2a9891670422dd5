//! The one loop that reads Redis, for any number of viewers.
//!
//! Owns what was read and what differs from it now. Does not own who is told ([`super::board`]). Invariants: while somebody watches, Redis is looked
//! at every `dashboard.refresh_ms`, over one connection; only conversations that were written since are read again; a conversation or an account that
//! cannot be read is marked, and the others go on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Delta, Fault, MemoryView, Picture, Strip, event};
use super::meter::Meter;
use super::rows::{Entry, Row};
use crate::config::DashboardConfig;
use crate::runtime::clock::Now;
use crate::runtime::health::{Condition, Pulse};
use crate::runtime::shutdown::Shutdown;
use crate::schema::policy::Level;
use crate::schema::time::Millis;
use crate::schema::view::{AccountView, PriorityEntry};
use crate::views::{Follow, FollowItem, Followed, Follower, Reader, Start, ViewsError};

/// Time between two looks while nobody watches.
const IDLE: Duration = Duration::from_secs(5);
/// Rows that one change carries; with more, the pages load everything anew.
const CHANGE_MAX: usize = 500;
/// Entries of the feed taken with one look; the next look takes the next ones.
const ENTRIES_MAX: usize = 1_000;
/// Time between two looks at what moves slowly.
const SLOW_MS: i64 = 5_000;
const SECOND_MS: i64 = 1_000;

type Rows = HashMap<String, HashMap<String, Arc<Row>>>;
type Views = Vec<Result<AccountView, ViewsError>>;

/// A conversation that was written since it was read.
struct Again<'a> {
    id: &'a str,
    activity: Millis,
    stored_rev: Option<u64>,
}

/// Conversations that one look could not read, told in one line of the log however many they are.
#[derive(Default)]
struct Unreadable {
    count: usize,
    first: Option<ViewsError>,
}

impl Unreadable {
    /// One that could not be read before either has been told already.
    fn note(&mut self, before: Option<&Arc<Row>>, error: ViewsError) {
        if before.is_none_or(|row| !row.unreadable) {
            self.count += 1;
            self.first.get_or_insert(error);
        }
    }

    fn tell(self) {
        if let Some(error) = self.first {
            tracing::warn!(%error, count = self.count, "conversations cannot be read; they are marked on the page until they can be");
        }
    }
}

/// Reads Redis and keeps the board.
pub(super) struct Watcher {
    reader: Reader,
    follower: Follower,
    board: Board,
    now: Now,
    refresh: Duration,
    conversations_max: usize,
    feed_max: usize,
    picture: Picture,
    rows: Rows,
    meters: BTreeMap<String, Meter>,
    /// Entries of the feed that were taken and not told yet.
    taken: Vec<Arc<Entry>>,
    strips_at: Millis,
    memory_at: Millis,
    /// Whether all of Redis was read once: what came before was not written now.
    is_loaded: bool,
}

/// What the watcher tells of itself.
pub(super) struct Signs {
    /// It goes on.
    pub(super) pulse: Pulse,
    /// What it looks at is there.
    pub(super) redis: Condition,
}

/// What one look found.
#[derive(Default)]
struct Change {
    rows: Vec<Arc<Row>>,
    gone: Vec<(String, String)>,
    feed: Vec<Arc<Entry>>,
    strips: Vec<Arc<Strip>>,
    memory: Option<MemoryView>,
    /// Something went that a change cannot tell, or more than it carries.
    is_reload: bool,
}

impl Change {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.gone.is_empty() && self.feed.is_empty() && self.strips.is_empty() && self.memory.is_none()
    }
}

impl Watcher {
    pub(super) fn new(reader: Reader, board: Board, config: &DashboardConfig, now: Now) -> Self {
        let follow = Follow { what: Followed::Priority, accounts: Vec::new(), start: Start::Last(config.feed_max), retry: false };
        Self {
            follower: Follower::beside(&reader, follow),
            reader,
            board,
            now,
            refresh: Duration::from_millis(config.refresh_ms),
            conversations_max: config.conversations_max,
            feed_max: config.feed_max,
            picture: Picture::default(),
            rows: Rows::new(),
            meters: BTreeMap::new(),
            taken: Vec::new(),
            strips_at: Millis(i64::MIN),
            memory_at: Millis(i64::MIN),
            is_loaded: false,
        }
    }

    /// Looks again and again until a stop is asked for.
    pub(super) async fn run(mut self, signs: Signs, shutdown: Shutdown) {
        loop {
            signs.pulse.begin();
            let looked = tokio::select! {
                looked = self.look() => looked,
                () = shutdown.requested() => return,
            };
            match looked {
                Ok(change) => {
                    signs.redis.meet();
                    self.show(&change);
                }
                Err(error) => {
                    signs.redis.miss("cannot be read");
                    self.fail(&error);
                }
            }
            signs.pulse.rest();
            let idle = async {
                if self.board.is_watched() {
                    tokio::time::sleep(self.refresh).await;
                } else {
                    let _ = tokio::time::timeout(IDLE, self.board.woken()).await;
                }
            };
            tokio::select! {
                () = idle => {}
                () = shutdown.requested() => return,
            }
        }
    }

    fn show(&mut self, change: &Change) {
        if self.picture.fault.take().is_some() {
            tracing::info!("Redis is back");
        }
        self.picture.read_at = Some((self.now)());
        self.picture.version += u64::from(change.is_reload || !change.is_empty());
        // First the picture: who is told to load it anew has to find it.
        self.board.show(self.picture.clone());
        let carried = change.rows.len() + change.gone.len();
        if change.is_reload || carried > CHANGE_MAX {
            self.board.tell(event("reload", &self.picture.version));
        } else if !change.is_empty() {
            self.board.tell(event("delta", &self.delta(change)));
        }
    }

    fn fail(&mut self, error: &ViewsError) {
        let is_new = self.picture.fault.is_none();
        let message = error.to_string();
        if is_new {
            tracing::warn!(%error, "Redis cannot be read");
        }
        let since = self.picture.fault.as_ref().map_or_else(self.now, |fault| fault.since);
        self.picture.fault = Some(Fault { since, message });
        self.picture.version += u64::from(is_new);
        self.board.show(self.picture.clone());
        if is_new {
            self.board.tell(event("delta", &self.delta(&Change::default())));
        }
    }

    fn delta<'a>(&'a self, change: &'a Change) -> Delta<'a> {
        Delta {
            version: self.picture.version,
            read_at: self.picture.read_at,
            fault: self.picture.fault.as_ref(),
            rows: &change.rows,
            gone: &change.gone,
            feed: &change.feed,
            accounts: &change.strips,
            memory: change.memory,
        }
    }

    /// One look at everything that is shown.
    async fn look(&mut self) -> Result<Change, ViewsError> {
        let accounts: Vec<String> = self.reader.accounts().await?.into_iter().map(|(account, _)| account).collect();
        let views = self.reader.account_views(&accounts).await?;
        let mut change = Change::default();
        let order = self.look_at_rows(&accounts, &views, &mut change).await?;
        self.look_at_feed(&mut change).await?;
        let now = (self.now)();
        if now.since(self.memory_at) >= SLOW_MS {
            self.look_at_memory(&mut change).await?;
            self.memory_at = now;
        }
        // A look that failed half-way may have read what nobody was told.
        change.is_reload |= self.picture.fault.is_some();
        if change.is_reload || !change.rows.is_empty() || !change.gone.is_empty() {
            let row = |(account, id): &(usize, String)| self.rows.get(&accounts[*account])?.get(id).cloned();
            self.picture.rows = Arc::new(order.iter().filter_map(row).collect());
        }
        if now.since(self.strips_at) >= SECOND_MS {
            self.strips(&accounts, views, now, &mut change);
            self.strips_at = now;
        }
        self.is_loaded = true;
        Ok(change)
    }

    /// Reads the conversations that were written since, and forgets those that are no more. The order in which all stand.
    async fn look_at_rows(&mut self, accounts: &[String], views: &Views, change: &mut Change) -> Result<Vec<(usize, String)>, ViewsError> {
        let latest = self.reader.latest(accounts, self.conversations_max).await?;
        let wanted: Vec<(&str, &str)> = latest.iter().map(|(account, id, _)| (accounts[*account].as_str(), id.as_str())).collect();
        let revs = self.reader.revs(&wanted).await?;
        let mut again: BTreeMap<usize, Vec<Again<'_>>> = BTreeMap::new();
        let mut unreadable = Unreadable::default();
        let mut there = 0;
        for ((account, id, activity), rev) in latest.iter().zip(revs) {
            let stored_rev = match &rev {
                Ok(None) => continue,
                Ok(rev) => *rev,
                Err(_) => None,
            };
            there += 1;
            let gap = views.get(*account).and_then(|view| view.as_ref().ok()?.gap.as_ref());
            let is_same = |row: &&Arc<Row>| {
                let is_stale = gap.is_some_and(|gap| gap.to > row.received_at);
                row.stored_rev == stored_rev && row.activity == *activity && (row.unreadable || row.stale == is_stale)
            };
            let known = self.rows.get(&accounts[*account]).and_then(|rows| rows.get(id));
            if known.is_some_and(|row| is_same(&row)) {
                continue;
            }
            match rev {
                Ok(_) => again.entry(*account).or_default().push(Again { id, activity: *activity, stored_rev }),
                Err(error) => {
                    let row = Row::unreadable(&accounts[*account], id, None, *activity, known.map(Arc::as_ref));
                    unreadable.note(known, error);
                    self.keep(&accounts[*account], id, row, change);
                }
            }
        }
        for (account, wanted) in again {
            self.read_again(&accounts[account], &wanted, change, &mut unreadable).await?;
        }
        unreadable.tell();
        if self.rows.values().map(HashMap::len).sum::<usize>() != there {
            self.forget(&wanted, change);
        }
        Ok(latest.into_iter().map(|(account, id, _)| (account, id)).collect())
    }

    async fn read_again(
        &mut self,
        account: &str,
        wanted: &[Again<'_>],
        change: &mut Change,
        unreadable: &mut Unreadable,
    ) -> Result<(), ViewsError> {
        let ids: Vec<&str> = wanted.iter().map(|again| again.id).collect();
        let views = self.reader.each_conversation(account, &ids).await?;
        let now = (self.now)();
        for (view, &Again { id, activity, stored_rev }) in views.into_iter().zip(wanted) {
            let before = self.rows.get(account).and_then(|rows| rows.get(id));
            let view = match view {
                Ok(Some(view)) => view,
                Ok(None) => continue,
                Err(error) => {
                    let row = Row::unreadable(account, id, stored_rev, activity, before.map(Arc::as_ref));
                    unreadable.note(before, error);
                    self.keep(account, id, row, change);
                    continue;
                }
            };
            let mut row = Row::new(&view.snapshot, view.rev, activity, before.map(Arc::as_ref));
            if before.is_none() {
                // The feed may have told of it before the row was there.
                let of_row = |entry: &&Arc<Entry>| entry.account == row.account && entry.conversation.as_ref() == Some(&row.id);
                let told: Vec<(Level, Millis)> =
                    self.picture.feed.iter().filter(of_row).map(|entry| (entry.level, entry.received_at)).collect();
                told.into_iter().for_each(|(level, at)| {
                    row.raise(level, at);
                });
            }
            let writes = before.map_or(1, |before| view.rev.saturating_sub(before.rev));
            if self.is_loaded && writes > 0 {
                // Only one write with a newer frame tells the way from one: what a timer writes later carries the frame's old time.
                let is_newer = before.is_some_and(|before| writes == 1 && row.received_at > before.received_at);
                let lag = view.snapshot.applied_at.since(row.received_at).max(0);
                self.meters.entry(account.to_owned()).or_default().note(now, writes, is_newer.then_some(lag));
            }
            self.keep(account, id, row, change);
        }
        Ok(())
    }

    fn keep(&mut self, account: &str, id: &str, row: Row, change: &mut Change) {
        let row = Arc::new(row);
        self.rows.entry(account.to_owned()).or_default().insert(id.to_owned(), row.clone());
        change.rows.push(row);
    }

    /// Forgets what is not among those that are there.
    fn forget(&mut self, there: &[(&str, &str)], change: &mut Change) {
        let mut kept: HashMap<&str, HashMap<&str, ()>> = HashMap::new();
        for (account, id) in there {
            kept.entry(account).or_default().insert(id, ());
        }
        for (account, rows) in &mut self.rows {
            let kept = kept.get(account.as_str());
            let gone = &mut change.gone;
            rows.retain(|id, _| {
                let is_kept = kept.is_some_and(|kept| kept.contains_key(id.as_str()));
                if !is_kept {
                    gone.push((account.clone(), id.clone()));
                }
                is_kept
            });
        }
        self.rows.retain(|_, rows| !rows.is_empty());
    }

    /// Takes what is new in the feeds, and gives the rows their levels.
    async fn look_at_feed(&mut self, change: &mut Change) -> Result<(), ViewsError> {
        let mut emptied: Vec<String> = Vec::new();
        for _ in 0..ENTRIES_MAX {
            match self.follower.next_there().await? {
                None => break,
                Some(FollowItem::Entry { id, json, .. }) => match serde_json::from_str::<PriorityEntry>(&json) {
                    Ok(entry) => self.taken.push(Arc::new(Entry::new(id, entry))),
                    Err(error) => tracing::warn!(%error, %id, "an entry of the feed that this version does not read"),
                },
                Some(FollowItem::Gap { account, next: None, .. }) => emptied.push(account),
                Some(FollowItem::Gap { .. } | FollowItem::Reconnecting(_) | FollowItem::Reconnected) => {}
            }
        }
        change.feed = std::mem::take(&mut self.taken);
        let now = (self.now)();
        for entry in &change.feed {
            // Each entry tells the way of its own frame; a timer's counts from when it fell due.
            if self.is_loaded && entry.kind.is_some() {
                self.meters.entry(entry.account.raw().to_owned()).or_default().note(now, 0, Some(entry.lag_ms));
            }
            let Some(id) = &entry.conversation else { continue };
            let row = self.rows.get_mut(entry.account.raw()).and_then(|rows| rows.get_mut(id.raw()));
            if let Some(row) = row
                && Arc::make_mut(row).raise(entry.level, entry.received_at)
            {
                change.rows.retain(|changed| changed.account != row.account || changed.id != row.id);
                change.rows.push(row.clone());
            }
        }
        if !change.feed.is_empty() || !emptied.is_empty() {
            let is_kept = |entry: &&Arc<Entry>| !emptied.iter().any(|account| account == entry.account.raw());
            let mut feed: Vec<Arc<Entry>> = self.picture.feed.iter().filter(is_kept).chain(&change.feed).cloned().collect();
            feed.drain(..feed.len().saturating_sub(self.feed_max));
            self.picture.feed = Arc::new(feed);
            change.is_reload |= !emptied.is_empty();
        }
        Ok(())
    }

    async fn look_at_memory(&mut self, change: &mut Change) -> Result<(), ViewsError> {
        let memory = match self.reader.memory().await {
            Ok(memory) => Some(memory.into()),
            // A reader with the rights of an earlier version goes without.
            Err(ViewsError::NoPermission(_)) => None,
            Err(error) => return Err(error),
        };
        if memory != self.picture.memory {
            (self.picture.memory, change.memory) = (memory, memory);
        }
        Ok(())
    }

    fn strips(&mut self, accounts: &[String], views: Views, now: Millis, change: &mut Change) {
        let there: HashSet<&String> = accounts.iter().collect();
        self.meters.retain(|account, _| there.contains(account));
        let mut strips = Vec::with_capacity(accounts.len());
        for (account, view) in accounts.iter().zip(views) {
            let rows = || self.rows.get(account).into_iter().flat_map(HashMap::values);
            let (view, fault) = match view {
                Ok(view) => (view, None),
                Err(error) => (AccountView::default(), Some(error.to_string())),
            };
            let meter = self.meters.get(account).cloned().unwrap_or_default();
            strips.push(Strip {
                account: account.as_str().into(),
                connection: view.connection,
                gap: view.gap,
                auth: view.auth,
                online: view.presence.map(|presence| presence.online.len()),
                conversations: rows().count(),
                unread: rows().filter(|row| row.unread > 0).count(),
                awaiting: rows().filter(|row| row.waiting_since.is_some()).count(),
                unreadable: rows().filter(|row| row.unreadable).count(),
                fault,
                writes_per_second: meter.per_second(now),
                lag_ms: meter.lag(now),
            });
        }
        strips.sort_by(|a, b| a.account.cmp(&b.account));
        let before: HashMap<&str, &Arc<Strip>> = self.picture.accounts.iter().map(|strip| (strip.account.raw(), strip)).collect();
        change.is_reload |= self.is_loaded && strips.len() != before.len();
        let strips: Vec<Arc<Strip>> = strips
            .into_iter()
            .map(|strip| match before.get(strip.account.raw()) {
                Some(same) if ***same == strip => (*same).clone(),
                before => {
                    if let Some(fault) = &strip.fault
                        && before.is_none_or(|before| before.fault.is_none())
                    {
                        tracing::warn!(%fault, "what is known of an account beyond its conversations cannot be read");
                    }
                    let strip = Arc::new(strip);
                    change.strips.push(strip.clone());
                    strip
                }
            })
            .collect();
        self.picture.accounts = strips;
    }
}
