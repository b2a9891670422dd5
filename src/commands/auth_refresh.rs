//! `convpipe auth-refresh`: new artifacts in time, from the providers that the config names.

mod status;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use tokio::sync::watch;

use super::daemon::{self, Daemon, Life};
use super::output::{ago, utc};
use super::read;
use super::{CommandError, Context, Exit};
use crate::auth::{ArtifactStore, Fault};
use crate::config::{AuthConfig, Config, Listen, Loaded, Override, RefreshConfig};
use crate::daemons::auth_refresh::{self, AccountStatus, AuthGauges, AuthRefresh, Ended, Outcome, Standing, Told, Why, worst};
use crate::runtime::clock;
use crate::runtime::health::Health;
use crate::runtime::limits::Needs;
use crate::runtime::telemetry;
use crate::schema::artifact::RequestReason;
use crate::schema::time::Millis;

/// Keep the accounts' artifacts fresh, by asking their providers
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Looks at the artifacts in auth.dir again and again, and asks an account's
provider when too little of its artifact's life is left, when there is none, or
when ingest reports that the platform refused it. An old artifact stays until
the new one is in its place. What a person has to do (needs_otp,
needs_face_check, rejected) is told and not tried again. Providers, cron and
statuses: docs/auth.md.

--once does what is due and ends, for cron; where all is well it prints nothing,
unless -v asks. SIGINT or SIGTERM: waits for providers that are being asked, up
to --drain-timeout. SIGHUP to the daemon: read the config again.

Exit: 0 every account has what it needs; else the first of these that holds for
any account: 77 a person has to act, or credentials were refused; 78 a
provider's config; 65 a provider's answer; 69 a provider is down; 75 the
artifact cannot be written. Also 75: another auth-refresh is at work, or a stop
took too long.

Examples:
  convpipe auth-refresh                 as a daemon
  convpipe auth-refresh --once --metrics-file /var/lib/node_exporter/auth.prom
  convpipe auth-refresh --once --account 200000001 --force -v
  convpipe auth-refresh --dry-run       who would be asked now, and why
  convpipe auth-refresh status"
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Do what is due now and end.
    #[arg(long)]
    once: bool,
    /// Only this account; may be given several times.
    #[arg(long = "account", value_name = "ID")]
    accounts: Vec<String>,
    /// Ask for every account once, whatever is there.
    #[arg(long)]
    force: bool,
    /// Say who would be asked now and why, and ask nobody.
    #[arg(long)]
    dry_run: bool,
    /// Renew when less than this is left: a part of the life such as `25%`, or a length of time such as `6h`.
    #[arg(long, value_name = "PERCENT|DURATION", value_parser = min_ttl)]
    min_ttl: Option<MinTtl>,
    /// Folder of the artifacts, instead of auth.dir.
    #[arg(long, value_name = "DIR")]
    auth_dir: Option<String>,
    /// Textfile for Prometheus' node exporter, replaced as a whole.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    metrics_file: Option<PathBuf>,
    /// Where /metrics, /livez and /readyz of the daemon are, instead of health.auth_refresh; or `off`.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["once", "dry_run"])]
    health: Option<Listen>,
    /// Longest time for a stop, in seconds, instead of auth.refresh.drain_timeout_s.
    #[arg(long, value_name = "SECONDS")]
    drain_timeout: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how the accounts stand
    Status(status::Args),
    /// Ask a running auth-refresh for a new artifact, for example after a check was passed
    #[command(after_help = "\
Leaves a request beside the artifact, which a running auth-refresh answers at
once, and else the next --once.

Examples:
  convpipe auth-refresh request 200000001")]
    Request {
        /// The accounts
        #[arg(value_name = "ID", required = true)]
        accounts: Vec<String>,
    },
}

/// When to renew, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MinTtl {
    Percent(u64),
    Seconds(u64),
}

