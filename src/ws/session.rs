//! The session of one account: when to connect, what to send, when to give up. Sans I/O: inputs and a time go in, actions come out.
//!
//! Owns: the states and every timer. Does not own: sockets, frames' meaning, event ids. Invariants: no input in any state panics; from every state but
//! `stopped` there is a way on (a timer runs, a socket or a connect is under way, or a new artifact is waited for); a refused artifact is not
//! tried again; an account that is live stays live while a new artifact is tried. Every transition stands in the table of `docs/connections.md`, which
//! a test makes out of this code.
//!
//! At three quarters of its token's life another artifact is looked for; one whose token has ended is not connected with. A gap begins with the last
//! frame that was heard (nothing at the very first start) and ends when the account is live again. A rotation has none: the new
//! connection is live before the old one ends, and what both carry in between has the same event ids.

mod age;
mod live;
mod words;

use std::time::Duration;

use super::silence::Baseline;
use super::{Failure, Reason, Verdict};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Moment;
use crate::schema::artifact::ArtifactStatus;
use crate::schema::time::Millis;

pub use self::age::Life;
use self::age::{Age, Due};
use self::live::{Live, Pause};
pub use self::words::{Action, Heard, Input, Mark, Signal, Timing, Which};

/// `error` frames in a row after which the session material counts as refused: their codes are unknown, so two retries are allowed.
const ERRORS_MAX: u32 = 3;
/// Heartbeats in a row that may stay without an answer before the connection is dead.
const MISSED_MAX: u32 = 2;
/// Longest time for the closing handshake of a drain, milliseconds.
pub const CLOSE_MS: u64 = 1_000;
/// How long the old connection is still read once the new one is live, milliseconds: what was on its way comes in.
const OVERLAP_MS: u64 = 2_000;

/// One account's session.
#[derive(Debug)]
pub struct Session {
    timing: Timing,
    state: State,
    artifact: Option<(u64, ArtifactStatus)>,
    /// How old its token is.
    age: Age,
    /// The platform refused this artifact; a connection on an older one may live on.
    refused: bool,
    rng: fastrand::Rng,
    backoff: Backoff,
    /// `error` frames since the last connection that lasted.
    errors: u32,
    /// The wait before the very first connect.
    first_wait: u64,
    baseline: Baseline,
    /// When anything was last heard, over all connections.
    heard_at: Option<Millis>,
    /// What began the gap that the next live connection ends.
    gap: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Connecting,
    Authenticating {
        until: u64,
    },
    Live(Live),
    /// Live, and another connection is on its way in or the old one on its way out.
    Rotating(Live, Turn),
    Backoff {
        until: u64,
    },
    Refused,
    Draining {
        until: u64,
    },
    Stopped,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Connecting,
    Authenticating { until: u64 },
    Overlap { until: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    Open,
    Gone,
}

impl Session {
    /// A session that waits for its first artifact, and then `first_wait` milliseconds before it connects: accounts that start together spread.
    #[must_use]
    pub fn new(timing: Timing, mut rng: fastrand::Rng, first_wait: u64) -> Self {
        let ms = Duration::from_millis;
        Self {
            timing,
            state: State::Waiting,
            artifact: None,
            age: Age::UNKNOWN,
            refused: false,
            backoff: Backoff::with_rng(ms(timing.backoff_min), ms(timing.backoff_max), rng.fork()),
            rng,
            errors: 0,
            first_wait,
            baseline: Baseline::new(timing.silence_min, timing.silence_factor),
            heard_at: None,
            gap: Reason::Start,
        }
    }

    /// The session goes on from what an earlier one of the account, in this process or another, remembered.
    #[must_use]
    pub fn remembering(mut self, mark: &Mark) -> Self {
        self.heard_at = Some(mark.heard_at);
        self.baseline.remember(&mark.pace);
        self
    }

    /// What a later session of the account should remember; `None` where nothing was ever heard.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.heard_at.map(|heard_at| Mark { heard_at, pace: self.baseline.pace() })
    }

