//! The whole way, with real stores: bus, fold, Redis, documents.
//!
//! `oracle` holds what stands in the stores to the model; the others compare a run that was disturbed with one that was not.

mod bad_input;
mod by_hand;
mod dry_run;
mod faults;
mod killed;
mod lost;
mod oracle;
mod outages;
pub(crate) mod place;
mod rows;
