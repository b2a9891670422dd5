//! `convpipe snapshot`: events from the bus in, state in Redis and the documents out.

use std::sync::Arc;

use super::{CommandError, Context, Exit};
use crate::backends;
use crate::bus::Bus;
use crate::config::{Config, Override};
use crate::daemons::snapshot::{Snapshot, SnapshotCounters};
use crate::documents::Access;
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;

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
    let mut own = Vec::new();
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
        serve(&config, bus, args.only != Some(Only::Documents), args.only != Some(Only::Views), shutdown).await?;
        Ok(Exit::Done)
    })
}

/// Runs the service on a bus until a stop is asked for. Part of `convpipe dev` too.
pub(super) async fn serve(config: &Config, bus: Bus, views: bool, documents: bool, shutdown: Shutdown) -> Result<(), CommandError> {
    let service = Snapshot {
        documents: backends::documents(config, Access::ReadWrite).await?,
        config: Arc::new(config.clone()),
        bus,
        now: clock::now,
        views,
        write_documents: documents,
        views_counters: Arc::new(SnapshotCounters::default()),
        documents_counters: Arc::new(SnapshotCounters::default()),
    };
    Ok(service.run(shutdown).await?)
}
