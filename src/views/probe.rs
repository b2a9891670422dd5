//! What a Redis says of itself, and whether the reader really only reads.
//!
//! Nothing here writes, also where it could: the commands that are tried change nothing when they are allowed.

use std::collections::HashMap;

use redis::{Pipeline, Value};

use crate::runtime::clock;
use crate::schema::time::Millis;

use super::error::ViewsError;
use super::read::Reader;
use super::value;

/// Facts about a server; absent where this user may not ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// Its version: `7.2.4`.
    pub version: Option<String>,
    /// What it does when its memory is full: `noeviction`.
    pub eviction: Option<String>,
    /// Its limit in bytes; 0 for none.
    pub memory_max: Option<u64>,
    /// What it uses, in bytes.
    pub memory_used: Option<u64>,
    /// By how much its clock is ahead of ours, in milliseconds, give or take half of the round trip.
    pub clock_ahead_ms: Option<i64>,
}

impl Reader {
    /// Asks the server about itself.
    ///
    /// # Errors
    /// Where it does not answer; what it refuses is absent.
    pub async fn server_facts(&self) -> Result<ServerFacts, ViewsError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("memory");
        let mut fields = HashMap::new();
        for section in self.connection.send(&pipeline).await? {
            if let Ok(text) = value::text("INFO", section) {
                fields
                    .extend(text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
        }
        let before = clock::now();
        let times = self.connection.send(Pipeline::new().cmd("TIME")).await?;
        let ours = Millis(before.0.midpoint(clock::now().0));
        let theirs = times.into_iter().next().and_then(|time| {
            let [seconds, micros] = value::pair("TIME", time).ok()?;
            let (seconds, micros) = (value::number::<i64>("TIME", &seconds).ok()?, value::number::<i64>("TIME", &micros).ok()?);
            Some(Millis(seconds.checked_mul(1_000)?.checked_add(micros / 1_000)?))
        });
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
        Ok(ServerFacts {
            version: fields.get("redis_version").cloned(),
            eviction: fields.get("maxmemory_policy").cloned(),
            memory_max: number("maxmemory"),
            memory_used: number("used_memory"),
            clock_ahead_ms: theirs.map(|theirs| theirs.since(ours)),
        })
    }

    /// Bytes that these conversations of the account take, on average; `None` where there are none, or this user may not ask.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn memory_of<S: AsRef<str>>(&self, account: &str, conversations: &[S]) -> Result<Option<u64>, ViewsError> {
        let mut pipeline = Pipeline::new();
        for conversation in conversations {
            pipeline.cmd("MEMORY").arg("USAGE").arg(self.keys.conversation(account, conversation.as_ref()));
        }
        let answers = self.connection.send(&pipeline).await?;
        let sizes: Vec<u64> = answers.iter().filter_map(|answer| value::number("MEMORY", answer).ok()).collect();
        Ok(sizes.iter().sum::<u64>().checked_div(sizes.len() as u64))
    }

    /// Commands that write and that this user is let do; none, for the user of `scripts/redis.acl`.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn allowed_writes(&self) -> Result<Vec<&'static str>, ViewsError> {
        // A key that nobody has, and commands that make none.
        let key = self.keys.account("doctor-probe");
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(&key).arg("0").arg("XX");
        pipeline.cmd("UNLINK").arg(&key);
        pipeline.cmd("HDEL").arg(&key).arg("rev");
        pipeline.cmd("ZADD").arg(&key).arg("XX").arg(0).arg("0");
        pipeline.cmd("XADD").arg(&key).arg("NOMKSTREAM").arg("*").arg("entry").arg("0");
        pipeline.cmd("PEXPIRE").arg(&key).arg(1);
        pipeline.cmd("EVALSHA").arg("0".repeat(40)).arg(0);
        let names = ["SET", "UNLINK", "HDEL", "ZADD", "XADD", "PEXPIRE", "EVALSHA"];
        let answers = self.connection.send(&pipeline).await?;
        let refused = |answer: &Value| matches!(answer, Value::ServerError(error) if error.code() == "NOPERM");
        Ok(names.into_iter().zip(answers).filter(|(_, answer)| !refused(answer)).map(|(name, _)| name).collect())
    }
}
