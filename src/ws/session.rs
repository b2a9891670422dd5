//! The session of one account: when to connect, what to send, when to give up. Sans I/O: inputs and a time go in, actions come out.
//!
//! Owns: the states below and every timer. Does not own: sockets, frames' meaning, event ids. Invariants: no input in any state panics;
//! from every state but `stopped` there is a way on (a timer runs, a socket or a connect is under way, or a new artifact is waited for);
//! a refused artifact is not tried again.
//!
//! | state | input | next state | actions |
//! |---|---|---|---|
//! | waiting | artifact, ready | connecting | `Connect` |
//! | waiting | artifact, not ready | waiting | `AuthChanged` |
//! | connecting | opened | authenticating | `SendConnect` |
//! | connecting | failed | backoff, or refused | |
//! | authenticating | `connected` as the first frame | live | `Opened`, `Gap` |
//! | authenticating | any other frame first; no frame in time | backoff | `Close` |
//! | authenticating, live | `error` frame | backoff; at the third in a row refused | `Close` |
//! | live | heartbeat due | live | `SendHeartbeat` |
//! | live | two heartbeats in a row unanswered | backoff | `Close`, `Closed` |
//! | live | socket lost | backoff, or refused | `Closed` |
//! | live | paused / resumed | live | heartbeats go out, their answers are not expected until resumed |
//! | backoff | timer | connecting | `Connect` |
//! | any but draining, stopped | artifact of another generation, ready | connecting | `Close`, `Closed`, `Connect` |
//! | any but draining, stopped | artifact of another generation, not ready | waiting | `Close`, `Closed`, `AuthChanged` |
//! | into refused | | refused: only a new artifact leads on | `AuthChanged` |
//! | socket open | drain | draining | `Close`, `Closed` |
//! | any other | drain | stopped | `Abort` of a connect under way |
//! | draining | lost, or the time for closing is over | stopped | |
//!
//! A gap begins with the last frame that was heard (nothing at the very start) and ends when the account is live again.

use std::time::Duration;

use super::{Failure, Reason, Verdict, blames_artifact};
use crate::config::IngestConfig;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Moment;
use crate::schema::artifact::ArtifactStatus;
use crate::schema::time::Millis;

/// `error` frames in a row after which the session material counts as refused: their codes are unknown, so two retries are allowed.
const ERRORS_MAX: u32 = 3;
/// Heartbeats in a row that may stay without an answer before the connection is dead.
const MISSED_MAX: u32 = 2;
/// Longest time for the closing handshake of a drain, milliseconds.
pub const CLOSE_MS: u64 = 1_000;

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The account's artifact, as it is now.
    Artifact {
        /// Its generation; one that was seen already changes nothing.
        generation: u64,
        /// Whether it can be used.
        status: ArtifactStatus,
    },
    /// The socket that [`Action::Connect`] asked for is open.
    Opened,
    /// That socket did not come about, or the open one is gone.
    Lost(Failure),
    /// A frame came. Data frames may be reported once for all that were read together, unless [`Session::is_live`] is still false.
    Heard(Heard),
    /// The reader stops, because what it read has no place to go.
    Paused,
    /// The reader goes on.
    Resumed,
    /// The time of [`Session::deadline`] has come.
    Tick,
    /// Stop for good.
    Drain,
}

/// What sort of frame came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The platform's `connected`.
    Connected,
    /// The answer to a heartbeat.
    Online,
    /// An `error` frame whose code says nothing that is known.
    Error,
    /// An `error` frame that blames the session material.
    Refused,
    /// Anything else.
    Data,
}

impl Heard {
    /// What an `error` frame with this value means.
    #[must_use]
    pub fn error(value: &str) -> Self {
        if blames_artifact(value) { Self::Refused } else { Self::Error }
    }
}

/// What a session wants done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a socket with the newest artifact; answer with [`Input::Opened`] or [`Input::Lost`].
    Connect,
    /// Give up the connect that is under way.
    Abort,
    /// Send the `connect` frame.
    SendConnect,
    /// Send the heartbeat's question.
    SendHeartbeat,
    /// Close the socket, for this reason; while draining, answer with [`Input::Lost`] when it is closed.
    Close(Reason),
    /// Publish this.
    Emit(Signal),
}

/// What the rest of the pipeline has to know of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The account is live: `connection.opened`.
    Opened,
    /// It no longer is: `connection.closed`.
    Closed {
        /// Why.
        reason: Reason,
        /// The WebSocket close code, where there was one.
        close_code: Option<u16>,
    },
    /// Frames may have been missed: `connection.gap`.
    Gap {
        /// The last time anything was heard; `None` where nothing ever was.
        from: Option<Millis>,
        /// When the account was live again.
        to: Millis,
        /// What began the gap.
        reason: Reason,
    },
    /// The session material is in a state that people have to know of: `account.auth_changed`.
    AuthChanged {
        /// The state.
        status: ArtifactStatus,
    },
}

