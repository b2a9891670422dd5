//! `convpipe dev`: the whole pipeline on one machine, on a recording, with a Redis of its own.

mod folder;
mod greeting;
mod redis;
mod settings;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::daemon::Life;
use super::replay::serve::{bind, play, write_artifacts};
use super::{CommandError, Context, Exit, dashboard, ingest, snapshot};
use crate::backends;
use crate::config::Config;
use crate::daemons::dashboard::{Dashboard, DashboardError};
use crate::daemons::ingest::OnLive;
use crate::daemons::playback::{self, Overview, Playback, PlaybackSettings, Speed};
use crate::runtime::clock;
use crate::runtime::health::Listener;
use crate::runtime::shutdown::Shutdown;
use crate::views::Writer;
use crate::ws::serve::{Player, serve, stage};

pub(super) use folder::is_abandoned;

use folder::Folder;
use redis::{PrivateRedis, RedisAccess};
use settings::Emulators;

/// The recording that is played where none is named; it is in the binary, so that `dev` runs in any folder.
const BUSY_EVENING: &[u8] = include_bytes!("../../fixtures/recordings/busy-evening.jsonl.gz");

/// Run the whole pipeline here, on a recording
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts a private redis-server (or valkey-server), a WebSocket server that plays
the recording over and over in the present, ingest, snapshot and the dashboard.
Everything it writes is in .convpipe/, whose convpipe.yaml the other commands
find from this
folder. Ctrl-C ends all of it.

Rules, tiers, limits and all the rest are those of --config, $CONVPIPE_CONFIG or
./convpipe.yaml, where there is one; Redis, topic, documents and artifacts are
always its own.

Examples:
  convpipe dev                                the recorded busy evening
  convpipe dev --speed 20x                    twenty times as fast
  convpipe dev --redis redis://127.0.0.1      on a Redis that is there already")]
pub struct Args {
    /// A Redis that is there, instead of a private one; without a password.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Run on Google's emulators, those of PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST, instead of the embedded topic and documents.
    #[arg(long)]
    google_emulators: bool,
    /// The recording to play, instead of the busy evening that comes with the program.
    #[arg(long, value_name = "FILE")]
    recording: Vec<PathBuf>,
    /// How fast it is played.
    #[arg(long, value_name = "1x|20x|max", value_parser = super::replay::speed, default_value = "1x")]
    speed: Speed,
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = ".convpipe")]
    dir: PathBuf,
    /// Go on with what the last run left in the bus and the documents, instead of beginning anew.
    #[arg(long)]
    keep: bool,
}

/// Runs `convpipe dev`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let base = settings::base(context, &args.dir)?;
    let emulators = args.google_emulators.then(|| Emulators::find(context.environment(), args.keep)).transpose()?;
    let folder = Folder::claim(&args.dir, args.keep)?;
    context.block_on(async {
        let shutdown = super::listen()?;
        let (mut private, access) = match &args.redis {
            Some(url) => (None, RedisAccess::open(url)),
            None => {
                let (redis, access) = PrivateRedis::start(&folder).await?;
                (Some(redis), access)
            }
        };
        let listeners = Listeners::bind().await?;
        let mut addresses = listeners.addresses().to_vec();
        let write = |addresses: &[(&'static str, SocketAddr)]| {
            settings::write(context, &folder, &access, addresses, emulators.as_ref(), base.as_deref())
        };
        let mut config = write(&addresses)?;
        // The service would wait for it; whoever tries things out wants to be told.
        Writer::connect(&config.redis).await?;
        context.start_logging(&quiet(&config))?;
        backends::provision(&config, true).await?;
        let wanted = config.dashboard.listen.clone();
        let page = bind_dashboard(&config).await?;
        if config.dashboard.address() != Some(page.address()) {
            if !wanted.ends_with(":0") {
                context.output().note(format!("{wanted} (dashboard.listen) is taken, so this dashboard is at {}", page.address()));
            }
            // Where the other commands look for it.
            addresses.push(("dashboard.listen", page.address()));
            config = write(&addresses)?;
        }
        let doors = Doors { listeners, page };
        let outcome = pipeline(context, args, &folder, &config, doors, &shutdown, private.as_mut()).await;
        if let Some(redis) = private {
            redis.stop().await;
        }
        outcome?;
        context.output().note("stopped; nothing is left running");
        Ok(Exit::Done)
    })
}

/// The health listeners, on free ports that the config names.
struct Listeners {
    ingest: Listener,
    snapshot: Listener,
    dashboard: Listener,
}

impl Listeners {
    async fn bind() -> Result<Self, CommandError> {
        let free = || Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let failed = |error: std::io::Error| CommandError::new(Exit::TryLater, "no free port for a health listener").caused_by(&error);
        Ok(Self {
            ingest: free().await.map_err(failed)?,
            snapshot: free().await.map_err(failed)?,
            dashboard: free().await.map_err(failed)?,
        })
    }

