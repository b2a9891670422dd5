//! One account's task: does what its [`Session`] says, and moves what its socket says to the buffer.
//!
//! Owns: the socket, the connect under way, the connection's id and frame numbers. Does not own any decision about the connection.
//! Invariants: while something waits for a place in the buffer nothing is read and no new socket is opened, but timers go on; frames are
//! taken in chunks, with one look at the clock and one lock a chunk.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::buffer::Buffer;
use super::counters::Counters;
use super::intake::{Intake, Translate};
use super::{OnLive, OnRefused};
use crate::runtime::clock::{self, Clock, Moment};
use crate::runtime::shutdown::Shutdown;
use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::schema::event::{Event, EventKind, Link};
use crate::schema::ids::connection_id;
use crate::transform::normalize::FrameContext;
use crate::ws::session::{Action, CLOSE_MS, Heard, Input, Session, Signal, Timing};
use crate::ws::socket::{self, Endpoint, Limits, Socket};
use crate::ws::{Failure, HEARTBEAT_FRAME, Payload, Reason, connect_frame};

/// What all accounts share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) timing: Timing,
    pub(super) limits: Limits,
    pub(super) raw: bool,
    pub(super) depth_max: usize,
    pub(super) translate: Translate,
    pub(super) buffer: Buffer,
    pub(super) counters: Arc<Counters>,
    pub(super) on_live: Option<OnLive>,
    pub(super) on_refused: Option<OnRefused>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Socket, Failure>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Account {
    name: String,
    shared: Shared,
    artifact: watch::Receiver<Arc<Artifact>>,
    session: Session,
    clock: Clock,
    connection: String,
    frame_no: u64,
    socket: Option<Socket>,
    connecting: Option<Connecting>,
    closing: Option<Closing>,
    intake: Intake,
    /// Something waits for a place in the buffer.
    blocked: bool,
}

impl Account {
    pub(super) fn new(shared: Shared, artifact: watch::Receiver<Arc<Artifact>>) -> Self {
        let name = artifact.borrow().account_id.clone();
        let session = Session::new(shared.timing, fastrand::Rng::new());
        let connection = connection_id(clock::now(), fastrand::u16(..));
        let (clock, intake) = (Clock::start(), Intake::new());
        Self {
            name,
            shared,
            artifact,
            session,
            clock,
            connection,
            frame_no: 0,
            socket: None,
            connecting: None,
            closing: None,
            intake,
            blocked: false,
        }
    }

