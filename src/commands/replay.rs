//! `convpipe replay`: recordings, folded in memory, published to the bus, or served over a WebSocket; and what lies in the quarantine.

mod quarantine;
pub(super) mod serve;
mod stats;
mod to_bus;
mod to_state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::output::{Progress, number};
use super::read::{self, Format, Moment, Window};
use super::{CommandError, Context, Exit, interrupted};
use crate::daemons::playback::{self, Overview, Playback, PlaybackSettings, Played, Recording, RecordingError, Speed};
use crate::runtime::clock;
use crate::schema::event::Event;
use crate::schema::time::Millis;
use crate::transform::filter::Filter;

/// Play recorded frames: into a dry run, onto the bus, or to whoever connects
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A recording is JSON lines, one {\"t_ms\", \"account\", \"frame\"} a line; plain, gzip
or Zstandard; - is standard input. A line may also be an event, as inspect-fan
--events -o jsonl prints it. By default nothing is written: the frames are
folded in memory and the resulting snapshots printed. With --serve playing
begins when the first account connects.

--checkpoint notes how many frames are published, so that the same command goes
on there after an interruption; at most 512 frames come twice, which the fold
knows. After the last frame the file is removed. A bus that is neither embedded
nor an emulator asks for --confirm with the project's name. --verify folds the
recording twice and compares digests of both states: exit 1 where they differ.

--from-quarantine takes what could not be read in the place of a recording. It
shows what lies there, by stage, reason, source and account, -v with samples; -o
json has why each still cannot be read. With --to bus what can be read by now is
published, once: the subscription of the quarantine topic's own name keeps what
was fed back, and what cannot be read, or is not wanted, stays.

Exit: 0 done; 1 nothing to play: nothing in the file, the window, the filter or
the quarantine, or --verify differs; 65 a line, or a record of the quarantine,
that cannot be read, after everything else was played.

Examples:
  convpipe replay fixtures/recordings/quiet-evening.jsonl.gz
  convpipe replay evening.jsonl.zst -o jsonl | jq .unread
  convpipe replay evening.jsonl.zst --to bus --shift-time --speed max
  convpipe replay evening.jsonl.zst --to bus --checkpoint replay.at
  convpipe replay evening.jsonl.zst --filter \"event.kind == 'tip.received'\"
  convpipe inspect-fan 100000001 --events -o jsonl | convpipe replay -
  convpipe replay --from-quarantine -v
  convpipe replay --from-quarantine --since 2h --to bus
  convpipe replay --stats evening.jsonl.zst
  convpipe replay evening.jsonl.zst --serve 127.0.0.1:7000 --loop --shift-time \\
      --artifacts .convpipe/auth")]
pub struct Args {
    /// Recordings, played one after the other.
    #[arg(required_unless_present = "from_quarantine", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Instead of a recording: what lies in the quarantine, read again
    #[arg(long, conflicts_with_all = ["files", "serve", "speed", "rate", "repeat", "shift_time", "verify", "stats", "checkpoint"])]
    from_quarantine: bool,
    /// Where the frames go: `state` is a dry run in memory, `bus` publishes the events.
    #[arg(long, value_enum, value_name = "state|bus", default_value_t = Target::State, hide_possible_values = true, conflicts_with = "serve")]
    to: Target,
    /// Serve the frames as the platform would, to every account that connects with its token.
    #[arg(long, value_name = "ADDR")]
    serve: Option<SocketAddr>,
    /// With --serve: write an artifact for each account into this folder, so that ingest connects.
    #[arg(long, value_name = "DIR", requires = "serve")]
    artifacts: Option<PathBuf>,
    /// How fast: 1x as recorded, 20x twenty times as fast, max as fast as it is taken. [default: 1x with --serve, else max]
    #[arg(long, value_name = "1x|20x|max", value_parser = speed, conflicts_with = "rate")]
    speed: Option<Speed>,
    /// Frames a second, of all accounts together, instead of --speed.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<Speed>,
    /// Begin again at the end, for ever; the messages of each round are new ones.
    #[arg(long = "loop")]
    repeat: bool,
    /// Move the recording into the present: every time in a frame becomes the moment in which it is played.
    #[arg(long)]
    shift_time: bool,
    /// Write nothing, whatever --to says
    #[arg(long, conflicts_with = "serve")]
    dry_run: bool,
    /// Fold twice, and compare the states
    #[arg(long, conflicts_with_all = ["serve", "to", "repeat", "shift_time", "stats"])]
    verify: bool,
    /// Print what the recordings hold: kinds, rates, sizes, unknown keys, what is rejected
    #[arg(long, conflicts_with_all = ["serve", "to", "repeat", "shift_time"])]
    stats: bool,
    /// Only events for which this CEL expression holds: `event.money_minor >= 5000`
    #[arg(long, value_name = "CEL", value_parser = read::filter, conflicts_with = "serve")]
    filter: Option<Arc<Filter>>,
    /// Only frames recorded from then on: `10m` ago, `2026-07-23`, or `2026-07-23T12:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = read::moment)]
    since: Option<Moment>,
    /// Only frames recorded before then
    #[arg(long, value_name = "WHEN", value_parser = read::moment)]
    until: Option<Moment>,
    /// With --to bus: note in this file how far it has got, and go on from there; it is removed at the end
    #[arg(long, value_name = "FILE", conflicts_with_all = ["serve", "repeat", "dry_run", "verify", "stats"])]
    checkpoint: Option<PathBuf>,
    /// With --to bus: the project to publish to, where the bus is not a local one
    #[arg(long, value_name = "PROJECT", conflicts_with = "serve")]
    confirm: Option<String>,
    /// With --to bus: a name of this run; its events carry the same connection id whenever it is given
    #[arg(long, value_name = "ID", conflicts_with = "serve")]
    run_id: Option<String>,
    /// What a dry run prints.
    #[arg(short, long, value_enum, value_name = "table|json|jsonl", default_value_t, hide_possible_values = true)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// A dry run.
    State,
    /// The bus.
    Bus,
}

/// Runs `convpipe replay`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    if args.from_quarantine {
        return quarantine::run(context, args);
    }
    let run = Run::prepare(context, args)?;
    match (args.serve, args.to) {
        (Some(address), _) => serve::run(&run, address, args.artifacts.as_deref()),
        (None, _) if args.stats => stats::run(&run, args.output),
        (None, _) if args.verify => to_state::verify(&run),
        (None, _) if args.publishes() => {
            let publishing = to_bus::Publishing {
                checkpoint: run.checkpoint.as_ref(),
                confirm: args.confirm.as_deref(),
                run_id: args.run_id.as_deref(),
            };
            to_bus::run(&run, &publishing)
        }
        (None, _) => to_state::run(&run, args.output),
    }
}

