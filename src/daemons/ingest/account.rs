//! One account's task: does what its [`Session`] says, and moves what its socket says to the buffer.
//!
//! Owns: the sockets, two of them while one replaces the other, the connect under way, connection ids and frame numbers. Does not own any decision about the connection.
//! Invariants: while something waits for a place in the buffer nothing is read and no new socket is opened, but timers go on; frames are
//! taken in chunks, with one look at the clock and one lock a chunk.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::buffer::Buffer;
use super::counters::Counters;
use super::intake::{Intake, Translate};
use super::marks::Marks;
use super::record::Recorder;
use super::{Live, OnLive, OnRefused};
use crate::runtime::clock::{Clock, Moment};
use crate::runtime::health::Health;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::telemetry::TRAIL;
use crate::runtime::trust::Trust;
use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::schema::event::{Event, EventKind, Link};
use crate::schema::ids::connection_id;
use crate::schema::time::Millis;
use crate::transform::normalize::FrameContext;
use crate::ws::session::{Action, CLOSE_MS, Heard, Input, Life, Session, Signal, Timing, Which};
use crate::ws::socket::{self, Dial, Endpoint, Limits, Socket};
use crate::ws::{Failure, HEARTBEAT_FRAME, Payload, Reason, connect_frame};

/// What all accounts share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) timing: Timing,
    pub(super) limits: Limits,
    pub(super) trust: Trust,
    pub(super) dial: Dial,
    pub(super) clock: Clock,
    pub(super) marks: Option<Arc<Marks>>,
    pub(super) recorder: Option<Recorder>,
    pub(super) live: Arc<Live>,
    pub(super) health: Health,
    pub(super) depth_max: usize,
    pub(super) translate: Translate,
    pub(super) buffer: Buffer,
    pub(super) counters: Arc<Counters>,
    /// Wakes whoever looks at the artifacts.
    pub(super) look: Arc<Notify>,
    pub(super) on_live: Option<OnLive>,
    pub(super) on_refused: Option<OnRefused>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Socket, Failure>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection, from the attempt to make it on.
struct Connection {
    id: String,
    frame_no: u64,
    /// What it is made with; another may lie in the folder by now.
    artifact: Arc<Artifact>,
    socket: Option<Socket>,
}

pub(super) struct Account {
    name: String,
    shared: Shared,
    artifact: watch::Receiver<Arc<Artifact>>,
    session: Session,
    clock: Clock,
    main: Connection,
    other: Connection,
    connecting: Option<Connecting>,
    closing: Option<Closing>,
    intake: Intake,
    /// Something waits for a place in the buffer, since then.
    blocked: Option<Instant>,
    /// It counts as waiting for an artifact.
    waiting: bool,
}

impl Account {
    /// An account that waits `first_wait` milliseconds before it connects for the first time.
    pub(super) fn new(shared: Shared, artifact: watch::Receiver<Arc<Artifact>>, first_wait: u64) -> Self {
        let newest = artifact.borrow().clone();
        let mut session = Session::new(shared.timing, fastrand::Rng::new(), first_wait);
        if let Some(mark) = shared.marks.as_ref().and_then(|marks| marks.of(&newest.account_id)) {
            session = session.remembering(&mark);
        }
        let (clock, intake) = (shared.clock, Intake::new());
        let connection = || Connection::new(clock.moment().wall, newest.clone());
        Self {
            name: newest.account_id.clone(),
            shared,
            artifact,
            session,
            clock,
            main: connection(),
            other: connection(),
            connecting: None,
            closing: None,
            intake,
            blocked: None,
            waiting: false,
        }
    }

    /// Runs until a stop is asked for or the artifact's sender is gone; returns when all that was read is in the buffer.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut stop = pin!(shutdown.requested());
        let mut timer = pin!(sleep_until(Instant::now()));
        // One of each socket: a read that is cut short by the other may leave frames behind, which belong to its own.
        let (mut frames, mut others): (Vec<Payload>, Vec<Payload>) = (Vec::new(), Vec::new());
        let mut stopping = false;

