//! The one reader of the views, used by every command and the dashboard, as the Redis user that may only read.
//!
//! Owns how views are found and put together. Does not own how they are shown. Invariant: an answer says what stands in Redis now; where a
//! view is absent the answer says so and nothing is made up.

use std::time::Duration;

use redis::{Pipeline, Value};
use serde::de::DeserializeOwned;

use crate::config::RedisConfig;
use crate::schema::time::Millis;
use crate::schema::view::{AccountView, ConversationSnapshot, GapView};

use super::connection::{Connection, Role};
use super::error::ViewsError;
use super::keys::Keys;
use super::stream::{StreamEntry, StreamRange};
use super::value;

/// Conversations read with one pipeline.
const READ_MAX: usize = 512;

/// Reads the views. Clones share one connection.
#[derive(Clone)]
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) keys: Keys,
}

/// One conversation as it stands in Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationView {
    /// The snapshot; `stale` is filled in from the account's newest gap.
    pub snapshot: ConversationSnapshot,
    /// The snapshot's JSON as it is stored, without `stale`.
    pub raw: String,
    /// Grows by one with every write.
    pub rev: u64,
    /// How long it is kept if nothing happens.
    pub ttl: Option<Duration>,
}

/// One conversation's hash as it stands in Redis, unread: for who checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredView {
    /// The snapshot's JSON; empty where the field is gone.
    pub snapshot: Vec<u8>,
    /// The encoded state; empty where the field is gone.
    pub fold: Vec<u8>,
    /// How long it is kept if nothing happens; `None` for ever.
    pub ttl: Option<Duration>,
}

impl Reader {
    /// Reads the config and the password; the first call connects.
    ///
    /// # Errors
    /// [`ViewsError::Config`], [`ViewsError::PasswordFile`].
    pub fn open(config: &RedisConfig) -> Result<Self, ViewsError> {
        Ok(Self { keys: Keys::new(config)?, connection: Connection::open(config, Role::Reader)? })
    }

    /// [`open`](Self::open), and one round trip to see that Redis answers this user.
    ///
    /// # Errors
    /// Those of `open`, and what connecting ends with.
    pub async fn connect(config: &RedisConfig) -> Result<Self, ViewsError> {
        let reader = Self::open(config)?;
        reader.one(redis::cmd("PING")).await?;
        Ok(reader)
    }

    /// The epoch; `None` in a Redis that was never written to.
    ///
    /// # Errors
    /// What Redis or the connection fails with; so for every call below. [`ViewsError::Unexpected`] where something else stands
    /// under a key of ours.
    pub async fn epoch(&self) -> Result<Option<String>, ViewsError> {
        let key = self.keys.epoch();
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        value::optional_text(&key, self.one(cmd).await?)
    }

