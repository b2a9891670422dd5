//! Accounts that are named on the command line and that nobody knows: a typing mistake must not look like an account where all is well.

use std::collections::BTreeSet;

use super::output::term_safe;
use super::{CommandError, Exit};
use crate::auth::ArtifactStore;
use crate::config::Config;
use crate::views::{Reader, ViewsError};

/// Accounts that are named where nobody can be meant; of more it is only said how many there are.
const NAMED_MAX: usize = 5;

/// Of the accounts that were typed, those that neither a store knows, which `known` are, nor the config, nor an artifact; `None` where all are known.
pub(super) fn unknown(config: &Config, typed: &[String], known: impl IntoIterator<Item = String>) -> Option<Unknown> {
    if typed.is_empty() {
        return None;
    }
    let known: BTreeSet<String> = known.into_iter().chain(config.accounts.keys().cloned()).collect();
    let artifacts = ArtifactStore::new(&config.auth.dir);
    let typed: Vec<String> = typed.iter().filter(|account| !known.contains(*account) && !artifacts.has(account)).cloned().collect();
    (!typed.is_empty()).then_some(Unknown { typed, known })
}

/// The accounts that Redis lists, and of those that were typed the ones that it knows though they have been inactive for too long to be listed.
///
/// # Errors
/// What Redis fails with.
pub(super) async fn of_redis(reader: &Reader, typed: &[String]) -> Result<Vec<String>, ViewsError> {
    let mut known: Vec<String> = reader.accounts().await?.into_iter().map(|(account, _)| account).collect();
    for account in typed {
        if !known.contains(account) && !reader.inbox(account, 0, 1).await?.is_empty() {
            known.push(account.clone());
        }
    }
    Ok(known)
}

/// That nobody knows them.
pub(super) struct Unknown {
    typed: Vec<String>,
    known: BTreeSet<String>,
}

impl Unknown {
    /// In one safe line, as a finding.
    pub(super) fn told(&self) -> String {
        let plural = if self.typed.len() == 1 { "" } else { "s" };
        term_safe(&format!("no account{plural} {} known here{}", self.typed.join(", "), self.instead())).into_owned()
    }

    /// As the end of a command that does nothing about it.
    pub(super) fn refused(&self) -> CommandError {
        CommandError::new(Exit::Finding, self.told())
    }

    /// Which there are, the one that may be meant first.
    fn instead(&self) -> String {
        if self.known.is_empty() {
            return "; there are none yet".to_owned();
        }
        let listed: Vec<&str> = self.known.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = self.known.len() - listed.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let near = match &self.typed[..] {
            [typed] => self.nearest(typed).map(|near| format!("; did you mean {near}?")),
            _ => None,
        };
        format!("{} known: {}{more}", near.unwrap_or_else(|| ";".to_owned()), listed.join(", "))
    }

    fn nearest(&self, typed: &str) -> Option<&str> {
        let near = self.known.iter().map(|known| (strsim::damerau_levenshtein(typed, known), known)).min()?;
        (near.0 <= 2.max(typed.len() / 4)).then_some(near.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_what_there_is() {
        let mut config = Config::default();
        config.auth.dir = "/nowhere".into();
        for (typed, known, expected) in [
            (&[][..], &["1"][..], None),
            (&["1"], &["1", "2"], None),
            (&["7"], &[], Some("no account 7 known here; there are none yet")),
            (&["200000010"], &["200000001"], Some("no account 200000010 known here; did you mean 200000001? known: 200000001")),
            (&["x", "1", "\u{1b}[2J"], &["1"], Some("no accounts x, \\u{1b}[2J known here; known: 1")),
            (&["abcdefgh"], &["1", "2", "3", "4", "5", "6"], Some("no account abcdefgh known here; known: 1, 2, 3, 4, 5 and 1 more")),
        ] {
            let typed: Vec<String> = typed.iter().map(|&typed| typed.to_owned()).collect();
            let told = unknown(&config, &typed, known.iter().map(|&known| known.to_owned())).map(|unknown| unknown.told());
            assert_eq!(told.as_deref(), expected, "{typed:?}");
        }
        config.accounts.insert("9".to_owned(), Default::default());
        assert!(unknown(&config, &["9".to_owned()], []).is_none(), "the config knows it");
    }
}
