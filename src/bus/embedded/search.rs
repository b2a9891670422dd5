//! Looking for messages that a topic still holds, without a subscription and without taking anything.

use super::log::{Log, SegmentCache};
use super::{EmbeddedBus, cursor};
use crate::bus::{BusError, Held, Search};
use crate::schema::envelope::Envelope;

/// Offsets that are read at once.
const STEP: i64 = 1_024;

impl EmbeddedBus {
    pub(in crate::bus) async fn search(
        &self,
        topic: &str,
        subscriptions: &[&str],
        wanted: impl Fn(&Envelope) -> bool + Send + 'static,
        limit: usize,
    ) -> Result<Search, BusError> {
        let path = self.log_path(topic);
        if !path.exists() {
            return Ok(Search::default());
        }
        let sync = self.config.sync;
        let cursors: Vec<_> = subscriptions.iter().map(|subscription| self.cursor_path(topic, subscription)).collect();
        let work = move || {
            let log = Log::open(&path, sync)?;
            let (first, end) = (log.floor()?, log.end()?);
            let mut search = Search { oldest: log.published_at(first)?, ..Search::default() };
            let (mut cache, mut at) = (SegmentCache::default(), first);
            while at < end && search.found.len() < limit {
                let reading = log.read(at, STEP.min(end - at), &mut cache)?;
                search.searched += reading.messages.len() as u64;
                for message in reading.messages.into_iter().filter(|message| wanted(&message.envelope)) {
                    let acked = cursors.iter().map(|path| cursor::is_acked(path, message.offset)).collect::<Result<_, _>>()?;
                    let envelope = message.envelope.detached();
                    search.found.push(Held { envelope, published_at: message.published_at, acked });
                }
                at += STEP;
            }
            search.found.truncate(limit);
            Ok(search)
        };
        let done = tokio::task::spawn_blocking(work);
        done.await.map_err(|error| BusError::Thread { topic: topic.to_owned(), reason: error.to_string() })?
    }

    pub(in crate::bus) async fn waiting(
        &self,
        topic: &str,
        subscription: &str,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Search, BusError> {
        let (path, cursor_path, sync) = (self.log_path(topic), self.cursor_path(topic, subscription), self.config.sync);
        if !path.exists() {
            return Ok(Search::default());
        }
        let work = move || {
            let log = Log::open(&path, sync)?;
            let ranges = cursor::unacked_ranges(&cursor_path, &log)?;
            let searched = ranges.iter().map(|range| u64::try_from(range.end - range.start).unwrap_or(0)).sum();
            let mut search = Search { oldest: log.published_at(log.floor()?)?, searched, ..Search::default() };
            let (mut cache, mut bytes) = (SegmentCache::default(), 0);
            for range in ranges {
                let mut at = range.start;
                while at < range.end {
                    for message in log.read(at, STEP.min(range.end - at), &mut cache)?.messages {
                        bytes += message.envelope.size();
                        if search.found.len() >= messages_max || bytes > bytes_max {
                            return Ok(search);
                        }
                        let envelope = message.envelope.detached();
                        search.found.push(Held { envelope, published_at: message.published_at, acked: vec![Some(false)] });
                    }
                    at += STEP;
                }
            }
            // What a damaged segment held cannot be told, and is not waiting.
            search.searched = search.found.len() as u64;
            Ok(search)
        };
        let done = tokio::task::spawn_blocking(work);
        done.await.map_err(|error| BusError::Thread { topic: topic.to_owned(), reason: error.to_string() })?
    }
}
