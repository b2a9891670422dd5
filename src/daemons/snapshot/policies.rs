//! The policies of all accounts, compiled at start.

use std::collections::HashMap;

use crate::config::Config;
use crate::transform::policy::{CompiledPolicy, PolicyError};

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