        let artifact = self.artifact_input();
        self.step(artifact);
        while !self.session.is_stopped() {
            self.settle();
            let deadline = self.session.deadline().map(|at| self.clock.instant(at));
            if let Some(deadline) = deadline
                && timer.deadline() != deadline
            {
                timer.as_mut().reset(deadline);
            }
            let reading = self.blocked.is_none();
            let input = tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    Input::Drain
                }
                changed = self.artifact.changed(), if !stopping => {
                    stopping = changed.is_err();
                    if stopping { Input::Drain } else { self.artifact_input() }
                }
                () = &mut timer, if deadline.is_some() => Input::Tick,
                opened = or_pending(&mut self.connecting), if reading => match opened {
                    Ok(socket) => {
                        self.of(self.session.arriving()).socket = Some(socket);
                        Input::Opened
                    }
                    Err(failure) => Input::ConnectFailed(failure),
                },
                () = or_pending(&mut self.closing) => {
                    // Only a draining session waits for this; another may have its next socket already.
                    if stopping { Input::Lost(Which::Main, Failure::retry(Reason::Shutdown)) } else { continue }
                }
                () = self.shared.buffer.push(&mut self.intake.items), if !reading => continue,
                read = drive(self.other.socket.as_mut(), reading, &mut others) => match read {
                    Ok(()) => {
                        self.take_frames(Which::Other, &mut others);
                        continue;
                    }
                    Err(failure) => Input::Lost(Which::Other, failure),
                },
                read = drive(self.main.socket.as_mut(), reading, &mut frames) => match read {
                    Ok(()) => {
                        self.take_frames(Which::Main, &mut frames);
                        continue;
                    }
                    Err(failure) => Input::Lost(Which::Main, failure),
                },
            };
            self.step(input);
        }
        self.count_items();
        self.shared.buffer.push(&mut self.intake.items).await;
        self.mark();
    }

    fn artifact_input(&mut self) -> Input {
        let artifact = self.artifact.borrow_and_update();
        Input::Artifact { generation: artifact.generation, status: artifact.status, life: Life::of(&artifact) }
    }

    /// Moves what was collected to the buffer, and tells the session when reading has to stop and when it may go on.
    fn settle(&mut self) {
        self.count_items();
        self.count_waiting(self.session.awaits_artifact());
        let blocked = !self.shared.buffer.try_push(&mut self.intake.items);
        if blocked == self.blocked.is_some() {
            return;
        }
        let counters = &self.shared.counters;
        match self.blocked.take() {
            Some(since) => Counters::add(&counters.waits_ms, u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)),
            None => {
                self.blocked = Some(Instant::now());
                Counters::add(&counters.waits_a, 1);
            }
        }
        self.step(if blocked { Input::Paused } else { Input::Resumed });
    }

    fn count_waiting(&mut self, waiting: bool) {
        let counter = &self.shared.counters.waiting;
        match (self.waiting, waiting) {
            (false, true) => _ = counter.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = counter.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        self.waiting = waiting;
    }

    /// Remembers what was heard until now, where all of it is in the buffer.
    fn mark(&self) {
        if let Some(marks) = &self.shared.marks
            && self.intake.items.is_empty()
            && let Some(mark) = self.session.mark()
        {
            marks.put(&self.name, mark);
        }
    }

    /// Takes what was read of one socket. A chunk in which the new socket is promoted is still its own to the end.
    fn take_frames(&mut self, mut which: Which, frames: &mut Vec<Payload>) {
        let now = self.clock.moment();
        let (count, mut bytes, mut control) = (frames.len() as u64, 0, 0);
        let (mut read, mut rejected, mut empty) = (0, 0, 0);
        let raw = self.shared.live.raw.load(Ordering::Relaxed);
        for (n, frame) in frames.drain(..).enumerate() {
            bytes += frame.length;
            self.intake.heard = Heard::Data;
            let before = (self.intake.events, self.intake.rejected);
            let connection = if which == Which::Main { &mut self.main } else { &mut self.other };
            connection.frame_no += 1;
            let at = FrameContext {
                account_id: &self.name,
                connection: &connection.id,
                frame_no: connection.frame_no,
                received_at: now.wall,
                raw,
                depth_max: self.shared.depth_max,
            };
            if frame.is_cut() {
                self.intake.oversize(&at, &frame.bytes, frame.length);
            } else {
                (self.shared.translate)(&frame.bytes, &at, &mut self.intake);
            }
            let heard = self.intake.heard;
            if let Some(recorder) = &self.shared.recorder
                && heard != Heard::Connected
            {
                recorder.frame(&self.name, now.wall, &frame);
            }
            let (events, rejections) = (self.intake.events - before.0, self.intake.rejected - before.1);
            let (frame_no, bytes) = (at.frame_no, frame.length);
            tracing::debug!(target: TRAIL, account = self.name, connection = at.connection, frame_no, bytes, events, rejections, "frame");
            control += u64::from(heard != Heard::Data);
            match (self.intake.events > before.0, self.intake.rejected > before.1) {
                (true, _) => read += 1,
                (false, true) => rejected += 1,
                (false, false) => empty += u64::from(heard == Heard::Data),
            }
            // A live session needs to hear of a chunk's data only once.
            let is_greeted = self.session.is_greeted(which);
            if n == 0 || heard != Heard::Data || !is_greeted {
                self.step_at(Input::Heard(which, heard), now);
                // Its `connected` made it the main one.
                if which == Which::Other && !is_greeted && self.session.is_greeted(Which::Other) {
                    which = Which::Main;
                }
            }
        }
        let kinds = std::mem::take(&mut self.intake.kinds);
        if !kinds.is_empty() {
            self.step_at(Input::Seen(kinds), now);
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.frames, count);
        Counters::add(&counters.bytes, bytes);
        Counters::add(&counters.control, control);
        Counters::add(&counters.frames_read, read);
        Counters::add(&counters.frames_rejected, rejected);
        Counters::add(&counters.frames_empty, empty);
        self.count_items();
    }

    /// Counts what was collected since the last time.
    fn count_items(&mut self) {
        if self.intake.events == 0 && self.intake.rejected == 0 {
            return;
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.events, std::mem::take(&mut self.intake.events));
        Counters::add(&counters.own_events, std::mem::take(&mut self.intake.own_events));
        Counters::add(&counters.rejected, std::mem::take(&mut self.intake.rejected));
    }

    /// Gives the session an input and does what it asks for, and what comes of that.
    fn step(&mut self, input: Input) {
        self.step_at(input, self.clock.moment());
    }

    fn step_at(&mut self, input: Input, now: Moment) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            match input {
                Input::Lost(which, failure) => {
                    self.of(which).socket = None;
                    // The old socket of a rotation is done with; that its peer closes it is no failure.
                    if failure.reason != Reason::Shutdown && !(which == Which::Other && self.session.is_greeted(Which::Other)) {
                        self.report(which, failure);
                    }
                }
                Input::ConnectFailed(failure) => self.report(self.session.arriving(), failure),
                _ => {}
            }
            for action in self.session.on(input, now) {
                if let Err((which, failure)) = self.perform(action, now) {
                    next = Some(Input::Lost(which, failure));
                }
            }
        }
    }

    fn of(&mut self, which: Which) -> &mut Connection {
        match which {
            Which::Main => &mut self.main,
            Which::Other => &mut self.other,
        }
    }

    fn report(&mut self, which: Which, failure: Failure) {
        let endpoint = Endpoint::of(&self.of(which).artifact).map_or_else(|_| "an unusable URL".to_owned(), |at| at.to_string());
        tracing::warn!(account = self.name, endpoint, %failure, "connection failed");
        let counters = &self.shared.counters;
        Counters::add(&counters.failures, 1);
        counters.failures_by.add(failure.reason);
        if failure.timed_out {
            counters.timeouts_by.add(failure.reason);
        }
    }

    fn perform(&mut self, action: Action, now: Moment) -> Result<(), (Which, Failure)> {
        match action {
            Action::Connect => {
                let artifact = self.artifact.borrow().clone();
                let which = self.session.arriving();
                *self.of(which) = Connection::new(now.wall, artifact.clone());
                Counters::add(&self.shared.counters.connects, 1);
                let (limits, trust, dial) = (self.shared.limits, self.shared.trust.clone(), self.shared.dial.clone());
                self.connecting = Some(Box::pin(async move { socket::connect(&artifact, limits, &trust, &dial).await }));
            }
            Action::Abort => self.connecting = None,
            Action::SendConnect => {
                let which = self.session.arriving();
                let frame = connect_frame(self.of(which).artifact.token.expose_secret());
                return self.send(which, frame);
            }
            Action::SendHeartbeat => {
                self.mark();
                return self.send(Which::Main, HEARTBEAT_FRAME.to_owned());
            }
            Action::Look => {
                Counters::add(&self.shared.counters.artifacts_due, 1);
                tracing::debug!(account = self.name, "three quarters of the token's life are over; looking for a new artifact");
                self.shared.look.notify_one();
            }
            Action::Close(which, reason) => {
                if !matches!(reason, Reason::Shutdown | Reason::NewArtifact) {
                    self.report(which, Failure::retry(reason));
                }
                if let Some(socket) = self.of(which).socket.take() {
                    self.closing = Some(Box::pin(socket.close(Duration::from_millis(CLOSE_MS))));
                }
            }
            Action::Promote => std::mem::swap(&mut self.main, &mut self.other),
            Action::Emit(signal) => self.emit(signal, now),
        }
        Ok(())
    }

    fn send(&mut self, which: Which, frame: String) -> Result<(), (Which, Failure)> {
        self.of(which).socket.as_mut().map_or(Ok(()), |socket| socket.send(frame)).map_err(|failure| (which, failure))
    }

    fn emit(&mut self, signal: Signal, now: Moment) {
        let (account, connection, counters) = (&self.name, &self.main.id, &self.shared.counters);
        let (kind, id, link) = match signal {
            Signal::Opened => {
                counters.live.fetch_add(1, Ordering::Relaxed);
                tracing::info!(account, connection, "live");
                if let Some(on_live) = &self.shared.on_live {
                    on_live(account);
                }
                (EventKind::ConnectionOpened, format!("onlyfans:{account}:conn:{connection}:opened"), Link::default())
            }
            Signal::Closed { reason, close_code } => {
                counters.live.fetch_sub(1, Ordering::Relaxed);
                Counters::add(&counters.rotations, u64::from(reason == Reason::NewArtifact));
                tracing::info!(account, connection, %reason, close_code, "no longer live");
                let link = Link { reason: Some(reason.name().into()), close_code, ..Link::default() };
                (EventKind::ConnectionClosed, format!("onlyfans:{account}:conn:{connection}:closed"), link)
            }
            Signal::Gap { from, to, reason } => {
                Counters::add(&counters.gaps, 1);
                counters.gaps_by.add(reason);
                let link = Link { from, to: Some(to), reason: Some(reason.name().into()), ..Link::default() };
                (EventKind::ConnectionGap, format!("onlyfans:{account}:gap:{connection}"), link)
            }
            Signal::Silent { kind, from, to } => {
                Counters::add(&counters.silences, 1);
                let kind = kind.name();
                tracing::warn!(account, connection, kind, "nothing of a kind that used to come; connecting anew");
                let link = Link { from: Some(from), to: Some(to), reason: Some(kind.into()), ..Link::default() };
                (EventKind::ConnectionSilent, format!("onlyfans:{account}:silent:{connection}:{kind}"), link)
            }
            Signal::Missed => return Counters::add(&counters.heartbeats_missed, 1),
            Signal::Late => {
                Counters::add(&counters.artifacts_late, 1);
                let ends = self.artifact.borrow().expires_at;
                return tracing::warn!(account, ?ends, "the token ends soon and there is no new artifact; the connection goes on");
            }
            Signal::AuthChanged { status } => self.auth_changed(status.name()),
            Signal::Expired => {
                Counters::add(&counters.artifacts_ended, 1);
                self.auth_changed("expired")
            }
            Signal::Refused => {
                Counters::add(&counters.refusals, 1);
                if let Some(on_refused) = &self.shared.on_refused {
                    on_refused(account, self.artifact.borrow().generation);
                }
                self.auth_changed(ArtifactStatus::Rejected.name())
            }
        };
        let mut event = Event::of_account(kind, id, account, connection, now.wall);
        event.link = Some(link);
        self.intake.own_event(&event);
    }

    fn auth_changed(&self, status: &'static str) -> (EventKind, String, Link<'static>) {
        let (account, generation) = (&self.name, self.artifact.borrow().generation);
        tracing::warn!(account, generation, status, "the account waits for a new artifact");
        let link = Link { auth_status: Some(status.into()), ..Link::default() };
        (EventKind::AccountAuthChanged, format!("onlyfans:{account}:auth:{generation}:{status}"), link)
    }
}

impl Connection {
    fn new(began: Millis, artifact: Arc<Artifact>) -> Self {
        Self { id: connection_id(began, fastrand::u16(..)), frame_no: 0, artifact, socket: None }
    }
}

impl Drop for Account {
    /// Only a task that panicked ends live.
    fn drop(&mut self) {
        self.count_waiting(false);
        if self.session.is_live() {
            self.shared.counters.live.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Waits for the future and clears it; for ever where there is none.
async fn or_pending<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let output = future.await;
    *slot = None;
    output
}

/// Reads, or while reading has to wait only writes; waits for ever where there is no socket.
async fn drive(socket: Option<&mut Socket>, reading: bool, frames: &mut Vec<Payload>) -> Result<(), Failure> {
    match socket {
        Some(socket) if reading => socket.read_chunk(frames).await,
        Some(socket) => match socket.flush().await? {},
        None => std::future::pending().await,
    }
}
