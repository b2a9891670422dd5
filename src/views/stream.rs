//! Streams: ids, ranges, entries.

use std::fmt;
use std::str::FromStr;

use redis::{Cmd, Value};

use crate::schema::time::Millis;

use super::error::ViewsError;
use super::value;

/// Where an entry stands in its stream: when Redis wrote it, by its own clock, and a number within that millisecond. Written `1784808000000-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
    /// Number within the millisecond, from 0.
    pub seq: u64,
}

impl StreamId {
    /// Before every entry.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// The last place before everything that was written at or after `at`.
    #[must_use]
    pub fn just_before(at: Millis) -> Self {
        match u64::try_from(at.0) {
            Ok(ms) if ms > 0 => Self { ms: ms - 1, seq: u64::MAX },
            _ => Self::ZERO,
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// That a text is no stream id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry's id: expected milliseconds, a dash and a number, such as 1784808000000-0")]
pub struct NotAStreamId;

impl FromStr for StreamId {
    type Err = NotAStreamId;

    /// Reads `ms-seq`, or `ms` alone for the first entry of that millisecond.
    fn from_str(text: &str) -> Result<Self, NotAStreamId> {
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        let number = |digits: &str| if digits.starts_with('+') { None } else { digits.parse().ok() };
        match (number(ms), number(seq)) {
            (Some(ms), Some(seq)) => Ok(Self { ms, seq }),
            _ => Err(NotAStreamId),
        }
    }
}

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Where it stands.
    pub id: StreamId,
    /// Its JSON, as it was written.
    pub json: String,
}

/// Which entries of a stream; they come oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRange {
    /// The newest so many.
    Last(usize),
    /// Those written from `since` until `until`, both included, the oldest `limit` of them.
    Between {
        /// From the beginning where absent.
        since: Option<Millis>,
        /// To the end where absent.
        until: Option<Millis>,
        /// At most so many.
        limit: usize,
    },
    /// Those after an entry, the oldest `limit` of them.
    After {
        /// The entry; it need not exist any more.
        id: StreamId,
        /// At most so many.
        limit: usize,
    },
}

impl StreamRange {
    pub(super) fn command(&self, key: &str) -> Cmd {
        let ms = |at: Option<Millis>, open: &str| at.map_or(open.to_owned(), |at| at.0.max(0).to_string());
        let mut cmd = redis::cmd(if matches!(self, Self::Last(_)) { "XREVRANGE" } else { "XRANGE" });
        match self {
            Self::Last(count) => cmd.arg(key).arg("+").arg("-").arg("COUNT").arg(count),
            Self::Between { since, until, limit } => cmd.arg(key).arg(ms(*since, "-")).arg(ms(*until, "+")).arg("COUNT").arg(limit),
            Self::After { id, limit } => cmd.arg(key).arg(format!("({id}")).arg("+").arg("COUNT").arg(limit),
        };
        cmd
    }

    pub(super) fn entries(&self, key: &str, value: Value) -> Result<Vec<StreamEntry>, ViewsError> {
        let mut entries = entries(key, value)?;
        if matches!(self, Self::Last(_)) {
            entries.reverse();
        }
        Ok(entries)
    }
}

/// Entries as XRANGE and XREAD give them. Each has one field, whose name says nothing that the key does not.
pub(super) fn entries(key: &str, value: Value) -> Result<Vec<StreamEntry>, ViewsError> {
    let entry = |value| {
        let [id, fields] = value::pair(key, value)?;
        let [_, json] = value::pair(key, fields)?;
        Ok(StreamEntry { id: id_of(key, id)?, json: value::text(key, json)? })
    };
    value::array(key, value)?.into_iter().map(entry).collect()
}

pub(super) fn id_of(key: &str, value: Value) -> Result<StreamId, ViewsError> {
    value::text(key, value)?.parse().map_err(|e: NotAStreamId| ViewsError::unexpected(key, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        for (text, expected) in [
            ("1784808000000-3", Some((1_784_808_000_000, 3))),
            ("5", Some((5, 0))),
            ("0-0", Some((0, 0))),
            ("18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
            ("18446744073709551616-0", None),
            ("", None),
            ("-", None),
            ("1-", None),
            ("+1-0", None),
            ("$", None),
            ("1-2-3", None),
        ] {
            let id = text.parse::<StreamId>().ok();
            assert_eq!(id.map(|id| (id.ms, id.seq)), expected, "{text}");
        }
        assert_eq!(StreamId { ms: 7, seq: 1 }.to_string(), "7-1");
        assert!(StreamId { ms: 9, seq: u64::MAX } == StreamId::just_before(Millis(10)));
        assert_eq!(StreamId::just_before(Millis(-5)), StreamId::ZERO);
    }
}
