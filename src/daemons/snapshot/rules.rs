//! What may change while the service runs: the policies of all accounts, compiled, what is kept for how long, and how much is written at once.
//!
//! Invariant: a batch is folded by one set of rules from its beginning to its end, also where it is tried again; another set holds for the next one.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{Config, HistoryScope};
use crate::transform::materialize::Keep;
use crate::transform::policy::{CompiledPolicy, PolicyError};

/// What holds at a moment.
#[derive(Debug)]
pub struct Rules {
    /// Who is high-value, which tiers and rules there are.
    pub policies: Policies,
    /// What the documents keep.
    pub(super) keep: Keep,
    /// Most deliveries in one write.
    pub(super) batch_max: usize,
    /// How long a stop may take.
    pub(super) drain_timeout: Duration,
}

impl Rules {
    /// Those that the config says.
    ///
    /// # Errors
    /// Where a rule names an unknown kind or its condition does not compile.
    pub fn new(config: &Config) -> Result<Self, PolicyError> {
        let keep = Keep {
            summary_ttl_ms: super::milliseconds(config.documents.summary_ttl_s),
            message_ttl_ms: super::milliseconds(config.history.ttl_s),
            high_value_only: config.history.scope == HistoryScope::HighValue,
        };
        let drain_timeout = Duration::from_secs(config.snapshot.drain_timeout_s);
        Ok(Self { policies: Policies::new(config)?, keep, batch_max: config.snapshot.batch_max, drain_timeout })
    }
}

/// One policy for all accounts, and one for each that differs.
#[derive(Debug)]
pub struct Policies {
    common: CompiledPolicy,
    accounts: HashMap<String, CompiledPolicy>,
}

impl Policies {
    /// Compiles what the config says.
    ///
    /// # Errors
    /// Where a rule names an unknown kind or its condition does not compile.
    pub fn new(config: &Config) -> Result<Self, PolicyError> {
        let accounts = config.accounts.keys().map(|account| Ok((account.clone(), CompiledPolicy::new(config.policy(account))?)));
        Ok(Self { common: CompiledPolicy::new(config.policy(""))?, accounts: accounts.collect::<Result<_, PolicyError>>()? })
    }

    /// The policy of an account.
    #[must_use]
    pub fn of(&self, account: &str) -> &CompiledPolicy {
        self.accounts.get(account).unwrap_or(&self.common)
    }
}
