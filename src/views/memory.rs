//! How much of its memory Redis uses: at the bound it refuses writes, or evicts what nobody allowed it to.

use redis::Pipeline;

use super::connection::Connection;
use super::error::ViewsError;
use super::read::Reader;
use super::value;
use super::write::Writer;

/// Redis' own account of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in use.
    pub used_bytes: u64,
    /// `maxmemory`; 0 where there is no bound.
    pub max_bytes: u64,
    /// Keys that were evicted since it started; any is one too many.
    pub evicted_keys: u64,
    /// Commands a second, as Redis itself averages them over the last ones.
    pub commands_per_s: u64,
}

impl Writer {
    /// Asks Redis how it stands. Its user may have no right to ask, with an ACL file of an earlier version.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn memory(&self) -> Result<Memory, ViewsError> {
        Memory::of(&self.connection).await
    }
}

impl Reader {
    /// As [`Writer::memory`].
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn memory(&self) -> Result<Memory, ViewsError> {
        Memory::of(&self.connection).await
    }
}

impl Memory {
    async fn of(connection: &Connection) -> Result<Self, ViewsError> {
        let mut info = Pipeline::new();
        // One section a call: several at once are newer than the oldest Redis that is served.
        info.cmd("INFO").arg("memory").cmd("INFO").arg("stats");
        let answers = connection.query(&info).await?;
        let text = answers.into_iter().map(|answer| value::info("INFO", answer)).collect::<Result<Vec<_>, _>>()?.join("\n");
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            used_bytes: number("used_memory"),
            max_bytes: number("maxmemory"),
            evicted_keys: number("evicted_keys"),
            commands_per_s: number("instantaneous_ops_per_sec"),
        })
    }
}
