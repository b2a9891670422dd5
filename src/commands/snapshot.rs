//! `convpipe snapshot`: events from the bus in, state in Redis and the documents out.

use std::sync::Arc;

use super::daemon::{self, Daemon, Life};
use super::{CommandError, Context, Exit};
use crate::backends;
use crate::bus::Bus;
use crate::config::{BusBackend, Config, Listen, Loaded, Override, SnapshotConfig};
use crate::daemons::snapshot::{Rules, Snapshot, SnapshotMetrics};
use crate::documents::Access;
use crate::runtime::clock;
use crate::runtime::limits::Needs;
use crate::runtime::telemetry;
use crate::runtime::trace::Tracer;

/// Fold events into Redis and the documents
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two consumers, each with a subscription of its own: views (Redis) and documents.
Any number of processes may run side by side.
SIGINT or SIGTERM: write what was taken, exit 0; or 75 if that takes longer than
--drain-timeout. SIGHUP: read the config again; rules, tiers, thresholds and
what is kept hold from the next batch on.

Examples:
  convpipe snapshot                  both
  convpipe snapshot --only views     Redis alone")]
pub struct Args {
    /// Run only one of the consumers.
    #[arg(long, value_enum, value_name = "views|documents", hide_possible_values = true)]
    only: Option<Only>,
    /// Longest time for a stop, in seconds, instead of snapshot.drain_timeout_s.
    #[arg(long, value_name = "SECONDS")]
    drain_timeout: Option<u64>,
    /// Where /metrics, /livez and /readyz are, instead of health.snapshot; or `off`.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<Listen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Redis.
    Views,
    /// The documents.
    Documents,
}

/// Runs `convpipe snapshot`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    daemon::run(context, args)
}

impl Args {
    /// Whether each consumer runs: that of the views, that of the documents.
    fn consumers(&self) -> (bool, bool) {
        (self.only != Some(Only::Documents), self.only != Some(Only::Views))
    }
}

impl Daemon for Args {
    const NAME: &'static str = "snapshot";

    fn overrides(&self) -> Vec<Override> {
        let mut own: Vec<Override> = super::health::override_of("health.snapshot", self.health).into_iter().collect();
        if let Some(value) = self.drain_timeout {
            own.push(Override { key: "snapshot.drain_timeout_s", flag: "--drain-timeout", value: value.to_string() });
        }
        own
    }

    fn listen(&self, config: &Config) -> Listen {
        config.health.snapshot
    }

    fn needs(&self, config: &Config) -> Needs {
        let (views, documents) = self.consumers();
        let consumers = usize::from(views) + usize::from(documents);
        let window = match config.bus.backend {
            BusBackend::Embedded => config.bus.embedded.in_flight_bytes_max,
            BusBackend::Google => config.bus.google.in_flight_bytes_max,
        };
        let each = window.saturating_add(config.snapshot.states_max_bytes);
        Needs { files: config.snapshot.lanes as u64, bytes: each.saturating_mul(consumers) as u64 }
    }

    fn check(&self, loaded: &Loaded) -> Result<(), CommandError> {
        telemetry::check(&loaded.config.log)?;
        Rules::new(&loaded.config)?;
        Ok(())
    }

    fn adopt(running: &Config, new: &Config) -> Config {
        let mut next = daemon::adopt_log(running, new);
        let SnapshotConfig { batch_max, freshness_s, drain_timeout_s, .. } = new.snapshot;
        next.snapshot = SnapshotConfig { batch_max, freshness_s, drain_timeout_s, ..next.snapshot };
        next.documents.summary_ttl_s = new.documents.summary_ttl_s;
        next.history = new.history.clone();
        next.high_value = new.high_value.clone();
        next.tiers = new.tiers.clone();
        next.priority = new.priority.clone();
        next.accounts = new.accounts.clone();
        next
    }

    fn concerns(key: &str) -> bool {
        let sections = [
            "bus.",
            "redis.",
            "documents.",
            "snapshot.",
            "history.",
            "high_value.",
            "tiers",
            "priority.",
            "accounts.",
            "log.",
            "trace.",
            "health.snapshot",
            "health.stall_s",
        ];
        sections.iter().any(|section| key.starts_with(section)) && !key.ends_with(".auth_provider") && !key.starts_with("redis.reader_")
    }

    async fn run(&self, _: &Context, config: Arc<Config>, life: Life) -> Result<Exit, CommandError> {
        let (views, documents) = self.consumers();
        serve(&config, backends::bus(&config).await?, views, documents, life).await?;
        Ok(Exit::Done)
    }
}

/// Runs the service on a bus until a stop is asked for. Part of `convpipe dev` too.
pub(super) async fn serve(config: &Config, bus: Bus, views: bool, documents: bool, mut life: Life) -> Result<(), CommandError> {
    let tracer = Tracer::open(&config.trace, "snapshot")?;
    let service = Snapshot {
        documents: backends::documents(config, Access::ReadWrite).await?,
        config: Arc::new(config.clone()),
        changes: life.configs.clone(),
        bus,
        now: clock::now,
        views,
        write_documents: documents,
        views_counters: Arc::default(),
        documents_counters: Arc::default(),
        redis: Arc::default(),
        health: life.health.clone(),
        tracer: tracer.clone(),
    };
    let metrics = SnapshotMetrics {
        views: views.then(|| Arc::clone(&service.views_counters)),
        documents: documents.then(|| Arc::clone(&service.documents_counters)),
        redis: Arc::clone(&service.redis),
        store: service.documents.clone(),
        in_flight_max: config.bus.in_flight_max(),
    };
    let _beside = life.show(&Arc::new(metrics));
    let served = service.run(life.shutdown).await;
    tracer.close().await;
    Ok(served?)
}
