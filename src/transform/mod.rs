//! Pure: frames to events, events to state, state to writes. No I/O, no async, no clock: time comes in with the event or as an argument.

pub mod html;
pub mod materialize;
pub mod normalize;
mod onlyfans;
pub mod resolve;
