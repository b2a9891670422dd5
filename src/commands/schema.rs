//! `convpipe schema`: the JSON Schema of every shape that others may rely on.

use schemars::{Schema, schema_for};

use super::{CommandError, Context, Exit};
use crate::config::Config;
use crate::schema::artifact::Artifact;
use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::event::Event;
use crate::schema::frame::RecordedFrame;
use crate::schema::view::{AccountView, ConversationSnapshot, PriorityEntry};

/// Print the JSON Schema of what convpipe reads and writes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  convpipe schema             the names, and what each is
  convpipe schema event       the schema of an event")]
pub struct Args {
    /// Which one; without a name, all names are listed
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(SCHEMAS.iter().map(|(name, ..)| *name)))]
    name: Option<String>,
}

type Named = (&'static str, &'static str, fn() -> Schema);

const SCHEMAS: [Named; 9] = [
    ("account", "what is known of an account beyond its conversations, in Redis", || schema_for!(AccountView)),
    ("artifact", "session material of an account", || schema_for!(Artifact)),
    ("config", "the config file", || schema_for!(Config)),
    ("conversation", "the snapshot of a conversation, in Redis", || schema_for!(ConversationSnapshot)),
    ("event", "an event, as it lies on the topic", || schema_for!(Event<'_>)),
    ("frame", "a line of a recording", || schema_for!(RecordedFrame<'_>)),
    ("message", "a message of the history, in the documents", || schema_for!(MessageDocument)),
    ("priority", "an entry of the priority feed, in Redis", || schema_for!(PriorityEntry)),
    ("summary", "the summary of a fan, in the documents", || schema_for!(FanSummary)),
];

/// Runs `convpipe schema`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let output = context.output();
    match &args.name {
        Some(name) => {
            for (_, _, schema) in SCHEMAS.iter().filter(|(known, ..)| known == name) {
                output.json(&schema())?;
            }
        }
        None => {
            let mut table = output.table(&["name", "what it is"]);
            SCHEMAS.iter().for_each(|(name, what, _)| table.row(&[name, what]));
            output.print(&table)?;
        }
    }
    Ok(Exit::Done)
}