    /// Whether the account is live: `connected` came and that socket is still there.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_) | State::Rotating(..))
    }

    /// Whether `connected` came on this socket.
    #[must_use]
    pub const fn is_greeted(&self, which: Which) -> bool {
        matches!(
            (which, self.state),
            (Which::Main, State::Live(_) | State::Rotating(..)) | (Which::Other, State::Rotating(_, Turn::Overlap { .. }))
        )
    }

    /// Which socket the connect under way brings.
    #[must_use]
    pub const fn arriving(&self) -> Which {
        if self.is_live() { Which::Other } else { Which::Main }
    }

    /// Whether it is over; nothing happens any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// The monotonic time at which [`Input::Tick`] is due; `None` where no timer runs.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let age = if self.uses_artifact() { self.age.due() } else { None };
        let timer = match self.state {
            State::Authenticating { until } | State::Backoff { until } | State::Draining { until } => Some(until),
            State::Live(live) => {
                let silence = if live.is_paused() { None } else { self.baseline.due() };
                [Some(live.due()), live.rotate_at, silence].into_iter().flatten().min()
            }
            State::Rotating(live, Turn::Connecting) => Some(live.due()),
            State::Rotating(live, Turn::Authenticating { until } | Turn::Overlap { until }) => Some(live.due().min(until)),
            State::Waiting | State::Connecting | State::Refused | State::Stopped => None,
        };
        [timer, age].into_iter().flatten().min()
    }

    /// Whether nothing happens before there is another artifact.
    #[must_use]
    pub const fn awaits_artifact(&self) -> bool {
        matches!(self.state, State::Waiting | State::Refused)
    }

    /// Whether the age of the newest artifact is of any interest.
    const fn uses_artifact(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Refused | State::Draining { .. } | State::Stopped)
    }

    /// Takes one input and says what to do. An input that the state does not expect (a late answer, a timer that was overtaken) does nothing.
    pub fn on(&mut self, input: Input, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Artifact { generation, status, life } => self.on_artifact((generation, status), life, now, &mut actions),
            Input::Opened => self.on_opened(now, &mut actions),
            Input::ConnectFailed(failure) => match self.state {
                State::Connecting => self.fail(failure, Socket::Gone, now, &mut actions),
                State::Rotating(live, Turn::Connecting) => self.fail_turn(live, failure, Socket::Gone, now, &mut actions),
                _ => {}
            },
            Input::Lost(which, failure) => self.on_lost(which, failure, now, &mut actions),
            Input::Heard(Which::Main, heard) => self.on_heard(heard, now, &mut actions),
            Input::Heard(Which::Other, heard) => self.on_heard_other(heard, now, &mut actions),
            Input::Seen(kinds) => {
                if self.is_live() {
                    self.baseline.seen(kinds, now);
                }
            }
            Input::Paused => {
                if let State::Live(live) | State::Rotating(live, _) = &mut self.state {
                    live.pause = Pause::Since(now.mono_ms);
                }
            }
            Input::Resumed => self.on_resumed(now),
            Input::Tick => self.on_tick(now, &mut actions),
            Input::Drain => self.on_drain(now, &mut actions),
        }
        actions
    }

    fn on_artifact(&mut self, artifact: (u64, ArtifactStatus), life: Option<Life>, now: Moment, actions: &mut Vec<Action>) {
        let over = matches!(self.state, State::Draining { .. } | State::Stopped);
        if over || self.artifact == Some(artifact) {
            return;
        }
        let (_, status) = artifact;
        self.artifact = Some(artifact);
        self.age = if status == ArtifactStatus::Ready { Age::of(life, now) } else { Age::UNKNOWN };
        (self.refused, self.errors) = (false, 0);
        self.backoff.reset();
        let next = match self.state {
            State::Live(live) => Some(live),
            State::Rotating(live, turn) => {
                Self::end_turn(turn, actions);
                Some(live)
            }
            _ => None,
        };
        // What is live goes on with the old artifact until the new one has proved itself.
        match next {
            Some(live) if status == ArtifactStatus::Ready => {
                self.state = State::Rotating(Live { rotate_at: None, ..live }, Turn::Connecting);
                actions.push(Action::Connect);
            }
            Some(live) => {
                self.state = State::Live(Live { rotate_at: None, ..live });
                actions.push(Action::Emit(Signal::AuthChanged { status }));
            }
            None if status == ArtifactStatus::Ready => {
                self.let_go(Reason::NewArtifact, actions);
                let wait = std::mem::take(&mut self.first_wait);
                if wait > 0 {
                    self.state = State::Backoff { until: now.mono_ms.saturating_add(wait) };
                } else {
                    self.state = State::Connecting;
                    actions.push(Action::Connect);
                }
            }
            None => {
                self.let_go(Reason::NewArtifact, actions);
                self.state = State::Waiting;
                actions.push(Action::Emit(Signal::AuthChanged { status }));
            }
        }
    }

    fn on_opened(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let until = now.mono_ms.saturating_add(self.timing.connected_timeout);
        match self.state {
            State::Connecting => self.state = State::Authenticating { until },
            State::Rotating(live, Turn::Connecting) => self.state = State::Rotating(live, Turn::Authenticating { until }),
            _ => return,
        }
        actions.push(Action::SendConnect);
    }

    fn on_lost(&mut self, which: Which, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        match (which, self.state) {
            (Which::Main, State::Draining { .. }) => self.state = State::Stopped,
            (Which::Main, State::Authenticating { .. } | State::Live(_) | State::Rotating(..)) => {
                self.fail(failure, Socket::Gone, now, actions);
            }
            (Which::Other, State::Rotating(live, Turn::Authenticating { .. })) => {
                self.fail_turn(live, failure, Socket::Gone, now, actions);
            }
            (Which::Other, State::Rotating(live, Turn::Overlap { .. })) => self.state = State::Live(live),
            _ => {}
        }
    }

    fn on_heard(&mut self, heard: Heard, now: Moment, actions: &mut Vec<Action>) {
        let failure = match (&mut self.state, heard) {
            (State::Authenticating { .. }, Heard::Connected) => return self.go_live(now, actions),
            (State::Authenticating { .. } | State::Live(_) | State::Rotating(..), Heard::Error | Heard::Refused) => heard.failure(),
            (State::Authenticating { .. }, Heard::Online | Heard::Data) => Failure::retry(Reason::NotConnected),
            (State::Live(live) | State::Rotating(live, _), Heard::Connected | Heard::Online | Heard::Data) => {
                self.heard_at = Some(now.wall);
                if heard == Heard::Online {
                    live.answer_by = None;
                    live.missed = 0;
                }
                return;
            }
            _ => return,
        };
        self.fail(failure, Socket::Open, now, actions);
    }

    fn on_heard_other(&mut self, heard: Heard, now: Moment, actions: &mut Vec<Action>) {
        match (self.state, heard) {
            (State::Rotating(live, Turn::Authenticating { .. }), Heard::Connected) => {
                // Closed before opened, and at the same time, so that whoever keeps the newest of both keeps that the account is live.
                actions.push(Action::Emit(Signal::Closed { reason: Reason::NewArtifact, close_code: None }));
                actions.push(Action::Promote);
                actions.push(Action::Emit(Signal::Opened));
                let next = Live { pause: live.pause, ..self.begin_live(now) };
                self.state = State::Rotating(next, Turn::Overlap { until: now.mono_ms.saturating_add(OVERLAP_MS) });
            }
            (State::Rotating(live, Turn::Authenticating { .. }), Heard::Online | Heard::Data) => {
                self.fail_turn(live, Failure::retry(Reason::NotConnected), Socket::Open, now, actions);
            }
            (State::Rotating(live, Turn::Authenticating { .. }), Heard::Error | Heard::Refused) => {
                self.fail_turn(live, heard.failure(), Socket::Open, now, actions);
            }
            // The old token's end is none of ours any more.
            (State::Rotating(live, turn @ Turn::Overlap { .. }), Heard::Error | Heard::Refused) => {
                Self::end_turn(turn, actions);
                self.state = State::Live(live);
            }
            (State::Rotating(_, Turn::Overlap { .. }), _) => self.heard_at = Some(now.wall),
            _ => {}
        }
    }

    fn go_live(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // A clock that was set back makes the gap empty, not negative.
        let (from, to, reason) = (self.heard_at.map(|at| at.min(now.wall)), now.wall, self.gap);
        self.state = State::Live(self.begin_live(now));
        actions.push(Action::Emit(Signal::Opened));
        actions.push(Action::Emit(Signal::Gap { from, to, reason }));
    }

    fn begin_live(&mut self, now: Moment) -> Live {
        self.heard_at = Some(now.wall);
        self.baseline.begin(now);
        Live {
            since: now.mono_ms,
            heartbeat_at: now.mono_ms.saturating_add(self.timing.heartbeat),
            answer_by: None,
            missed: 0,
            pause: Pause::Never,
            rotate_at: None,
        }
    }

    /// Answers that came while nobody read lie unread in the socket; they get their full time again.
    fn on_resumed(&mut self, now: Moment) {
        let timing = self.timing;
        if let State::Live(live) | State::Rotating(live, _) = &mut self.state
            && let Pause::Since(since) = live.pause
        {
            let long = now.mono_ms.saturating_sub(since) >= timing.heartbeat_timeout;
            live.pause = if long { Pause::Suspect(now.mono_ms.saturating_add(timing.heartbeat)) } else { Pause::Never };
            live.answer_by = live.answer_by.map(|_| now.mono_ms.saturating_add(timing.heartbeat_timeout));
            self.baseline.begin(now);
        }
    }

    fn on_tick(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.grow_old(now, actions);
        match self.state {
            State::Authenticating { until } if until <= now.mono_ms => {
                self.fail(Failure::retry(Reason::NotConnected), Socket::Open, now, actions);
            }
            State::Backoff { until } if until <= now.mono_ms => {
                self.state = State::Connecting;
                actions.push(Action::Connect);
            }
            State::Draining { until } if until <= now.mono_ms => self.state = State::Stopped,
            State::Live(live) => {
                if live.rotate_at.is_some_and(|at| at <= now.mono_ms) {
                    self.state = State::Rotating(Live { rotate_at: None, ..live }, Turn::Connecting);
                    actions.push(Action::Connect);
                }
                if self.beat(now, actions) {
                    self.listen(now, actions);
                }
            }
            State::Rotating(live, turn) => {
                match turn {
                    Turn::Authenticating { until } if until <= now.mono_ms => {
                        self.fail_turn(live, Failure::retry(Reason::NotConnected), Socket::Open, now, actions);
                    }
                    Turn::Overlap { until } if until <= now.mono_ms => {
                        Self::end_turn(turn, actions);
                        self.state = State::Live(live);
                    }
                    _ => {}
                }
                self.beat(now, actions);
            }
            _ => {}
        }
    }

    /// What the age of the newest artifact asks for. What is live stays live beyond the end: when it has to go the platform says so.
    fn grow_old(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.uses_artifact() {
            return;
        }
        while let Some(due) = self.age.tick(now) {
            match due {
                Due::Renewal => actions.push(Action::Look),
                Due::Late => actions.push(Action::Emit(Signal::Late)),
                Due::End => {
                    actions.push(Action::Emit(Signal::Expired));
                    match &mut self.state {
                        State::Live(live) | State::Rotating(live, _) => live.rotate_at = None,
                        State::Backoff { .. } => self.state = State::Waiting,
                        // An attempt that is under way comes to its own end.
                        _ => {}
                    }
                }
            }
        }
    }

    /// The heartbeat of what is live. Whether it still is.
    fn beat(&mut self, now: Moment, actions: &mut Vec<Action>) -> bool {
        let timing = self.timing;
        let (State::Live(live) | State::Rotating(live, _)) = &mut self.state else { return false };
        if live.answer_due().is_some_and(|due| due <= now.mono_ms) {
            live.answer_by = None;
            live.missed += 1;
            actions.push(Action::Emit(Signal::Missed));
            if live.missed >= MISSED_MAX {
                self.fail(Failure::retry(Reason::Heartbeat), Socket::Open, now, actions);
                return false;
            }
        }
        if live.heartbeat_at <= now.mono_ms {
            live.heartbeat_at = now.mono_ms.saturating_add(timing.heartbeat);
            live.answer_by.get_or_insert(now.mono_ms.saturating_add(timing.heartbeat_timeout));
            actions.push(Action::SendHeartbeat);
        }
        true
    }

    /// Leaves a connection that has been silent for too long. What it may have missed began with the silence.
    fn listen(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let State::Live(live) = self.state else { return };
        if live.is_paused() {
            return;
        }
        if let Some((kind, from)) = self.baseline.silent(now) {
            actions.push(Action::Emit(Signal::Silent { kind, from, to: now.wall }));
            self.heard_at = Some(from);
            self.fail(Failure::retry(Reason::Silent), Socket::Open, now, actions);
        }
    }

    fn on_drain(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let open = match self.state {
            State::Draining { .. } | State::Stopped => return,
            State::Live(_) | State::Rotating(..) => {
                if let State::Rotating(_, turn) = self.state {
                    Self::end_turn(turn, actions);
                }
                actions.push(Action::Close(Which::Main, Reason::Shutdown));
                self.end_live(Failure::retry(Reason::Shutdown), now, actions);
                true
            }
            State::Authenticating { .. } => {
                self.let_go(Reason::Shutdown, actions);
                true
            }
            _ => {
                self.let_go(Reason::Shutdown, actions);
                false
            }
        };
        self.state = if open { State::Draining { until: now.mono_ms.saturating_add(CLOSE_MS) } } else { State::Stopped };
    }

    /// Lets go of a socket that is not live yet.
    fn let_go(&self, reason: Reason, actions: &mut Vec<Action>) {
        match self.state {
            State::Connecting => actions.push(Action::Abort),
            State::Authenticating { .. } => actions.push(Action::Close(Which::Main, reason)),
            _ => {}
        }
    }

    /// Lets go of a rotation's other socket.
    fn end_turn(turn: Turn, actions: &mut Vec<Action>) {
        actions.push(match turn {
            Turn::Connecting => Action::Abort,
            Turn::Authenticating { .. } | Turn::Overlap { .. } => Action::Close(Which::Other, Reason::NewArtifact),
        });
    }

    /// The way from a main socket that failed to the next attempt, or to none.
    fn fail(&mut self, failure: Failure, socket: Socket, now: Moment, actions: &mut Vec<Action>) {
        if socket == Socket::Open {
            actions.push(Action::Close(Which::Main, failure.reason));
        }
        self.end_live(failure, now, actions);
        // Where its successor is on its way already, that is the next attempt: what failed was on the old artifact.
        match self.state {
            State::Rotating(_, Turn::Connecting) => self.state = State::Connecting,
            State::Rotating(_, Turn::Authenticating { until }) => {
                actions.push(Action::Promote);
                self.state = State::Authenticating { until };
            }
            State::Rotating(_, turn @ Turn::Overlap { .. }) => {
                Self::end_turn(turn, actions);
                self.next(failure, now, actions);
            }
            _ => self.next(failure, now, actions),
        }
    }

    fn next(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        self.state = match self.artifact {
            Some((_, status)) if status != ArtifactStatus::Ready => State::Waiting,
            _ if self.refused => State::Refused,
            _ if self.age.is_over() && failure.verdict != Verdict::Refused => State::Waiting,
            _ => match self.judge(failure, actions) {
                Some(wait) => State::Backoff { until: now.mono_ms.saturating_add(wait) },
                None => State::Refused,
            },
        };
    }

    /// A rotation's new socket failed: the old one lives on, and so does the old artifact.
    fn fail_turn(&mut self, live: Live, failure: Failure, socket: Socket, now: Moment, actions: &mut Vec<Action>) {
        if socket == Socket::Open {
            actions.push(Action::Close(Which::Other, failure.reason));
        }
        let wait = self.judge(failure, actions).filter(|_| !self.age.is_over());
        self.state = State::Live(Live { rotate_at: wait.map(|wait| now.mono_ms.saturating_add(wait)), ..live });
    }

    /// How long to wait before the artifact is tried again; never, where it is refused.
    fn judge(&mut self, failure: Failure, actions: &mut Vec<Action>) -> Option<u64> {
        if failure.verdict == Verdict::Suspect {
            self.errors += 1;
        }
        if failure.verdict == Verdict::Refused || self.errors >= ERRORS_MAX {
            self.refused = true;
            self.age = Age::UNKNOWN;
            actions.push(Action::Emit(Signal::Refused));
            return None;
        }
        if failure.verdict == Verdict::Slow {
            let slow = self.timing.backoff_slow;
            return Some(self.rng.u64(slow / 2..=slow));
        }
        Some(u64::try_from(self.backoff.next_wait().as_millis()).unwrap_or(u64::MAX))
    }

    /// Where the session was live: says that it no longer is, and begins the gap.
    fn end_live(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        let (State::Live(live) | State::Rotating(live, _)) = self.state else { return };
        let starved = match live.pause {
            Pause::Never => false,
            Pause::Since(_) => true,
            Pause::Suspect(until) => now.mono_ms < until,
        };
        let ours = matches!(failure.reason, Reason::NewArtifact | Reason::Shutdown);
        let reason = if starved && !ours && failure.verdict == Verdict::Retry { Reason::Backpressure } else { failure.reason };
        self.gap = reason;
        if now.mono_ms.saturating_sub(live.since) >= self.timing.backoff_reset {
            self.backoff.reset();
            self.errors = 0;
        }
        actions.push(Action::Emit(Signal::Closed { reason, close_code: failure.close_code }));
    }
}

#[cfg(test)]
mod aging;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transitions;
