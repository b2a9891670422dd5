//! `convpipe status`: how every daemon and Redis are doing, on one screen.
//!
//! Owns when it looks, and what the look is worth as an exit code. Does not own what is not well (`judge`) nor how it looks (`screen`). Invariants: it changes
//! nothing; one that is down, hangs or talks nonsense hides nothing of the others and costs a bounded time; what is not known is shown as not known.

mod judge;
mod look;
mod numbers;
mod screen;
mod target;
mod views;

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::output::{self, Screen};
use super::read::{self, ListFormat};
use super::{CommandError, Context, Exit};
use crate::config::Config;
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;
use crate::schema::time::Millis;

pub(super) use judge::{Severity, of_daemon};
pub(super) use look::look;
#[cfg(test)]
pub(super) use numbers::blank;
pub(super) use numbers::{Standing, State};
#[cfg(test)]
pub(super) use target::Daemon;
pub(super) use target::configured;

use judge::{Problem, judge};
use look::Look;
use target::{Named, Target, targets};
use views::{Redis, Views};

/// Show how every daemon and Redis are doing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks ingest, snapshot, auth-refresh and the dashboard at health.* (/livez,
/readyz, /metrics), and Redis as the reader. What is not well stands first, with
what to do next. It looks twice: rates and lags are of the
second in between, or with --watch of the last ten. A lag is a bound: ≤5ms.
Gaps, failures, conflicts and retries count since the daemon started.
A number that is not known is –. docs/status.md explains every column.

ingest and snapshot have to run, and whoever is named by an option; auth-refresh
and the dashboard may. --watch draws on the whole terminal until Ctrl-C or q; in
a pipe it is printed once, but -o jsonl prints a line each time.

Exit: 0 if all is well; 1 if something is not; 69 if nobody answered at all,
Redis included; with --watch 0 after Ctrl-C.

Examples:
  convpipe status
  convpipe status --watch 5s
  convpipe status --ingest 10.0.0.1:7081 --ingest 10.0.0.2:7081   two shards
  convpipe status -o json | jq -r '.problems[].what'
  convpipe status -w -o jsonl | jq -c '[.at, .daemons[].consumers[]?.backlog]'")]
pub struct Args {
    /// Look again and again, every 2s or as often as said, from 500ms to 1h
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = interval)]
    watch: Option<Duration>,
    /// How to print it
    #[arg(short, long, value_name = "table|json|jsonl", value_enum, default_value_t, hide_possible_values = true)]
    output: ListFormat,
    #[command(flatten)]
    named: Named,
}

/// Time between the two looks of a single picture.
pub(super) const BETWEEN: Duration = Duration::from_secs(1);
/// What a picture's rates are about while it watches, if it has watched for so long.
const WINDOW: Duration = Duration::from_secs(10);

fn interval(typed: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(500)..=Duration::from_secs(3600);
    let interval = read::duration(typed)?;
    if bounds.contains(&interval) { Ok(interval) } else { Err("an interval is 500ms to 1h".to_owned()) }
}

/// Everything at one moment.
#[derive(Debug, Serialize)]
struct Picture {
    at: Millis,
    /// Nothing is to mend and nothing to know.
    ok: bool,
    /// What the rates are about, seconds; none with a single look.
    window_s: Option<f64>,
    problems: Vec<Problem>,
    daemons: Vec<Standing>,
    redis: Redis,
}

/// Runs `convpipe status`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let watched = Watched::new(config, &args.named);
    match args.watch {
        None => context.block_on(once(context, watched, args.output)),
        Some(_) if args.output == ListFormat::Json => {
            let error = CommandError::new(Exit::Usage, "--watch with -o json would never end its one value");
            Err(error.hint("-o jsonl prints a line each time"))
        }
        Some(every) => context.block_on(async {
            let shutdown = super::listen()?;
            if args.output == ListFormat::Jsonl {
                return lines(context, watched, every, &shutdown).await;
            }
            match context.output().screen() {
                Some(screen) => draw(context, watched, every, &shutdown, screen).await,
                None => {
                    context.output().note("standard output is no terminal to draw on, so this is printed once; -o jsonl goes on");
                    once(context, watched, args.output).await
                }
            }
        }),
    }
}

/// Two looks and one picture.
async fn once(context: &Context, mut watched: Watched, format: ListFormat) -> Result<Exit, CommandError> {
    watched.look_at_daemons().await;
    tokio::time::sleep(BETWEEN).await;
    let picture = watched.look().await;
    let output = context.output();
    match format {
        ListFormat::Json => output.json(&picture)?,
        ListFormat::Jsonl => output.json_line(&picture)?,
        ListFormat::Table => screen::lines(output, &picture, output.width(), "").iter().try_for_each(|line| output.line(line))?,
    }
    output.flush()?;
    if !picture.is_answered() {
        let hint = "start the daemons, or `convpipe dev` to try; the config says where they answer: `convpipe config print --origin`";
        return Err(
            CommandError::new(Exit::Unavailable, "nobody answered").hint(context.abandoned_dev().unwrap_or_else(|| hint.to_owned()))
        );
    }
    Ok(if picture.ok { Exit::Done } else { Exit::Finding })
}

/// A line of JSON each time.
async fn lines(context: &Context, mut watched: Watched, every: Duration, shutdown: &Shutdown) -> Result<Exit, CommandError> {
    let output = context.output();
    let (mut stopped, mut gone) = (pin!(shutdown.requested()), pin!(output.reader_gone()));
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = &mut stopped => return Ok(Exit::Done),
            () = &mut gone => return Err(CommandError::reader_gone()),
            picture = async { tokio::time::sleep_until(next).await; watched.look().await } => output.json_line(&picture)?,
        }
        output.flush()?;
        next = watched.next_after(every);
    }
}

