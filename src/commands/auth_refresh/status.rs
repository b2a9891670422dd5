//! `convpipe auth-refresh status`: how the accounts stand.

use std::sync::Arc;

use crate::commands::output::{Tone, ago};
use crate::commands::read::ListFormat;
use crate::commands::{CommandError, Context, Exit};
use crate::daemons::auth_refresh::{self, AccountStatus};
use crate::runtime::clock;
use crate::schema::time::Millis;

/// Show how the accounts stand
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The accounts are those of the config that have a provider, and those of the
artifacts in auth.dir. AGE is the artifact's, ENDS is when its token ends, NEXT
is when the provider is asked next and why. Nobody is asked, nothing is changed;
it may run beside an auth-refresh.

Exit: 0; 1 if there is no such account.

Examples:
  convpipe auth-refresh status
  convpipe auth-refresh status -o jsonl | jq 'select(.status != \"ready\")'")]
pub(super) struct Args {
    /// Only this account; may be given several times
    #[arg(long = "account", value_name = "ID")]
    accounts: Vec<String>,
    /// How to print it
    #[arg(short, long, value_name = "table|json|jsonl", value_enum, default_value = "table", hide_possible_values = true)]
    output: ListFormat,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = Arc::new(context.config()?.config.clone());
    let accounts = auth_refresh::survey(&config, args.accounts.clone(), clock::now)?;
    let output = context.output();
    match args.output {
        ListFormat::Json => output.json(&accounts)?,
        ListFormat::Jsonl => accounts.iter().try_for_each(|account| output.json_line(account))?,
        ListFormat::Table if accounts.is_empty() => output.note("no accounts"),
        ListFormat::Table => print(context, &accounts)?,
    }
    Ok(if accounts.is_empty() { Exit::Finding } else { Exit::Done })
}

fn print(context: &Context, accounts: &[AccountStatus]) -> Result<(), CommandError> {
    let now = clock::now();
    let output = context.output();
    let mut table =
        output.table(&["account", "status", "provider", "generation", "age", "ends", "next", "failures", "last failure"]).right(3).right(7);
    for account in accounts {
        let when = |at: Option<Millis>| at.map_or_else(|| "-".to_owned(), |at| ago(now.since(at)));
        let next = match (account.refresh_at, account.reason) {
            (Some(at), Some(reason)) if at <= now => format!("now ({reason})"),
            (Some(at), Some(reason)) => format!("{} ({reason})", ago(now.since(at))),
            _ => "-".to_owned(),
        };
        let tone = match account.status {
            auth_refresh::Standing::Ready => None,
            status if status.needs_people() => Some(Tone::Bad),
            _ => Some(Tone::Strong),
        };
        let generation = account.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
        let (age, ends, failures) = (when(account.prepared_at), when(account.expires_at), account.failures.to_string());
        table.toned([
            (account.account_id.as_str(), None),
            (account.status.name(), tone),
            (account.provider.as_deref().unwrap_or("-"), None),
            (generation.as_str(), None),
            (age.as_str(), None),
            (ends.as_str(), None),
            (next.as_str(), None),
            (failures.as_str(), None),
            (account.error.as_deref().unwrap_or("-"), None),
        ]);
    }
    output.print(&table)
}
