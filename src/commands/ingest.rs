//! `convpipe ingest`: the sockets in, events on the bus out.

use std::sync::Arc;
use std::time::Duration;

use super::daemon::{self, Daemon, Life};
use super::{CommandError, Context, Exit};
use crate::auth::{ArtifactStore, usable};
use crate::backends;
use crate::bus::Bus;
use crate::config::{Config, IngestConfig, Listen, Loaded, Override, Shard};
use crate::daemons::ingest::{self, Artifacts, Counters, Ingest, IngestMetrics, Marks, OnLive, OnRefused, Recorder, translate};
use crate::runtime::clock::{self, Clock};
use crate::runtime::limits::Needs;
use crate::runtime::telemetry;
use crate::runtime::trace::Tracer;
use crate::runtime::trust::Trust;
use crate::schema::artifact::RequestReason;
use crate::ws::socket::{self, Endpoint};

/// Longest wait for the end of a recording.
const RECORD_MAX: Duration = Duration::from_secs(5);

/// Memory of one account, about, bytes: its session, what its sockets buffer in both directions, and TLS.
const ACCOUNT_BYTES: usize = 128 << 10;

/// Read the live sockets, normalize, publish
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One connection an account; the accounts are the artifacts in auth.dir, and new
ones are picked up while it runs.
SIGINT or SIGTERM: stop reading, publish what was read, exit 0; or 75 if that
takes longer than --drain-timeout. SIGHUP: read the config again, and look for
artifacts.

Examples:
  convpipe ingest                          all accounts of auth.dir
  convpipe ingest --auth-dir /run/tokens   those of another folder
  convpipe ingest --shard 1/3              a third of them; two more processes
                                           serve 2/3 and 3/3
  convpipe ingest --record rec --scrub     and a recording that can be shared")]
pub struct Args {
    /// Folder of the artifacts, instead of auth.dir.
    #[arg(long, value_name = "DIR")]
    auth_dir: Option<String>,
    /// Longest time for a stop, in seconds, instead of ingest.drain_timeout_s.
    #[arg(long, value_name = "SECONDS")]
    drain_timeout: Option<u64>,
    /// Serve one part of the accounts, such as 1/3, instead of ingest.shard.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Record what comes over the sockets into this folder, instead of ingest.record.dir; replay takes it.
    #[arg(long, value_name = "DIR")]
    record: Option<String>,
    /// Replace names, texts, ids and media in the recording, so that it can be shared.
    #[arg(long)]
    scrub: bool,
    /// Where /metrics, /livez and /readyz are, instead of health.ingest; or `off`.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<Listen>,
}

/// Runs `convpipe ingest`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    daemon::run(context, args)
}

impl Daemon for Args {
    const NAME: &'static str = "ingest";

    fn overrides(&self) -> Vec<Override> {
        let mut own: Vec<Override> = super::health::override_of("health.ingest", self.health).into_iter().collect();
        if let Some(value) = &self.auth_dir {
            own.push(Override { key: "auth.dir", flag: "--auth-dir", value: value.clone() });
        }
        if let Some(value) = self.drain_timeout {
            own.push(Override { key: "ingest.drain_timeout_s", flag: "--drain-timeout", value: value.to_string() });
        }
        if let Some(value) = &self.shard {
            own.push(Override { key: "ingest.shard", flag: "--shard", value: value.to_string() });
        }
        if let Some(value) = &self.record {
            own.push(Override { key: "ingest.record.dir", flag: "--record", value: value.clone() });
        }
        if self.scrub {
            own.push(Override { key: "ingest.record.scrub", flag: "--scrub", value: "true".to_owned() });
        }
        own
    }

    fn listen(&self, config: &Config) -> Listen {
        config.health.ingest
    }

    fn needs(&self, config: &Config) -> Needs {
        let accounts = ArtifactStore::new(&config.auth.dir).scan().artifacts;
        let served = accounts.iter().filter(|artifact| config.ingest.shard.is_none_or(|shard| shard.owns(&artifact.account_id))).count();
        let IngestConfig { buffer_max_bytes, record, .. } = &config.ingest;
        let recording = record.dir.as_ref().map_or(0, |_| record.queue_max_bytes);
        // While one connection replaces another, an account has two.
        let (files, bytes) = (2 * served, buffer_max_bytes.saturating_add(recording).saturating_add(served * ACCOUNT_BYTES));
        Needs { files: files as u64, bytes: bytes as u64 }
    }

    fn check(&self, loaded: &Loaded) -> Result<(), CommandError> {
        telemetry::check(&loaded.config.log)?;
        if self.scrub && loaded.config.ingest.record.dir.is_none() {
            return Err(CommandError::new(Exit::Usage, "--scrub has nothing to scrub").hint("add --record DIR, or set ingest.record.dir"));
        }
        Ok(())
    }