impl Args {
    /// Whether it writes to the bus.
    fn publishes(&self) -> bool {
        self.to == Target::Bus && !self.dry_run
    }

    /// The span of time to play, counted from now.
    fn window(&self) -> Result<Window, CommandError> {
        let now = clock::now();
        let window = Window { since: self.since.map(|since| since.resolve(now)), until: self.until.map(|until| until.resolve(now)) };
        match window {
            Window { since: Some(since), until: Some(until) } if since >= until => {
                Err(CommandError::new(Exit::Usage, format!("--since {since} is not before --until {until}")))
            }
            _ => Ok(window),
        }
    }
}

/// What every way of playing has in common.
struct Run<'c> {
    context: &'c Context,
    settings: PlaybackSettings,
    overview: Overview,
    progress: Progress,
    filter: Option<Arc<Filter>>,
    checkpoint: Option<Checkpoint>,
}

impl<'c> Run<'c> {
    fn prepare(context: &'c Context, args: &Args) -> Result<Self, CommandError> {
        let to_state = args.serve.is_none() && !args.publishes();
        if args.to != Target::Bus && args.checkpoint.is_some() {
            return Err(CommandError::new(Exit::Usage, "--checkpoint notes what is published").hint("add --to bus"));
        }
        if to_state && args.repeat {
            return Err(
                CommandError::new(Exit::Usage, "--loop never ends, and a dry run prints at the end").hint("add --to bus or --serve")
            );
        }
        let default_speed = if args.serve.is_some() { Speed::Times(1.0) } else { Speed::Max };
        let window = args.window()?;
        let mut settings = PlaybackSettings {
            files: args.files.clone(),
            speed: args.rate.or(args.speed).unwrap_or(default_speed),
            repeat: args.repeat,
            shift_time: args.shift_time,
            first_round: 0,
            since: window.since,
            until: window.until,
            skip: 0,
        };
        let checkpoint = args.checkpoint.as_deref().map(|path| Checkpoint::new(path, work(args, &settings)));
        settings.skip = checkpoint.as_ref().map(Checkpoint::load).transpose()?.flatten().unwrap_or(0);
        if settings.skip > 0 {
            context.output().note(format!("going on behind {} frames that were published before", number(settings.skip)));
        }
        let mut overview = Overview::default();
        let from_stdin = settings.files.iter().any(|file| file.as_os_str() == "-");
        if from_stdin && (args.serve.is_some() || args.repeat) {
            let message = "standard input can be played only once, and --serve and --loop read it twice";
            return Err(CommandError::new(Exit::Usage, message).hint("write it to a file first"));
        }
        // A file that is not there is a slip of the hand: told before anything is played.
        for file in settings.files.iter().filter(|file| file.as_os_str() != "-") {
            Recording::open(file)?;
        }
        // What is wrong inside a file is told when it is played, after everything before it.
        let counted = !from_stdin && playback::overview(&settings.files, &mut overview).is_ok();
        if overview.events > 0 && (args.serve.is_some() || args.repeat) {
            let message = "--serve and --loop play frames, and there are events among these";
            return Err(CommandError::new(Exit::Usage, message).hint("give them recordings, or play the events with --to"));
        }
        let is_whole = settings.since.is_none() && settings.until.is_none();
        let total = (counted && is_whole && !settings.repeat).then_some(overview.frames.saturating_sub(settings.skip));
        let unit = if overview.events > 0 && overview.events == overview.frames { "events" } else { "frames" };
        let progress = context.output().progress("replay", unit, total);
        Ok(Self { context, settings, overview, progress, filter: args.filter.clone(), checkpoint })
    }

