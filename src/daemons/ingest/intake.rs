//! Where a frame becomes messages: the seam between the normalizer and the buffer.

use std::collections::VecDeque;

use super::buffer::Item;
use crate::schema::NORMALIZER;
use crate::schema::envelope::Envelope;
use crate::schema::event::Event;
use crate::schema::ids;
use crate::schema::time::Millis;
use crate::ws::session::Heard;

/// Turns one frame into what [`Intake`] takes. A plain function: ingest keeps no state between frames.
pub type Translate = fn(&[u8], &FrameAt<'_>, &mut Intake);

/// Where a frame came from, and how it is to be read.
#[derive(Debug, Clone, Copy)]
pub struct FrameAt<'a> {
    /// The account whose socket it is.
    pub account: &'a str,
    /// The socket session, 16 hex digits.
    pub connection: &'a str,
    /// Number of the frame in it, from 1.
    pub frame_no: u64,
    /// When it was read.
    pub received_at: Millis,
    /// Whether events carry the source item.
    pub raw: bool,
    /// Deepest nesting of its JSON.
    pub depth_max: usize,
}

/// Collects what frames became, in order, until it moves to the buffer.
#[derive(Debug)]
pub struct Intake {
    pub(super) items: VecDeque<Item>,
    pub(super) heard: Heard,
    pub(super) events: u64,
    pub(super) rejected: u64,
}

impl Intake {
    pub(super) const fn new() -> Self {
        Self { items: VecDeque::new(), heard: Heard::Data, events: 0, rejected: 0 }
    }

    /// The frame said this.
    pub fn event(&mut self, event: &Event<'_>) {
        match Item::event(event) {
            Ok(item) => {
                self.events += 1;
                self.items.push_back(item);
            }
            // Our own broken invariant: an event of the normalizer always serializes.
            Err(error) => tracing::error!(kind = event.kind.name(), %error, "an event does not serialize and is lost"),
        }
    }

    /// The frame, or an item of it, could not be read: a quarantine message.
    pub fn rejected(&mut self, envelope: Envelope) {
        self.rejected += 1;
        self.items.push_back(Item::quarantine(envelope));
    }

    /// The frame is a control frame.
    pub const fn control(&mut self, heard: Heard) {
        self.heard = heard;
    }

    /// A message that was refused unread, because it is larger than the limits: its length is all there is to keep.
    pub(super) fn oversize(&mut self, at: &FrameAt<'_>, size: usize) {
        let attributes = [
            ("reason", "too_large"),
            ("stage", "normalize"),
            ("account", at.account),
            ("connection", at.connection),
            ("received_at", &at.received_at.to_string()),
            ("normalizer", NORMALIZER),
            ("length", &size.to_string()),
        ];
        self.rejected(Envelope::new(ids::ordering_key(at.account, None), &attributes, b""));
    }
}
