//! The two stores against each other, and repairs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, stderr, stdin};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Args;
use crate::backends;
use crate::bus::Bus;
use crate::commands::accounts;
use crate::commands::checkpoint::Checkpoint;
use crate::commands::output::{Output, Tone, number};
use crate::commands::read::ListFormat;
use crate::commands::{CommandError, Context, Exit, interrupted};
use crate::config::Config;
use crate::daemons::reconcile::{Check, CheckSettings, Checked, Finding, Position};
use crate::daemons::snapshot::Policies;
use crate::documents::{Access, Documents};
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;
use crate::schema::envelope::Envelope;
use crate::transform::drift::{Class, Drift, Remedy};
use crate::transform::repair::{self, Store};
use crate::views::Reader;

/// Findings that are kept to be printed and repaired; beyond them they are only counted.
const FINDINGS_MAX: usize = 100_000;
/// Repairs published at once.
const BATCH: usize = 500;

/// What the checkpoint says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Noted {
    position: Position,
    checked: Checked,
}

/// A finding as JSON has it: one line each drift.
#[derive(Debug, Serialize)]
struct Row<'a> {
    account_id: &'a str,
    conversation_id: &'a str,
    class: Class,
    store: Store,
    what: &'a [String],
}

/// What a check came to, as JSON has it.
#[derive(Debug, Serialize)]
struct Sum<'a> {
    conversations: u64,
    classes: BTreeMap<&'static str, u64>,
    views_backlog: bool,
    documents_backlog: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<Row<'a>>>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    if args.repair && !args.yes && !(stdin().is_terminal() && stderr().is_terminal()) {
        let message = "--repair writes, and there is nobody to ask";
        return Err(CommandError::new(Exit::Usage, message).hint("add --yes, or look first with --check"));
    }
    let config = &context.config()?.config;
    context.block_on(async {
        let shutdown = crate::commands::listen()?;
        let bus = backends::bus(config).await?;
        let mut walk = Walk::begin(context, args, config, &bus).await?;
        let outcome = walk.run(context, &shutdown).await;
        walk.print(context.output(), args.output)?;
        outcome?;
        if args.repair {
            return walk.repair(context.output(), config, &bus, &shutdown, args.yes).await;
        }
        Ok(if walk.checked.has_drifted() { Exit::Finding } else { Exit::Done })
    })
}

/// A check under way, and what it came to.
struct Walk {
    check: Check,
    checked: Checked,
    findings: Vec<Finding>,
    checkpoint: Option<Checkpoint>,
}

impl Walk {
    async fn begin(context: &Context, args: &Args, config: &Config, bus: &Bus) -> Result<Self, CommandError> {
        let whose = if args.accounts.is_empty() { "all accounts".to_owned() } else { args.accounts.join(", ") };
        let of = format!("reconcile --check of {whose}{}", if args.history { ", with the history" } else { "" });
        let (reader, documents) = (Reader::open(&config.redis)?, backends::documents(config, Access::ReadOnly).await?);
        refuse_unknown(config, &args.accounts, &reader, &documents).await?;
        let checkpoint = args.checkpoint.as_deref().map(|path| Checkpoint::new(path, of));
        let noted: Option<Noted> = checkpoint.as_ref().map(Checkpoint::load).transpose()?.flatten();
        if let Some(noted) = &noted {
            let done = number(noted.checked.conversations);
            context.output().note(format!("going on behind {done} conversations that were checked before"));
        }
        let settings = CheckSettings {
            accounts: args.accounts.clone(),
            settle_ms: i64::try_from(args.settle.as_millis()).unwrap_or(i64::MAX),
            scope: args.samples,
            history: args.history,
        };
        let (position, checked) = noted.map_or((None, Checked::default()), |noted| (Some(noted.position), noted.checked));
        let policies = Arc::new(Policies::new(config)?);
        let check = Check::begin(config, reader, documents, bus, settings, policies, position).await?;
        Ok(Self { check, checked, findings: Vec::new(), checkpoint })
    }

    async fn run(&mut self, context: &Context, shutdown: &Shutdown) -> Result<(), CommandError> {
        let progress = context.output().progress("reconcile", "conversations", Some(self.check.estimate().await?));
        loop {
            let page = tokio::select! {
                biased;
                () = shutdown.requested() => {
                    progress.finish();
                    let hint = if self.checkpoint.is_some() { "run it again to go on" } else { "with --checkpoint FILE the next run goes on here" };
                    return Err(interrupted(shutdown, "interrupted before all was checked").hint(hint));
                }
                page = self.check.next() => page?,
            };
            let Some(page) = page else { break };
            self.checked.conversations += page.conversations;
            for finding in page.findings {
                let worst = finding.drifts.first().map_or(Class::Late, |drift| drift.class);
                *self.checked.classes.entry(worst).or_default() += 1;
                if self.findings.len() < FINDINGS_MAX {
                    self.findings.push(finding);
                }
            }
            progress.advance(page.conversations);
            if let (Some(checkpoint), Some(position)) = (&self.checkpoint, self.check.position()) {
                checkpoint.save(&Noted { position, checked: self.checked.clone() })?;
            }
        }
        progress.finish();
        self.checkpoint.as_ref().map_or(Ok(()), Checkpoint::remove)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.findings.iter().flat_map(|finding| finding.drifts.iter().map(|drift| row(finding, drift)))
    }

