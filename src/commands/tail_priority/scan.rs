//! What stands in the feeds of several accounts, as one sequence by id.

use std::collections::VecDeque;

use crate::schema::time::Millis;
use crate::views::{Reader, StreamEntry, StreamId, StreamRange, ViewsError};

/// Entries of one feed that one read takes.
const PAGE: usize = 256;

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum ScanStart {
    /// After this id, in every feed.
    After(StreamId),
    /// With the newest so many, over all feeds.
    Last(usize),
}

/// Reads feeds side by side, a page of each at a time.
pub(super) struct Scan {
    reader: Reader,
    feeds: Vec<Feed>,
    until: Option<Millis>,
}

struct Feed {
    account: String,
    after: StreamId,
    page: VecDeque<StreamEntry>,
    is_read: bool,
}

impl Scan {
    /// Ready to read the feeds of these accounts, or of all where none is named, up to `until`, excluded.
    pub(super) async fn begin(reader: Reader, accounts: &[String], start: ScanStart, until: Option<Millis>) -> Result<Self, ViewsError> {
        let accounts = if accounts.is_empty() {
            reader.accounts().await?.into_iter().map(|(account, _)| account).collect()
        } else {
            accounts.to_vec()
        };
        let after = match start {
            ScanStart::After(id) => id,
            ScanStart::Last(_) => StreamId::ZERO,
        };
        let feed = |account| Feed { account, after, page: VecDeque::new(), is_read: false };
        let mut scan = Self { reader, feeds: accounts.into_iter().map(feed).collect(), until };
        if let ScanStart::Last(count) = start {
            scan.keep_last(count).await?;
        }
        Ok(scan)
    }

    /// The entry with the least id that was not given yet, and its account.
    pub(super) async fn next(&mut self) -> Result<Option<(String, StreamEntry)>, ViewsError> {
        for feed in self.feeds.iter_mut().filter(|feed| feed.page.is_empty() && !feed.is_read) {
            feed.fill(&self.reader, self.until).await?;
        }
        let first = self.feeds.iter_mut().filter(|feed| !feed.page.is_empty()).min_by_key(|feed| feed.page.front().map(|entry| entry.id));
        Ok(first.and_then(|feed| Some((feed.account.clone(), feed.page.pop_front()?))))
    }

    /// Leaves the newest `count` of all feeds, and no more to read.
    async fn keep_last(&mut self, count: usize) -> Result<(), ViewsError> {
        for feed in &mut self.feeds {
            if self.until.is_none() {
                feed.page = self.reader.priority(&feed.account, StreamRange::Last(count)).await?.into();
                feed.is_read = true;
            }
            while !feed.is_read {
                feed.fill(&self.reader, self.until).await?;
                let surplus = feed.page.len().saturating_sub(count);
                feed.page.drain(..surplus);
            }
        }
        let mut surplus = self.feeds.iter().map(|feed| feed.page.len()).sum::<usize>().saturating_sub(count);
        while surplus > 0 && self.next().await?.is_some() {
            surplus -= 1;
        }
        Ok(())
    }
}

impl Feed {
    /// Reads the next page behind what is at hand.
    async fn fill(&mut self, reader: &Reader, until: Option<Millis>) -> Result<(), ViewsError> {
        let read = reader.priority(&self.account, StreamRange::After { id: self.after, limit: PAGE }).await?;
        let end = until.map(|until| u64::try_from(until.0).unwrap_or(0));
        self.is_read = read.len() < PAGE;
        if let Some(last) = read.last() {
            self.after = last.id;
            self.is_read |= end.is_some_and(|end| last.id.ms >= end);
        }
        self.page.extend(read.into_iter().filter(|entry| end.is_none_or(|end| entry.id.ms < end)));
        Ok(())
    }
}