/// The session's timers, milliseconds. See [`IngestConfig`] for each.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    connected_timeout: u64,
    heartbeat: u64,
    heartbeat_timeout: u64,
    backoff_min: u64,
    backoff_max: u64,
    backoff_reset: u64,
}

impl From<&IngestConfig> for Timing {
    fn from(config: &IngestConfig) -> Self {
        Self {
            connected_timeout: config.connected_timeout_ms,
            // A heartbeat of zero would be a loop.
            heartbeat: config.heartbeat_ms.max(1),
            heartbeat_timeout: config.heartbeat_timeout_ms,
            backoff_min: config.backoff_min_ms,
            backoff_max: config.backoff_max_ms,
            backoff_reset: config.backoff_reset_ms,
        }
    }
}

/// One account's session. See the module for its states.
#[derive(Debug)]
pub struct Session {
    timing: Timing,
    state: State,
    artifact: Option<(u64, ArtifactStatus)>,
    backoff: Backoff,
    /// `error` frames since the last connection that lasted.
    errors: u32,
    /// When anything was last heard, over all connections.
    heard_at: Option<Millis>,
    /// What began the gap that the next live connection ends.
    gap: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Connecting,
    Authenticating { until: u64 },
    Live(Live),
    Backoff { until: u64 },
    Refused,
    Draining { until: u64 },
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Live {
    since: u64,
    heartbeat_at: u64,
    /// The oldest question without an answer was sent, and its answer is due then; far away while paused.
    answer_by: Option<u64>,
    missed: u32,
    pause: Pause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    Never,
    Since(u64),
    /// Resumed, after a pause that was long enough to be what the connection may die of until then.
    Suspect(u64),
}

impl Session {
    /// A session that waits for its first artifact.
    #[must_use]
    pub fn new(timing: Timing, rng: fastrand::Rng) -> Self {
        let ms = Duration::from_millis;
        Self {
            timing,
            state: State::Waiting,
            artifact: None,
            backoff: Backoff::with_rng(ms(timing.backoff_min), ms(timing.backoff_max), rng),
            errors: 0,
            heard_at: None,
            gap: Reason::Start,
        }
    }

