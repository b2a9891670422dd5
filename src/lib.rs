//! convpipe: one pipeline from a live-chat WebSocket stream to the current state of every conversation.
//!
//! The modules stand in the order of their rank, lowest first; a module imports only modules of a lower rank
//! (`tests/it/layering.rs` keeps that). `ARCHITECTURE.md` tells an event's whole way in one sitting.

pub mod schema;

pub mod config;
pub mod transform;

pub mod runtime;

pub mod auth;
pub mod bus;
pub mod documents;
pub mod views;
pub mod ws;

pub mod backends;

pub mod daemons;

pub mod commands;
