//! The sockets: the session that decides ([`session`], no I/O), the socket that it decides about ([`socket`]), and a server that speaks
//! the platform's side of it ([`serve`]) for replays, tests and benchmarks.
//!
//! Does not own: what a frame means, nor where events go.

mod assemble;
#[cfg(test)]
mod autobahn;
mod close;
pub mod serve;
pub mod session;
pub mod silence;
pub mod socket;
mod upgrade;

use std::fmt;

pub use assemble::Payload;

/// What the account's side of the socket sends first.
pub(crate) fn connect_frame(token: &str) -> String {
    serde_json::json!({ "act": "connect", "token": token }).to_string()
}

/// The heartbeat's question; the platform answers with an `online` frame.
pub(crate) const HEARTBEAT_FRAME: &str = r#"{"act":"get_onlines","ids":[]}"#;

/// Whether a text of the platform says that the session material is at fault: "Wrong user" (it belongs to another account or was
/// superseded), "Please refresh the page" (it is stale). Both were seen in public clients; looping on them can log the owner out.
fn blames_artifact(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("wrong user") || text.contains("refresh the page")
}

/// Why a connection failed, ended or was missing, as the short stable word that `connection.*` events carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The process, or the account in it, has just started.
    Start,
    /// No TCP connection: name, route, refused, timeout.
    Connect,
    /// No TLS: certificate, protocol, timeout.
    Tls,
    /// No WebSocket: an HTTP answer that is no upgrade, timeout.
    Handshake,
    /// `connected` was not the first frame, or did not come in time.
    NotConnected,
    /// Two heartbeats without an answer.
    Heartbeat,
    /// The connection was up and said nothing of a kind that it used to.
    Silent,
    /// The peer closed with a closing handshake.
    ServerClosed,
    /// The connection broke off.
    Reset,
    /// The peer broke the WebSocket protocol.
    Protocol,
    /// The platform sent an `error` frame.
    ErrorFrame,
    /// The platform refused the session material.
    AuthRefused,
    /// The artifact cannot be used: a URL or a header that is none.
    Artifact,
    /// We did not read for too long, because the bus did not take what we had.
    Backpressure,
    /// A new artifact replaced the one in use.
    NewArtifact,
    /// We were asked to stop.
    Shutdown,
}

impl Reason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::Start,
        Self::Connect,
        Self::Tls,
        Self::Handshake,
        Self::NotConnected,
        Self::Heartbeat,
        Self::Silent,
        Self::ServerClosed,
        Self::Reset,
        Self::Protocol,
        Self::ErrorFrame,
        Self::AuthRefused,
        Self::Artifact,
        Self::Backpressure,
        Self::NewArtifact,
        Self::Shutdown,
    ];

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::NotConnected => "not_connected",
            Self::Heartbeat => "heartbeat",
            Self::Silent => "silent",
            Self::ServerClosed => "server_closed",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::ErrorFrame => "error_frame",
            Self::AuthRefused => "auth_refused",
            Self::Artifact => "artifact",
            Self::Backpressure => "backpressure",
            Self::NewArtifact => "new_artifact",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Back off and try again, for ever.
    Retry,
    /// The platform wants less of us: a long wait, then again, for ever.
    Slow,
    /// Perhaps a refusal: a few more attempts, then it counts as one.
    Suspect,
    /// The session material is refused: trying again with the same can log its owner out.
    Refused,
}

/// A connection that did not come about, or ended. Never carries a secret: neither URL path, query, header, token nor the peer's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}{}", if *.timed_out { " (timeout)" } else { "" }, CloseCode(*.close_code))]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What that means for the next attempt.
    pub verdict: Verdict,
    /// The WebSocket close code, where the peer gave one; for a handshake refused over HTTP its status.
    pub close_code: Option<u16>,
    /// The step was not refused: it did not end within its time.
    pub timed_out: bool,
}

impl Failure {
    /// A failure that is worth another attempt.
    #[must_use]
    pub const fn retry(reason: Reason) -> Self {
        Self { reason, verdict: Verdict::Retry, close_code: None, timed_out: false }
    }

    /// A failure that ends the session material's use.
    #[must_use]
    pub const fn refused(reason: Reason) -> Self {
        Self { reason, verdict: Verdict::Refused, close_code: None, timed_out: false }
    }

    /// A step that took too long; worth another attempt.
    #[must_use]
    pub const fn timeout(reason: Reason) -> Self {
        Self { timed_out: true, ..Self::retry(reason) }
    }
}

struct CloseCode(Option<u16>);

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " (code {code})"))
    }
}