    /// All accounts with the time of their last activity, the latest first. 0 means that only the account's own state is known.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn accounts(&self) -> Result<Vec<(String, Millis)>, ViewsError> {
        let key = self.keys.accounts();
        self.ranked("ZREVRANGE", &key, 0, usize::MAX).await
    }

    /// Conversations of the account and their last activity, the latest first.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn inbox(&self, account: &str, offset: usize, limit: usize) -> Result<Vec<(String, Millis)>, ViewsError> {
        self.ranked("ZREVRANGE", &self.keys.inbox(account), offset, limit).await
    }

    /// Conversations of the account whose fan waits for an answer, and since when, the longest waiting first.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn awaiting(&self, account: &str, offset: usize, limit: usize) -> Result<Vec<(String, Millis)>, ViewsError> {
        self.ranked("ZRANGE", &self.keys.awaiting(account), offset, limit).await
    }

    /// One conversation; `None` where there is none, or no more.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn conversation(&self, account: &str, conversation: &str) -> Result<Option<ConversationView>, ViewsError> {
        Ok(self.conversations(account, &[conversation]).await?.pop().flatten())
    }

    /// Several conversations of an account, in the order asked. An index may name a conversation whose time has run out: that is `None`.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn conversations<S: AsRef<str>>(&self, account: &str, wanted: &[S]) -> Result<Vec<Option<ConversationView>>, ViewsError> {
        let mut views = Vec::with_capacity(wanted.len());
        for part in wanted.chunks(READ_MAX) {
            let stored = self.read_part(account, part).await?;
            let gap = gap(stored.gap)?;
            for (key, fields, ttl) in stored.conversations {
                views.push(conversation_view(&key, fields, &ttl, gap.as_ref())?);
            }
        }
        Ok(views)
    }

    /// The same for who shows many of them: one that cannot be read is an error in its own place, and the others are there. A gap that cannot be
    /// read counts as none; [`account`](Self::account) tells of it.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch), where it is not the fault of one conversation.
    pub async fn each_conversation<S: AsRef<str>>(
        &self,
        account: &str,
        wanted: &[S],
    ) -> Result<Vec<Result<Option<ConversationView>, ViewsError>>, ViewsError> {
        let mut views = Vec::with_capacity(wanted.len());
        for part in wanted.chunks(READ_MAX) {
            let stored = self.read_part(account, part).await?;
            let gap = gap(stored.gap).unwrap_or_default();
            views.extend(stored.conversations.into_iter().map(|(key, fields, ttl)| conversation_view(&key, fields, &ttl, gap.as_ref())));
        }
        Ok(views)
    }

    async fn read_part<S: AsRef<str>>(&self, account: &str, part: &[S]) -> Result<Part, ViewsError> {
        let keys: Vec<String> = part.iter().map(|conversation| self.keys.conversation(account, conversation.as_ref())).collect();
        let account = self.keys.account(account);
        let mut pipeline = Pipeline::with_capacity(1 + 2 * keys.len());
        pipeline.cmd("HGET").arg(&account).arg("gap");
        for key in &keys {
            pipeline.cmd("HMGET").arg(key).arg("snapshot").arg("rev").cmd("PTTL").arg(key);
        }
        let mut values = self.each(&pipeline).await?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let gap = (account, next());
        Ok(Part { gap, conversations: keys.into_iter().map(|key| (key, next(), next())).collect() })
    }

    /// The hashes of several conversations of an account, in the order asked, whatever stands in them.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn stored<S: AsRef<str>>(&self, account: &str, wanted: &[S]) -> Result<Vec<Option<StoredView>>, ViewsError> {
        let mut views = Vec::with_capacity(wanted.len());
        for part in wanted.chunks(READ_MAX) {
            let keys: Vec<String> = part.iter().map(|conversation| self.keys.conversation(account, conversation.as_ref())).collect();
            let mut pipeline = Pipeline::with_capacity(2 * keys.len());
            for key in &keys {
                pipeline.cmd("HMGET").arg(key).arg("snapshot").arg("fold").cmd("PTTL").arg(key);
            }
            let mut values = self.connection.query(&pipeline).await?.into_iter();
            for key in &keys {
                let (fields, ttl) = (values.next().unwrap_or(Value::Nil), values.next().unwrap_or(Value::Nil));
                let [snapshot, fold] = value::pair(key, fields)?;
                // PTTL answers -2 for a key that is not there, -1 for one that does not end.
                let ttl = value::number::<i64>(key, &ttl)?;
                let ttl_ms = u64::try_from(ttl).ok();
                let bytes = |value| if let Value::BulkString(bytes) = value { bytes } else { Vec::new() };
                let view = StoredView { snapshot: bytes(snapshot), fold: bytes(fold), ttl: ttl_ms.map(Duration::from_millis) };
                views.push((ttl != -2).then_some(view));
            }
        }
        Ok(views)
    }

    /// What is known of the account beyond its conversations; empty where nothing is.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn account(&self, account: &str) -> Result<AccountView, ViewsError> {
        let key = self.keys.account(account);
        account_view(&key, self.one(account_command(&key)).await?)
    }

    /// Accounts that have a conversation with this fan, the latest active first.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn find_fan(&self, fan: &str) -> Result<Vec<String>, ViewsError> {
        let accounts = self.accounts().await?;
        let mut pipeline = Pipeline::with_capacity(accounts.len());
        for (account, _) in &accounts {
            pipeline.cmd("EXISTS").arg(self.keys.conversation(account, fan));
        }
        let there = self.connection.query(&pipeline).await?;
        let found = accounts.into_iter().zip(there).filter(|(_, there)| *there == Value::Int(1));
        Ok(found.map(|((account, _), _)| account).collect())
    }

    /// Events of a high-value fan, oldest first.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn fan_events(&self, account: &str, fan: &str, range: StreamRange) -> Result<Vec<StreamEntry>, ViewsError> {
        self.stream(&self.keys.fan_events(account, fan), range).await
    }

    /// Entries of an account's priority feed, oldest first.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub async fn priority(&self, account: &str, range: StreamRange) -> Result<Vec<StreamEntry>, ViewsError> {
        self.stream(&self.keys.priority(account), range).await
    }

    async fn stream(&self, key: &str, range: StreamRange) -> Result<Vec<StreamEntry>, ViewsError> {
        if matches!(range, StreamRange::Last(0)) {
            return Ok(Vec::new());
        }
        range.entries(key, self.one(range.command(key)).await?)
    }

    async fn ranked(&self, command: &str, key: &str, offset: usize, limit: usize) -> Result<Vec<(String, Millis)>, ViewsError> {
        let index = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut cmd = redis::cmd(command);
        cmd.arg(key).arg(index(offset)).arg(index(offset.saturating_add(limit - 1))).arg("WITHSCORES");
        members(key, self.one(cmd).await?)
    }

    /// Answers to many commands. What is wrong with one key stays in its place; what is wrong with all of them is the error.
    pub(super) async fn each(&self, pipeline: &Pipeline) -> Result<Vec<Value>, ViewsError> {
        let values = self.connection.send(pipeline).await?;
        let of_all = |value: &Value| match value {
            Value::ServerError(error) if error.code() != "WRONGTYPE" => Some(ViewsError::from_reply(error)),
            _ => None,
        };
        values.iter().find_map(of_all).map_or(Ok(()), Err)?;
        Ok(values)
    }

    pub(super) async fn one(&self, cmd: redis::Cmd) -> Result<Value, ViewsError> {
        let values = self.connection.query(Pipeline::new().add_command(cmd)).await?;
        Ok(values.into_iter().next().unwrap_or(Value::Nil))
    }
}

