//! The one writer of live chat data.
//!
//! Owns what is written and how it is guarded. Does not own what a state means (that is [`crate::transform`]). Invariants: a conversation or an
//! account changes only if its `rev` is still the one that the fold started from, and then everything that belongs to the change is
//! written with it; everything written is bounded by a cap, a TTL, or both.
//!
//! Every call may be repeated. After a timeout it is not known whether a write happened: repeated, one that did answers
//! [`WriteOutcome::Conflict`], the caller reloads, and the state it finds knows the events already.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use redis::{Cmd, Pipeline, Value};

use crate::config::RedisConfig;
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountWrite, ConversationWrite, WriteOutcome};

use super::connection::{Connection, Role};
use super::epoch::Mark;
use super::error::ViewsError;
use super::keys::Keys;
use super::script;
use super::value;

/// What one script call takes at most: Redis serves nobody else meanwhile, about half a millisecond.
const CHUNK_MAX: usize = 64;
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// Bytes after which a pipeline is sent while the next one is being put together.
const PIPELINE_BYTES_MAX: usize = 1 << 20;
/// Conversations loaded with one pipeline.
const LOAD_MAX: usize = 512;

/// Writes conversations, accounts and their indexes. Clones share one connection; lanes that write side by side open their own.
#[derive(Clone)]
pub struct Writer {
    pub(super) connection: Connection,
    pub(super) keys: Keys,
    pub(super) bounds: Bounds,
    pub(super) mark: Mark,
}

/// The bounds as the scripts take them: TTLs in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) ttl_ms: u64,
    accounts_max: u64,
    inbox_max: u64,
    due_max: u64,
    fan_events_max: u64,
    fan_events_ttl_ms: u64,
    priority_max: u64,
    priority_ttl_ms: u64,
    pub(super) message_index_max: u64,
}

/// A stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its revision, above 0; 0 where it is gone.
    pub rev: u64,
    /// The encoded state, as it was written; empty, which is none, where it is gone.
    pub fold: Vec<u8>,
}

impl Writer {
    /// Reads the config and the password; the first call connects. For services, which wait for a Redis that is not up yet.
    ///
    /// # Errors
    /// [`ViewsError::Config`], [`ViewsError::PasswordFile`].
    pub fn open(config: &RedisConfig) -> Result<Self, ViewsError> {
        let keys = Keys::new(config)?;
        Ok(Self { connection: Connection::open(config, Role::Writer)?, keys, bounds: Bounds::new(config), mark: Mark::new() })
    }

    /// [`open`](Self::open), and one round trip to see that Redis answers this user.
    ///
    /// # Errors
    /// Those of `open`, and what connecting ends with.
    pub async fn connect(config: &RedisConfig) -> Result<Self, ViewsError> {
        let writer = Self::open(config)?;
        writer.connection.query(Pipeline::new().cmd("PING")).await?;
        Ok(writer)
    }

    /// The stored states of conversations (account, conversation), in the order asked; `None` where there is none.
    ///
    /// # Errors
    /// What Redis or the connection fails with; [`ViewsError::Unexpected`] for a hash that is none of ours.
    pub async fn load_conversations(&self, wanted: &[(String, String)]) -> Result<Vec<Option<Stored>>, ViewsError> {
        self.load(wanted.iter().map(|(account, conversation)| self.keys.conversation(account, conversation)).collect()).await
    }

    /// The stored states of accounts, in the order asked; `None` where there is none.
    ///
    /// # Errors
    /// As [`load_conversations`](Self::load_conversations).
    pub async fn load_accounts(&self, accounts: &[String]) -> Result<Vec<Option<Stored>>, ViewsError> {
        self.load(accounts.iter().map(|account| self.keys.account(account)).collect()).await
    }

