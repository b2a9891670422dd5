//! What changed, printed for a consumer.

use serde::Serialize;

use crate::commands::accounts;
use crate::commands::output::{Output, Table, ago, money};
use crate::commands::read::ListFormat;
use crate::commands::{CommandError, Context, Exit};
use crate::daemons::reconcile::{ChangeError, Changes, Since};
use crate::runtime::clock;
use crate::schema::view::ConversationSnapshot;
use crate::views::Reader;

/// The last line: from where to go on.
#[derive(Debug, Serialize)]
struct End {
    cursor: String,
    conversations: u64,
    reset: bool,
}

/// All of it as one value.
#[derive(Debug, Serialize)]
struct All<'a> {
    snapshots: &'a [ConversationSnapshot],
    #[serde(flatten)]
    end: &'a End,
}

pub(super) fn run(context: &Context, since: Since, accounts: &[String], format: ListFormat) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let output = context.output();
    context.block_on(async {
        let reader = Reader::open(&config.redis)?;
        let unknown = match accounts {
            [] => None,
            typed => accounts::unknown(config, typed, accounts::of_redis(&reader, typed).await?),
        };
        let mut changes = Changes::begin(reader, since, accounts, clock::now()).await?;
        // Without `rev`: it is for programs, and leaves a terminal of 80 columns no room for names.
        let mut table = output.table(&["account", "fan", "name", "unread", "waiting", "spent", "written"]).right(3).right(5);
        let (mut snapshots, mut conversations) = (Vec::new(), 0u64);
        while let Some(page) = changes.next().await.map_err(told)? {
            conversations += page.len() as u64;
            for view in page {
                match format {
                    ListFormat::Jsonl => output.json_line(&view.snapshot)?,
                    ListFormat::Json => snapshots.push(view.snapshot),
                    ListFormat::Table => row(&mut table, &view.snapshot),
                }
            }
        }
        let end = End { cursor: changes.cursor().to_string(), conversations, reset: changes.is_reset() };
        match format {
            ListFormat::Jsonl => output.json_line(&end)?,
            ListFormat::Json => output.json(&All { snapshots: &snapshots, end: &end })?,
            ListFormat::Table => print(output, &table, &end)?,
        }
        // A cursor holds whoever is asked for, so it is given all the same.
        let Some(unknown) = unknown else { return Ok(Exit::Done) };
        output.flush()?;
        output.note(unknown.told());
        Ok(Exit::Finding)
    })
}

fn told(error: ChangeError) -> CommandError {
    match error {
        ChangeError::Views(error) => error.into(),
        ChangeError::Emptied => CommandError::of(Exit::TryLater, &error).hint("call again with the same --since"),
    }
}

fn row(table: &mut Table, snapshot: &ConversationSnapshot) {
    let now = clock::now();
    let name = snapshot.fan.display_name.as_ref().or(snapshot.fan.name.as_ref()).map_or("", |name| name.raw());
    let waiting = snapshot.awaiting_reply_since.map(|since| ago(now.since(since))).unwrap_or_default();
    table.row(&[
        snapshot.account_id.raw(),
        snapshot.conversation_id.raw(),
        name,
        &snapshot.unread.to_string(),
        &waiting,
        &money(snapshot.spend.observed.total),
        &ago(now.since(snapshot.applied_at)),
    ]);
}

fn print(output: &Output, table: &Table, end: &End) -> Result<(), CommandError> {
    if !table.is_empty() {
        output.print(table)?;
        output.flush()?;
    }
    if end.reset {
        output.note("Redis has lost data since the cursor: what you hold and do not see here is void");
    }
    output.note(format!("{} conversations; go on with --since {}", end.conversations, end.cursor));
    Ok(())
}
