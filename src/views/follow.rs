//! Following streams: the priority feeds of several accounts, or one fan's events.
//!
//! Owns where each stream was read to. Does not own filters or rendering. Invariants: each entry that is still there is given once, in the
//! order of its stream, and what stands in several streams already in the order of the ids; where entries went before they could be read, or
//! Redis was emptied, a [`FollowItem::Gap`] says so before what comes next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::config::RedisConfig;
use crate::schema::time::Millis;

use super::connection::{Connection, Role};
use super::error::ViewsError;
use super::keys::Keys;
use super::read::Reader;
use super::stream::{self, StreamEntry, StreamId, StreamRange};
use super::value;

/// How long one read waits in Redis: a new account or an emptied Redis is noticed that soon.
const BLOCK_MS: u64 = 1_000;
const BLOCK: Duration = Duration::from_millis(BLOCK_MS);
/// Entries of one stream that one read takes.
const READ_MAX: usize = 128;

/// What to follow, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// Which stream of each account.
    pub what: Followed,
    /// Only these accounts; where empty all, also those that appear later.
    pub accounts: Vec<String>,
    /// Where to begin. An account that appears later is followed from its beginning.
    pub start: Start,
    /// When Redis is away: wait and reconnect for ever, or fail.
    pub retry: bool,
}

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The priority feed.
    Priority,
    /// All events of this fan, where it is high-value.
    FanEvents(String),
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Now,
    /// With the newest so many, over all accounts.
    Last(usize),
    /// With what was written since.
    Since(Millis),
    /// After this entry.
    AfterId(StreamId),
}

/// What a follower sees.
#[derive(Debug)]
pub enum FollowItem {
    /// An entry.
    Entry {
        /// The account whose stream it stands in.
        account: String,
        /// Where it stands.
        id: StreamId,
        /// Its JSON, as it was written.
        json: String,
    },
    /// Entries may have been missed between two.
    Gap {
        /// The account.
        account: String,
        /// The last entry that was read before.
        after: StreamId,
        /// The first entry there is now; absent where there is none yet.
        next: Option<StreamId>,
        /// What happened.
        cause: GapCause,
    },
    /// Redis is away; it is tried until it answers. Said once.
    Reconnecting(ViewsError),
    /// Redis is back; following goes on after the last entry.
    Reconnected,
}

/// Why entries may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// The stream's cap was reached before they were read.
    Trimmed,
    /// Redis was emptied; following goes on from the beginning of the new stream.
    Emptied,
}

/// Follows streams. Ends when it is dropped.
pub struct Follower {
    connection: Connection,
    keys: Keys,
    follow: Follow,
    /// What of each account was read, by account.
    places: BTreeMap<String, Place>,
    /// `None` until the first look; then the epoch, or that Redis has none.
    epoch: Option<Option<String>>,
    look_at: Option<Instant>,
    away: bool,
    ready: VecDeque<FollowItem>,
}

#[derive(Debug, Clone, Default)]
struct Place {
    key: String,
    /// The last entry read, or where reading began.
    id: StreamId,
    /// An entry of the stream stood there, rather than a time or the beginning.
    real: bool,
    /// How many entries had ever been added when everything up to `id` was read, where that is known.
    added: Option<u64>,
}

impl Follower {
    /// Reads the config; the first [`next`](Self::next) connects.
    ///
    /// # Errors
    /// [`ViewsError::Config`], [`ViewsError::PasswordFile`].
    pub fn open(config: &RedisConfig, follow: Follow) -> Result<Self, ViewsError> {
        Ok(Self {
            connection: Connection::with_patience(config, Role::Reader, BLOCK)?,
            keys: Keys::new(config)?,
            follow,
            places: BTreeMap::new(),
            epoch: None,
            look_at: None,
            away: false,
            ready: VecDeque::new(),
        })
    }

    /// The same on the connection of a reader, for [`next_there`](Self::next_there) alone: that never waits in Redis, so it holds nobody else up.
    #[must_use]
    pub fn beside(reader: &Reader, follow: Follow) -> Self {
        let (connection, keys) = (reader.connection.clone(), reader.keys.clone());
        Self { connection, keys, follow, places: BTreeMap::new(), epoch: None, look_at: None, away: false, ready: VecDeque::new() }
    }

