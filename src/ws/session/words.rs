//! What a session is told and what it answers: inputs, actions, signals, timers.

use serde::{Deserialize, Serialize};

use super::age::Life;
use crate::config::IngestConfig;
use crate::schema::artifact::ArtifactStatus;
use crate::schema::event::EventKind;
use crate::schema::time::Millis;
use crate::ws::silence::{Kinds, Pace};
use crate::ws::{Failure, Reason, Verdict, blames_artifact};

/// One of an account's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that is live, or that becomes it where none is.
    Main,
    /// While rotating: the new one until [`Action::Promote`], then the old one.
    Other,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The account's artifact, as it is now.
    Artifact {
        /// Its generation; one that was seen already changes nothing.
        generation: u64,
        /// Whether it can be used.
        status: ArtifactStatus,
        /// From when to when; `None` where its end is not known.
        life: Option<Life>,
    },
    /// The socket that [`Action::Connect`] asked for is open; it is the one that [`Session::arriving`](super::Session::arriving) names.
    Opened,
    /// That socket did not come about.
    ConnectFailed(Failure),
    /// An open socket is gone.
    Lost(Which, Failure),
    /// A frame came. Data frames may be reported once for all that were read together, unless [`Session::is_greeted`](super::Session::is_greeted) is still false.
    Heard(Which, Heard),
    /// Events of these kinds came.
    Seen(Kinds),
    /// The reader stops, because what it read has no place to go.
    Paused,
    /// The reader goes on.
    Resumed,
    /// The time of [`Session::deadline`](super::Session::deadline) has come.
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

    /// What such a frame does to its connection.
    pub(super) const fn failure(self) -> Failure {
        match self {
            Self::Refused => Failure::refused(Reason::AuthRefused),
            Self::Error => Failure { verdict: Verdict::Suspect, ..Failure::retry(Reason::ErrorFrame) },
            Self::Connected | Self::Online | Self::Data => Failure::retry(Reason::NotConnected),
        }
    }
}

/// What a session wants done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a socket with the newest artifact; answer with [`Input::Opened`] or [`Input::Lost`].
    Connect,
    /// Give up the connect that is under way.
    Abort,
    /// Send the `connect` frame on the socket that has just opened.
    SendConnect,
    /// Send the heartbeat's question on the main socket.
    SendHeartbeat,
    /// Close this socket, for this reason; while draining, answer with [`Input::Lost`] when the main one is closed.
    Close(Which, Reason),
    /// The other socket is the main one now, and the main one the other.
    Promote,
    /// Look for another artifact now: three quarters of the newest one's life are over.
    Look,
    /// Publish this, or count it.
    Emit(Signal),
}

/// What the rest of the pipeline has to know of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The account is live, on the main socket: `connection.opened`.
    Opened,
    /// The connection on the main socket no longer is, or another takes its place in a moment: `connection.closed`.
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
    /// The connection is up and says nothing of a kind that it used to: `connection.silent`.
    Silent {
        /// The kind.
        kind: EventKind,
        /// When it was last heard of, or the connection began.
        from: Millis,
        /// When the silence was too long.
        to: Millis,
    },
    /// The artifact says that people have to act: `account.auth_changed`.
    AuthChanged {
        /// The state.
        status: ArtifactStatus,
    },
    /// A heartbeat was not answered in time.
    Missed,
    /// Seven eighths of the newest artifact's life are over, and no other has come.
    Late,
    /// The newest artifact has ended, and no other has come: `account.auth_changed`.
    Expired,
    /// The platform refuses the artifact: `account.auth_changed` too, and another one is to be asked for.
    Refused,
}

/// What an account's next session should know of this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When anything was last heard.
    pub heard_at: Millis,
    /// How often kinds of events came.
    #[serde(default)]
    pub pace: Pace,
}

/// The session's timers, milliseconds. See [`IngestConfig`] for each.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub(super) connected_timeout: u64,
    pub(super) heartbeat: u64,
    pub(super) heartbeat_timeout: u64,
    pub(super) backoff_min: u64,
    pub(super) backoff_max: u64,
    pub(super) backoff_reset: u64,
    pub(super) backoff_slow: u64,
    pub(super) silence_min: u64,
    pub(super) silence_factor: u64,
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
            backoff_slow: config.backoff_slow_ms,
            silence_min: config.silence_min_ms,
            silence_factor: config.silence_factor,
        }
    }
}
