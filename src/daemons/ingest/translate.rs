//! The platform's frames into messages for the bus: the normalizer, seen from a socket.

use crate::transform::normalize::{Control, FrameContext, normalize};
use crate::ws::session::Heard;

use super::intake::Intake;

/// Normalizes a frame into the intake.
pub fn translate(frame: &[u8], context: &FrameContext<'_>, intake: &mut Intake) {
    let normalized = normalize(frame, context);
    for event in &normalized.events {
        intake.event(event);
    }
    for rejected in &normalized.rejected {
        intake.rejected(rejected.envelope(context, "normalize"));
    }
    match normalized.control {
        Some(Control::Connected) => intake.control(Heard::Connected),
        Some(Control::Online) => intake.control(Heard::Online),
        Some(Control::Error(error)) => intake.control(Heard::error(error.raw())),
        None => {}
    }
}