    /// The next item, whenever it comes. May be dropped and called again without losing any.
    ///
    /// # Errors
    /// What Redis or the connection fails with, unless it may pass and [`Follow::retry`] is set.
    pub async fn next(&mut self) -> Result<FollowItem, ViewsError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            match self.step().await {
                Ok(()) if self.away => {
                    self.away = false;
                    self.ready.push_front(FollowItem::Reconnected);
                }
                Ok(()) => {}
                Err(error) if self.follow.retry && error.is_transient() => {
                    // What was emptied or added meanwhile is looked at before the next read.
                    self.look_at = None;
                    if !std::mem::replace(&mut self.away, true) {
                        return Ok(FollowItem::Reconnecting(error));
                    }
                    if !matches!(error, ViewsError::Unreachable { .. }) {
                        // The connection backs off only where it could not be made.
                        tokio::time::sleep(BLOCK / 4).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next item that is there already: `None` once everything that was written so far has been given. Then [`next`](Self::next) goes on.
    ///
    /// # Errors
    /// What Redis or the connection fails with; [`Follow::retry`] does not count here.
    pub async fn next_there(&mut self) -> Result<Option<FollowItem>, ViewsError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if self.is_look_due() {
                self.look_again().await?;
            } else if !self.read(None).await? {
                return Ok(None);
            }
        }
    }

    async fn step(&mut self) -> Result<(), ViewsError> {
        if self.is_look_due() {
            // What the look found comes first; also, a Redis that is back is reported without waiting for an entry.
            return self.look_again().await;
        }
        if self.places.is_empty() {
            tokio::time::sleep(BLOCK / 4).await;
            return Ok(());
        }
        self.read(Some(BLOCK_MS)).await.map(|_| ())
    }

    fn is_look_due(&self) -> bool {
        self.look_at.is_none_or(|at| Instant::now() >= at)
    }

    async fn look_again(&mut self) -> Result<(), ViewsError> {
        self.look().await?;
        self.look_at = Some(Instant::now() + BLOCK);
        Ok(())
    }

    /// Reads what comes next, waiting for it where `block_ms` says so; false where nothing came.
    async fn read(&mut self, block_ms: Option<u64>) -> Result<bool, ViewsError> {
        if self.places.is_empty() {
            return Ok(false);
        }
        let accounts: Vec<&String> = self.places.keys().collect();
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(READ_MAX);
        if let Some(ms) = block_ms {
            read.arg("BLOCK").arg(ms);
        }
        read.arg("STREAMS");
        for place in self.places.values() {
            read.arg(&place.key);
        }
        for place in self.places.values() {
            read.arg(place.id.to_string());
        }
        let value = self.one(read).await?;
        let mut batch: Vec<(String, Vec<StreamEntry>)> = Vec::new();
        for stream in value::array("XREAD", value)? {
            let [key, entries] = value::pair("XREAD", stream)?;
            let key = value::text("XREAD", key)?;
            let account = accounts.iter().find(|account| self.places[**account].key == key);
            let account = account.ok_or_else(|| ViewsError::unexpected("XREAD", "a stream that was not asked for"))?;
            batch.push(((*account).clone(), stream::entries(&key, entries)?));
        }
        if batch.is_empty() {
            return Ok(false);
        }
        self.take(in_order(batch)).await?;
        Ok(true)
    }

    /// Looks at what stands around the entries just read before they are given out: an emptied Redis voids where reading stood, and the
    /// beginning of a stream tells whether entries were trimmed in between.
    async fn take(&mut self, batch: Vec<(String, Vec<StreamEntry>)>) -> Result<(), ViewsError> {
        let mut pipeline = Pipeline::with_capacity(1 + batch.len());
        pipeline.cmd("GET").arg(self.keys.epoch());
        for (account, _) in &batch {
            pipeline.cmd("XINFO").arg("STREAM").arg(&self.places[account].key);
        }
        let mut values = self.connection.send(&pipeline).await?.into_iter();
        let epoch = value::optional_text(&self.keys.epoch(), reply(values.next())?)?;
        if self.emptied(epoch) {
            return Ok(());
        }
        let mut entries = Vec::new();
        for (account, read) in batch {
            let Some(place) = self.places.get_mut(&account) else { continue };
            // The stream may have ended since it was read; then there is nothing to compare with.
            let info = values.next().and_then(|value| Info::read(&place.key, value));
            let Some(first) = read.first().map(|entry| entry.id) else { continue };
            if info.as_ref().is_some_and(|info| info.trimmed_after(place)) {
                let (after, cause) = (place.id, GapCause::Trimmed);
                self.ready.push_back(FollowItem::Gap { account: account.clone(), after, next: Some(first), cause });
            }
            if let Some(last) = read.last() {
                (place.id, place.real) = (last.id, true);
            }
            place.added = info.filter(|info| info.last == place.id).and_then(|info| info.added);
            entries.extend(read.into_iter().map(|entry| (entry.id, account.clone(), entry.json)));
        }
        entries.sort_by_key(|(id, ..)| *id);
        self.ready.extend(entries.into_iter().map(|(id, account, json)| FollowItem::Entry { account, id, json }));
        Ok(())
    }

    /// Looks at the epoch and for new accounts.
    async fn look(&mut self) -> Result<(), ViewsError> {
        let first = self.epoch.is_none();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg(self.keys.epoch()).cmd("ZRANGE").arg(self.keys.accounts()).arg(0).arg(-1);
        let [epoch, listed] = value::pair("GET and ZRANGE", Value::Array(self.connection.query(&pipeline).await?))?;
        let epoch = value::optional_text(&self.keys.epoch(), epoch)?;
        let accounts =
            if self.follow.accounts.is_empty() { value::texts(&self.keys.accounts(), listed)? } else { self.follow.accounts.clone() };
        let mut fresh: BTreeMap<String, Place> = BTreeMap::new();
        for account in accounts.into_iter().filter(|account| !self.places.contains_key(account)) {
            let key = match &self.follow.what {
                Followed::Priority => self.keys.priority(&account),
                Followed::FanEvents(fan) => self.keys.fan_events(&account, fan),
            };
            fresh.insert(account, Place { key, ..Place::default() });
        }
        let begun = if first { self.begin(&mut fresh).await? } else { Vec::new() };
        self.emptied(epoch);
        self.places.append(&mut fresh);
        self.ready.extend(begun);
        Ok(())
    }

    /// Puts the first accounts where following starts; the entries that come first.
    async fn begin(&self, places: &mut BTreeMap<String, Place>) -> Result<Vec<FollowItem>, ViewsError> {
        let count = match self.follow.start {
            Start::Since(at) => {
                places.values_mut().for_each(|place| place.id = StreamId::just_before(at));
                return Ok(Vec::new());
            }
            Start::AfterId(id) => {
                places.values_mut().for_each(|place| (place.id, place.real) = (id, id != StreamId::ZERO));
                return self.begin_after(id, places).await;
            }
            Start::Now => 0,
            Start::Last(count) => count,
        };
        // At least one: where to go on is after the last entry.
        let range = StreamRange::Last(count.max(1));
        let mut pipeline = Pipeline::with_capacity(places.len());
        for place in places.values() {
            pipeline.add_command(range.command(&place.key));
        }
        let values = self.connection.query(&pipeline).await?;
        let mut entries = Vec::new();
        for ((account, place), value) in places.iter_mut().zip(values) {
            let read = range.entries(&place.key, value)?;
            if let Some(last) = read.last() {
                (place.id, place.real) = (last.id, true);
            }
            entries.extend(read.into_iter().map(|entry| (entry.id, account.clone(), entry.json)));
        }
        entries.sort_by_key(|(id, ..)| *id);
        let skip = entries.len().saturating_sub(count);
        Ok(entries.into_iter().skip(skip).map(|(id, account, json)| FollowItem::Entry { account, id, json }).collect())
    }

    /// A gap for each account where no stream here has ever held an entry of this age, though one was read once: they are of another content.
    async fn begin_after(&self, id: StreamId, places: &mut BTreeMap<String, Place>) -> Result<Vec<FollowItem>, ViewsError> {
        if id == StreamId::ZERO {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(places.len());
        for place in places.values() {
            pipeline.cmd("XINFO").arg("STREAM").arg(&place.key);
        }
        let values = self.connection.send(&pipeline).await?;
        // A stream that is not there has no info.
        let mut infos = places.values().zip(values).filter_map(|(place, value)| Info::read(&place.key, value));
        if infos.any(|info| !info.began_after(id)) {
            return Ok(Vec::new());
        }
        let gap = |(account, place): (&String, &mut Place)| {
            *place = Place { key: std::mem::take(&mut place.key), ..Place::default() };
            FollowItem::Gap { account: account.clone(), after: id, next: None, cause: GapCause::Emptied }
        };
        Ok(places.iter_mut().map(gap).collect())
    }

    /// Notes the epoch. If it is another one, everything read so far is void: a gap for each account, and reading begins anew.
    fn emptied(&mut self, epoch: Option<String>) -> bool {
        // From none to one is the first write into an empty Redis, not another content.
        let emptied = matches!(&self.epoch, Some(Some(before)) if epoch.as_ref() != Some(before));
        self.epoch = Some(epoch);
        if emptied {
            for (account, place) in &mut self.places {
                let (account, after) = (account.clone(), place.id);
                self.ready.push_back(FollowItem::Gap { account, after, next: None, cause: GapCause::Emptied });
                *place = Place { key: std::mem::take(&mut place.key), ..Place::default() };
            }
        }
        emptied
    }

    async fn one(&self, cmd: Cmd) -> Result<Value, ViewsError> {
        let values = self.connection.query(Pipeline::new().add_command(cmd)).await?;
        Ok(values.into_iter().next().unwrap_or(Value::Nil))
    }
}

/// A stream of which only a part was read holds back what others have beyond that part: it is read again, in the order of the ids.
fn in_order(mut batch: Vec<(String, Vec<StreamEntry>)>) -> Vec<(String, Vec<StreamEntry>)> {
    let cut = batch.iter().filter(|(_, read)| read.len() >= READ_MAX).filter_map(|(_, read)| read.last()).map(|last| last.id).min();
    if let Some(cut) = cut {
        batch.iter_mut().for_each(|(_, read)| read.retain(|entry| entry.id <= cut));
        batch.retain(|(_, read)| !read.is_empty());
    }
    batch
}

/// What XINFO STREAM says of a stream.
struct Info {
    length: u64,
    first: StreamId,
    last: StreamId,
    /// Entries ever added; Redis counts them from version 7 on.
    added: Option<u64>,
}

impl Info {
    fn read(key: &str, value: Value) -> Option<Self> {
        let mut info = Self { length: 0, first: StreamId::ZERO, last: StreamId::ZERO, added: None };
        let mut values = value::array(key, value).ok()?.into_iter();
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            match value::text(key, name).ok()?.as_str() {
                "length" => info.length = value::number(key, &value).ok()?,
                "last-generated-id" => info.last = stream::id_of(key, value).ok()?,
                "entries-added" => info.added = Some(value::number(key, &value).ok()?),
                "first-entry" => info.first = stream::id_of(key, value::array(key, value).ok()?.into_iter().next()?).ok()?,
                _ => {}
            }
        }
        Some(info)
    }

    /// Whether the stream never held an entry of this id or an older one. Where Redis does not count, nobody can tell.
    fn began_after(&self, id: StreamId) -> bool {
        id < self.first && self.added == Some(self.length)
    }

    /// Whether entries after this place went before they could be read. By their number where Redis counts them; else it may be, where the place
    /// itself is gone.
    fn trimmed_after(&self, place: &Place) -> bool {
        if !place.real || place.id >= self.first {
            return false;
        }
        match (self.added, place.added) {
            (Some(now), Some(then)) => now.saturating_sub(self.length) > then,
            // Nothing ever left the stream: it only began after the place.
            (Some(now), None) => now > self.length,
            (None, _) => true,
        }
    }
}

fn reply(value: Option<Value>) -> Result<Value, ViewsError> {
    match value {
        Some(Value::ServerError(error)) => Err(ViewsError::from_reply(&error)),
        other => Ok(other.unwrap_or(Value::Nil)),
    }
}
