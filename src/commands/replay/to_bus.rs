//! Recorded frames, normalized, onto the bus: what ingest would have published.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Playing, Run};
use crate::backends;
use crate::bus::Publisher;
use crate::commands::checkpoint::Checkpoint;
use crate::commands::output::number;
use crate::commands::{CommandError, Exit, interrupted};
use crate::config::{BusBackend, BusConfig};
use crate::daemons::playback::{Played, RecordingError};
use crate::runtime::clock;
use crate::schema::envelope::Envelope;
use crate::schema::ids::{connection_id, hash64};
use crate::transform::filter::Filter;
use crate::transform::normalize::FrameContext;

/// Frames that are read ahead.
const AHEAD_MAX: usize = 4_096;
/// Frames that are published at once: what is repeated at most after an interruption.
const BATCH_MAX: usize = 512;

/// How frames are published, besides what every way of playing has.
pub(super) struct Publishing<'a> {
    /// Where to note how far it has got.
    pub(super) checkpoint: Option<&'a Checkpoint>,
    /// The project that was typed for a bus that is not local.
    pub(super) confirm: Option<&'a str>,
    /// Names the run in its events.
    pub(super) run_id: Option<&'a str>,
}

pub(super) fn run(run: &Run<'_>, publishing: &Publishing<'_>) -> Result<Exit, CommandError> {
    let config = &run.context.config()?.config;
    confirmed(&config.bus, publishing.confirm)?;
    run.warn_if_old(i64::try_from(config.redis.conversation_ttl_s).unwrap_or(i64::MAX / 1000) * 1000);
    run.context.block_on(async {
        let shutdown = crate::commands::listen()?;
        let bus = backends::bus(config).await?;
        let (events, quarantine) = (bus.publisher(&config.bus.topic)?, bus.publisher(&config.bus.quarantine_topic)?);
        let mut playback = run.playback();
        let (ahead, mut frames) = mpsc::channel::<Result<Played, RecordingError>>(AHEAD_MAX);
        let reading = tokio::spawn(async move {
            while let Some(played) = playback.next().await {
                // Closed where the publishing ended early.
                if ahead.send(played).await.is_err() {
                    break;
                }
            }
            playback.gaps()
        });
        let mut source = Source {
            connection: publishing.run_id.map_or_else(|| connection_id(clock::now(), fastrand::u16(..)), run_connection),
            names_run: publishing.run_id.is_some(),
            frame_nos: HashMap::new(),
            raw: config.ingest.raw,
            depth_max: config.ingest.depth_max,
            filter: run.filter.clone(),
        };
        let (mut playing, mut done, mut published, mut set_aside) = (Playing::default(), run.settings.skip, 0u64, 0u64);
        let mut is_interrupted = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = shutdown.requested() => { is_interrupted = true; break }
                count = frames.recv_many(&mut batch, BATCH_MAX) => if count == 0 { break },
            }
            let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
            let mut played = 0;
            for frame in batch {
                match frame {
                    Ok(frame) => {
                        source.envelopes(&frame, &mut accepted, &mut rejected)?;
                        played += 1;
                    }
                    Err(error) => {
                        playing.damaged(error);
                        run.progress.fail(1);
                    }
                }
            }
            run.progress.fail(rejected.len() as u64);
            published += publish(&events, accepted).await?;
            set_aside += publish(&quarantine, rejected).await?;
            done += played;
            if let Some(checkpoint) = publishing.checkpoint {
                checkpoint.save(&done)?;
            }
            run.progress.advance(played);
        }
        // Whoever was interrupted is told no more of the file.
        if is_interrupted {
            reading.abort();
        }
        playing.gaps = reading.await.unwrap_or(0);
        playing.played = done - run.settings.skip;
        run.progress.finish();
        let unit = run.progress.unit();
        let told = format!(
            "{} {unit} played: {} events published, {} items quarantined",
            number(playing.played),
            number(published),
            number(set_aside)
        );
        run.context.output().note(told);
        if is_interrupted {
            let error = interrupted(&shutdown, "interrupted; what was played is published");
            return Err(if publishing.checkpoint.is_some() { error.hint("run it again to go on") } else { error });
        }
        publishing.checkpoint.map_or(Ok(()), Checkpoint::remove)?;
        run.conclude(playing, published)
    })
}

/// A bus that others share is written to only by who names its project.
pub(super) fn confirmed(bus: &BusConfig, typed: Option<&str>) -> Result<(), CommandError> {
    let project = bus.google.project.as_deref().unwrap_or_default();
    if bus.backend == BusBackend::Embedded || bus.google.emulator.is_some() || typed == Some(project) {
        return Ok(());
    }
    let message = format!("this publishes to the topic {} of the project {project}", bus.topic);
    Err(CommandError::new(Exit::Usage, message).hint(format!("if you mean it, add --confirm {project}; --dry-run shows what it comes to")))
}

/// The connection id of a run with a name: the same whenever it is given.
pub(super) fn run_connection(run_id: &str) -> String {
    format!("{:016x}", hash64(run_id))
}

async fn publish(publisher: &Publisher, batch: Vec<Envelope>) -> Result<u64, CommandError> {
    let count = batch.len() as u64;
    publisher.publish(batch).await?;
    Ok(count)
}

struct Source {
    connection: String,
    /// The connection is the run's by name, and events carry it too, which otherwise keep their own.
    names_run: bool,
    frame_nos: HashMap<String, u64>,
    raw: bool,
    depth_max: usize,
    filter: Option<Arc<Filter>>,
}

impl Source {
    /// Adds the events of a frame that are wanted, and what of it could not be read.
    fn envelopes(&mut self, played: &Played, accepted: &mut Vec<Envelope>, rejected: &mut Vec<Envelope>) -> Result<(), CommandError> {
        let frame_no = self.frame_nos.entry(played.account.clone()).or_default();
        *frame_no += 1;
        let context = FrameContext {
            account_id: &played.account,
            connection: &self.connection,
            frame_no: *frame_no,
            received_at: played.received_at,
            raw: self.raw,
            depth_max: self.depth_max,
        };
        let mut normalized = played.read(&context);
        if played.is_event && self.names_run {
            normalized.events.iter_mut().for_each(|event| event.connection = self.connection.as_str().into());
        }
        for event in &normalized.events {
            if self.filter.as_ref().is_none_or(|filter| filter.holds_for_event(event)) {
                let envelope = Envelope::of_event(event);
                accepted.push(envelope.map_err(|error| CommandError::new(Exit::BadData, "an event does not serialize").caused_by(&error))?);
            }
        }
        rejected.extend(normalized.rejected.iter().map(|rejected| rejected.envelope(&context, "normalize")));
        Ok(())
    }
}
