//! Pure: frames to events, events to state, state to writes. No I/O, no async, no clock: time comes in with the event or as an argument.

pub mod condition;
pub mod due;
mod expression;
mod facts;
pub mod filter;
pub mod fold;
pub mod html;
pub mod materialize;
pub mod money;
pub mod normalize;
mod onlyfans;
pub mod policy;
pub mod priority;
pub mod resolve;
pub mod view;
