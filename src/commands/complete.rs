//! `convpipe complete`: the account and fan ids that could stand at the cursor, for the scripts of [`super::completions`].
//!
//! Invariants: what stands at the cursor is read off the definition of the command line itself; whatever goes wrong, the answer is empty and
//! quick, and the shell completes as it would without.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;

use super::{Cli, CommandError, Context, Exit};
use crate::auth::is_account;
use crate::config::Config;
use crate::schema::time::Millis;
use crate::views::{Reader, ViewsError};

/// Print the ids that complete a command line
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The words of the line up to the cursor, the program's name first and the word at the cursor last
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<String>,
}

/// How long Redis may take, the connection included: longer than that and a person takes the shell for stuck.
const REDIS_MAX: Duration = Duration::from_millis(300);
/// Ids that are offered, the latest first.
const IDS_MAX: usize = 200;
/// Accounts whose fans are asked for where none was typed.
const ACCOUNTS_MAX: usize = 20;

/// Runs `convpipe complete`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let Some(wanted) = Wanted::at_the_end_of(&args.words) else { return Ok(Exit::Done) };
    let loaded = match &wanted.config {
        Some(file) => context.config_from(file, Vec::new()).ok(),
        None => context.config_with(Vec::new()).ok(),
    };
    let Some(config) = loaded.map(|loaded| loaded.config) else { return Ok(Exit::Done) };
    ids(context, &config, &wanted).iter().try_for_each(|id| context.output().line(context.output().text(id)))?;
    Ok(Exit::Done)
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    what: What,
    /// The config that the line names.
    config: Option<PathBuf>,
    /// The accounts that the line names.
    accounts: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Account,
    Fan,
}

impl Wanted {
    /// What the last of the words is the beginning of; `None` where it is no id.
    fn at_the_end_of(words: &[String]) -> Option<Self> {
        let (last, typed) = words.split_last()?;
        let mut root = Cli::command();
        root.build();
        let (mut command, mut positionals, mut option) = (&root, 0, None::<&clap::Arg>);
        let (mut config, mut accounts) = (None, Vec::new());
        for word in typed.iter().skip(1) {
            let value = match option.take() {
                Some(of) => Some((of, word.as_str())),
                None if word.starts_with('-') => {
                    let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
                    let named = command.get_arguments().find(|arg| is_named(arg, name)).filter(|arg| arg.get_action().takes_values());
                    option = named.filter(|_| value.is_none());
                    named.zip(value)
                }
                None => {
                    match command.find_subcommand(word) {
                        Some(child) if positionals == 0 => command = child,
                        _ => positionals += 1,
                    }
                    None
                }
            };
            match value {
                Some((of, value)) if of.get_id() == "config" => config = Some(PathBuf::from(value)),
                Some((of, value)) if what(of) == Some(What::Account) => accounts.push(value.to_owned()),
                _ => {}
            }
        }
        let is_option = last.starts_with('-');
        // The last one may stand several times.
        let is_many = |arg: &&clap::Arg| matches!(arg.get_action(), clap::ArgAction::Append);
        let positional = || command.get_positionals().nth(positionals).or_else(|| command.get_positionals().last().filter(is_many));
        let arg = option.or_else(|| if is_option { None } else { positional() })?;
        Some(Self { what: what(arg)?, config, accounts })
    }
}

fn is_named(arg: &clap::Arg, typed: &str) -> bool {
    match typed.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        // Of short ones that stand together the last may have a value.
        None => arg.get_short().is_some_and(|short| typed.ends_with(short)),
    }
}

/// Which ids are values of an argument.
fn what(arg: &clap::Arg) -> Option<What> {
    match arg.get_id().as_str() {
        "fan" => Some(What::Fan),
        "accounts" => Some(What::Account),
        _ => None,
    }
}

