//! `convpipe dashboard`: the inbox as a web page, from Redis alone.

use std::sync::Arc;

use super::daemon::{self, Daemon, Life};
use super::{CommandError, Context, Exit};
use crate::config::{Config, DashboardConfig, Listen, Loaded, Override};
use crate::daemons::dashboard::Dashboard;
use crate::runtime::clock;
use crate::runtime::limits::Needs;
use crate::runtime::telemetry;

/// Memory of one conversation or entry that is shown, about, bytes.
const ROW_BYTES: usize = 2 << 10;
/// Memory of one connection, about, bytes: a request's head and part of an answer.
const CONNECTION_BYTES: usize = 32 << 10;

/// Serve the inbox as a live web page and as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads Redis as the user who may only read, and nothing else. Listens on the
loopback; beyond it, dashboard.token_file is needed.
SIGINT or SIGTERM: ends once what is being answered is, or when --drain-timeout
is over, exit 0. SIGHUP: read the config again, for the log.

Examples:
  convpipe dashboard                             http://127.0.0.1:7070/
  convpipe dashboard --listen 127.0.0.1:8080     on another port
  curl http://127.0.0.1:7070/api/v1/status       the same as JSON")]
pub struct Args {
    /// Address and port to listen on, instead of dashboard.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Longest time for a stop, in seconds, instead of dashboard.drain_timeout_s.
    #[arg(long, value_name = "SECONDS")]
    drain_timeout: Option<u64>,
    /// Where /metrics, /livez and /readyz are, instead of health.dashboard; or `off`.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<Listen>,
}

/// Runs `convpipe dashboard`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    daemon::run(context, args)
}

impl Daemon for Args {
    const NAME: &'static str = "dashboard";

    fn overrides(&self) -> Vec<Override> {
        let listen = self.listen.iter().map(|value| Override { key: "dashboard.listen", flag: "--listen", value: value.clone() });
        let drain = self.drain_timeout.iter();
        let drain = drain.map(|value| Override { key: "dashboard.drain_timeout_s", flag: "--drain-timeout", value: value.to_string() });
        listen.chain(drain).chain(super::health::override_of("health.dashboard", self.health)).collect()
    }

    fn listen(&self, config: &Config) -> Listen {
        config.health.dashboard
    }

    fn needs(&self, config: &Config) -> Needs {
        let DashboardConfig { connections_max, conversations_max, feed_max, .. } = config.dashboard;
        let rows = conversations_max.saturating_add(feed_max).saturating_mul(ROW_BYTES);
        Needs { files: connections_max as u64, bytes: rows.saturating_add(connections_max.saturating_mul(CONNECTION_BYTES)) as u64 }
    }

    fn check(&self, loaded: &Loaded) -> Result<(), CommandError> {
        Ok(telemetry::check(&loaded.config.log)?)
    }

    fn adopt(running: &Config, new: &Config) -> Config {
        daemon::adopt_log(running, new)
    }

    fn concerns(key: &str) -> bool {
        let is_writers = matches!(key, "redis.user" | "redis.password_file");
        ["dashboard.", "redis.", "log.", "health.dashboard", "health.stall_s"].iter().any(|section| key.starts_with(section)) && !is_writers
    }

    async fn run(&self, context: &Context, config: Arc<Config>, life: Life) -> Result<Exit, CommandError> {
        let dashboard = Dashboard::bind(&config, clock::now).await?;
        context.output().note(format!("the dashboard is at http://{}/", dashboard.address()));
        serve(dashboard, life).await;
        Ok(Exit::Done)
    }
}

/// Serves until a stop is asked for. Part of `convpipe dev` too.
pub(super) async fn serve(dashboard: Dashboard, mut life: Life) {
    let _beside = life.show(&Arc::new(dashboard.numbers()));
    dashboard.serve(&life.health, life.shutdown).await;
}
