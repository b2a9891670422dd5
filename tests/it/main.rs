//! The one integration-test binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

mod auth;
mod auth_refresh;
mod bus;
mod cli;
mod config;
mod connections;
mod dashboard;
mod deploy;
mod dev;
mod docs;
mod doctor;
mod documents;
mod fold;
mod health;
mod independent;
mod ingest;
mod ingest_program;
mod layering;
mod life;
mod normalize;
mod operators;
mod oracle;
mod pipeline;
mod provision;
mod reconcile;
mod replay;
mod schema;
mod status;
mod traces;
mod views;
mod ws;
