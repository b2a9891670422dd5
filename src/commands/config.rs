//! `convpipe config`: check, print, default.

use clap::Subcommand;

use super::{CommandError, Context, Exit};
use crate::config::{default_file, render};

/// Check, print or write the config
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Load the config as every command does, and name everything that is wrong
    ///
    /// Exits 0 where nothing is, else 78.
    Check,
    /// Print the config that holds here, as YAML
    #[command(after_help = "\
Examples:
  convpipe config print --origin | grep -v '# default'   only what somebody set
  CONVPIPE_REDIS_TIMEOUT_MS=500 convpipe config print")]
    Print {
        /// Say behind each value where it comes from: a line of the file, a variable, a flag, or the default
        #[arg(long)]
        origin: bool,
    },
    /// Print a config file with every key, its text and its default
    #[command(after_help = "\
Examples:
  convpipe config default > convpipe.yaml")]
    Default,
}

/// Runs `convpipe config`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let output = context.output();
    match &args.action {
        Action::Check => {
            let loaded = context.config()?;
            match &loaded.file {
                Some(file) => output.line(format_args!("{}: the config is valid", output.text(&file.to_string_lossy())))?,
                None => output.line("no config file; the defaults and the environment are valid")?,
            }
        }
        Action::Print { origin } => {
            let rendered = render(context.config()?, *origin);
            rendered.lines().try_for_each(|line| output.line(output.text(line)))?;
        }
        Action::Default => output.bytes(default_file().as_bytes())?,
    }
    Ok(Exit::Done)
}
