//! Publishing: one thread owns the connection, and commits together what gathered while the previous commit ran.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use tokio::sync::{mpsc, oneshot};

use super::housekeeping::{House, Housekeeper};
use super::log::{Log, Retention, written_bytes};
use super::segment::{Encoder, Segment};
use super::wake::Ringer;
use super::{EmbeddedBus, now, spawn};
use crate::bus::counters::InFlight;
use crate::bus::{BusError, MESSAGE_BYTES_MAX, PublishCounters, PublishError};
use crate::config::EmbeddedBusConfig;
use crate::schema::envelope::Envelope;

/// Publishes that wait for the thread; beyond it, callers wait.
const QUEUE_MAX: usize = 256;
/// Bytes, before compression, that are committed together at most, save that a single publish is never divided.
const COMMIT_BYTES: usize = 4 << 20;

/// Publishes to one topic of the embedded engine. Clones share one thread, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    counters: Arc<PublishCounters>,
}

#[derive(Debug)]
struct Request {
    batch: Vec<Envelope>,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

impl Publisher {
    pub(super) fn start(bus: &EmbeddedBus, topic: &str) -> Result<Self, BusError> {
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let (opened, opening) = sync_channel(1);
        let (bus, name) = (bus.clone(), topic.to_owned());
        spawn("bus-publisher", move || match Writer::open(&bus, &name) {
            Ok(writer) => {
                let _ = opened.send(Ok(()));
                writer.run(queue);
            }
            Err(error) => drop(opened.send(Err(error))),
        })?;
        let ended = |_| BusError::Thread { topic: topic.to_owned(), reason: "it ended while opening the log".into() };
        opening.recv().map_err(ended)??;
        Ok(Self { requests, counters: Arc::default() })
    }

    pub(in crate::bus) async fn publish(&self, batch: Vec<Envelope>) -> Result<(), PublishError> {
        if let Some(large) = batch.iter().find(|envelope| envelope.size() > MESSAGE_BYTES_MAX) {
            return Err(PublishError::TooLarge { bytes: large.size(), max: MESSAGE_BYTES_MAX });
        }
        if batch.is_empty() {
            return Ok(());
        }
        let in_flight = InFlight::of(&self.counters, &batch);
        let (reply, confirmed) = oneshot::channel();
        self.requests.send(Request { batch, reply }).await.map_err(|_| PublishError::Closed)?;
        let result = confirmed.await.map_err(|_| PublishError::Closed)?;
        if result.is_ok() {
            in_flight.confirmed();
        } else {
            in_flight.failed();
        }
        result
    }

    pub(in crate::bus) fn counters(&self) -> Arc<PublishCounters> {
        Arc::clone(&self.counters)
    }
}

/// What the publisher's thread owns.
struct Writer {
    log: Log,
    ringer: Ringer,
    housekeeper: Housekeeper,
    encoder: Encoder,
}

impl Writer {
    fn open(bus: &EmbeddedBus, topic: &str) -> Result<Self, BusError> {
        let (path, sync) = (bus.log_path(topic), bus.config.sync);
        let wake = bus.wake_dir(topic)?;
        let ringer = Ringer::new(wake).map_err(|error| BusError::Thread { topic: topic.to_owned(), reason: error.to_string() })?;
        let log = Log::open(&path, sync)?;
        let housekeeper = Housekeeper::start(House::Log(Log::open(&path, sync)?, Retention::of(&bus.config)))?;
        Ok(Self { log, ringer, housekeeper, encoder: Encoder::default() })
    }

    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut gathered = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = size(&first);
            gathered.push(first);
            while bytes < COMMIT_BYTES {
                let Ok(next) = queue.try_recv() else { break };
                bytes += size(&next);
                gathered.push(next);
            }
            self.commit(&mut gathered);
        }
    }

    fn commit(&mut self, gathered: &mut Vec<Request>) {
        // Compressed before the lock is taken: publishers of several processes share that work, only the writing is one at a time.
        let segments: Vec<Segment> = self.encoder.encode(gathered.iter().flat_map(|request| &request.batch));
        let result = self.log.append(&segments, now()).map_err(PublishError::from);
        if result.is_ok() {
            self.ringer.ring();
        }
        for request in gathered.drain(..) {
            // A caller that no longer waits does not mind.
            let _ = request.reply.send(result.clone());
        }
        self.housekeeper.wrote(written_bytes(&segments));
    }
}

fn size(request: &Request) -> usize {
    request.batch.iter().map(Envelope::size).sum()
}

impl Retention {
    /// Smallest log that is kept: the file's own structure takes a few pages.
    const SIZE_MIN_BYTES: i64 = 1 << 20;

    fn of(config: &EmbeddedBusConfig) -> Self {
        Self {
            age_max_ms: i64::try_from(config.retention_s.saturating_mul(1_000)).unwrap_or(i64::MAX),
            size_max_bytes: i64::try_from(config.size_max_bytes).unwrap_or(i64::MAX).max(Self::SIZE_MIN_BYTES),
        }
    }
}