    /// Writes conversations; the outcomes in the order given. Each is written whole or not at all. Their accounts are listed with them.
    ///
    /// Writes of one conversation take effect in the order given, so a second one may start from the first one's `rev`.
    ///
    /// # Errors
    /// What Redis or the connection fails with. Some of the writes may have happened then; repeat all of them.
    pub async fn write_conversations(&self, writes: &[ConversationWrite]) -> Result<Vec<WriteOutcome>, ViewsError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let chunks = chunks(writes);
        let pipelines = pipelines(&chunks);
        let sent = pipelines.iter().map(|pipeline| self.write_chunks(writes, pipeline));
        let mut active: HashMap<&str, Millis, foldhash::fast::RandomState> = HashMap::default();
        for write in writes {
            let newest = active.entry(&write.account).or_insert(write.active_at);
            *newest = write.active_at.max(*newest);
        }
        // All at once: Redis works on the first pipeline while the next is put together. The connection keeps their order, so the mark comes last.
        let (answers, ()) = try_join(try_join_all(sent), self.touch(active.into_iter())).await?;
        let mut outcomes = vec![WriteOutcome::Conflict; writes.len()];
        for (chunk, answer) in chunks.iter().zip(answers.into_iter().flatten()) {
            let digits = match &answer {
                Value::BulkString(digits) if digits.len() == chunk.writes.len() => digits,
                other => return Err(ViewsError::unexpected("conversations.lua", value::shape(other))),
            };
            for (&at, digit) in chunk.writes.iter().zip(digits) {
                if *digit == b'1' {
                    outcomes[at] = WriteOutcome::Written;
                }
            }
        }
        Ok(outcomes)
    }

    /// Writes account states; the outcomes in the order given. The accounts are listed from then on, without a time of activity until
    /// [`touch_accounts`](Self::touch_accounts) gives one.
    ///
    /// # Errors
    /// What Redis or the connection fails with. Some of the writes may have happened then; repeat all of them.
    pub async fn write_accounts(&self, writes: &[AccountWrite]) -> Result<Vec<WriteOutcome>, ViewsError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut calls = Pipeline::with_capacity(writes.len());
        for write in writes {
            calls.add_command(self.account_call(write));
        }
        let values = script::run(&self.connection, &script::ACCOUNT, &calls).await?;
        self.touch(writes.iter().map(|write| (write.account.as_str(), Millis(0)))).await?;
        let outcome = |value| match value {
            Value::Int(1) => Ok(WriteOutcome::Written),
            Value::Int(0) => Ok(WriteOutcome::Conflict),
            other => Err(ViewsError::unexpected("account.lua", value::shape(&other))),
        };
        values.into_iter().map(outcome).collect()
    }

    /// Lists accounts with the time of their last activity; an earlier time than the known one changes nothing. Beyond the bound the longest inactive
    /// are listed no more.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn touch_accounts(&self, accounts: &[(String, Millis)]) -> Result<(), ViewsError> {
        self.touch(accounts.iter().map(|(account, at)| (account.as_str(), *at))).await
    }

    /// Conversations of the account whose timer fell due by `now`, longest due first, at most `limit`. They stay until they are written
    /// with another timer or none.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn due(&self, account: &str, now: Millis, limit: usize) -> Result<Vec<String>, ViewsError> {
        let key = self.keys.due(account);
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ZRANGEBYSCORE").arg(&key).arg("-inf").arg(now.0).arg("LIMIT").arg(0).arg(limit);
        let values = self.connection.query(&pipeline).await?;
        value::texts(&key, values.into_iter().next().unwrap_or(Value::Nil))
    }

    /// Takes conversations that are not there any more out of their accounts' timers, so that they do not fall due for ever.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn forget_due(&self, conversations: &[(String, String)]) -> Result<(), ViewsError> {
        let mut pipeline = Pipeline::with_capacity(conversations.len());
        for (account, conversation) in conversations {
            pipeline.cmd("ZREM").arg(self.keys.due(account)).arg(conversation);
        }
        self.connection.query(&pipeline).await?;
        Ok(())
    }

    /// Every account, the most recently active first.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn accounts(&self) -> Result<Vec<String>, ViewsError> {
        let key = self.keys.accounts();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ZREVRANGE").arg(&key).arg(0).arg(-1);
        let values = self.connection.query(&pipeline).await?;
        value::texts(&key, values.into_iter().next().unwrap_or(Value::Nil))
    }

    async fn load(&self, keys: Vec<String>) -> Result<Vec<Option<Stored>>, ViewsError> {
        let sent = keys.chunks(LOAD_MAX).map(|keys| async move {
            let mut pipeline = Pipeline::with_capacity(keys.len());
            for key in keys {
                pipeline.cmd("HMGET").arg(key).arg("rev").arg("fold");
            }
            self.connection.query(&pipeline).await
        });
        let values = try_join_all(sent).await?;
        keys.iter().zip(values.into_iter().flatten()).map(|(key, value)| stored(key, value)).collect()
    }

    async fn write_chunks(&self, writes: &[ConversationWrite], chunks: &[Chunk]) -> Result<Vec<Value>, ViewsError> {
        let mut calls = Pipeline::with_capacity(chunks.len());
        for chunk in chunks {
            calls.add_command(self.conversations_call(writes, chunk));
        }
        script::run(&self.connection, &script::CONVERSATIONS, &calls).await
    }

    fn conversations_call(&self, writes: &[ConversationWrite], chunk: &Chunk) -> Cmd {
        let (keys, bounds) = (&self.keys, &self.bounds);
        let account = chunk.writes.first().map_or("", |&at| writes[at].account.as_str());
        let mut names = Vec::with_capacity(4 + 2 * chunk.writes.len());
        names.extend([keys.inbox(account), keys.awaiting(account), keys.due(account), keys.priority(account)]);
        for &at in &chunk.writes {
            names.push(keys.conversation(account, &writes[at].conversation));
            if !writes[at].fan_events.is_empty() {
                names.push(keys.fan_events(account, &writes[at].conversation));
            }
        }
        let mut cmd = script::CONVERSATIONS.call(&names, 7 + 12 * chunk.writes.len(), chunk.bytes);
        cmd.arg(bounds.ttl_ms).arg(bounds.inbox_max).arg(bounds.due_max).arg(bounds.fan_events_max).arg(bounds.fan_events_ttl_ms);
        cmd.arg(bounds.priority_max).arg(bounds.priority_ttl_ms);
        for &at in &chunk.writes {
            let write = &writes[at];
            cmd.arg(&write.conversation).arg(write.expected_rev).arg(write.rev).arg(&write.snapshot).arg(&write.fold);
            cmd.arg(write.active_at.0);
            time_or_empty(&mut cmd, write.awaiting_since);
            time_or_empty(&mut cmd, write.due_at);
            cmd.arg(write.fan_events.len()).arg(write.priority.len());
            for event in &write.fan_events {
                cmd.arg(&event[..]);
            }
            for entry in &write.priority {
                cmd.arg(entry.as_slice());
            }
        }
        cmd
    }

    fn account_call(&self, write: &AccountWrite) -> Cmd {
        let (account, bounds) = (&write.account, &self.bounds);
        let names = [self.keys.account(account), self.keys.priority(account)];
        let bytes = write.fold.len() + write.fields.iter().map(|(_, json)| json.len() + 16).sum::<usize>();
        let mut cmd = script::ACCOUNT.call(&names, 7 + 2 * write.fields.len() + write.priority.len(), bytes);
        cmd.arg(write.expected_rev).arg(write.rev).arg(&write.fold).arg(bounds.ttl_ms);
        cmd.arg(bounds.priority_max).arg(bounds.priority_ttl_ms).arg(write.fields.len());
        for (name, json) in &write.fields {
            cmd.arg(*name).arg(json);
        }
        for entry in &write.priority {
            cmd.arg(entry.as_slice());
        }
        cmd
    }

    async fn touch(&self, accounts: impl Iterator<Item = (&str, Millis)>) -> Result<(), ViewsError> {
        let key = self.keys.accounts();
        let mut cmd = redis::cmd("ZADD");
        cmd.arg(&key).arg("GT");
        let mut any = false;
        for (account, at) in accounts {
            cmd.arg(at.0).arg(account);
            any = true;
        }
        if any {
            let last_to_go = -i64::try_from(self.bounds.accounts_max).unwrap_or(i64::MAX - 1) - 1;
            let mut pipeline = Pipeline::new();
            pipeline.add_command(cmd).cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(last_to_go);
            let mark = self.mark.add_to(&mut pipeline, &self.keys.marks());
            self.connection.query(&pipeline).await?;
            self.mark.confirm(mark);
        }
        Ok(())
    }
}