    fn playback(&self) -> Playback {
        Playback::new(self.settings.clone())
    }

    /// Has a look at every frame, as fast as they are read, and counts what the look says could not be read; `told` is what an interrupted
    /// user is told.
    fn each(&self, told: &str, mut look: impl FnMut(&Played) -> Result<u64, CommandError>) -> Result<Playing, CommandError> {
        let mut playing = Playing::default();
        self.context.block_on(async {
            let shutdown = crate::commands::listen()?;
            let mut playback = self.playback();
            while let Some(played) = tokio::select! {
                biased;
                () = shutdown.requested() => return Err(interrupted(&shutdown, told)),
                played = playback.next() => played,
            } {
                match played {
                    Ok(played) => {
                        self.progress.fail(look(&played)?);
                        playing.played += 1;
                        self.progress.advance(1);
                    }
                    Err(error) => {
                        playing.damaged(error);
                        self.progress.fail(1);
                    }
                }
            }
            playing.gaps = playback.gaps();
            Ok(())
        })?;
        self.progress.finish();
        Ok(playing)
    }

    /// How it ends, where `matched` events were wanted: with the damage, or with having found nothing. What was found is printed by then.
    fn conclude(&self, playing: Playing, matched: u64) -> Result<Exit, CommandError> {
        let output = self.context.output();
        if playing.gaps > 0 {
            let gaps = if playing.gaps == 1 { "a gap stands".to_owned() } else { format!("{} gaps stand", number(playing.gaps)) };
            output.note(format!("{gaps} between the events: what was missing when they were read is missing here"));
        }
        let (played, settings) = (playing.played, &self.settings);
        playing.outcome()?;
        let told = if settings.skip > 0 {
            return Ok(Exit::Done);
        } else if played == 0 && (settings.since.is_some() || settings.until.is_some()) {
            "nothing to play: no frame was recorded in this span of time"
        } else if played == 0 {
            "nothing to play: there is no frame in it"
        } else if self.filter.is_some() && matched == 0 {
            "nothing to play: --filter holds for no event of it"
        } else {
            return Ok(Exit::Done);
        };
        output.note(told);
        Ok(Exit::Finding)
    }

