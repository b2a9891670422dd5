//! What every daemon is run within: its signals, its limits, the health listener, its line to the service manager, and the config while that changes.
//!
//! Owns the order in which these begin and end. Does not own what a daemon does, nor how a config is read again ([`super::reload`]).

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::reload::{self, Reloader, Reloads};
use super::{CommandError, Context, Exit, health};
use crate::config::{Config, Listen, Loaded, LogConfig, Override};
use crate::runtime::exposition::Expose;
use crate::runtime::health::{Health, Listener, Serving};
use crate::runtime::limits::{self, Needs, TooLow};
use crate::runtime::notify::Notifier;
use crate::runtime::panics::Panics;
use crate::runtime::shutdown::{Hangups, Shutdown};
use crate::runtime::supervise::{Report, Supervised};
use crate::runtime::telemetry::Logs;

/// A command that runs until it is stopped.
pub(super) trait Daemon {
    /// As metrics and logs name it.
    const NAME: &'static str;

    /// What its flags say of config keys; the same at the start and whenever the config is read again.
    fn overrides(&self) -> Vec<Override>;

    /// Where its health listener is.
    fn listen(&self, config: &Config) -> Listen;

    /// What it may take of the machine.
    fn needs(&self, config: &Config) -> Needs;

    /// What has to hold of a config beyond what every command wants of it; a reload refuses what a start would.
    ///
    /// # Errors
    /// What does not hold, and where.
    fn check(&self, loaded: &Loaded) -> Result<(), CommandError>;

    /// The running config with everything of the new one that it can take up while it runs.
    fn adopt(running: &Config, new: &Config) -> Config;

    /// Whether it reads that key at all.
    fn concerns(key: &str) -> bool;

    /// Does its work until a stop is asked for.
    ///
    /// # Errors
    /// Why it did not begin, or did not end well.
    async fn run(&self, context: &Context, config: Arc<Config>, life: Life) -> Result<Exit, CommandError>;
}

/// A daemon's life, as its parts see it.
pub(super) struct Life {
    /// The stop.
    pub(super) shutdown: Shutdown,
    /// Its loops and what it lacks.
    pub(super) health: Health,
    /// The config that holds, whenever it is another one.
    pub(super) configs: watch::Receiver<Arc<Config>>,
    name: &'static str,
    listener: Option<Listener>,
    supervised: Supervised,
    reloads: Reloads,
    panics: Panics,
}

/// What goes on beside a daemon until it is dropped.
pub(super) struct Beside {
    _serving: Option<Serving>,
    speaking: JoinHandle<()>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.speaking.abort();
    }
}

impl Life {
    /// As a part of another process, which has no manager of its own and whose config stays.
    pub(super) fn within(name: &'static str, config: &Config, listener: Option<Listener>, shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            health: stall(config),
            configs: watch::channel(Arc::new(config.clone())).1,
            name,
            listener,
            supervised: Supervised::new(Notifier::default()),
            reloads: Reloads::default(),
            panics: Panics::default(),
        }
    }

    /// Shows these numbers to whoever asks, and tells the manager how it is doing.
    pub(super) fn show<M: Expose + Report + 'static>(&mut self, metrics: &Arc<M>) -> Beside {
        let (reloads, panics) = (self.reloads.clone(), self.panics.clone());
        let all = health::Daemon::new(self.name, &self.health, &self.shutdown, reloads, panics, Arc::clone(metrics));
        let serving = self.listener.take().map(|listener| listener.serve(self.health.clone(), Arc::new(all), self.shutdown.clone()));
        self.shutdown.leave_last_words({
            let metrics = Arc::clone(metrics);
            move || metrics.given_up()
        });
        let report: Arc<dyn Report> = Arc::clone(metrics) as Arc<dyn Report>;
        let speaking = tokio::spawn(self.supervised.clone().speak(self.health.clone(), report, self.shutdown.clone()));
        Beside { _serving: serving, speaking }
    }
}

/// Runs a daemon from its first look at the config to its end.
pub(super) fn run<D: Daemon>(context: &Context, daemon: &D) -> Result<Exit, CommandError> {
    let loaded = context.config_with(daemon.overrides())?;
    daemon.check(&loaded)?;
    let (config, file) = (Arc::new(loaded.config), loaded.file.filter(|file| reload::has_content(file)));
    let logs = context.start_logging(&config.log)?;
    if let Some(note) = context.abandoned_dev() {
        tracing::warn!("{note}");
    }
    for TooLow { what, needed, allowed, hint } in limits::check(daemon.needs(&config)) {
        tracing::warn!(what, needed, allowed, hint, "a limit of the system is lower than what the config may take");
    }
    let outcome = context.block_on(live(context, daemon, config, file, &logs));
    logs.tell_repeats(true);
    outcome
}

async fn live<D: Daemon>(
    context: &Context,
    daemon: &D,
    config: Arc<Config>,
    file: Option<PathBuf>,
    logs: &Logs,
) -> Result<Exit, CommandError> {
    let shutdown = super::listen()?;
    let hangups = Hangups::listen().map_err(|error| CommandError::new(Exit::TryLater, "cannot listen to signals").caused_by(&error))?;
    let panics = Panics::catch(shutdown.clone());
    let notifier = Notifier::of(context.environment()).unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET names a service manager that cannot be reached; it is told nothing");
        Notifier::default()
    });
    let (sender, configs) = watch::channel(Arc::clone(&config));
    let life = Life {
        shutdown: shutdown.clone(),
        health: stall(&config),
        configs,
        name: D::NAME,
        listener: health::bind(daemon.listen(&config)).await,
        supervised: Supervised::new(notifier),
        reloads: Reloads::default(),
        panics: panics.clone(),
    };
    let supervised = life.supervised.clone();
    let reloader = Reloader { context, daemon, file, sender, supervised: supervised.clone(), reloads: life.reloads.clone(), logs };
    let ended = tokio::select! {
        biased;
        ended = daemon.run(context, config, life) => ended,
        never = reloader.run(hangups) => match never {},
    };
    supervised.stopping();
    if panics.is_broken() {
        let error =
            CommandError::new(Exit::TryLater, "a part of the process panicked, and it was stopped; this is a bug, the log says where");
        // Where the rest did not end well either, that is a consequence.
        return Err(error);
    }
    ended
}

/// The running config with what every daemon takes up of a new one.
pub(super) fn adopt_log(running: &Config, new: &Config) -> Config {
    let log = LogConfig { format: running.log.format, ..new.log.clone() };
    Config { log, ..running.clone() }
}

fn stall(config: &Config) -> Health {
    Health::new(std::time::Duration::from_secs(config.health.stall_s))
}
