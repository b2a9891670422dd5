//! The health listener of a daemon: opened where the config says, answered with what every daemon shows and what this one counts.

use std::sync::Arc;

use super::reload::Reloads;
use crate::config::{Listen, Override};
use crate::runtime::clock;
use crate::runtime::exposition::{Expose, Labels, Page};
use crate::runtime::health::{Health, Listener};
use crate::runtime::panics::Panics;
use crate::runtime::process;
use crate::runtime::shutdown::Shutdown;
use crate::schema::time::Millis;

/// What `--health` says of the key of this daemon.
pub(super) fn override_of(key: &'static str, typed: Option<Listen>) -> Option<Override> {
    typed.map(|listen| Override { key, flag: "--health", value: listen.to_string() })
}

/// Takes the address. One that cannot be taken is told and done without: that nobody can look on is no reason to stop working.
pub(super) async fn bind(listen: Listen) -> Option<Listener> {
    let address = listen.0?;
    match Listener::bind(address).await {
        Ok(listener) => {
            tracing::info!(address = %listener.address(), "health listener");
            Some(listener)
        }
        Err(error) => {
            tracing::warn!(%address, %error, "no health listener: /metrics, /livez and /readyz of this process are nowhere; --health names another address");
            None
        }
    }
}

/// What every daemon shows, and then its own.
pub(super) struct Daemon<M> {
    daemon: &'static str,
    started: Millis,
    health: Health,
    shutdown: Shutdown,
    reloads: Reloads,
    panics: Panics,
    metrics: Arc<M>,
}

impl<M> Daemon<M> {
    /// Of the daemon of that name, which starts now.
    pub(super) fn new(
        daemon: &'static str,
        health: &Health,
        shutdown: &Shutdown,
        reloads: Reloads,
        panics: Panics,
        metrics: Arc<M>,
    ) -> Self {
        Self { daemon, started: clock::now(), health: health.clone(), shutdown: shutdown.clone(), reloads, panics, metrics }
    }
}

impl<M: Expose> Expose for Daemon<M> {
    fn expose(&self, page: &mut Page<'_>) {
        let about: Labels<'_> = &[("daemon", self.daemon), ("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("daemon", "Which daemon this is; always 1.", [(about, 1u64)]);
        page.gauge("start_timestamp_seconds", "When the process started.", self.started.0 as f64 / 1000.0);
        page.gauge("live", "Whether every loop goes on, as /livez says.", u64::from(self.health.stalled().is_empty()));
        let is_ready = !self.shutdown.is_requested() && self.health.missing().is_empty();
        page.gauge("ready", "Whether it does its work, as /readyz says.", u64::from(is_ready));
        page.counter("panics", "Panics, each of which is in the log with its place; any is a bug.", self.panics.count());
        self.reloads.expose(page);
        process::expose(page);
        self.metrics.expose(page);
    }
}