impl Bounds {
    fn new(config: &RedisConfig) -> Self {
        let ms = |seconds: u64| u64::try_from(Duration::from_secs(seconds.max(1)).as_millis()).unwrap_or(u64::MAX).min(TTL_MAX_MS);
        Self {
            ttl_ms: ms(config.conversation_ttl_s),
            accounts_max: config.accounts_max,
            inbox_max: config.inbox_max,
            due_max: config.due_max,
            fan_events_max: config.fan_events_max,
            fan_events_ttl_ms: ms(config.fan_events_ttl_s),
            priority_max: config.priority_max,
            priority_ttl_ms: ms(config.priority_ttl_s),
            message_index_max: config.message_index_max,
        }
    }
}

/// A hundred years: Redis adds a TTL to its clock and refuses what overflows.
const TTL_MAX_MS: u64 = 100 * 365 * 86_400 * 1000;

/// Writes of one account for one script call, by their place.
struct Chunk {
    writes: Vec<usize>,
    bytes: usize,
}

/// Puts writes together by account. A conversation that comes twice comes in two chunks: the script gathers its index entries per call.
fn chunks(writes: &[ConversationWrite]) -> Vec<Chunk> {
    type Seen<'a, V> = HashMap<&'a str, V, foldhash::fast::RandomState>;
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open: Seen<'_, usize> = Seen::default();
    let mut chunk_of: HashMap<(&str, &str), usize, foldhash::fast::RandomState> = HashMap::default();
    for (at, write) in writes.iter().enumerate() {
        let bytes = size(write);
        let current = open.get(write.account.as_str()).copied().filter(|&number| {
            let chunk = &chunks[number];
            chunk.writes.len() < CHUNK_MAX
                && chunk.bytes + bytes <= CHUNK_BYTES_MAX
                && chunk_of.get(&(write.account.as_str(), write.conversation.as_str())) != Some(&number)
        });
        let number = current.unwrap_or_else(|| {
            chunks.push(Chunk { writes: Vec::with_capacity(CHUNK_MAX), bytes: 0 });
            chunks.len() - 1
        });
        open.insert(&write.account, number);
        chunk_of.insert((&write.account, &write.conversation), number);
        chunks[number].writes.push(at);
        chunks[number].bytes += bytes;
    }
    chunks
}

