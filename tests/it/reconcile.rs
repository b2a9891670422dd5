//! `reconcile`: a consumer that misses messages catches up, and what drifts apart is found, named and repaired.

mod consumer;
mod drift;
mod question;
