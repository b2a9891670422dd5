//! Whom to ask: the daemons that the config says where to find, or those that were named.

use crate::config::Config;
use crate::runtime::scrape::Address;
use serde::Serialize;

/// A kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::commands) enum Daemon {
    Ingest,
    Snapshot,
    AuthRefresh,
    Dashboard,
}

impl Daemon {
    /// Its command, and what it calls itself.
    pub(in crate::commands) const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Snapshot => "snapshot",
            Self::AuthRefresh => "auth-refresh",
            Self::Dashboard => "dashboard",
        }
    }

    /// The key that says where it answers.
    pub(in crate::commands) const fn key(self) -> &'static str {
        match self {
            Self::Ingest => "health.ingest",
            Self::Snapshot => "health.snapshot",
            Self::AuthRefresh => "health.auth_refresh",
            Self::Dashboard => "health.dashboard",
        }
    }

    /// Whether no pipeline is whole without it. Artifacts may be renewed by cron or by hand, and not everybody wants a page.
    pub(in crate::commands) const fn is_needed(self) -> bool {
        matches!(self, Self::Ingest | Self::Snapshot)
    }
}

/// One process to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct Target {
    pub(in crate::commands) daemon: Daemon,
    /// `None` where the config has no address that could be asked.
    pub(in crate::commands) address: Option<Address>,
    /// That it is not there is a finding.
    pub(in crate::commands) is_expected: bool,
}

/// Addresses that were named on the command line; they take the place of the config's.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Whom to ask")]
pub(super) struct Named {
    /// Ask the ingest there, instead of health.ingest; once for each of several
    #[arg(long, value_name = "HOST:PORT")]
    ingest: Vec<Address>,
    /// Ask the snapshot there, instead of health.snapshot; once for each of several
    #[arg(long, value_name = "HOST:PORT")]
    snapshot: Vec<Address>,
    /// Ask the auth-refresh there, instead of health.auth_refresh
    #[arg(long, value_name = "HOST:PORT")]
    auth_refresh: Vec<Address>,
    /// Ask the dashboard there, instead of health.dashboard
    #[arg(long, value_name = "HOST:PORT")]
    dashboard: Vec<Address>,
}

/// Whom to ask, in the order of the flow.
pub(super) fn targets(config: &Config, named: &Named) -> Vec<Target> {
    let health = &config.health;
    [
        (Daemon::Ingest, health.ingest, &named.ingest),
        (Daemon::Snapshot, health.snapshot, &named.snapshot),
        (Daemon::AuthRefresh, health.auth_refresh, &named.auth_refresh),
        (Daemon::Dashboard, health.dashboard, &named.dashboard),
    ]
    .into_iter()
    .flat_map(|(daemon, listen, named)| {
        let of_config = || Target {
            daemon,
            // Any free port is one that nobody knows beforehand.
            address: listen.0.filter(|address| address.port() > 0).map(Address::from),
            is_expected: daemon.is_needed(),
        };
        let of_flag = |address: &Address| Target { daemon, address: Some(address.clone()), is_expected: true };
        if named.is_empty() { vec![of_config()] } else { named.iter().map(of_flag).collect() }
    })
    .collect()
}

/// Those of the config.
pub(in crate::commands) fn configured(config: &Config) -> Vec<Target> {
    targets(config, &Named::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    #[test]
    fn what_was_named_takes_the_place_of_the_config() {
        let mut config = Config::default();
        config.health.snapshot = Listen(None);
        config.health.auth_refresh = "127.0.0.1:0".parse().unwrap();
        let named = Named { ingest: vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()], ..Named::default() };
        let told = targets(&config, &named).into_iter().map(|target| {
            let address = target.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            format!("{} {address} {}", target.daemon.name(), target.is_expected)
        });
        let expected = ["ingest a:1 true", "ingest b:2 true", "snapshot - true", "auth-refresh - false", "dashboard 127.0.0.1:7084 false"];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(configured(&config)[0].address.as_ref().unwrap().to_string(), "127.0.0.1:7081");
    }
}