/// A picture on the whole terminal, drawn again when there is news or another size.
async fn draw(
    context: &Context,
    mut watched: Watched,
    every: Duration,
    shutdown: &Shutdown,
    mut screen: Screen<'_>,
) -> Result<Exit, CommandError> {
    let output = context.output();
    let mut keys = Keys::listen()?;
    let mut stopped = pin!(shutdown.requested());
    let mut picture: Option<Picture> = None;
    let mut next = Instant::now();
    loop {
        {
            let mut looking = pin!(async {
                tokio::time::sleep_until(next).await;
                watched.look().await
            });
            // While somebody is waited for, the terminal is answered all the same.
            let seen = loop {
                let (columns, _) = screen.size();
                let how = format!("every {}, q ends", output::duration(every));
                screen.draw(&match &picture {
                    Some(picture) => screen::lines(output, picture, Some(columns), &how),
                    None => vec![output::fit("looking…", columns).into_owned()],
                })?;
                tokio::select! {
                    () = &mut stopped => return Ok(Exit::Done),
                    key = keys.next() => match key {
                        Key::End => return Ok(Exit::Done),
                        Key::Resized => {}
                        Key::Suspend => {
                            screen.give_back();
                            // Goes on behind `fg`.
                            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
                            screen.take();
                        }
                    },
                    seen = &mut looking => break seen,
                }
            };
            picture = Some(seen);
        }
        next = watched.next_after(every);
    }
}

/// What the terminal says.
enum Key {
    End,
    Resized,
    Suspend,
}

struct Keys {
    resized: Signal,
    suspended: Signal,
    typed: tokio::sync::mpsc::Receiver<()>,
}

impl Keys {
    fn listen() -> Result<Self, CommandError> {
        let failed = |error: std::io::Error| CommandError::new(Exit::TryLater, "cannot listen to the terminal").caused_by(&error);
        let suspend = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
        let (quit, typed) = tokio::sync::mpsc::channel(1);
        // A thread of its own, which ends with the process: tokio would wait for a read of stdin that nobody ends.
        let read = move || {
            use std::io::{IsTerminal as _, Read as _};
            let stdin = std::io::stdin();
            if stdin.is_terminal() && stdin.lock().bytes().map_while(Result::ok).any(|byte| matches!(byte, b'q' | b'Q')) {
                // Where nobody listens any more, it has ended already.
                let _ = quit.blocking_send(());
            }
        };
        std::thread::Builder::new().name("keys".to_owned()).spawn(read).map_err(failed)?;
        Ok(Self { resized: signal(SignalKind::window_change()).map_err(failed)?, suspended: signal(suspend).map_err(failed)?, typed })
    }

    async fn next(&mut self) -> Key {
        tokio::select! {
            Some(()) = self.resized.recv() => Key::Resized,
            Some(()) = self.suspended.recv() => Key::Suspend,
            Some(()) = self.typed.recv() => Key::End,
        }
    }
}

/// Who is looked at, and what was seen of late.
struct Watched {
    targets: Vec<Target>,
    views: Views,
    /// Oldest first; the first is what rates are counted from.
    seen: VecDeque<Vec<Look>>,
    first: bool,
}

impl Watched {
    fn new(config: &Config, named: &Named) -> Self {
        Self { targets: targets(config, named), views: Views::open(&config.redis), seen: VecDeque::new(), first: true }
    }

    async fn look_at_daemons(&mut self) {
        let looks = join_all(self.targets.iter().map(look)).await;
        let now = Instant::now();
        // Kept as long as the next one is not old enough itself.
        let age = |looks: &Vec<Look>| looks.iter().map(|look| now.duration_since(look.at)).max().unwrap_or_default();
        while self.seen.get(1).is_some_and(|second| age(second) >= WINDOW) {
            self.seen.pop_front();
        }
        self.seen.push_back(looks);
    }

    async fn look(&mut self) -> Picture {
        let views = Views::clone(&self.views);
        let ((), redis) = tokio::join!(self.look_at_daemons(), async { views.look().await });
        let now = clock::now();
        let (first, last) = (self.seen.front(), self.seen.back());
        let before = first.filter(|_| self.seen.len() > 1);
        let daemons =
            last.into_iter().flatten().enumerate().map(|(at, look)| Standing::of(look, before.and_then(|before| before.get(at)), now));
        let daemons: Vec<Standing> = daemons.collect();
        let problems = judge(&daemons, Some(&redis), now);
        let ok = problems.iter().all(|problem| problem.severity == Severity::Note);
        let span = before.and_then(|before| Some(last?.first()?.at.duration_since(before.first()?.at).as_secs_f64()));
        Picture { at: now, ok, window_s: span.map(|span| (span * 10.0).round() / 10.0), problems, daemons, redis }
    }

    /// When to look again: soon after the first time, which tells no rates.
    fn next_after(&mut self, every: Duration) -> Instant {
        Instant::now() + if std::mem::take(&mut self.first) { every.min(BETWEEN) } else { every }
    }
}

impl Picture {
    /// Whether anybody answered.
    fn is_answered(&self) -> bool {
        let is_there = |standing: &Standing| matches!(standing.state, State::Ready | State::NotReady | State::Stalled);
        self.redis.fault.is_none() || self.daemons.iter().any(is_there)
    }
}
