//! Where a frame becomes messages: the seam between the normalizer and the buffer.

use std::collections::VecDeque;

use super::buffer::Item;
use crate::bus::MESSAGE_BYTES_MAX;
use crate::runtime::telemetry::TRAIL;
use crate::schema::NORMALIZER;
use crate::schema::envelope::Envelope;
use crate::schema::event::Event;
use crate::schema::ids;
use crate::transform::normalize::{FrameContext, QUARANTINE_CUT_BYTES};
use crate::ws::session::Heard;
use crate::ws::silence::Kinds;

/// Turns one frame into what [`Intake`] takes. A plain function: ingest keeps no state between frames.
pub type Translate = fn(&[u8], &FrameContext<'_>, &mut Intake);

/// Collects what frames became, in order, until it moves to the buffer.
#[derive(Debug)]
pub struct Intake {
    pub(super) items: VecDeque<Item>,
    pub(super) heard: Heard,
    /// Kinds of what frames said since it was last taken.
    pub(super) kinds: Kinds,
    pub(super) events: u64,
    /// Of these, those that no frame said.
    pub(super) own_events: u64,
    pub(super) rejected: u64,
}

impl Intake {
    pub(super) const fn new() -> Self {
        Self { items: VecDeque::new(), heard: Heard::Data, kinds: Kinds::NONE, events: 0, own_events: 0, rejected: 0 }
    }

    /// The frame said this.
    pub fn event(&mut self, event: &Event<'_>) {
        self.kinds.add(event.kind);
        self.take(event);
    }

    /// No frame said this: it is about the connection.
    pub(super) fn own_event(&mut self, event: &Event<'_>) {
        let before = self.events;
        self.take(event);
        self.own_events += self.events - before;
    }

    fn take(&mut self, event: &Event<'_>) {
        match Item::event(event) {
            Ok(item) if item.size() > MESSAGE_BYTES_MAX => self.too_large(event, &item),
            Ok(item) => {
                self.events += 1;
                let (id, kind, connection) = (event.id.raw(), event.kind.name(), event.connection.raw());
                tracing::debug!(target: TRAIL, event = id, kind, connection, frame_no = event.frame_no, item_no = event.item_no, "event");
                self.items.push_back(item);
            }
            // Our own broken invariant: an event of the normalizer always serializes.
            Err(error) => tracing::error!(kind = event.kind.name(), %error, "an event does not serialize and is lost"),
        }
    }

    /// An event that the bus would never take, and that would be tried again for ever: its text stands in it twice, and entities grow when they are
    /// decoded. The beginning of its JSON and its length are kept.
    fn too_large(&mut self, event: &Event<'_>, item: &Item) {
        let data = item.data();
        let attributes = [
            ("reason", "too_large"),
            ("stage", "normalize"),
            ("account", event.account_id.raw()),
            ("connection", event.connection.raw()),
            ("received_at", &event.received_at.to_string()),
            ("normalizer", NORMALIZER),
            ("length", &data.len().to_string()),
        ];
        let kept = &data[..data.len().min(QUARANTINE_CUT_BYTES)];
        self.rejected(Envelope::new(ids::ordering_key(event.account_id.raw(), None), &attributes, kept));
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

    /// A frame over the limits: its beginning and its length are kept.
    pub(super) fn oversize(&mut self, at: &FrameContext<'_>, beginning: &[u8], length: u64) {
        let attributes = [
            ("reason", "too_large"),
            ("stage", "normalize"),
            ("account", at.account_id),
            ("connection", at.connection),
            ("frame_no", &at.frame_no.to_string()),
            ("received_at", &at.received_at.to_string()),
            ("normalizer", NORMALIZER),
            ("length", &length.to_string()),
        ];
        self.rejected(Envelope::new(ids::ordering_key(at.account_id, None), &attributes, beginning));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::{EventKind, Message};
    use crate::schema::time::Millis;

    #[test]
    fn what_the_bus_would_never_take_is_set_aside_with_its_length() {
        for (text_bytes, expected) in [(1_000, (1, 0)), (MESSAGE_BYTES_MAX, (0, 1))] {
            let text = "x".repeat(text_bytes);
            let mut event = Event::of_account(EventKind::MessageReceived, "i".into(), "1", "c", Millis(0));
            event.message = Some(Message { text: Some(text.as_str().into()), ..Message::default() });
            let mut intake = Intake::new();
            intake.event(&event);
            assert_eq!((intake.events, intake.rejected), expected, "{text_bytes} bytes");
            assert!(intake.items.iter().all(|item| item.size() <= MESSAGE_BYTES_MAX), "{text_bytes} bytes");
        }
    }
}