/// Cuts the chunks, in order, into pipelines of bounded size.
fn pipelines(chunks: &[Chunk]) -> Vec<&[Chunk]> {
    let mut pipelines = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, chunk) in chunks.iter().enumerate() {
        bytes += chunk.bytes;
        if bytes >= PIPELINE_BYTES_MAX || at + 1 == chunks.len() {
            pipelines.push(&chunks[start..=at]);
            (start, bytes) = (at + 1, 0);
        }
    }
    pipelines
}

fn size(write: &ConversationWrite) -> usize {
    let fan_events: usize = write.fan_events.iter().map(|event| event.len()).sum();
    let priority: usize = write.priority.iter().map(Vec::len).sum();
    write.snapshot.len() + write.fold.len() + write.conversation.len() + fan_events + priority + 100
}

fn time_or_empty(cmd: &mut Cmd, at: Option<Millis>) {
    match at {
        Some(at) => cmd.arg(at.0),
        None => cmd.arg(""),
    };
}

fn stored(key: &str, value: Value) -> Result<Option<Stored>, ViewsError> {
    let [rev, fold] = value::pair(key, value)?;
    // A hash of which somebody deleted a part is no reason to stand still: what is left of it is written over. The guard takes an absent `rev` for 0.
    let rev = match rev {
        Value::Nil if fold == Value::Nil => return Ok(None),
        Value::Nil => 0,
        rev => value::number(key, &rev)?,
    };
    let fold = if let Value::BulkString(fold) = fold { fold } else { Vec::new() };
    Ok(Some(Stored { rev, fold }))
}
