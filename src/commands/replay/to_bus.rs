//! Recorded frames, normalized, onto the bus: what ingest would have published.

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::{Damage, Run};
use crate::backends;
use crate::bus::Publisher;
use crate::commands::output::number;
use crate::commands::{CommandError, Exit, interrupted};
use crate::daemons::playback::Played;
use crate::runtime::clock;
use crate::schema::envelope::Envelope;
use crate::schema::ids::connection_id;
use crate::transform::normalize::{FrameContext, normalize};

/// Messages that wait for the bus.
const QUEUE_MAX: usize = 8_192;
/// Messages published at once.
const BATCH_MAX: usize = 2_048;

pub(super) fn run(run: &Run<'_>) -> Result<Exit, CommandError> {
    let config = &run.context.config()?.config;
    run.warn_if_old(i64::try_from(config.redis.conversation_ttl_s).unwrap_or(i64::MAX / 1000) * 1000);
    run.context.block_on(async {
        let shutdown = crate::commands::listen()?;
        let bus = backends::bus(config).await?;
        let (events, taken) = mpsc::channel(QUEUE_MAX);
        let (quarantine, refused) = mpsc::channel(QUEUE_MAX);
        let publishing = tokio::spawn(publish(bus.publisher(&config.bus.topic)?, taken));
        let setting_aside = tokio::spawn(publish(bus.publisher(&config.bus.quarantine_topic)?, refused));

        let mut source = Source {
            connection: connection_id(clock::now(), fastrand::u16(..)),
            frame_nos: HashMap::new(),
            raw: config.ingest.raw,
            depth_max: config.ingest.depth_max,
        };
        let mut damage = Damage::default();
        let mut playback = run.playback();
        let mut is_interrupted = false;
        loop {
            let played = tokio::select! {
                biased;
                () = shutdown.requested() => { is_interrupted = true; break }
                played = playback.next() => played,
            };
            match played {
                None => break,
                Some(Err(error)) => damage.note(error),
                Some(Ok(played)) => {
                    let (accepted, rejected) = source.envelopes(&played)?;
                    // A closed channel means that the publisher has failed, which its task tells below.
                    if !(send(&events, accepted).await && send(&quarantine, rejected).await) {
                        break;
                    }
                    run.progress.advance(1);
                }
            }
        }
        drop((events, quarantine));
        let published = finish(publishing).await?;
        let set_aside = finish(setting_aside).await?;
        run.progress.finish();
        let (played, published, set_aside) = (number(playback.played()), number(published), number(set_aside));
        run.context.output().note(format!("{played} frames played: {published} events published, {set_aside} items quarantined"));
        if is_interrupted {
            return Err(interrupted(&shutdown, "interrupted; what was played is published"));
        }
        damage.outcome()
    })
}

async fn send(channel: &mpsc::Sender<Envelope>, envelopes: Vec<Envelope>) -> bool {
    for envelope in envelopes {
        if channel.send(envelope).await.is_err() {
            return false;
        }
    }
    true
}

async fn finish(task: tokio::task::JoinHandle<Result<u64, CommandError>>) -> Result<u64, CommandError> {
    task.await.map_err(|error| CommandError::new(Exit::TryLater, "the publisher panicked").caused_by(&error))?
}

/// Publishes what has gathered, until the channel ends.
async fn publish(publisher: Publisher, mut taken: mpsc::Receiver<Envelope>) -> Result<u64, CommandError> {
    let mut published = 0;
    loop {
        let mut batch = Vec::new();
        let count = taken.recv_many(&mut batch, BATCH_MAX).await;
        if count == 0 {
            return Ok(published);
        }
        publisher.publish(batch).await?;
        published += count as u64;
    }
}

struct Source {
    connection: String,
    frame_nos: HashMap<String, u64>,
    raw: bool,
    depth_max: usize,
}

impl Source {
    /// The events of a frame, and what of it could not be read.
    fn envelopes(&mut self, played: &Played) -> Result<(Vec<Envelope>, Vec<Envelope>), CommandError> {
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
        let normalized = normalize(played.text.as_bytes(), &context);
        let accepted = normalized.events.iter().map(Envelope::of_event).collect::<Result<_, _>>();
        let accepted = accepted.map_err(|error| CommandError::new(Exit::BadData, "an event does not serialize").caused_by(&error))?;
        Ok((accepted, normalized.rejected.iter().map(|rejected| rejected.envelope(&context, "normalize")).collect()))
    }
}