fn ids(context: &Context, config: &Config, wanted: &Wanted) -> Vec<String> {
    let accounts = accounts_of(&config.auth.dir);
    match wanted.what {
        What::Account if accounts.is_empty() => of_redis(context, config, async |reader| Ok(names(reader.accounts().await?))),
        What::Account => accounts.into_iter().take(IDS_MAX).collect(),
        What::Fan => of_redis(context, config, async |reader| {
            let accounts = match &wanted.accounts[..] {
                [] => names(reader.accounts().await?),
                typed => typed.to_vec(),
            };
            let mut fans = Vec::new();
            for account in accounts.iter().take(ACCOUNTS_MAX) {
                fans.extend(reader.inbox(account, 0, IDS_MAX).await?);
            }
            Ok(latest(fans))
        }),
    }
}

/// The accounts that have an artifact; none of them is read.
fn accounts_of(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".json").filter(|account| is_account(account)).map(str::to_owned)).collect()
}

fn names(found: Vec<(String, Millis)>) -> Vec<String> {
    found.into_iter().map(|(name, _)| name).take(IDS_MAX).collect()
}

/// The ids without doubles, the latest first.
fn latest(mut found: Vec<(String, Millis)>) -> Vec<String> {
    found.sort_by(|(a, at), (b, bt)| bt.cmp(at).then_with(|| a.cmp(b)));
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|(id, _)| seen.insert(id.clone())).map(|(id, _)| id).take(IDS_MAX).collect()
}

/// What Redis says in time; else nothing.
fn of_redis(context: &Context, config: &Config, ask: impl AsyncFnOnce(&Reader) -> Result<Vec<String>, ViewsError>) -> Vec<String> {
    let asked = context.block_on(async {
        let answer = tokio::time::timeout(REDIS_MAX, async {
            let reader = Reader::connect(&config.redis).await?;
            ask(&reader).await
        });
        Ok(answer.await.ok().and_then(Result::ok).unwrap_or_default())
    });
    asked.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_the_cursor_is_read_off_the_command_line() {
        let check = |line: &str, what: Option<What>, accounts: &[&str], config: Option<&str>| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let accounts = accounts.iter().map(|&account| account.to_owned()).collect();
            let expected = what.map(|what| Wanted { what, config: config.map(PathBuf::from), accounts });
            assert_eq!(Wanted::at_the_end_of(&words), expected, "{line:?}");
        };
        let (account, fan) = (Some(What::Account), Some(What::Fan));
        check("convpipe inspect-fan ", fan, &[], None);
        check("convpipe inspect-fan 10", fan, &[], None);
        check("convpipe -v --config c.yaml inspect-fan --last 5 --account 2 1", fan, &["2"], Some("c.yaml"));
        check("convpipe inspect-fan --account=2 --config=c 1", fan, &["2"], Some("c"));
        check("convpipe inspect-fan -o json ", fan, &[], None);
        check("convpipe inspect-fan 100000001 ", None, &[], None);
        check("convpipe inspect-fan --l", None, &[], None);
        check("convpipe inspect-fan --explain ", None, &[], None);
        check("convpipe tail-priority --account ", account, &[], None);
        check("convpipe tail-priority --account 2 --account 2", account, &["2"], None);
        check("convpipe tail-priority ", None, &[], None);
        check("convpipe reconcile --account ", account, &[], None);
        check("convpipe auth-refresh request ", account, &[], None);
        check("convpipe auth-refresh request 1 2", account, &[], None);
        check("convpipe ", None, &[], None);
        check("convpipe inspect-fanx ", None, &[], None);
        assert_eq!(Wanted::at_the_end_of(&[]), None);
    }

    #[test]
    fn a_fan_of_two_accounts_is_offered_once() {
        let fans = [("b", 5), ("a", 9), ("b", 7), ("c", 7)].map(|(id, at)| (id.to_owned(), Millis(at)));
        assert_eq!(latest(fans.to_vec()), ["a", "b", "c"]);
    }

    #[test]
    fn only_artifacts_are_accounts() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["200000002.json", "200000001.json", "notes.txt", ".json", "a b.json"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(Vec::from_iter(accounts_of(dir.path())), ["200000001", "200000002"]);
        assert!(accounts_of(&dir.path().join("none")).is_empty());
    }
}
