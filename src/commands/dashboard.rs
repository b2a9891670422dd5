//! `convpipe dashboard`: the inbox as a web page, from Redis alone.

use super::{CommandError, Context, Exit};
use crate::config::Override;
use crate::daemons::dashboard::Dashboard;
use crate::runtime::clock;

/// Serve the inbox as a live web page and as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads Redis as the user who may only read, and nothing else. Listens on the
loopback; beyond it, dashboard.token_file is needed.
SIGINT or SIGTERM: ends within two seconds, exit 0.

Examples:
  convpipe dashboard                             http://127.0.0.1:7070/
  convpipe dashboard --listen 127.0.0.1:8080     on another port
  curl http://127.0.0.1:7070/api/v1/status       the same as JSON")]
pub struct Args {
    /// Address and port to listen on, instead of dashboard.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

/// Runs `convpipe dashboard`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let own = args.listen.iter().map(|value| Override { key: "dashboard.listen", flag: "--listen", value: value.clone() }).collect();
    let config = context.config_with(own)?.config;
    context.start_logging(&config.log)?;
    if let Some(note) = context.abandoned_dev() {
        tracing::warn!("{note}");
    }
    context.block_on(async {
        let shutdown = super::listen()?;
        let dashboard = Dashboard::bind(&config, clock::now).await?;
        context.output().note(format!("the dashboard is at http://{}/", dashboard.address()));
        dashboard.serve(shutdown).await;
        Ok(Exit::Done)
    })
}
