//! What lies in the quarantine: shown, read again, and fed back.
//!
//! Invariants: looking takes nothing; what is fed back is acked once its publish is confirmed, and so not fed back twice; what cannot be read or is
//! not wanted is given back as it is.

mod report;

use std::sync::Arc;
use std::time::Duration;

use super::{Args, to_bus, to_state};
use crate::backends;
use crate::bus::{AckId, Acker, Bus, Delivery, PublishError, Publisher, Subscriber};
use crate::commands::output::{Progress, number};
use crate::commands::read::{Format, Window};
use crate::commands::{CommandError, Context, Exit, interrupted};
use crate::config::{BusBackend, Config};
use crate::daemons::playback::{DryRun, Record, Refused, Rereading};
use crate::daemons::snapshot::Policies;
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;
use crate::schema::envelope::Envelope;
use crate::transform::filter::Filter;
use crate::transform::normalize::Normalized;

use report::Report;

/// Records that are held, and shown, at once, and their bytes.
const RECORDS_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;
/// Records that are published at once.
const BATCH_MAX: usize = 512;
/// How long a bus is listened to that may still have something: the engine on this machine, and one behind a network.
const QUIET_HERE: Duration = Duration::from_secs(2);
const QUIET_AFAR: Duration = Duration::from_secs(5);
/// How long the answers may take to be written at the end.
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let connection = args.run_id.as_deref().map(to_bus::run_connection);
    let with = Rereading { connection: connection.as_deref(), raw: config.ingest.raw, depth_max: config.ingest.depth_max };
    let wanted = Wanted { window: args.window()?, filter: args.filter.clone(), with };
    if args.publishes() {
        to_bus::confirmed(&config.bus, args.confirm.as_deref())?;
    }
    context.block_on(async {
        let shutdown = crate::commands::listen()?;
        let work = async {
            let Some(bus) = backends::existing_bus(config).await? else { return nothing(context, "there is no bus here yet") };
            match args.publishes() {
                true => feed(context, config, args, &bus, &wanted, &shutdown).await,
                false => look(context, config, args, &bus, &wanted).await,
            }
        };
        tokio::select! {
            biased;
            // What publishes ends between two batches, by itself.
            () = shutdown.requested(), if !args.publishes() => Err(interrupted(&shutdown, "interrupted; nothing was taken")),
            done = work => done,
        }
    })
}

/// Which records are asked for, and how they are read.
struct Wanted<'a> {
    window: Window,
    filter: Option<Arc<Filter>>,
    with: Rereading<'a>,
}

/// What becomes of a record.
enum Verdict<'r> {
    /// It goes back.
    Fed(Normalized<'r>),
    /// It still cannot be read, and stays.
    Refused(Refused),
    /// Nobody asked for it, and it stays.
    Unwanted,
}

impl Wanted<'_> {
    fn is_in_window(&self, record: &Record) -> bool {
        let Window { since, until } = self.window;
        since.is_none_or(|since| record.received_at >= since) && until.is_none_or(|until| record.received_at < until)
    }

    /// A record goes back whole or not at all: one event that is wanted is enough.
    fn verdict<'r>(&'r self, record: &'r Record) -> Verdict<'r> {
        match record.read(&self.with) {
            Err(refused) => Verdict::Refused(refused),
            Ok(normalized) => match &self.filter {
                Some(filter) if !normalized.events.iter().any(|event| filter.holds_for_event(event)) => Verdict::Unwanted,
                _ => Verdict::Fed(normalized),
            },
        }
    }
}

