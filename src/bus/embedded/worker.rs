//! Subscribing, the thread's side: it leases, reads, hands over and settles.
//!
//! It sleeps on its bell: a publish, a lease given back elsewhere and the caller's own answers all ring it. While the bell is silent it wakes
//! for the next thing that falls due, and for a look of its own every [`super::LOOK_EVERY`]. Invariant: what is leased in the file is in
//! `unread` or held, so an error between the two loses no lease.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::cursor::{Cursor, GiveBack, Grant, Outlook, Turn};
use super::housekeeping::{House, Housekeeper};
use super::leases::{Done, Settlement};
use super::log::{Log, Message, Room, SegmentCache};
use super::subscriber::{Shared, Sleep, State, Window};
use super::wake::{Bell, OwnRinger, Ringer};
use super::{EmbeddedBus, now};
use crate::bus::{AckId, BusError, Delivery, StorageError};

/// How long answers may wait for a lease transaction that takes them along.
const LINGER: Duration = Duration::from_millis(10);
/// What a turn writes, about.
const TURN_WRITTEN_BYTES: usize = 16 << 10;
/// Waits after a storage fault.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What the subscriber's thread owns.
pub(super) struct Worker {
    shared: Arc<Shared>,
    bell: Bell,
    log: Log,
    cursor: Cursor,
    housekeeper: Housekeeper,
    others: Ringer,
    cache: SegmentCache,
    /// Settlements that are not written yet; more than one turn's only after a fault.
    unwritten: Vec<Settlement>,
    /// Leased and not read yet; outlives a step only after a fault.
    unread: VecDeque<Grant>,
    /// The room and the outlook of a turn that leased nothing: what waits is larger than the room. The same again would spin.
    fruitless: Option<(Room, Outlook)>,
    lease: Duration,
    look_every: Duration,
    look_at: Instant,
    extend_at: Instant,
}

/// What to do next.
enum Step {
    Turn(Turn, Outlook),
    Sleep(Duration),
    Close,
}

impl Worker {
    pub(super) fn open(bus: &EmbeddedBus, topic: &str, subscription: &str) -> Result<Self, BusError> {
        let config = &bus.config;
        let wake = bus.wake_dir(topic)?;
        let socket_fault = |error: std::io::Error| BusError::Folder { path: bus.config.dir.join("wake"), reason: error.to_string() };
        let bell = Bell::bind(wake.clone()).map_err(socket_fault)?;
        let shared = Shared {
            state: Mutex::default(),
            news: Notify::new(),
            counters: Arc::default(),
            window: Window { messages: config.in_flight_max.max(1), bytes: config.in_flight_bytes_max.max(1) },
            ringer: OwnRinger::new(&bell).map_err(socket_fault)?,
        };
        let lease = Duration::from_millis(config.lease_ms.max(1));
        let log = Log::open(&bus.log_path(topic), config.sync)?;
        let path = bus.cursor_path(topic, subscription);
        let cursor = Cursor::open(&path, &log, bell.name().to_owned(), lease, config.sync)?;
        let housekeeper = Housekeeper::start(House::Cursor(Cursor::open_connection(&path, config.sync)?, path))?;
        Ok(Self {
            shared: Arc::new(shared),
            others: Ringer::new(wake).map_err(socket_fault)?,
            bell,
            log,
            cursor,
            housekeeper,
            cache: SegmentCache::default(),
            unwritten: Vec::new(),
            unread: VecDeque::new(),
            fruitless: None,
            lease,
            look_every: bus.look_every.min(lease / 2),
            look_at: Instant::now(),
            extend_at: Instant::now(),
        })
    }

