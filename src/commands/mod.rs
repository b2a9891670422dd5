//! The command line.
//!
//! Owns: what can be typed, one file a subcommand (args, `run`, rendering), the documented exit codes, what output looks like, and
//! the read grammar that reading commands share. Does not own: any work that a daemon or a test could want without a command line.
//!
//! To add a command: a file with `Args` and `run(&Context, &Args) -> Result<Exit, CommandError>`, a variant of [`Command`], an arm in
//! [`run`]. `UPDATE_GOLDEN=1 cargo test --test it cli::` then brings the recorded help and the man pages up to date.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod accounts;
mod auth_refresh;
mod checkpoint;
mod complete;
mod completions;
mod config;
mod context;
mod daemon;
mod dashboard;
mod dev;
mod doctor;
mod errors;
mod exit;
mod health;
mod ingest;
mod inspect_fan;
mod man;
pub mod output;
mod provision;
pub mod read;
mod reconcile;
mod reload;
mod replay;
mod schema;
mod snapshot;
mod status;
mod streams;
mod tail_priority;

pub use context::{Context, Globals};
pub use exit::{CommandError, Exit};

use crate::runtime::shutdown::{Shutdown, Signal};
use output::ColorChoice;

/// One pipeline from a live-chat WebSocket stream to the current state of every conversation.
#[derive(Debug, Parser)]
#[command(name = "convpipe", version, max_term_width = 100, after_help = AFTER_HELP, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  convpipe dev                              all of it here, to try
  convpipe tail-priority                    who needs an answer, as it happens
  convpipe inspect-fan 100000001            everything about one fan
  convpipe status                           how every daemon is doing
  convpipe config default > convpipe.yaml   a config file to start from
  convpipe config print --origin            what holds here, and who says so
  source <(convpipe completions bash)       completions for this shell

Exit codes: 0 done, 1 a finding, 2 usage, 65 bad data, 69 a backend is down,
75 try later, 77 auth refused, 78 config, 130 and 143 ended by a signal.";

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the live sockets, normalize, publish
    Ingest(ingest::Args),
    /// Fold events into Redis and the documents
    Snapshot(snapshot::Args),
    /// Keep the accounts' artifacts fresh, by asking their providers
    AuthRefresh(auth_refresh::Args),
    /// Serve the inbox as a live web page and as JSON
    Dashboard(dashboard::Args),
    /// Run the whole pipeline here, on a recording
    Dev(dev::Args),
    /// Follow who needs an answer, as it happens
    TailPriority(tail_priority::Args),
    /// Show everything known of one fan
    InspectFan(inspect_fan::Args),
    /// Catch up with what changed, or hold Redis and the documents against each other
    Reconcile(reconcile::Args),
    /// Play recorded frames: into a dry run, onto the bus, or to whoever connects
    Replay(replay::Args),
    /// Show how every daemon and Redis are doing
    Status(status::Args),
    /// Examine config, Redis, bus, documents, artifacts and daemons, and say what to do
    Doctor(doctor::Args),
    /// Make the topics, subscriptions, indexes and policies that the config needs
    Provision(provision::Args),
    /// Check, print or write the config
    Config(config::Args),
    /// Print the JSON Schema of what convpipe reads and writes
    Schema(schema::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the ids that complete a command line
    #[command(hide = true)]
    Complete(complete::Args),
    /// Write the man pages
    #[command(hide = true)]
    Man(man::Args),
}

/// Runs a command.
///
/// # Errors
/// What the command could not do, with its exit code. [`Context::conclude`] tells it.
pub fn run(context: &Context, command: Command) -> Result<Exit, CommandError> {
    crate::runtime::core_dump::forbid();
    match command {
        Command::Ingest(args) => ingest::run(context, &args),
        Command::Snapshot(args) => snapshot::run(context, &args),
        Command::AuthRefresh(args) => auth_refresh::run(context, &args),
        Command::Dashboard(args) => dashboard::run(context, &args),
        Command::Dev(args) => dev::run(context, &args),
        Command::TailPriority(args) => tail_priority::run(context, &args),
        Command::InspectFan(args) => inspect_fan::run(context, &args),
        Command::Reconcile(args) => reconcile::run(context, &args),
        Command::Replay(args) => replay::run(context, &args),
        Command::Status(args) => status::run(context, &args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Provision(args) => provision::run(context, &args),
        Command::Config(args) => config::run(context, &args),
        Command::Schema(args) => schema::run(context, &args),
        Command::Completions(args) => completions::run(context, &args),
        Command::Complete(args) => complete::run(context, &args),
        Command::Man(args) => man::run(context, &args),
    }
}

/// A stop that SIGINT and SIGTERM ask for, for a daemon or a follower.
fn listen() -> Result<Shutdown, CommandError> {
    Shutdown::listen().map_err(|error| CommandError::new(Exit::TryLater, "cannot listen to signals").caused_by(&error))
}

/// That a command was stopped before it was done, with the code of the signal that did it.
fn interrupted(shutdown: &Shutdown, message: &str) -> CommandError {
    let exit = if shutdown.signal() == Some(Signal::Terminate) { Exit::Terminated } else { Exit::Interrupted };
    CommandError::new(exit, message)
}

/// Reads the command line, the program's name included.
///
/// # Errors
/// The exit code, once help, version or what is wrong has been printed.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    let typed: Vec<OsString> = typed.into_iter().collect();
    let parsed = Cli::command().color(color_of_help(&typed)).try_get_matches_from(typed);
    parsed.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        // Help goes to stdout, whose reader may have seen enough.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Done }
    })
}

/// Help and usage errors are printed before `--color` is read, so it is looked for here.
fn color_of_help(typed: &[OsString]) -> clap::ColorChoice {
    let value = typed.iter().enumerate().find_map(|(at, arg)| match arg.to_str()?.strip_prefix("--color")? {
        "" => typed.get(at + 1)?.to_str(),
        rest => rest.strip_prefix('='),
    });
    match value.and_then(|value| <ColorChoice as clap::ValueEnum>::from_str(value, false).ok()) {
        Some(ColorChoice::Always) => clap::ColorChoice::Always,
        Some(ColorChoice::Never) => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap checks its own definition: no two flags of one name, defaults that parse, and the like.
    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_has_the_colours_that_were_asked_for() {
        for (typed, expected) in [
            ("convpipe --color never --help", clap::ColorChoice::Never),
            ("convpipe --help --color=always", clap::ColorChoice::Always),
            ("convpipe --color", clap::ColorChoice::Auto),
            ("convpipe --help", clap::ColorChoice::Auto),
        ] {
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            assert_eq!(color_of_help(&typed), expected, "{typed:?}");
        }
    }
}
