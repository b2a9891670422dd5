//! `convpipe snapshot`: events from the bus in, state in Redis and the documents out.

use std::sync::Arc;
use std::time::Duration;

use super::{CommandError, Context, Exit};
use crate::backends;
use crate::bus::Bus;
use crate::config::{Config, Listen, Override};
use crate::daemons::snapshot::{Snapshot, SnapshotMetrics};
use crate::documents::Access;
use crate::runtime::clock;
use crate::runtime::health::{Health, Listener};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::trace::Tracer;

/// Fold events into Redis and the documents
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two consumers, each with a subscription of its own: views (Redis) and documents.
Any number of processes may run side by side.
SIGINT or SIGTERM: write what was taken, exit 0; or 75 if that takes longer than
--drain-timeout.

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
    let mut own: Vec<Override> = super::health::override_of("health.snapshot", args.health).into_iter().collect();
    if let Some(value) = args.drain_timeout {
        own.push(Override { key: "snapshot.drain_timeout_s", flag: "--drain-timeout", value: value.to_string() });
    }
    let config = context.config_with(own)?.config;
    context.start_logging(&config.log)?;
    if let Some(note) = context.abandoned_dev() {
        tracing::warn!("{note}");
    }
    context.block_on(async {
        let shutdown = super::listen()?;
        let bus = backends::bus(&config).await?;
        let listener = super::health::bind(config.health.snapshot).await;
        let (views, documents) = (args.only != Some(Only::Documents), args.only != Some(Only::Views));
        serve(&config, bus, views, documents, listener, shutdown).await?;
        Ok(Exit::Done)
    })
}

/// Runs the service on a bus until a stop is asked for. Part of `convpipe dev` too.
pub(super) async fn serve(
    config: &Config,
    bus: Bus,
    views: bool,
    documents: bool,
    listener: Option<Listener>,
    shutdown: Shutdown,
) -> Result<(), CommandError> {
    let health = Health::new(Duration::from_secs(config.health.stall_s));
    let tracer = Tracer::open(&config.trace, "snapshot")?;
    let service = Snapshot {
        documents: backends::documents(config, Access::ReadWrite).await?,
        config: Arc::new(config.clone()),
        bus,
        now: clock::now,
        views,
        write_documents: documents,
        views_counters: Arc::default(),
        documents_counters: Arc::default(),
        redis: Arc::default(),
        health: health.clone(),
        tracer: tracer.clone(),
    };
    let metrics = SnapshotMetrics {
        views: views.then(|| Arc::clone(&service.views_counters)),
        documents: documents.then(|| Arc::clone(&service.documents_counters)),
        redis: Arc::clone(&service.redis),
        store: service.documents.clone(),
        in_flight_max: config.bus.in_flight_max(),
    };
    let _serving = super::health::serve(listener, "snapshot", &health, metrics, &shutdown);
    let served = service.run(shutdown).await;
    tracer.close().await;
    Ok(served?)
}
