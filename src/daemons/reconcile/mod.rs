//! Reconciling: what changed in Redis, for who missed it; and the two stores held against each other.
//!
//! Owns which conversations are looked at and in which order. Does not own what is the matter with one ([`crate::transform::drift`]) nor mending it: that
//! is asked for with an event ([`crate::transform::repair`]). Only reads.

mod changes;
mod check;
mod pairs;

pub use changes::{ChangeError, Changes, Cursor, Since};
pub use check::{Check, CheckError, CheckSettings, Checked, Finding, Page, Position, Scope};
