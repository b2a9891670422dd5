//! Every conversation whose snapshot was written since some moment, from Redis alone.
//!
//! There is no index by the time of writing: it would cost every write to save this rare read. So the inboxes are read whole, a page at a time. A
//! conversation may be given twice, and none is missed: a cursor lies so far before the moment at which reading began that every write which was on its
//! way then is read again.

use std::fmt;
use std::str::FromStr;

use crate::schema::time::Millis;
use crate::views::{ConversationView, Reader, ViewsError};

/// Conversations read at once.
const PAGE: usize = 500;
/// How long after its `applied_at` a write may take effect, and how far the clocks of services may differ.
const OVERLAP_MS: i64 = 60_000;

/// From where to go on: what was written at or after `at`, in the Redis of this epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Another one means that Redis has lost data.
    pub epoch: String,
    /// By the clocks of the services.
    pub at: Millis,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.at.0)
    }
}

/// That a text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is an epoch, a colon and milliseconds, as the last line of an earlier `reconcile --since` has it")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (epoch, ms) = text.split_once(':').ok_or(NotACursor)?;
        let is_epoch = !epoch.is_empty() && epoch.len() <= 64 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = !ms.is_empty() && ms.bytes().all(|byte| byte.is_ascii_digit());
        match ms.parse().ok().filter(|_| is_epoch && is_number) {
            Some(ms) => Ok(Self { epoch: epoch.to_owned(), at: Millis(ms) }),
            None => Err(NotACursor),
        }
    }
}

/// From when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// A moment.
    Moment(Millis),
    /// Where an earlier call ended.
    Cursor(Cursor),
}

/// Why the changes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Redis.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// It lost data in between.
    #[error("Redis lost data while it was read")]
    Emptied,
}

/// Reads them.
pub struct Changes {
    reader: Reader,
    since: Millis,
    epoch: String,
    next: Cursor,
    reset: bool,
    accounts: std::vec::IntoIter<String>,
    current: Option<(String, std::vec::IntoIter<String>)>,
}

impl Changes {
    /// Begins. `accounts` are those that are wanted, all where empty. Where a cursor is of another epoch, everything counts as changed.
    /// `now` is the clock by which the next cursor is made.
    ///
    /// # Errors
    /// What Redis fails with.
    pub async fn begin(reader: Reader, since: Since, accounts: &[String], now: Millis) -> Result<Self, ViewsError> {
        let epoch = reader.epoch().await?.unwrap_or_else(|| "0".to_owned());
        let (since, reset) = match since {
            Since::Moment(at) => (at, false),
            Since::Cursor(cursor) if cursor.epoch == epoch => (cursor.at, false),
            Since::Cursor(_) => (Millis(0), true),
        };
        let accounts = match accounts {
            [] => reader.accounts().await?.into_iter().map(|(account, _)| account).collect(),
            typed => typed.to_vec(),
        };
        let next = Cursor { epoch: epoch.clone(), at: now.plus(-OVERLAP_MS) };
        Ok(Self { reader, since, epoch, next, reset, accounts: accounts.into_iter(), current: None })
    }

    /// What a consumer holds and is not told of now is void: Redis has lost data since its cursor.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.reset
    }

    /// Conversations that were written since; an empty page says nothing, `None` is the end.
    ///
    /// # Errors
    /// What Redis fails with; [`ChangeError::Emptied`] where what was read so far is void.
    pub async fn next(&mut self) -> Result<Option<Vec<ConversationView>>, ChangeError> {
        loop {
            if let Some((account, conversations)) = &mut self.current {
                let page: Vec<String> = conversations.take(PAGE).collect();
                if !page.is_empty() {
                    let views = self.reader.conversations(account, &page).await?;
                    let since = self.since;
                    return Ok(Some(views.into_iter().flatten().filter(|view| view.snapshot.applied_at >= since).collect()));
                }
            }
            let Some(account) = self.accounts.next() else { return self.end().await };
            // Read whole before its first page: ranks move while conversations are written.
            let inbox = self.reader.inbox(&account, 0, usize::MAX).await?;
            let conversations: Vec<String> = inbox.into_iter().map(|(conversation, _)| conversation).collect();
            self.current = Some((account, conversations.into_iter()));
        }
    }

    /// From where the next call goes on. Only after [`next`](Self::next) has given its end.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.next
    }

    async fn end(&self) -> Result<Option<Vec<ConversationView>>, ChangeError> {
        let epoch = self.reader.epoch().await?.unwrap_or_else(|| "0".to_owned());
        if epoch == self.epoch { Ok(None) } else { Err(ChangeError::Emptied) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let cursor = Cursor { epoch: "00ff".to_owned(), at: Millis(1_784_808_000_000) };
        assert_eq!(cursor.to_string(), "00ff:1784808000000");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", ":", "ab", "ab:", ":5", "ab:-5", "ab:5x", "xyz:5", "ab:+5", "ab:99999999999999999999"] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text:?}");
        }
    }
}