    /// Whether an event is one of those that were asked for.
    fn wants(&self, event: &Event<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds_for_event(event))
    }

    /// Says that the events will be too old to matter, where they will.
    fn warn_if_old(&self, horizon_ms: i64) {
        let age_ms = self.overview.t0.map_or(0, |t0: Millis| clock::now().since(t0));
        if age_ms > horizon_ms && !self.settings.shift_time {
            let days = age_ms / 86_400_000;
            let note = format!("the recording is {days} days old; events older than {} days change nothing", horizon_ms / 86_400_000);
            self.context.output().note(format!("note: {note}; --shift-time moves it into the present"));
        }
    }
}

/// What a replay is, by everything that decides which frame is which.
fn work(args: &Args, settings: &PlaybackSettings) -> String {
    let files: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
    let bound = |name: &str, at: Option<Millis>| at.map_or_else(String::new, |at| format!(" {name} {at}"));
    format!("replay of {}{}{}", files.join(", "), bound("since", settings.since), bound("until", settings.until))
}

/// How a playback went: what was played, and the errors, of which the first is the command's.
#[derive(Default)]
struct Playing {
    played: u64,
    gaps: u64,
    first: Option<RecordingError>,
    more: u64,
}

impl Playing {
    fn damaged(&mut self, error: RecordingError) {
        if self.first.is_some() {
            self.more += 1;
        } else {
            self.first = Some(error);
        }
    }

    /// Whether there is a result to print: of what is no recording there is none, and an empty one is empty JSON, but no table.
    fn has_result(&self, format: Format) -> bool {
        self.played > 0 || (self.first.is_none() && format != Format::Table)
    }

    fn outcome(self) -> Result<(), CommandError> {
        let Some(error) = self.first else { return Ok(()) };
        let error = CommandError::from(error);
        Err(match (self.more, self.played) {
            (0, 0) => error.hint("docs/recordings.md describes recordings; `convpipe ingest --record DIR` writes them"),
            (0, _) => error.hint("everything before it was played"),
            (more, 0) => error.hint(format!("{more} more files are damaged; nothing could be played")),
            (more, _) => error.hint(format!("{more} more files are damaged; the rest was played")),
        })
    }
}

/// Reads `1x`, `20x`, `max`.
pub(super) fn speed(typed: &str) -> Result<Speed, String> {
    if typed == "max" {
        return Ok(Speed::Max);
    }
    let times = typed.strip_suffix('x').unwrap_or(typed).parse::<f64>().ok().filter(|times| times.is_finite() && *times > 0.0);
    times.map(Speed::Times).ok_or_else(|| "a number of times such as 1x or 20x, or max".to_owned())
}

fn rate(typed: &str) -> Result<Speed, String> {
    let rate = typed.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.map(Speed::Rate).ok_or_else(|| "a number of frames a second, above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        for (typed, expected) in [
            ("1x", Some(Speed::Times(1.0))),
            ("20", Some(Speed::Times(20.0))),
            ("0.5x", Some(Speed::Times(0.5))),
            ("max", Some(Speed::Max)),
        ] {
            assert_eq!(speed(typed).ok(), expected, "{typed}");
        }
        for typed in ["0x", "-1x", "fast", "infx", "NaN", ""] {
            assert!(speed(typed).is_err(), "{typed}");
        }
        assert!(rate("0").is_err() && rate("5000").is_ok());
    }
}