    /// Runs until a stop is asked for or the artifact's sender is gone; returns when all that was read is in the buffer.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut stop = pin!(shutdown.requested());
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut frames: Vec<Payload> = Vec::new();
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
            let reading = !self.blocked;
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
                        self.socket = Some(socket);
                        Input::Opened
                    }
                    Err(failure) => Input::Lost(failure),
                },
                () = or_pending(&mut self.closing) => {
                    // Only a draining session waits for this; another may have its next socket already.
                    if stopping { Input::Lost(Failure::retry(Reason::Shutdown)) } else { continue }
                }
                () = self.shared.buffer.push(&mut self.intake.items), if self.blocked => continue,
                read = drive(self.socket.as_mut(), reading, &mut frames) => match read {
                    Ok(()) => {
                        self.take_frames(&mut frames);
                        continue;
                    }
                    Err(failure) => Input::Lost(failure),
                },
            };
            self.step(input);
        }
        self.shared.buffer.push(&mut self.intake.items).await;
    }

    fn artifact_input(&mut self) -> Input {
        let artifact = self.artifact.borrow_and_update();
        Input::Artifact { generation: artifact.generation, status: artifact.status }
    }

    /// Moves what was collected to the buffer, and tells the session when reading has to stop and when it may go on.
    fn settle(&mut self) {
        let blocked = !self.shared.buffer.try_push(&mut self.intake.items);
        if blocked != self.blocked {
            self.blocked = blocked;
            if blocked {
                Counters::add(&self.shared.counters.waits_a, 1);
            }
            self.step(if blocked { Input::Paused } else { Input::Resumed });
        }
    }

    fn take_frames(&mut self, frames: &mut Vec<Payload>) {
        let now = self.clock.moment();
        let (count, mut bytes, mut control) = (frames.len() as u64, 0, 0);
        for (n, frame) in frames.drain(..).enumerate() {
            bytes += frame.length;
            self.frame_no += 1;
            self.intake.heard = Heard::Data;
            let at = FrameContext {
                account_id: &self.name,
                connection: &self.connection,
                frame_no: self.frame_no,
                received_at: now.wall,
                raw: self.shared.raw,
                depth_max: self.shared.depth_max,
            };
            if frame.is_cut() {
                self.intake.oversize(&at, &frame.bytes, frame.length);
            } else {
                (self.shared.translate)(&frame.bytes, &at, &mut self.intake);
            }
            let heard = self.intake.heard;
            control += u64::from(heard != Heard::Data);
            // A live session needs to hear of a chunk's data only once.
            if n == 0 || heard != Heard::Data || !self.session.is_live() {
                self.step_at(Input::Heard(heard), now);
            }
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.frames, count);
        Counters::add(&counters.bytes, bytes);
        Counters::add(&counters.control, control);
        Counters::add(&counters.events, std::mem::take(&mut self.intake.events));
        Counters::add(&counters.rejected, std::mem::take(&mut self.intake.rejected));
    }

    /// Gives the session an input and does what it asks for, and what comes of that.
    fn step(&mut self, input: Input) {
        self.step_at(input, self.clock.moment());
    }

    fn step_at(&mut self, input: Input, now: Moment) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            if let Input::Lost(failure) = input {
                self.lose(failure);
            }
            for action in self.session.on(input, now) {
                if let Err(failure) = self.perform(action, now) {
                    next = Some(Input::Lost(failure));
                }
            }
        }
    }

    fn lose(&mut self, failure: Failure) {
        self.socket = None;
        self.connecting = None;
        if failure.reason != Reason::Shutdown {
            self.report(failure);
        }
    }

    fn report(&self, failure: Failure) {
        let endpoint = Endpoint::of(&self.artifact.borrow()).map_or_else(|_| "an unusable URL".to_owned(), |at| at.to_string());
        tracing::warn!(account = self.name, endpoint, %failure, "connection failed");
        Counters::add(&self.shared.counters.failures, 1);
    }

    fn perform(&mut self, action: Action, now: Moment) -> Result<(), Failure> {
        match action {
            Action::Connect => {
                self.connection = connection_id(now.wall, fastrand::u16(..));
                self.frame_no = 0;
                Counters::add(&self.shared.counters.connects, 1);
                let (artifact, limits) = (self.artifact.borrow().clone(), self.shared.limits);
                self.connecting = Some(Box::pin(async move { socket::connect(&artifact, limits).await }));
            }
            Action::Abort => self.connecting = None,
            Action::SendConnect => {
                let frame = connect_frame(self.artifact.borrow().token.expose_secret());
                return self.send(frame);
            }
            Action::SendHeartbeat => return self.send(HEARTBEAT_FRAME.to_owned()),
            Action::Close(reason) => {
                if !matches!(reason, Reason::Shutdown | Reason::NewArtifact) {
                    self.report(Failure::retry(reason));
                }
                if let Some(socket) = self.socket.take() {
                    self.closing = Some(Box::pin(socket.close(Duration::from_millis(CLOSE_MS))));
                }
            }
            Action::Emit(signal) => self.emit(signal, now),
        }
        Ok(())
    }

    fn send(&mut self, frame: String) -> Result<(), Failure> {
        self.socket.as_mut().map_or(Ok(()), |socket| socket.send(frame))
    }

    fn emit(&mut self, signal: Signal, now: Moment) {
        let (account, connection, counters) = (&self.name, &self.connection, &self.shared.counters);
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
                tracing::info!(account, connection, %reason, close_code, "no longer live");
                let link = Link { reason: Some(reason.name().into()), close_code, ..Link::default() };
                (EventKind::ConnectionClosed, format!("onlyfans:{account}:conn:{connection}:closed"), link)
            }
            Signal::Gap { from, to, reason } => {
                Counters::add(&counters.gaps, 1);
                let link = Link { from, to: Some(to), reason: Some(reason.name().into()), ..Link::default() };
                (EventKind::ConnectionGap, format!("onlyfans:{account}:gap:{connection}"), link)
            }
            Signal::AuthChanged { status } => {
                let generation = self.artifact.borrow().generation;
                let status = status.name();
                tracing::warn!(account, generation, status, "the account waits for a new artifact");
                if let Some(on_refused) = self.shared.on_refused.as_ref().filter(|_| status == ArtifactStatus::Rejected.name()) {
                    on_refused(account, generation);
                }
                let link = Link { auth_status: Some(status.into()), ..Link::default() };
                (EventKind::AccountAuthChanged, format!("onlyfans:{account}:auth:{generation}:{status}"), link)
            }
        };
        let mut event = Event::of_account(kind, id, account, connection, now.wall);
        event.link = Some(link);
        self.intake.event(&event);
    }
}

impl Drop for Account {
    /// Only a task that panicked ends live.
    fn drop(&mut self) {
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