    fn adopt(running: &Config, new: &Config) -> Config {
        let mut next = daemon::adopt_log(running, new);
        let IngestConfig { raw, publish_batch_max, drain_timeout_s, .. } = new.ingest;
        next.ingest = IngestConfig { raw, publish_batch_max, drain_timeout_s, ..next.ingest };
        next
    }

    fn concerns(key: &str) -> bool {
        let sections = ["bus.", "ingest.", "health.ingest", "health.stall_s", "log.", "trace."];
        sections.iter().any(|section| key.starts_with(section)) || matches!(key, "auth.dir" | "auth.watch_ms")
    }

    async fn run(&self, _: &Context, config: Arc<Config>, life: Life) -> Result<Exit, CommandError> {
        check_artifacts(&config)?;
        serve(&config, &backends::bus(&config).await?, None, life).await?;
        Ok(Exit::Done)
    }
}

/// Runs ingest on a bus until a stop is asked for. Part of `convpipe dev` too.
pub(super) async fn serve(config: &Config, bus: &Bus, on_live: Option<OnLive>, mut life: Life) -> Result<(), CommandError> {
    let mut artifacts = Artifacts::new(ArtifactStore::new(&config.auth.dir), config.ingest.shard);
    let counters = Arc::new(Counters::default());
    let (recorder, writer) = Recorder::start(&config.ingest.record, &counters)?.unzip();
    let (events, quarantine) = (bus.publisher(&config.bus.topic)?, bus.publisher(&config.bus.quarantine_topic)?);
    let tracer = Tracer::open(&config.trace, "ingest")?;
    let metrics = IngestMetrics {
        counters: counters.clone(),
        events: events.counters(),
        quarantine: quarantine.counters(),
        buffer_bytes_max: config.ingest.buffer_max_bytes,
    };
    let _beside = life.show(&Arc::new(metrics));
    let service = Ingest {
        config: config.ingest.clone(),
        changes: life.configs,
        trust: Trust::new(config.ingest.ca_file.as_deref())?,
        dial: socket::tcp(),
        clock: Clock::start(),
        marks: Some(Arc::new(Marks::open(&config.ingest.state_dir, config.ingest.shard, clock::now()))),
        recorder,
        scan: move || artifacts.look(),
        scan_every: Duration::from_millis(config.auth.watch_ms),
        translate,
        events,
        quarantine,
        counters,
        health: life.health,
        tracer: tracer.clone(),
        on_live,
        on_refused: Some(ask_for_another(ArtifactStore::new(&config.auth.dir))),
    };
    let served = ingest::run(service, life.shutdown).await;
    tracer.close().await;
    if let Some(writer) = writer
        && !writer.finish(RECORD_MAX).await
    {
        tracing::error!("the end of the recording could not be written in time");
    }
    served?;
    Ok(())
}

/// Leaves a request beside a refused artifact, which auth-refresh answers.
fn ask_for_another(store: ArtifactStore) -> OnRefused {
    Arc::new(move |account, generation| {
        let (store, account) = (store.clone(), account.to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.request(&account, RequestReason::Refused, Some(generation), clock::now()) {
                tracing::warn!(%error, "cannot ask for a new artifact");
            }
        });
    })
}

/// A folder in which not one of the artifacts can be used is a mistake that waiting does not mend, and so is a machine that trusts nobody. An empty
/// folder is filled by somebody else.
fn check_artifacts(config: &Config) -> Result<(), CommandError> {
    let scan = ArtifactStore::new(&config.auth.dir).scan();
    let now = clock::now();
    let mut usables = scan.artifacts.iter().filter(|artifact| usable(artifact, now).is_ok()).peekable();
    if usables.peek().is_some() {
        if usables.any(|artifact| Endpoint::of(artifact).is_ok_and(|endpoint| endpoint.is_tls())) {
            Trust::new(config.ingest.ca_file.as_deref())?.client_config()?;
        }
        return Ok(());
    }
    if let Some(problem) = scan.problems.into_iter().next() {
        return Err(problem.into());
    }
    if let Some(artifact) = scan.artifacts.first()
        && let Err(why) = usable(artifact, now)
    {
        let message = format!("no artifact in {} can be used; the first: {}: {why}", config.auth.dir.display(), artifact.account_id);
        return Err(CommandError::new(Exit::AuthRefused, message));
    }
    tracing::warn!(dir = ?config.auth.dir, "there is no artifact yet; waiting for the first");
    Ok(())
}