    const fn addresses(&self) -> [(&'static str, SocketAddr); 3] {
        [
            ("health.ingest", self.ingest.address()),
            ("health.snapshot", self.snapshot.address()),
            ("health.dashboard", self.dashboard.address()),
        ]
    }
}

/// Where others come in: taken before anything starts, so that the config names them.
struct Doors {
    listeners: Listeners,
    page: Dashboard,
}

/// Starts the parts, waits for the end, and ends them in the order of the flow.
async fn pipeline(
    context: &Context,
    args: &Args,
    folder: &Folder,
    config: &Config,
    doors: Doors,
    shutdown: &Shutdown,
    redis: Option<&mut PrivateRedis>,
) -> Result<(), CommandError> {
    let files = if args.recording.is_empty() { vec![folder.write_recording(BUSY_EVENING)?] } else { args.recording.clone() };
    let mut overview = Overview::default();
    playback::overview(&files, &mut overview)?;

    // Each part has a stop of its own, so that what is upstream is dry before what is downstream ends.
    let (stop_serving, stop_ingest, stop_snapshot) = (Shutdown::new(), Shutdown::new(), Shutdown::new());
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let server = listener.local_addr().map_err(|error| CommandError::new(Exit::Unavailable, error.to_string()))?;
    write_artifacts(&config.auth.dir, server, &overview.accounts)?;
    let (player, source) = stage(overview.accounts.iter().map(String::as_str), &overview.online);
    let serving = tokio::spawn(serve(listener, source, stop_serving.clone()));

    let Doors { listeners, page } = doors;
    let bus = backends::bus(config).await?;
    let (live, is_live) = watch::channel(0usize);
    let on_live: OnLive = Arc::new(move |_| live.send_modify(|live| *live += 1));
    let mut folding = tokio::spawn({
        let life = Life::within("snapshot", config, Some(listeners.snapshot), stop_snapshot.clone());
        let (config, bus) = (config.clone(), bus.clone());
        async move { snapshot::serve(&config, bus, true, true, life).await }
    });
    let mut reading = tokio::spawn({
        let life = Life::within("ingest", config, Some(listeners.ingest), stop_ingest.clone());
        let config = config.clone();
        async move { ingest::serve(&config, &bus, Some(on_live), life).await }
    });

    let page_at = page.address();
    let stop_dashboard = Shutdown::new();
    let showing = tokio::spawn({
        let life = Life::within("dashboard", config, Some(listeners.dashboard), stop_dashboard.clone());
        dashboard::serve(page, life)
    });

    let speed = args.speed;
    let playing = async {
        greet_when_live(context, folder, &overview, server, page_at, is_live).await;
        play_on(context, files.clone(), speed, &player, shutdown).await;
        shutdown.requested().await;
    };
    let ended = tokio::select! {
        () = playing => Ok(()),
        ended = &mut folding => outcome(ended),
        ended = &mut reading => outcome(ended),
        () = redis_ended(redis) => Err(CommandError::new(Exit::Unavailable, "the private Redis has ended").hint(format!("see {}", folder.redis_log().display()))),
    };
    context.output().note("stopping…");
    stop_ingest.request();
    let read = if reading.is_finished() { Ok(()) } else { outcome(reading.await) };
    stop_serving.request();
    let _ = serving.await;
    stop_dashboard.request();
    let _ = showing.await;
    stop_snapshot.request();
    let folded = if folding.is_finished() { Ok(()) } else { outcome(folding.await) };
    ended.and(read).and(folded)
}

fn outcome(ended: Result<Result<(), CommandError>, tokio::task::JoinError>) -> Result<(), CommandError> {
    ended.map_err(|error| CommandError::new(Exit::TryLater, "a part of the pipeline panicked").caused_by(&error))?
}

/// The dashboard where the config wants it, or on a free port where somebody listens there already, such as another `dev`.
async fn bind_dashboard(config: &Config) -> Result<Dashboard, CommandError> {
    match Dashboard::bind(config, clock::now).await {
        Err(DashboardError::Listen { .. }) => {
            let mut elsewhere = config.clone();
            elsewhere.dashboard.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
            Ok(Dashboard::bind(&elsewhere, clock::now).await?)
        }
        bound => Ok(bound?),
    }
}

async fn redis_ended(redis: Option<&mut PrivateRedis>) {
    match redis {
        Some(redis) => redis.ended().await,
        None => std::future::pending().await,
    }
}

async fn play_on(context: &Context, files: Vec<PathBuf>, speed: Speed, player: &Player, shutdown: &Shutdown) {
    // Every run's messages are new ones, whatever an earlier run left.
    let first_round = u64::try_from(clock::now().0 / 60_000).unwrap_or(0) % 3_000;
    let settings = PlaybackSettings { files, speed, repeat: true, shift_time: true, first_round, since: None, until: None, skip: 0 };
    play(&mut Playback::new(settings), player, shutdown, |result| {
        if let Err(error) = result {
            context.output().note(format!("warning: {error}"));
        }
    })
    .await;
}

/// Says what to try, once every account is live.
async fn greet_when_live(
    context: &Context,
    folder: &Folder,
    overview: &Overview,
    server: SocketAddr,
    dashboard: SocketAddr,
    mut live: watch::Receiver<usize>,
) {
    let accounts = overview.accounts.len();
    if live.wait_for(|&live| live >= accounts).await.is_err() {
        return;
    }
    greeting::greet(context, folder, overview, server, dashboard);
}

/// On a terminal the greeting is what matters, so the services only say what is wrong, unless more was asked for.
fn quiet(config: &Config) -> crate::config::LogConfig {
    let mut log = config.log.clone();
    if log.filter == "info" {
        log.filter = "warn".to_owned();
    }
    log
}
