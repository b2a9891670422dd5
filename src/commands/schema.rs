//! `convpipe schema`: the JSON Schema of every shape that others may rely on.

use schemars::{Schema, schema_for};

use super::{CommandError, Context, Exit};
use crate::config::Config;
use crate::schema::json_schema;

/// Print the JSON Schema of what convpipe reads and writes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  convpipe schema             the names, and what each is
  convpipe schema event       the schema of an event")]
pub struct Args {
    /// Which one; without a name, all names are listed
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(DESCRIPTIONS.iter().map(|(name, _)| *name)))]
    name: Option<String>,
}

/// What each schema of [`json_schema::NAMES`] is, in words.
const DESCRIPTIONS: [(&str, &str); 11] = [
    ("event", "an event, as it lies on the topic"),
    ("conversation-snapshot", "a conversation, in Redis"),
    ("priority-entry", "an entry of the priority feed, in Redis"),
    ("account-view", "what is known of an account beyond its conversations, in Redis"),
    ("message-document", "a message of the history, in the documents"),
    ("fan-summary", "the summary of a fan, in the documents"),
    ("account-document", "what is known of an account beyond its conversations, in the documents"),
    ("artifact", "session material of an account"),
    ("artifact-request", "what asks for a new artifact of an account"),
    ("recorded-frame", "a line of a recording"),
    (CONFIG, "the config file"),
];

/// The one schema that is not among the shared shapes.
const CONFIG: &str = "config";

fn schema(name: &str) -> Option<Schema> {
    if name == CONFIG { Some(schema_for!(Config)) } else { json_schema::schema(name) }
}

/// Runs `convpipe schema`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let output = context.output();
    match &args.name {
        Some(name) => {
            if let Some(schema) = schema(name) {
                output.json(&schema)?;
            }
        }
        None => {
            let mut table = output.table(&["name", "what it is"]);
            DESCRIPTIONS.iter().for_each(|(name, what)| table.row(&[name, what]));
            output.print(&table)?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_described() {
        let described: Vec<&str> = DESCRIPTIONS.iter().map(|(name, _)| *name).filter(|name| *name != CONFIG).collect();
        assert_eq!(described, json_schema::NAMES);
        assert!(DESCRIPTIONS.iter().all(|(name, _)| schema(name).is_some()));
    }
}
