//! From the config to what the pure code needs.

use std::path::PathBuf;

use super::Config;
use crate::schema::policy::Policy;

/// The keys that name a file with a secret.
pub(super) const SECRET_FILES: [&str; 4] =
    ["dashboard.token_file", "ingest.record.key_file", "redis.password_file", "redis.reader_password_file"];

impl Config {
    /// What holds for one account: what all have, with what `accounts` says of this one.
    #[must_use]
    pub fn policy(&self, account: &str) -> Policy {
        let own = self.accounts.get(account).cloned().unwrap_or_default();
        Policy {
            high_value: own.high_value.unwrap_or_else(|| self.high_value.clone()),
            tiers: own.tiers.map_or_else(|| self.tiers.0.clone(), |tiers| tiers.0),
            rules: own.rules.unwrap_or_else(|| self.priority.rules.clone()),
            due: own.due.unwrap_or_else(|| self.priority.due.clone()),
            freshness_ms: milliseconds(self.snapshot.freshness_s),
            horizon_ms: milliseconds(self.redis.conversation_ttl_s),
        }
    }

    /// Every key that holds a path, with its path in the config: what a file says relatively is relative to the file's folder.
    pub(super) fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let always = [
            ("bus.embedded.dir", &mut self.bus.embedded.dir),
            ("documents.embedded.path", &mut self.documents.embedded.path),
            ("auth.dir", &mut self.auth.dir),
            ("ingest.state_dir", &mut self.ingest.state_dir),
        ];
        let maybe = [
            ("redis.password_file", self.redis.password_file.as_mut()),
            ("redis.reader_password_file", self.redis.reader_password_file.as_mut()),
            ("ingest.ca_file", self.ingest.ca_file.as_mut()),
            ("ingest.record.dir", self.ingest.record.dir.as_mut()),
            ("dashboard.token_file", self.dashboard.token_file.as_mut()),
            ("ingest.record.key_file", self.ingest.record.key_file.as_mut()),
        ];
        always.into_iter().chain(maybe.into_iter().filter_map(|(key, path)| Some((key, path?)))).collect()
    }
}

fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{AccountConfig, Tiers};
    use crate::schema::policy::{DuePolicy, HighValuePolicy, Tier};

    #[test]
    fn an_account_differs_only_in_what_it_says() {
        let mut config = Config::default();
        assert_eq!(config.policy("1"), Policy::default());
        let tiers = vec![Tier { name: "everybody".into(), spend_min: 0 }];
        let due = DuePolicy { awaiting_s: vec![60], ..DuePolicy::default() };
        let own = AccountConfig { tiers: Some(Tiers(tiers.clone())), due: Some(due.clone()), ..AccountConfig::default() };
        config.accounts.insert("1".into(), own);
        config.high_value = HighValuePolicy { spend_min: Some(7), ..HighValuePolicy::default() };
        config.snapshot.freshness_s = 5;
        config.redis.conversation_ttl_s = u64::MAX;
        let policy = config.policy("1");
        assert_eq!((policy.tiers, policy.due, policy.high_value.spend_min), (tiers, due, Some(7)));
        assert_eq!((policy.freshness_ms, policy.horizon_ms), (5_000, i64::MAX));
        assert_eq!(config.policy("2").tiers, Policy::default().tiers);
    }

    /// A new path has to be added above, else it would be relative to the wrong folder. Names tell: they end in `dir`, `path` or `file`.
    #[test]
    fn every_path_is_resolved() {
        let mut config = Config::default();
        config.redis.password_file = Some("a".into());
        config.redis.reader_password_file = Some("b".into());
        config.ingest.ca_file = Some("c".into());
        config.ingest.record.dir = Some("d".into());
        config.ingest.record.key_file = Some("e".into());
        config.dashboard.token_file = Some("g".into());
        let resolved: BTreeSet<String> = config.paths_mut().into_iter().map(|(key, _)| key.to_owned()).collect();
        let is_path = |leaf: &&String| ["dir", "path", "file"].iter().any(|end| leaf.rsplit(['.', '_']).next() == Some(end));
        let named: BTreeSet<String> = crate::config::environment_names().values().filter(is_path).cloned().collect();
        assert_eq!(resolved, named);
        let secrets: BTreeSet<&str> = named.iter().map(String::as_str).filter(|key| key.ends_with("_file")).collect();
        let public = "ingest.ca_file";
        assert_eq!(
            secrets,
            SECRET_FILES.into_iter().chain([public]).collect(),
            "a key that ends in `_file` names a secret, but for this one"
        );
    }
}
