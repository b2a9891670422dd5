//! `convpipe completions`: a script that completes commands and flags.

use clap::CommandFactory;

use super::{Cli, CommandError, Context, Exit};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(convpipe completions bash)
  convpipe completions zsh > ~/.zfunc/_convpipe
  convpipe completions fish > ~/.config/fish/completions/convpipe.fish")]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Runs `convpipe completions`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "convpipe", &mut script);
    context.output().bytes(&script)?;
    Ok(Exit::Done)
}