fn min_ttl(typed: &str) -> Result<MinTtl, String> {
    if let Some(percent) = typed.strip_suffix('%') {
        return percent.parse().map(MinTtl::Percent).map_err(|_| "a part of the life is a whole number and `%`: `25%`".to_owned());
    }
    let length = read::duration(typed)?;
    if length.as_secs() == 0 { Err("a length of time is at least a second".to_owned()) } else { Ok(MinTtl::Seconds(length.as_secs())) }
}

/// Runs `convpipe auth-refresh`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    match &args.action {
        Some(Action::Status(args)) => return status::run(context, args),
        Some(Action::Request { accounts }) => return request(context, accounts),
        None => {}
    }
    if args.once || args.dry_run { once(context, args) } else { daemon::run(context, args) }
}

/// Does what is due, or says what would be, and ends.
fn once(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = Arc::new(context.config_with(args.overrides())?.config);
    if args.dry_run {
        return dry_run(context, args, &config);
    }
    let changes = watch::channel(Arc::clone(&config)).1;
    let refresh = args.refresh(config, changes, AuthGauges::default(), Health::default());
    let started = clock::now();
    context.block_on(async {
        let shutdown = super::listen()?;
        let accounts = auth_refresh::run(refresh, &shutdown, &mut |told: Told<'_>| tell(context, &told)).await?;
        if context.globals().verbose > 0 {
            let lines = accounts.iter().filter_map(|account| waits(account, started));
            lines.for_each(|line| context.output().note(context.output().text(&line)));
        }
        Ok(shutdown.signal().map_or_else(|| exit_of(&accounts), super::exit::ended_by))
    })
}

impl Args {
    fn refresh(&self, config: Arc<Config>, changes: watch::Receiver<Arc<Config>>, gauges: AuthGauges, health: Health) -> AuthRefresh {
        AuthRefresh {
            config,
            changes,
            accounts: self.accounts.clone(),
            force: self.force,
            once: self.once,
            metrics_file: self.metrics_file.clone(),
            gauges,
            health,
            now: clock::now,
        }
    }
}

impl Daemon for Args {
    const NAME: &'static str = "auth-refresh";

    fn overrides(&self) -> Vec<Override> {
        let mut own: Vec<Override> = super::health::override_of("health.auth_refresh", self.health).into_iter().collect();
        if let Some(value) = &self.auth_dir {
            own.push(Override { key: "auth.dir", flag: "--auth-dir", value: value.clone() });
        }
        if let Some(value) = self.drain_timeout {
            own.push(Override { key: "auth.refresh.drain_timeout_s", flag: "--drain-timeout", value: value.to_string() });
        }
        let (percent, seconds) = match self.min_ttl {
            None => return own,
            Some(MinTtl::Percent(percent)) => (Some(percent), "null".to_owned()),
            Some(MinTtl::Seconds(seconds)) => (None, seconds.to_string()),
        };
        let flag = "--min-ttl";
        own.extend(percent.map(|percent| Override { key: "auth.refresh.min_ttl_percent", flag, value: percent.to_string() }));
        own.push(Override { key: "auth.refresh.min_ttl_s", flag, value: seconds });
        own
    }

    fn listen(&self, config: &Config) -> Listen {
        config.health.auth_refresh
    }

    fn needs(&self, config: &Config) -> Needs {
        let RefreshConfig { concurrency_max, answer_max_bytes, .. } = config.auth.refresh;
        // A program has three pipes; a connection has one socket.
        Needs { files: 3 * concurrency_max as u64, bytes: concurrency_max.saturating_mul(answer_max_bytes) as u64 }
    }

    fn check(&self, loaded: &Loaded) -> Result<(), CommandError> {
        telemetry::check(&loaded.config.log)?;
        auth_refresh::check_providers(&loaded.config)?;
        self.accounts.iter().try_for_each(|account| auth_refresh::check_account(&loaded.config, account))?;
        Ok(())
    }

    fn adopt(running: &Config, new: &Config) -> Config {
        let mut next = daemon::adopt_log(running, new);
        next.auth = AuthConfig { dir: next.auth.dir, ..new.auth.clone() };
        next.accounts = new.accounts.clone();
        next
    }

    fn concerns(key: &str) -> bool {
        let sections = ["auth.", "log.", "health.auth_refresh", "health.stall_s"];
        sections.iter().any(|section| key.starts_with(section)) || key.ends_with(".auth_provider")
    }

    async fn run(&self, _: &Context, config: Arc<Config>, mut life: Life) -> Result<Exit, CommandError> {
        let gauges = AuthGauges::default();
        let _beside = life.show(&Arc::new(gauges.clone()));
        let refresh = self.refresh(config, life.configs, gauges, life.health);
        auth_refresh::run(refresh, &life.shutdown, &mut |told: Told<'_>| log(&told)).await?;
        Ok(Exit::Done)
    }
}

fn exit_of(accounts: &[AccountStatus]) -> Exit {
    match worst(accounts) {
        None => Exit::Done,
        Some(Fault::Refused) => Exit::AuthRefused,
        Some(Fault::Config) => Exit::Config,
        Some(Fault::BadAnswer) => Exit::BadData,
        Some(Fault::Unavailable) => Exit::Unavailable,
        Some(Fault::Local) => Exit::TryLater,
    }
}

fn dry_run(context: &Context, args: &Args, config: &Arc<Config>) -> Result<Exit, CommandError> {
    let accounts = auth_refresh::survey(config, args.accounts.clone(), clock::now)?;
    let now = clock::now();
    let output = context.output();
    let mut table = output.table(&["account", "provider", "reason"]);
    for account in &accounts {
        let is_due = account.refresh_at.is_some_and(|at| at <= now);
        let reason = if args.force { Some(Why::Forced.name()) } else { account.reason.filter(|_| is_due) };
        if let (Some(provider), Some(reason)) = (&account.provider, reason) {
            table.row(&[&account.account_id, provider, reason]);
        }
    }
    if table.is_empty() {
        output.note("nobody would be asked now");
    } else {
        output.print(&table)?;
    }
    Ok(Exit::Done)
}

fn request(context: &Context, accounts: &[String]) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let store = ArtifactStore::new(&config.auth.dir);
    for account in accounts {
        auth_refresh::check_account(config, account)?;
        store.request(account, RequestReason::Asked, None, clock::now())?;
    }
    Ok(Exit::Done)
}

/// What a run of cron tells: what went wrong, and with -v everything.
fn tell(context: &Context, told: &Told<'_>) {
    let output = context.output();
    let is_verbose = context.globals().verbose > 0;
    let say = |line: String| output.note(output.text(&line));
    match told {
        Told::Started(accounts) if is_verbose => say(format!("accounts with a provider: {accounts}")),
        Told::Asking(account, why) if is_verbose => say(format!("{account}: asking ({})", why.name())),
        Told::Started(_) | Told::Asking(..) => {}
        Told::Ended(ended) => {
            let is_fine = matches!(ended.outcome, Outcome::Renewed { .. } | Outcome::Unchanged);
            if is_verbose || !is_fine {
                ended.said.iter().for_each(|line| say(format!("{}: {} says: {line}", ended.account, ended.provider)));
                say(format!("{}: {}", ended.account, words(ended)));
            }
        }
        Told::Stands(account) => say(format!("{}: {}", account.account_id, stands(account))),
        Told::Stopping(accounts) => say(stopping(accounts)),
        Told::Folder(error) => say(format!("warning: {error}")),
        Told::Metrics(error) => say(format!("warning: the metrics cannot be written: {error}")),
    }
}

/// What a daemon logs.
fn log(told: &Told<'_>) {
    match told {
        Told::Started(accounts) => tracing::info!(accounts, "auth-refresh looks after accounts"),
        Told::Asking(account, why) => tracing::debug!(account, reason = why.name(), "asking for an artifact"),
        Told::Ended(ended) => {
            let (account, provider) = (&ended.account, &ended.provider);
            let is_fine = matches!(ended.outcome, Outcome::Renewed { .. } | Outcome::Unchanged);
            for line in &ended.said {
                if is_fine {
                    tracing::debug!(account, provider, ?line, "a provider says");
                } else {
                    tracing::warn!(account, provider, ?line, "a provider says");
                }
            }
            let (reason, what) = (ended.why.name(), words(ended));
            match &ended.outcome {
                Outcome::Renewed { generation, .. } => tracing::info!(account, provider, reason, generation, "{what}"),
                Outcome::Unchanged => tracing::debug!(account, provider, reason, "{what}"),
                Outcome::Needs(status) => tracing::error!(account, provider, reason, status = status.name(), "{what}"),
                Outcome::Failed { .. } => tracing::warn!(account, provider, reason, "{what}"),
            }
        }
        Told::Stands(account) => {
            tracing::error!(account = account.account_id, status = account.status.name(), "{}", stands(account));
        }
        Told::Stopping(accounts) => tracing::info!("{}", stopping(accounts)),
        Told::Folder(error) => tracing::warn!(%error, "the artifacts cannot be looked at; they stay as they are"),
        Told::Metrics(error) => tracing::warn!(%error, "the metrics cannot be written"),
    }
}

/// That an account waits after a failure of an earlier run, which is why this one ends as it does.
fn waits(account: &AccountStatus, started: Millis) -> Option<String> {
    let (error, next) = (account.error.as_ref()?, account.refresh_at?);
    let is_old = account.failures > 0 && account.attempted_at.is_some_and(|at| at < started);
    is_old.then(|| format!("{}: waits until {} UTC after a failure: {error}; --force asks at once", account.account_id, utc(next)))
}

/// What came of an attempt, in a sentence.
fn words(ended: &Ended) -> String {
    match &ended.outcome {
        Outcome::Renewed { generation, expires_at } => {
            let ends = expires_at.map_or_else(String::new, |end| format!(", which ends at {end}"));
            format!("has a new artifact, generation {generation}{ends}")
        }
        Outcome::Unchanged => "the provider has no newer artifact yet".to_owned(),
        Outcome::Needs(status) => needs(Standing::from(*status)).to_owned(),
        Outcome::Failed { error, retry_at, .. } => {
            let now = clock::now();
            format!("no new artifact from {}: {error}; next attempt {} ({} UTC)", ended.provider, ago(now.since(*retry_at)), utc(*retry_at))
        }
    }
}

fn stopping(accounts: &BTreeSet<String>) -> String {
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    format!("stopping: waiting for the providers of {}; a second signal ends at once", names.join(", "))
}

fn stands(account: &AccountStatus) -> String {
    match (&account.status, &account.error) {
        (Standing::Blocked, Some(error)) => format!("{error}; or replace it with --force"),
        (status, _) => needs(*status).to_owned(),
    }
}

/// What a person has to do.
const fn needs(standing: Standing) -> &'static str {
    match standing {
        Standing::NeedsOtp => {
            "needs_otp: the account's owner has to enter a one-time code; then `convpipe auth-refresh request` or --force"
        }
        Standing::NeedsFaceCheck => {
            "needs_face_check: the account's owner has to pass a face check; then `convpipe auth-refresh request` or --force"
        }
        Standing::Rejected => {
            "rejected: the platform refuses the account's sessions; find out why, then `convpipe auth-refresh request` or --force"
        }
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_a_part_or_a_length() {
        for (typed, expected) in [
            ("25%", Some(MinTtl::Percent(25))),
            ("6h", Some(MinTtl::Seconds(21_600))),
            ("90s", Some(MinTtl::Seconds(90))),
            ("25", None),
            ("%", None),
            ("2.5%", None),
            ("500ms", None),
        ] {
            assert_eq!(min_ttl(typed).ok(), expected, "{typed:?}");
        }
    }
}
