//! What is kept of a connection while it is live: its heartbeats, and whether it is read.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) since: u64,
    pub(super) heartbeat_at: u64,
    /// The oldest question without an answer was sent, and its answer is due then; far away while paused.
    pub(super) answer_by: Option<u64>,
    pub(super) missed: u32,
    pub(super) pause: Pause,
    /// A rotation failed and is tried again then.
    pub(super) rotate_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    Never,
    Since(u64),
    /// Resumed, after a pause that was long enough to be what the connection may die of until then.
    Suspect(u64),
}

impl Live {
    pub(super) const fn is_paused(self) -> bool {
        matches!(self.pause, Pause::Since(_))
    }

    /// When the next heartbeat is due, or the answer to the last one.
    pub(super) fn due(self) -> u64 {
        self.answer_due().map_or(self.heartbeat_at, |due| due.min(self.heartbeat_at))
    }

    /// When the answer is due; never while nobody reads.
    pub(super) const fn answer_due(self) -> Option<u64> {
        if self.is_paused() { None } else { self.answer_by }
    }
}
