//! The oracle: an independently written, naive model of what the state means, and what it takes to hold the fold, Redis and the
//! documents to it.
//!
//! [`model`] answers from everything ever seen what a conversation or an account has come to; it knows `docs/fold.md` and
//! `convpipe::schema`, and nothing of `convpipe::transform`. [`rows`] are examples worked by hand, [`generate`] makes histories,
//! [`deliver`] lets them arrive in any order, number and batches, [`compare`] says how an implementation differs.
//!
//! An implementation is one function from an arrival to what was written; parts that it does not make stay `None`:
//!
//! ```text
//! let run = |arrival: &Arrival, policy: &Policy, now: Millis| -> Actual { /* from nothing, apply batch by batch */ };
//! check_rows(run).unwrap_or_else(|found| panic!("{found}"));
//! check_fold(256, run).unwrap_or_else(|found| panic!("{found}"));
//! ```
//!
//! The tests here do that with the model itself, and with models that are each broken in one way, to show that the oracle notices.

mod account;
mod chat;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod deliver;
mod feeds;
pub(crate) mod generate;
pub(crate) mod model;
mod money;
pub(crate) mod rows;
mod say;
mod script;
mod tests;