/// Shows what is there, and what it would come to. Takes nothing and, on the embedded bus, leaves no trace.
async fn look(context: &Context, config: &Config, args: &Args, bus: &Bus, wanted: &Wanted<'_>) -> Result<Exit, CommandError> {
    let topic = &config.bus.quarantine_topic;
    let (records, is_all) = match bus.waiting(topic, topic, RECORDS_MAX, BYTES_MAX).await? {
        Some(waiting) => {
            let is_all = waiting.found.len() as u64 == waiting.searched;
            (waiting.found.iter().map(|held| Record::new(&held.envelope, held.published_at)).collect(), is_all)
        }
        None => {
            let mut subscriber = bus.subscriber(topic, topic).await?;
            let gathered = gather(&mut subscriber, QUIET_AFAR, None).await;
            subscriber.close(CLOSE_MAX).await;
            let (deliveries, is_all) = gathered?;
            (deliveries.iter().map(record).collect::<Vec<_>>(), is_all)
        }
    };
    let report = Report::new(&records, is_all, wanted);
    if report.is_empty() {
        return nothing(context, if records.is_empty() { empty(config) } else { OUTSIDE });
    }
    let policies = Policies::new(config)?;
    let mut dry = DryRun::new(&policies, config.ingest.depth_max);
    for played in report.fed().filter_map(Record::played) {
        dry.frame(played)?;
    }
    let outcome = dry.finish()?;
    let output = context.output();
    match args.output {
        Format::Json => {
            let mut value = to_state::value(&outcome)?;
            value["quarantine"] = serde_json::to_value(&report).map_err(|error| CommandError::of(Exit::BadData, &error))?;
            output.json(&value)?;
        }
        format => report.print(output, format, context.globals().verbose > 0)?,
    }
    if args.output == Format::Table && !outcome.snapshots.is_empty() {
        output.line("")?;
        to_state::table(output, &outcome)?;
    }
    output.flush()?;
    let fed = report.counted().fed;
    output.note(format!("{} of {} records can be fed back: add --to bus", number(fed), number(report.records())));
    conclude(report.counted())
}

/// Shows what is there, publishes what can be read of it, and acks that.
async fn feed(
    context: &Context,
    config: &Config,
    args: &Args,
    bus: &Bus,
    wanted: &Wanted<'_>,
    shutdown: &Shutdown,
) -> Result<Exit, CommandError> {
    let names = &config.bus;
    let events = bus.publisher(&names.topic)?;
    let mut subscriber = bus.subscriber(&names.quarantine_topic, &names.quarantine_topic).await?;
    let waiting = bus.backlog(&names.quarantine_topic, &names.quarantine_topic).await?.messages;
    let quiet = if names.backend == BusBackend::Google { QUIET_AFAR } else { QUIET_HERE };
    let mut feeding = Feeding {
        events,
        acker: subscriber.acker(),
        progress: context.output().progress("replay", "records", waiting),
        counted: Counted::default(),
    };
    // What comes in from now on may be what was fed back and failed again: it is for the next run.
    let began = clock::now();
    let (mut shown, mut left) = (false, waiting);
    let outcome = loop {
        if left == Some(0) {
            break Ok(());
        }
        let (deliveries, is_all) = tokio::select! {
            biased;
            () = shutdown.requested() => break Err(interrupted(shutdown, "interrupted; what was fed back is published, the rest stays")),
            gathered = gather(&mut subscriber, quiet, left) => match gathered {
                Ok(gathered) => gathered,
                Err(error) => break Err(error),
            },
        };
        left = left.map(|left| left.saturating_sub(deliveries.len() as u64));
        let newer = deliveries.iter().filter(|delivery| delivery.published_at >= began).count();
        let (ids, records): (Vec<AckId>, Vec<Record>) =
            deliveries.iter().filter(|delivery| delivery.published_at < began).map(|delivery| (delivery.ack, record(delivery))).unzip();
        drop(deliveries);
        if !std::mem::replace(&mut shown, true) {
            let report = Report::new(&records, is_all, wanted);
            if !report.is_empty() {
                report.print(context.output(), args.output, context.globals().verbose > 0)?;
                context.output().flush()?;
            }
        }
        if let Err(error) = feeding.feed(&records, &ids, wanted, shutdown).await {
            break Err(error);
        }
        if is_all || newer > 0 {
            break Ok(());
        }
    };
    feeding.progress.finish();
    subscriber.close(CLOSE_MAX).await;
    let counted = feeding.counted;
    let output = context.output();
    if counted.seen > 0 || outcome.is_err() {
        output.note(format!(
            "{} of {} records fed back, {} events published",
            number(counted.fed),
            number(counted.seen),
            number(counted.published)
        ));
    }
    outcome?;
    if counted.seen == 0 {
        return nothing(context, if counted.outside > 0 { OUTSIDE } else { empty(config) });
    }
    conclude(counted)
}

/// What became of the records.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    /// In the span of time.
    seen: u64,
    outside: u64,
    fed: u64,
    published: u64,
    refused: u64,
    unwanted: u64,
}

struct Feeding {
    events: Publisher,
    acker: Acker,
    progress: Progress,
    counted: Counted,
}