    fn print(&self, output: &Output, format: ListFormat) -> Result<(), CommandError> {
        let (views_backlog, documents_backlog) = self.check.backlogs();
        let classes = Class::ALL.map(|class| (class.name(), self.checked.of(class)));
        let sum = |findings| Sum {
            conversations: self.checked.conversations,
            classes: classes.into_iter().collect(),
            views_backlog,
            documents_backlog,
            findings,
        };
        match format {
            ListFormat::Json => output.json(&sum(Some(self.rows().collect())))?,
            ListFormat::Jsonl => {
                self.rows().try_for_each(|row| output.json_line(&row))?;
                output.json_line(&sum(None))?;
            }
            ListFormat::Table if self.findings.is_empty() => {}
            ListFormat::Table => {
                let mut table = output.table(&["account", "conversation", "store", "class", "what"]);
                for row in self.rows() {
                    let tone = if row.class.is_drift() { Tone::Bad } else { Tone::Faint };
                    let (store, what) = (row.store.name(), row.what.join(", "));
                    table.toned([
                        (row.account_id, None),
                        (row.conversation_id, None),
                        (store, None),
                        (row.class.name(), Some(tone)),
                        (what.as_str(), None),
                    ]);
                }
                output.print(&table)?;
            }
        }
        output.flush()?;
        for (waits, consumer) in [(views_backlog, "Redis"), (documents_backlog, "the documents")] {
            if waits {
                output.note(format!("deliveries wait for {consumer}, so what is behind there counts as late"));
            }
        }
        let told: Vec<String> =
            classes.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{} {name}", number(*count))).collect();
        let told = if told.is_empty() { "the stores agree".to_owned() } else { told.join(", ") };
        output.note(format!("{} conversations checked: {told}", number(self.checked.conversations)));
        Ok(())
    }

    /// Asks for what is lost or conflicting to be written anew.
    async fn repair(&self, output: &Output, config: &Config, bus: &Bus, shutdown: &Shutdown, sure: bool) -> Result<Exit, CommandError> {
        let replays = self.findings.iter().filter(|finding| finding.drifts.iter().any(is_for_replay)).count() as u64;
        if replays > 0 {
            let told = "lack messages that no store has whole: replay the recordings of that time (docs/reconcile.md)";
            output.note(format!("{} conversations {told}", number(replays)));
        }
        let left = if replays > 0 { Exit::Finding } else { Exit::Done };
        let repairs: Vec<(&Finding, Store, bool)> = self.findings.iter().flat_map(repairs_of).collect();
        if repairs.is_empty() {
            output.note("nothing to repair");
            return Ok(left);
        }
        if !sure && !confirmed(output, repairs.len(), shutdown).await? {
            output.note("nothing was repaired");
            return Ok(Exit::Finding);
        }
        let publisher = bus.publisher(&config.bus.topic)?;
        for batch in repairs.chunks(BATCH) {
            let now = clock::now();
            let envelopes = batch.iter().map(|(finding, store, carries)| {
                let fold = finding.fold.as_deref().filter(|_| *carries);
                Envelope::of_event(&repair::request(&finding.account, &finding.conversation, *store, fold, now))
            });
            let envelopes: Result<Vec<_>, _> = envelopes.collect();
            let envelopes = envelopes.map_err(|error| CommandError::new(Exit::BadData, "an event does not serialize").caused_by(&error))?;
            publisher.publish(envelopes).await?;
        }
        output.note(format!("{} repairs asked for; the snapshot service writes them, see with --check", number(repairs.len() as u64)));
        Ok(left)
    }
}

fn row<'a>(finding: &'a Finding, drift: &'a Drift) -> Row<'a> {
    Row { account_id: &finding.account, conversation_id: &finding.conversation, class: drift.class, store: drift.store, what: &drift.what }
}

fn is_for_replay(drift: &Drift) -> bool {
    drift.class.is_drift() && drift.remedy == Remedy::Replay
}

/// An account that nobody knows has no drift, and would look as if all were well.
async fn refuse_unknown(config: &Config, typed: &[String], reader: &Reader, documents: &Documents) -> Result<(), CommandError> {
    if typed.is_empty() {
        return Ok(());
    }
    let mut known = accounts::of_redis(reader, typed).await?;
    if accounts::unknown(config, typed, known.iter().cloned()).is_none() {
        return Ok(());
    }
    known.extend(documents.accounts().await?);
    accounts::unknown(config, typed, known).map_or(Ok(()), |unknown| Err(unknown.refused()))
}

/// One repair a store, the documents first: the views may be written from them.
fn repairs_of(finding: &Finding) -> impl Iterator<Item = (&Finding, Store, bool)> {
    let mut stores = BTreeMap::new();
    for drift in finding.drifts.iter().filter(|drift| drift.class.is_drift() && drift.remedy != Remedy::Replay) {
        *stores.entry(drift.store).or_default() |= drift.remedy == Remedy::Carry;
    }
    stores.into_iter().rev().map(move |(store, carries)| (finding, store, carries))
}

/// Whether a person types yes. A signal ends the question.
async fn confirmed(output: &Output, repairs: usize, shutdown: &Shutdown) -> Result<bool, CommandError> {
    output.ask(format!("{} repairs, each writes a conversation anew in one store. Go on? Type yes: ", number(repairs as u64)));
    let (sender, answer) = tokio::sync::oneshot::channel();
    // A read of a terminal cannot be taken back, so it gets a thread that nobody waits for.
    std::thread::spawn(move || {
        let mut typed = String::new();
        // Nobody listens after a signal.
        let _ = sender.send(stdin().read_line(&mut typed).map(|_| typed));
    });
    let typed = tokio::select! {
        biased;
        () = shutdown.requested() => {
            output.note("");
            return Err(interrupted(shutdown, "interrupted: nothing was repaired"));
        }
        answer = answer => answer.unwrap_or_else(|_| Err(io::Error::other("the terminal is gone"))),
    };
    let typed = typed.map_err(|error| CommandError::new(Exit::TryLater, "cannot read the answer").caused_by(&error))?;
    if !typed.ends_with('\n') {
        output.note("");
    }
    Ok(typed.trim() == "yes")
}
