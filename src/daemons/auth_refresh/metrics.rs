//! The textfile for Prometheus' node exporter: how the accounts stand, and when somebody last looked.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::status::{AccountStatus, Standing};
use crate::schema::time::Millis;

/// Writes the file beside its place, then renames it, so that a reader never sees half of it. Everybody may read it; it holds no secret.
///
/// # Errors
/// Where it cannot be written; the old one stays.
pub(super) fn write(path: &Path, accounts: &[AccountStatus], now: Millis) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // The exporter reads files whose names end in `.prom`, and this one's does not.
    let beside = path.with_file_name(format!(".{name}.{:016x}.tmp", fastrand::u64(..)));
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside).and_then(|mut file| {
        file.write_all(render(accounts, now).as_bytes())?;
        file.sync_all()
    });
    let outcome = written.and_then(|()| fs::rename(&beside, path));
    if outcome.is_err() {
        // Where even that fails, the error that counts is the first one.
        let _ = fs::remove_file(&beside);
    }
    outcome
}

/// The metrics as text. Accounts are plain words, so labels need no escapes.
fn render(accounts: &[AccountStatus], now: Millis) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, help: &str, samples: Vec<(String, String)>| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP convpipe_auth_{name} {help}\n# TYPE convpipe_auth_{name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(out, "convpipe_auth_{name}{labels} {value}");
        }
    };
    let time = |value: fn(&AccountStatus) -> Option<Millis>| {
        let stated = accounts.iter().filter_map(|account| Some((label(account), seconds(value(account)?))));
        stated.collect::<Vec<_>>()
    };
    let number = |value: fn(&AccountStatus) -> Option<u64>| {
        let stated = accounts.iter().filter_map(|account| Some((label(account), value(account)?.to_string())));
        stated.collect::<Vec<_>>()
    };
    metric("last_run_timestamp_seconds", "When auth-refresh last looked at the accounts.", vec![(String::new(), seconds(now))]);
    metric("last_success_timestamp_seconds", "When the account last got a new artifact.", time(|account| account.refreshed_at));
    metric("last_attempt_timestamp_seconds", "When the account's provider was last asked.", time(|account| account.attempted_at));
    metric("expires_timestamp_seconds", "When the account's token ends.", time(|account| account.expires_at));
    metric("generation", "Generation of the account's artifact.", number(|account| account.generation));
    metric("failures", "Failures of the account's provider in a row.", number(|account| Some(u64::from(account.failures))));
    let standings = accounts.iter().flat_map(|account| {
        Standing::ALL.map(|standing| {
            let labels = format!("{{account=\"{}\",status=\"{}\"}}", account.account_id, standing.name());
            (labels, u8::from(account.status == standing).to_string())
        })
    });
    metric("status", "Whether the account stands like this.", standings.collect());
    out
}

fn label(account: &AccountStatus) -> String {
    format!("{{account=\"{}\"}}", account.account_id)
}

fn seconds(at: Millis) -> String {
    format!("{:.3}", at.0 as f64 / 1000.0)
}