impl Feeding {
    /// Publishes what can be read, a batch at a time; each is acked once it is confirmed.
    async fn feed(&mut self, records: &[Record], ids: &[AckId], wanted: &Wanted<'_>, shutdown: &Shutdown) -> Result<(), CommandError> {
        for (records, ids) in records.chunks(BATCH_MAX).zip(ids.chunks(BATCH_MAX)) {
            if shutdown.is_requested() {
                return Err(interrupted(shutdown, "interrupted; what was fed back is published, the rest stays"));
            }
            let mut batch = Vec::new();
            for (record, &id) in records.iter().zip(ids) {
                if !wanted.is_in_window(record) {
                    self.counted.outside += 1;
                    continue;
                }
                self.counted.seen += 1;
                match wanted.verdict(record) {
                    Verdict::Fed(normalized) => batch.push((id, envelopes(&normalized)?)),
                    Verdict::Refused(_) => self.refused(),
                    Verdict::Unwanted => self.counted.unwanted += 1,
                }
            }
            self.publish(&batch).await?;
            self.progress.advance(records.len() as u64);
        }
        Ok(())
    }

    async fn publish(&mut self, batch: &[(AckId, Vec<Envelope>)]) -> Result<(), CommandError> {
        let all = batch.iter().flat_map(|(_, envelopes)| envelopes.iter().cloned()).collect();
        match self.events.publish(all).await {
            Ok(()) => self.fed(batch),
            // One that the bus will never take keeps nobody else from going back.
            Err(PublishError::Refused { .. } | PublishError::TooLarge { .. }) => {
                for one in batch.chunks(1) {
                    match self.events.publish(one[0].1.clone()).await {
                        Ok(()) => self.fed(one),
                        Err(PublishError::Refused { .. } | PublishError::TooLarge { .. }) => self.refused(),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn fed(&mut self, batch: &[(AckId, Vec<Envelope>)]) {
        self.acker.ack(&batch.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        self.counted.fed += batch.len() as u64;
        self.counted.published += batch.iter().map(|(_, envelopes)| envelopes.len() as u64).sum::<u64>();
    }

    fn refused(&mut self) {
        self.counted.refused += 1;
        self.progress.fail(1);
    }
}

fn envelopes(normalized: &Normalized<'_>) -> Result<Vec<Envelope>, CommandError> {
    let envelopes = normalized.events.iter().map(Envelope::of_event).collect::<Result<_, _>>();
    envelopes.map_err(|error| CommandError::new(Exit::BadData, "an event does not serialize").caused_by(&error))
}

fn record(delivery: &Delivery) -> Record {
    Record::new(&delivery.envelope, delivery.published_at)
}

/// Takes what there is, at most so much; whether that was all. It is all once as many came as were said to wait, where that is known, and else when
/// nothing came for so long.
async fn gather(subscriber: &mut Subscriber, quiet: Duration, waiting: Option<u64>) -> Result<(Vec<Delivery>, bool), CommandError> {
    let (mut deliveries, mut bytes) = (Vec::new(), 0);
    while deliveries.len() < RECORDS_MAX && bytes < BYTES_MAX {
        match tokio::time::timeout(quiet, subscriber.next()).await {
            Err(_) => return Ok((deliveries, true)),
            Ok(more) => {
                let more = more?;
                bytes += more.iter().map(|delivery| delivery.envelope.size()).sum::<usize>();
                deliveries.extend(more);
            }
        }
        if waiting.is_some_and(|waiting| deliveries.len() as u64 >= waiting) {
            return Ok((deliveries, true));
        }
    }
    Ok((deliveries, false))
}

const OUTSIDE: &str = "nothing in the quarantine is of this span of time";

/// What can be said of a quarantine from which nothing came.
fn empty(config: &Config) -> &'static str {
    match config.bus.backend {
        BusBackend::Embedded => "the quarantine is empty",
        BusBackend::Google => {
            "nothing came from the quarantine: it is empty, or somebody holds what is in it, and then it comes again within a minute"
        }
    }
}

fn nothing(context: &Context, told: &str) -> Result<Exit, CommandError> {
    context.output().note(told);
    Ok(Exit::Finding)
}

fn conclude(counted: Counted) -> Result<Exit, CommandError> {
    if counted.refused > 0 {
        let message = format!("{} records still cannot be read, and stay in the quarantine", number(counted.refused));
        return Err(CommandError::new(Exit::BadData, message).hint("`convpipe replay --from-quarantine -o json` says why"));
    }
    Ok(if counted.fed == 0 { Exit::Finding } else { Exit::Done })
}