    /// Whether `connected` came and the socket is still there.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    /// Whether it is over; nothing happens any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// The monotonic time at which [`Input::Tick`] is due; `None` where no timer runs.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Authenticating { until } | State::Backoff { until } | State::Draining { until } => Some(until),
            State::Live(live) => Some(live.answer_due().map_or(live.heartbeat_at, |due| due.min(live.heartbeat_at))),
            State::Waiting | State::Connecting | State::Refused | State::Stopped => None,
        }
    }

    /// Takes one input and says what to do. An input that the state does not expect (a late answer, a timer that was overtaken) does nothing.
    pub fn on(&mut self, input: Input, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Artifact { generation, status } => self.on_artifact(generation, status, now, &mut actions),
            Input::Opened => {
                if self.state == State::Connecting {
                    self.state = State::Authenticating { until: now.mono_ms.saturating_add(self.timing.connected_timeout) };
                    actions.push(Action::SendConnect);
                }
            }
            Input::Lost(failure) => self.on_lost(failure, now, &mut actions),
            Input::Heard(heard) => self.on_heard(heard, now, &mut actions),
            Input::Paused => {
                if let State::Live(live) = &mut self.state {
                    live.pause = Pause::Since(now.mono_ms);
                }
            }
            Input::Resumed => self.on_resumed(now),
            Input::Tick => self.on_tick(now, &mut actions),
            Input::Drain => self.on_drain(now, &mut actions),
        }
        actions
    }

    fn on_artifact(&mut self, generation: u64, status: ArtifactStatus, now: Moment, actions: &mut Vec<Action>) {
        let over = matches!(self.state, State::Draining { .. } | State::Stopped);
        if over || self.artifact == Some((generation, status)) {
            return;
        }
        let ready = status == ArtifactStatus::Ready;
        self.artifact = Some((generation, status));
        self.errors = 0;
        self.backoff.reset();
        self.leave(Failure::retry(Reason::NewArtifact), now, actions);
        if ready {
            self.state = State::Connecting;
            actions.push(Action::Connect);
        } else {
            self.state = State::Waiting;
            actions.push(Action::Emit(Signal::AuthChanged { status }));
        }
    }

    fn on_lost(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        match self.state {
            State::Draining { .. } => self.state = State::Stopped,
            State::Connecting | State::Authenticating { .. } | State::Live(_) => self.fail(failure, Socket::Gone, now, actions),
            State::Waiting | State::Backoff { .. } | State::Refused | State::Stopped => {}
        }
    }

    fn on_heard(&mut self, heard: Heard, now: Moment, actions: &mut Vec<Action>) {
        let failure = match (self.state, heard) {
            (State::Authenticating { .. } | State::Live(_), Heard::Error) => {
                Failure { verdict: Verdict::Suspect, ..Failure::retry(Reason::ErrorFrame) }
            }
            (State::Authenticating { .. } | State::Live(_), Heard::Refused) => Failure::refused(Reason::AuthRefused),
            (State::Authenticating { .. }, Heard::Connected) => {
                self.go_live(now, actions);
                return;
            }
            (State::Authenticating { .. }, Heard::Online | Heard::Data) => Failure::retry(Reason::NotConnected),
            (State::Live(_), Heard::Connected | Heard::Online | Heard::Data) => {
                self.heard_at = Some(now.wall);
                if let (State::Live(live), Heard::Online) = (&mut self.state, heard) {
                    live.answer_by = None;
                    live.missed = 0;
                }
                return;
            }
            _ => return,
        };
        self.fail(failure, Socket::Open, now, actions);
    }

    fn go_live(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // A clock that was set back makes the gap empty, not negative.
        let (from, to, reason) = (self.heard_at.map(|at| at.min(now.wall)), now.wall, self.gap);
        self.heard_at = Some(now.wall);
        self.state = State::Live(Live {
            since: now.mono_ms,
            heartbeat_at: now.mono_ms.saturating_add(self.timing.heartbeat),
            answer_by: None,
            missed: 0,
            pause: Pause::Never,
        });
        actions.push(Action::Emit(Signal::Opened));
        actions.push(Action::Emit(Signal::Gap { from, to, reason }));
    }

    /// Answers that came while nobody read lie unread in the socket; they get their full time again.
    fn on_resumed(&mut self, now: Moment) {
        let timing = self.timing;
        if let State::Live(live) = &mut self.state
            && let Pause::Since(since) = live.pause
        {
            let long = now.mono_ms.saturating_sub(since) >= timing.heartbeat_timeout;
            live.pause = if long { Pause::Suspect(now.mono_ms.saturating_add(timing.heartbeat)) } else { Pause::Never };
            live.answer_by = live.answer_by.map(|_| now.mono_ms.saturating_add(timing.heartbeat_timeout));
        }
    }

    fn on_tick(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Authenticating { until } if *until <= now.mono_ms => {
                self.fail(Failure::retry(Reason::NotConnected), Socket::Open, now, actions);
            }
            State::Backoff { until } if *until <= now.mono_ms => {
                self.state = State::Connecting;
                actions.push(Action::Connect);
            }
            State::Draining { until } if *until <= now.mono_ms => self.state = State::Stopped,
            State::Live(live) => {
                if live.answer_due().is_some_and(|due| due <= now.mono_ms) {
                    live.answer_by = None;
                    live.missed += 1;
                    if live.missed >= MISSED_MAX {
                        self.fail(Failure::retry(Reason::Heartbeat), Socket::Open, now, actions);
                        return;
                    }
                }
                if live.heartbeat_at <= now.mono_ms {
                    live.heartbeat_at = now.mono_ms.saturating_add(self.timing.heartbeat);
                    live.answer_by.get_or_insert(now.mono_ms.saturating_add(self.timing.heartbeat_timeout));
                    actions.push(Action::SendHeartbeat);
                }
            }
            _ => {}
        }
    }

    fn on_drain(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Draining { .. } | State::Stopped) {
            return;
        }
        let open = matches!(self.state, State::Authenticating { .. } | State::Live(_));
        self.leave(Failure::retry(Reason::Shutdown), now, actions);
        self.state = if open { State::Draining { until: now.mono_ms.saturating_add(CLOSE_MS) } } else { State::Stopped };
    }

    /// Lets go of whatever socket there is.
    fn leave(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        match self.state {
            State::Connecting => actions.push(Action::Abort),
            State::Authenticating { .. } => actions.push(Action::Close(failure.reason)),
            State::Live(_) => {
                actions.push(Action::Close(failure.reason));
                self.end_live(failure, now, actions);
            }
            State::Waiting | State::Backoff { .. } | State::Refused | State::Draining { .. } | State::Stopped => {}
        }
    }

    /// The way from a socket that failed to the next attempt, or to none.
    fn fail(&mut self, failure: Failure, socket: Socket, now: Moment, actions: &mut Vec<Action>) {
        if socket == Socket::Open {
            actions.push(Action::Close(failure.reason));
        }
        self.end_live(failure, now, actions);
        if failure.verdict == Verdict::Suspect {
            self.errors += 1;
        }
        if failure.verdict == Verdict::Refused || self.errors >= ERRORS_MAX {
            self.state = State::Refused;
            actions.push(Action::Emit(Signal::AuthChanged { status: ArtifactStatus::Rejected }));
        } else {
            let wait = u64::try_from(self.backoff.next_wait().as_millis()).unwrap_or(u64::MAX);
            self.state = State::Backoff { until: now.mono_ms.saturating_add(wait) };
        }
    }

    /// Where the session was live: says that it no longer is, and begins the gap.
    fn end_live(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        let State::Live(live) = self.state else { return };
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    Open,
    Gone,
}

impl Live {
    /// When the answer is due; never while nobody reads.
    fn answer_due(self) -> Option<u64> {
        if matches!(self.pause, Pause::Since(_)) { None } else { self.answer_by }
    }
}

#[cfg(test)]
mod tests;
