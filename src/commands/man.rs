//! `convpipe man`: the man pages, for packagers. The repository keeps them in `man/`.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, CommandError, Context, Exit};

/// Write the man pages
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write them to; it is created
    folder: PathBuf,
}

/// Runs `convpipe man`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let folder = &args.folder;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    std::fs::create_dir_all(folder).and_then(|()| write(root, folder)).map_err(|error| {
        CommandError::new(Exit::TryLater, format!("cannot write the man pages to {}", folder.display())).caused_by(&error)
    })?;
    context.output().note(format_args!("wrote the man pages to {}", context.output().text(&folder.to_string_lossy())));
    Ok(Exit::Done)
}

/// A page for a command and for each that stands under it, all of one manual.
fn write(command: clap::Command, folder: &Path) -> io::Result<()> {
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        write(child.clone(), folder)?;
    }
    Man::new(command).source(concat!("convpipe ", env!("CARGO_PKG_VERSION"))).manual("convpipe manual").generate_to(folder)?;
    Ok(())
}