    /// What the caller's side needs of it.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn run(mut self) {
        let (mut retry, mut failing) = (RETRY_MIN, false);
        loop {
            match self.step() {
                Ok(true) => {
                    retry = RETRY_MIN;
                    if std::mem::take(&mut failing) {
                        self.shared.lock().recovered = true;
                        self.shared.news.notify_one();
                    }
                }
                Ok(false) => return self.close(),
                Err(fault) => {
                    tracing::warn!(error = %fault, "a subscriber of the bus could not go on; it tries again");
                    let mut state = self.shared.lock();
                    if state.closing {
                        drop(state);
                        return self.close();
                    }
                    state.fault = Some(fault);
                    state.recovered = false;
                    drop(state);
                    failing = true;
                    self.shared.news.notify_one();
                    std::thread::sleep(retry);
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Does the next thing; `false` where the subscriber is to close.
    fn step(&mut self) -> Result<bool, StorageError> {
        self.deliver_unread()?;
        if Instant::now() >= self.look_at {
            self.look()?;
        }
        match self.decide()? {
            Step::Turn(turn, outlook) => self.turn(turn, outlook)?,
            Step::Sleep(timeout) => {
                if let Err(error) = self.bell.wait(timeout) {
                    tracing::warn!(%error, "the wake-up socket of a subscriber failed; it looks by itself");
                    std::thread::sleep(timeout.min(self.look_every));
                }
            }
            Step::Close => return Ok(false),
        }
        Ok(true)
    }

    /// What is done now and then: takes over from the dead, and makes sure that it can be rung.
    fn look(&mut self) -> Result<(), StorageError> {
        self.look_at = Instant::now() + self.look_every;
        if let Err(error) = self.bell.ensure_bound() {
            tracing::warn!(%error, "the wake-up socket of a subscriber cannot be bound again; it looks by itself");
        }
        let dir = self.bell.dir();
        let reclaimed = self.cursor.reclaim(now(), |owner| !dir.is_alive(owner))?;
        if reclaimed > 0 {
            tracing::info!(leases = reclaimed, "took over leases of a subscriber that died or stood still");
        }
        Ok(())
    }

    /// Looks at both files and at the caller's side. When it returns [`Step::Sleep`], whatever would change that decision rings the bell.
    fn decide(&self) -> Result<Step, StorageError> {
        let (outlook, end, wall, started) = (self.cursor.outlook()?, self.log.end()?, now(), Instant::now());
        let available = outlook.next < end || outlook.waiting_at.is_some_and(|at| at <= wall);
        let mut state = self.shared.lock();
        state.sleep = Sleep::Awake;
        if state.closing {
            return Ok(Step::Close);
        }
        let room = if available { self.shared.window.room(&state.held) } else { None };
        let room = room.filter(|&room| self.fruitless != Some((room, outlook)));
        let extend = !state.held.is_empty() && started >= self.extend_at;
        let flush_at = state.answered_at.map(|at| at + LINGER);
        if room.is_some() || extend || flush_at.is_some_and(|at| at <= started) || !self.unwritten.is_empty() {
            return Ok(Step::Turn(Turn { now: wall, room, alone: state.held.messages() == 0, extend }, outlook));
        }
        state.sleep = if available { Sleep::ForRoom } else { Sleep::ForAnswers };
        let waiting = outlook.waiting_at.filter(|_| !available);
        let waiting = waiting.map(|at| started + Duration::from_millis(u64::try_from(at.since(wall)).unwrap_or(0)));
        let extend_at = (!state.held.is_empty()).then_some(self.extend_at);
        let due = [Some(self.look_at), flush_at, waiting, extend_at].into_iter().flatten().min().unwrap_or(self.look_at);
        Ok(Step::Sleep(due.saturating_duration_since(started)))
    }

    fn turn(&mut self, turn: Turn, outlook: Outlook) -> Result<(), StorageError> {
        let started = Instant::now();
        self.collect_settlements();
        let granted = self.cursor.turn(&self.unwritten, turn, &self.log)?;
        self.unwritten.clear();
        self.housekeeper.wrote(TURN_WRITTEN_BYTES);
        if turn.extend || turn.alone {
            self.extend_at = started + self.lease / 3;
        }
        self.fruitless = turn.room.filter(|_| granted.grants.is_empty()).map(|room| (room, outlook));
        self.count_lost(granted.lost);
        self.unread.extend(granted.grants);
        self.deliver_unread()
    }

    fn collect_settlements(&mut self) {
        let mut state = self.shared.lock();
        self.unwritten.extend(state.held.settle());
        state.answered_at = None;
    }

    fn deliver_unread(&mut self) -> Result<(), StorageError> {
        while let Some(&grant) = self.unread.front() {
            self.deliver(grant)?;
            self.unread.pop_front();
        }
        Ok(())
    }

    /// Reads what was leased and hands it to the caller's side.
    fn deliver(&mut self, grant: Grant) -> Result<(), StorageError> {
        let reading = self.log.read(grant.first, grant.count, &mut self.cache)?;
        let mut done = grant.done;
        let mut sizes = vec![0; usize::try_from(grant.count).unwrap_or(0)].into_boxed_slice();
        let mut present = Done::default();
        let mut deliveries = Vec::with_capacity(reading.messages.len());
        for Message { offset, published_at, envelope } in reading.messages {
            let index = u32::try_from(offset - grant.first).unwrap_or(u32::MAX);
            present.insert(index);
            if let Some(size) = sizes.get_mut(index as usize) {
                *size = u32::try_from(envelope.size()).unwrap_or(u32::MAX);
            }
            if !done.contains(index) {
                deliveries.push(Delivery { envelope, attempt: grant.attempt, published_at, ack: AckId { lease: grant.lease, index } });
            }
        }
        // What could not be read is done with: skipped and counted, so that the subscription goes on.
        let missing = (0u32..).take(sizes.len()).filter(|&index| !present.contains(index) && done.insert(index)).count();
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        let corrupt = reading.corrupt.min(missing);
        self.shared.counters.corrupt.fetch_add(corrupt.unsigned_abs(), Ordering::Relaxed);
        self.count_lost(missing - corrupt);
        let delivered = deliveries.len() as u64;
        let mut state = self.shared.lock();
        state.held.grant(grant.lease, done, sizes);
        if state.held.is_changed() {
            state.answered_at.get_or_insert_with(Instant::now);
        }
        state.ready.append(&mut deliveries);
        let counters = &self.shared.counters;
        counters.in_flight.store(state.held.messages() as u64, Ordering::Relaxed);
        drop(state);
        counters.delivered.fetch_add(delivered, Ordering::Relaxed);
        if grant.attempt > 1 {
            counters.redelivered.fetch_add(delivered, Ordering::Relaxed);
        }
        self.shared.news.notify_one();
        Ok(())
    }

    fn count_lost(&self, lost: i64) {
        if lost > 0 {
            self.shared.counters.lost_to_retention.fetch_add(lost.unsigned_abs(), Ordering::Relaxed);
            tracing::warn!(
                messages = lost,
                path = %self.cursor.path().display(),
                "retention deleted messages that this subscription had not acked; raise `bus.embedded.retention_s` or `size_max_bytes`, or read faster"
            );
        }
    }

    /// Writes the answers, gives everything back, and rings the others so that they take it.
    fn close(mut self) {
        self.collect_settlements();
        let give_back = if self.shared.lock().abandoned { GiveBack::Seen } else { GiveBack::Unseen };
        if let Err(error) = self.cursor.release(&self.unwritten, give_back, now()) {
            tracing::warn!(%error, "a closing subscriber could not give back its leases; others take them over");
        }
        self.others.ring();
    }
}

impl Drop for Worker {
    /// However the thread ends, a caller that waits is told, and no handle that is still around keeps messages in memory.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        *state = State { closing: true, ended: true, ..State::default() };
        drop(state);
        self.shared.counters.in_flight.store(0, Ordering::Relaxed);
        self.shared.news.notify_one();
    }
}