/// Several conversations of an account as Redis answers: keys, fields, times to live.
struct Part {
    gap: (String, Value),
    conversations: Vec<(String, Value, Value)>,
}

fn gap((key, value): (String, Value)) -> Result<Option<GapView>, ViewsError> {
    Ok(json(&key, value)?.map(|(gap, _)| gap))
}

/// Members with their scores, as WITHSCORES gives them.
pub(super) fn members(key: &str, value: Value) -> Result<Vec<(String, Millis)>, ViewsError> {
    let mut values = value::array(key, value)?.into_iter();
    let mut ranked = Vec::with_capacity(values.len() / 2);
    while let (Some(member), Some(score)) = (values.next(), values.next()) {
        ranked.push((value::text(key, member)?, Millis(value::number(key, &score)?)));
    }
    Ok(ranked)
}

/// Asks for what [`account_view`] reads.
pub(super) fn account_command(key: &str) -> redis::Cmd {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(key).arg(&["counters", "presence", "connection", "gap", "auth"]);
    cmd
}

pub(super) fn account_view(key: &str, fields: Value) -> Result<AccountView, ViewsError> {
    let [counters, presence, connection, gap, auth] = value::pair(key, fields)?;
    Ok(AccountView {
        counters: json(key, counters)?.map(|(view, _)| view),
        presence: json(key, presence)?.map(|(view, _)| view),
        connection: json(key, connection)?.map(|(view, _)| view),
        gap: json(key, gap)?.map(|(view, _)| view),
        auth: json(key, auth)?.map(|(view, _)| view),
    })
}

/// Asks for what [`connection_view`] reads.
pub(super) fn connection_command(key: &str) -> redis::Cmd {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(key).arg(&["connection", "gap", "auth"]);
    cmd
}

pub(super) fn connection_view(key: &str, fields: Value) -> Result<AccountView, ViewsError> {
    let [connection, gap, auth] = value::pair(key, fields)?;
    Ok(AccountView {
        connection: json(key, connection)?.map(|(view, _)| view),
        gap: json(key, gap)?.map(|(view, _)| view),
        auth: json(key, auth)?.map(|(view, _)| view),
        ..AccountView::default()
    })
}

fn conversation_view(key: &str, fields: Value, ttl: &Value, gap: Option<&GapView>) -> Result<Option<ConversationView>, ViewsError> {
    let [snapshot, rev] = value::pair(key, fields)?;
    let Some((mut snapshot, raw)) = json::<ConversationSnapshot>(key, snapshot)? else { return Ok(None) };
    snapshot.stale = Some(gap.is_some_and(|gap| gap.to > snapshot.received_at));
    // PTTL answers -1 for a key that does not end.
    let ttl = value::number::<i64>(key, ttl)?.try_into().ok().map(Duration::from_millis);
    Ok(Some(ConversationView { snapshot, raw, rev: value::number(key, &rev)?, ttl }))
}

/// JSON and its text, or nothing.
fn json<T: DeserializeOwned>(key: &str, value: Value) -> Result<Option<(T, String)>, ViewsError> {
    let Some(text) = value::optional_text(key, value)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(view) => Ok(Some((view, text))),
        Err(error) => Err(ViewsError::unexpected(key, format!("JSON that this version does not read: {error}"))),
    }
}
