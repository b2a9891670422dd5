//! What types cannot say: bounds, and how values have to fit together.

use std::collections::BTreeSet;

use serde_yaml::Value;
use url::Url;

use super::auth;
use super::dashboard;
use super::known::join;
use super::trace;
use super::{BusBackend, Config, DocumentsBackend, RedisConfig, Tiers};
use crate::schema::event::EventKind;
use crate::schema::policy::{DuePolicy, HighValuePolicy, PriorityRule};

/// A value that cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// The key that it is about, and what has to hold.
    pub(super) told: (String, String),
    /// The same, said of the other key that has to fit: for where that is the one that somebody set.
    pub(super) other: Option<(String, String)>,
}

/// Everything that is wrong with the values.
pub(super) fn violations(config: &Config) -> Vec<Violation> {
    let mut found = Found::default();
    found.units(&serde_yaml::to_value(config).unwrap_or_default(), "");
    found.bus(config);
    found.firestore(config);
    found.redis(config);
    found.sockets(config);
    found.at_least(
        ("auth.refresh.backoff_max_ms", config.auth.refresh.backoff_max_ms),
        ("auth.refresh.backoff_min_ms", config.auth.refresh.backoff_min_ms),
    );
    auth::violations(config).iter().for_each(|(key, message)| found.require(false, key, message));
    dashboard::violations(&config.dashboard).iter().for_each(|(key, message)| found.require(false, key, message));
    trace::violations(&config.trace).iter().for_each(|(key, message)| found.require(false, key, message));
    found.snapshot(config);
    found.tiers("tiers", &config.tiers);
    found.high_value("high_value", &config.high_value);
    found.rules("priority.rules", &config.priority.rules);
    found.due("priority.due", &config.priority.due);
    for (account, own) in &config.accounts {
        let path = join("accounts", account);
        found.require(is_id(account), &path, "an account id is 1 to 200 characters without control characters");
        own.tiers.iter().for_each(|tiers| found.tiers(&format!("{path}.tiers"), tiers));
        own.high_value.iter().for_each(|policy| found.high_value(&format!("{path}.high_value"), policy));
        own.rules.iter().for_each(|rules| found.rules(&format!("{path}.rules"), rules));
        own.due.iter().for_each(|due| found.due(&format!("{path}.due"), due));
    }
    found.require(!config.log.filter.trim().is_empty(), "log.filter", "is empty; `off` is a filter that logs nothing");
    if let Some(word) = no_level(&config.log.filter) {
        let message = format!(
            "{word:?} is no level (off, error, warn, info, debug, trace); a part of the program wants one, as in `info,{word}=debug`"
        );
        found.require(false, "log.filter", &message);
    }
    found.0
}

/// Keys for which zero means something: at once, or never.
const ZERO_IS_FINE: [&str; 10] = [
    "bus.google.publish_linger_ms",
    "ingest.start_spread_ms",
    "documents.linger_ms",
    "documents.firestore.summary_interval_ms",
    "ingest.drain_timeout_s",
    "snapshot.drain_timeout_s",
    "auth.refresh.drain_timeout_s",
    "dashboard.drain_timeout_s",
    "log.repeat_max",
    "priority.due.subscription_expiring_s",
];
/// A day; longer waits are mistakes of unit.
const MS_MAX: u64 = 86_400_000;
/// Ten years; far from where arithmetic on times would overflow.
const S_MAX: u64 = 10 * 366 * 86_400;

#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn require(&mut self, holds: bool, key: &str, message: &str) {
        if !holds {
            self.0.push(Violation { told: (key.to_owned(), message.to_owned()), other: None });
        }
    }

    /// `key` has to be at least `least`.
    fn at_least<T: PartialOrd + std::fmt::Display>(&mut self, (key, value): (&str, T), (least, bound): (&str, T)) {
        if value < bound {
            let told = (key.to_owned(), format!("is {value}, has to be at least {least}, which is {bound}"));
            let other = (least.to_owned(), format!("is {bound}, has to be at most {key}, which is {value}"));
            self.0.push(Violation { told, other: Some(other) });
        }
    }

    /// What the unit at the end of a name says of its number.
    fn units(&mut self, value: &Value, path: &str) {
        match value {
            Value::Mapping(section) => {
                section
                    .iter()
                    .filter_map(|(key, value)| Some((key.as_str()?, value)))
                    .for_each(|(key, value)| self.units(value, &join(path, key)));
            }
            Value::Number(number) => {
                let max = match path.rsplit(['_', '.']).next() {
                    Some("ms") => MS_MAX,
                    Some("s") => S_MAX,
                    Some("max" | "bytes") => u64::MAX,
                    _ => return,
                };
                let min = u64::from(!ZERO_IS_FINE.contains(&path) && !path.ends_with(".due.subscription_expiring_s"));
                match number.as_u64() {
                    Some(number) if number < min => self.require(false, path, "cannot be 0"),
                    Some(number) if number > max => self.require(false, path, &format!("is {number}, cannot be more than {max}")),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn bus(&mut self, config: &Config) {
        let bus = &config.bus;
        let names = [
            ("bus.topic", &bus.topic),
            ("bus.quarantine_topic", &bus.quarantine_topic),
            ("bus.views_subscription", &bus.views_subscription),
            ("bus.documents_subscription", &bus.documents_subscription),
        ];
        for (key, name) in names {
            self.name(key, name);
        }
        self.require(bus.topic != bus.quarantine_topic, "bus.quarantine_topic", "is the same as bus.topic");
        self.require(
            bus.views_subscription != bus.documents_subscription,
            "bus.documents_subscription",
            "is the same as bus.views_subscription; each would see half of the events",
        );
        self.at_least(("bus.embedded.in_flight_max", bus.embedded.in_flight_max), ("snapshot.batch_max", config.snapshot.batch_max));
        self.google(config);
    }

    /// The service's own limits, told before it tells them itself.
    fn google(&mut self, config: &Config) {
        let (bus, google) = (&config.bus, &config.bus.google);
        let is_google = bus.backend == BusBackend::Google;
        self.require(!is_google || google.project.is_some(), "bus.google.project", "is needed where bus.backend is google");
        let is_project = google.project.as_ref().is_none_or(|project| {
            (1..=100).contains(&project.len()) && project.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
        });
        self.require(is_project, "bus.google.project", "is no project id: letters, digits and `-`");
        let is_endpoint = google.endpoint.as_ref().is_none_or(|endpoint| {
            Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host() && url.username().is_empty())
        });
        self.require(is_endpoint, "bus.google.endpoint", "is a URL such as https://europe-west1-pubsub.googleapis.com");
        let is_emulator = google.emulator.as_ref().is_none_or(|emulator| {
            let port = emulator.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
        });
        self.require(is_emulator, "bus.google.emulator", "is host:port, such as 127.0.0.1:8085");
        let names = [&bus.topic, &bus.quarantine_topic, &bus.views_subscription, &bus.documents_subscription, &google.dead_letter_topic];
        let reserved = is_google.then(|| names.into_iter().find(|name| name.starts_with("goog"))).flatten();
        self.require(reserved.is_none(), "bus", "a name cannot begin with goog where bus.backend is google");
        self.name("bus.google.dead_letter_topic", &google.dead_letter_topic);
        let is_other = ![&bus.topic, &bus.quarantine_topic].contains(&&google.dead_letter_topic);
        self.require(is_other, "bus.google.dead_letter_topic", "is a topic of its own, neither bus.topic nor bus.quarantine_topic");
        for (key, value, min, max) in [
            ("publish_batch_max", u64::from(google.publish_batch_max), 1, 1_000),
            ("publish_batch_bytes_max", u64::from(google.publish_batch_bytes_max), 1, 10_000_000),
            ("streams", google.streams as u64, 1, 64),
            ("lease_s", google.lease_s, 10, 600),
            ("retention_s", google.retention_s, 600, 31 * 86_400),
            ("dead_letter_attempts_max", u64::from(google.dead_letter_attempts_max), 5, 100),
        ] {
            self.require((min..=max).contains(&value), &format!("bus.google.{key}"), &format!("is {min} to {max}"));
        }
        let (attempts, backstop) = (google.attempts_max, google.dead_letter_attempts_max);
        self.at_least(("bus.google.dead_letter_attempts_max", backstop), ("bus.google.attempts_max", attempts));
        self.at_least(
            ("bus.google.publish_deadline_ms", google.publish_deadline_ms),
            ("bus.google.publish_timeout_ms", google.publish_timeout_ms),
        );
        self.at_least(("bus.google.in_flight_max", google.in_flight_max), ("snapshot.batch_max", config.snapshot.batch_max));
    }

    fn name(&mut self, key: &str, name: &str) {
        let rest = name.strip_prefix(|first: char| first.is_ascii_alphabetic());
        let is_name = (3..=255).contains(&name.len())
            && rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')));
        self.require(is_name, key, "a name is a letter and 2 to 254 letters, digits, `-`, `_` or `.`");
    }

    /// Firestore's own limits, told before it tells them itself.
    fn firestore(&mut self, config: &Config) {
        let firestore = &config.documents.firestore;
        let is_used = config.documents.backend == DocumentsBackend::Firestore;
        self.require(
            !is_used || firestore.project.is_some(),
            "documents.firestore.project",
            "is needed where documents.backend is firestore",
        );
        let is_project = firestore.project.as_ref().is_none_or(|project| {
            (1..=100).contains(&project.len()) && project.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
        });
        self.require(is_project, "documents.firestore.project", "is no project id: letters, digits and `-`");
        let rest = firestore.database.strip_prefix(|first: char| first.is_ascii_lowercase());
        let is_database = firestore.database == "(default)"
            || ((4..=63).contains(&firestore.database.len())
                && rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')));
        self.require(
            is_database,
            "documents.firestore.database",
            "is `(default)`, or a lower-case letter and 3 to 62 of those, digits or `-`",
        );
        let is_endpoint = firestore.endpoint.as_ref().is_none_or(|endpoint| {
            Url::parse(endpoint).is_ok_and(|url| url.scheme() == "https" && url.has_host() && url.username().is_empty())
        });
        self.require(is_endpoint, "documents.firestore.endpoint", "is a URL such as https://firestore.googleapis.com");
        let is_emulator = firestore.emulator.as_ref().is_none_or(|emulator| {
            let port = emulator.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
        });
        self.require(is_emulator, "documents.firestore.emulator", "is host:port, such as 127.0.0.1:8080");
        for (key, value, min, max) in [
            ("batch_max", firestore.batch_max, 1, 500),
            ("batch_bytes_max", firestore.batch_bytes_max, 1 << 20, 9 << 20),
            ("concurrency_max", firestore.concurrency_max, 1, 100),
        ] {
            self.require((min..=max).contains(&value), &format!("documents.firestore.{key}"), &format!("is {min} to {max}"));
        }
        self.at_least(
            ("documents.firestore.retry_max_ms", firestore.retry_max_ms),
            ("documents.firestore.timeout_ms", firestore.timeout_ms),
        );
    }

    fn redis(&mut self, config: &Config) {
        let redis = &config.redis;
        // The message does not repeat the URL: a password may stand in it.
        match Url::parse(&redis.url) {
            Ok(url) => {
                let scheme = matches!(url.scheme(), "redis" | "rediss" | "unix" | "redis+unix");
                self.require(scheme, "redis.url", "begins with redis://, rediss:// or unix://");
                let has_password = url.password().is_some() || url.query_pairs().any(|(key, _)| key == "pass");
                self.require(
                    !has_password,
                    "redis.url",
                    "holds a password; put it into a file of mode 0600 and name it in redis.password_file",
                );
                let has_user = !url.username().is_empty() || url.query_pairs().any(|(key, _)| key == "user");
                self.require(!has_user, "redis.url", "holds a user; name it in redis.user");
            }
            Err(error) => self.require(false, "redis.url", &format!("is no URL: {error}")),
        }
        let prefix_max = RedisConfig::PREFIX_MAX;
        self.require(redis.has_prefix(), "redis.prefix", &format!("is 1 to {prefix_max} letters, digits, `-` or `_`"));
    }

    fn sockets(&mut self, config: &Config) {
        let ingest = &config.ingest;
        self.at_least(("ingest.backoff_max_ms", ingest.backoff_max_ms), ("ingest.backoff_min_ms", ingest.backoff_min_ms));
        self.at_least(("ingest.heartbeat_ms", ingest.heartbeat_ms), ("ingest.heartbeat_timeout_ms", ingest.heartbeat_timeout_ms));
        self.at_least(("ingest.message_max_bytes", ingest.message_max_bytes), ("ingest.frame_max_bytes", ingest.frame_max_bytes));
        self.at_least(("ingest.buffer_max_bytes", ingest.buffer_max_bytes), ("ingest.message_max_bytes", ingest.message_max_bytes));
        self.at_least(("ingest.backoff_slow_ms", ingest.backoff_slow_ms), ("ingest.backoff_max_ms", ingest.backoff_max_ms));
        let record = &ingest.record;
        self.at_least(("ingest.record.size_max_bytes", record.size_max_bytes), ("ingest.record.file_max_bytes", record.file_max_bytes));
        self.at_least(("ingest.record.age_max_s", record.age_max_s), ("ingest.record.file_max_s", record.file_max_s));
        // The JSON parser itself refuses what is deeper than 128.
        self.require(ingest.depth_max <= 128, "ingest.depth_max", "cannot be more than 128");
    }

    fn snapshot(&mut self, config: &Config) {
        let snapshot = &config.snapshot;
        self.require((1..=64).contains(&snapshot.lanes), "snapshot.lanes", "is 1 to 64");
        self.at_least(("redis.conversation_ttl_s", config.redis.conversation_ttl_s), ("snapshot.freshness_s", snapshot.freshness_s));
    }

    fn tiers(&mut self, key: &str, Tiers(tiers): &Tiers) {
        let distinct = |count: usize| count == tiers.len();
        let names: BTreeSet<&str> = tiers.iter().map(|tier| tier.name.as_str()).collect();
        self.require(distinct(names.len()), key, "two tiers have the same name");
        self.require(names.iter().all(|name| is_id(name)), key, "the name of a tier is 1 to 200 characters without control characters");
        let thresholds: BTreeSet<i64> = tiers.iter().map(|tier| tier.spend_min).collect();
        self.require(distinct(thresholds.len()), key, "two tiers have the same spend_min");
        self.require(thresholds.first() == Some(&0), key, "the lowest tier has to have spend_min 0, so that everybody is in one");
    }

    fn high_value(&mut self, key: &str, policy: &HighValuePolicy) {
        for (name, bound) in [("spend_min", policy.spend_min), ("payment_min", policy.payment_min)] {
            let is_bound = bound.is_none_or(|bound| bound > 0);
            self.require(is_bound, &format!("{key}.{name}"), "is an amount in cents above 0, or null for no such criterion");
        }
    }

    fn rules(&mut self, key: &str, rules: &[PriorityRule]) {
        self.require(rules.len() <= RULES_MAX, key, &format!("are more than {RULES_MAX}"));
        for (at, rule) in rules.iter().enumerate() {
            let key = format!("{key}[{at}]");
            self.require(is_id(&rule.reason), &format!("{key}.reason"), "is 1 to 200 characters without control characters");
            self.require(!rule.kinds.is_empty(), &format!("{key}.kinds"), "names no kind of event, so the rule never matches");
            for kind in rule.kinds.iter().filter(|kind| !names_a_kind(kind)) {
                let nearest = EventKind::ALL
                    .iter()
                    .map(|known| known.name())
                    .min_by_key(|known| strsim::damerau_levenshtein(known, &kind.chars().take(64).collect::<String>()));
                let message = format!("{kind:?} is no kind of event; the nearest is {}", nearest.unwrap_or_default());
                self.require(false, &format!("{key}.kinds"), &message);
            }
        }
    }

    fn due(&mut self, key: &str, due: &DuePolicy) {
        let key = format!("{key}.awaiting_s");
        let ascending = due.awaiting_s.windows(2).all(|pair| pair[0] < pair[1]);
        self.require(ascending && due.awaiting_s.first() != Some(&0), &key, "are seconds above 0, in ascending order");
        self.require(due.awaiting_s.len() <= STEPS_MAX, &key, &format!("are more than {STEPS_MAX}"));
    }
}

/// A word of a log filter that stands alone and is no level. The filter's own parser takes it for a part of the program, and a mistyped level would
/// silence all others.
fn no_level(filter: &str) -> Option<&str> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) || matches!(word.as_bytes(), [b'0'..=b'5']);
    filter.split(',').map(str::trim).find(|word| !word.is_empty() && !word.contains(['=', '[']) && !is_level(word))
}

/// Each rule costs time with every event of its kinds.
const RULES_MAX: usize = 200;
/// Each step is an entry in the feed for every conversation that waits that long.
const STEPS_MAX: usize = 16;

fn is_id(text: &str) -> bool {
    (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// A kind, or the beginning of one that ends in a dot.
fn names_a_kind(wanted: &str) -> bool {
    EventKind::ALL.iter().any(|kind| kind.name() == wanted || (wanted.ends_with('.') && kind.name().starts_with(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::policy::Tier;

    fn tier(name: &str, spend_min: i64) -> Tier {
        Tier { name: name.into(), spend_min }
    }

    fn check(change: impl FnOnce(&mut Config), expected: &[(&str, &str)]) {
        let mut config = Config::default();
        change(&mut config);
        let found = violations(&config);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (violation, (key, message)) in found.iter().zip(expected) {
            assert_eq!(violation.told.0, *key, "{found:?}");
            assert!(violation.told.1.contains(message), "{found:?}");
        }
    }

    #[test]
    fn the_default_is_valid() {
        check(|_| {}, &[]);
    }

    #[test]
    fn bounds_follow_from_units() {
        check(|c| c.redis.timeout_ms = 0, &[("redis.timeout_ms", "cannot be 0")]);
        check(|c| c.redis.timeout_ms = u64::MAX, &[("redis.timeout_ms", "cannot be more than 86400000")]);
        check(|c| c.history.ttl_s = u64::MAX, &[("history.ttl_s", "cannot be more than")]);
        check(|c| c.redis.inbox_max = 0, &[("redis.inbox_max", "cannot be 0")]);
        check(|c| c.bus.embedded.size_max_bytes = 0, &[("bus.embedded.size_max_bytes", "cannot be 0")]);
        check(|c| (c.documents.linger_ms, c.ingest.drain_timeout_s) = (0, 0), &[]);
    }

    #[test]
    fn values_fit_together() {
        check(|c| c.ingest.backoff_max_ms = 10, &[("ingest.backoff_max_ms", "at least ingest.backoff_min_ms, which is 1000")]);
        check(|c| c.ingest.heartbeat_timeout_ms = 30_000, &[("ingest.heartbeat_ms", "at least ingest.heartbeat_timeout_ms")]);
        check(|c| c.bus.embedded.in_flight_max = 10, &[("bus.embedded.in_flight_max", "at least snapshot.batch_max")]);
        check(|c| c.bus.quarantine_topic.clone_from(&c.bus.topic), &[("bus.quarantine_topic", "the same as bus.topic")]);
        check(|c| c.bus.documents_subscription.clone_from(&c.bus.views_subscription), &[("bus.documents_subscription", "half")]);
        check(|c| c.bus.topic = "../x".into(), &[("bus.topic", "a name is")]);
        check(|c| c.snapshot.lanes = 65, &[("snapshot.lanes", "1 to 64")]);
        check(|c| c.ingest.depth_max = 129, &[("ingest.depth_max", "128")]);
        check(|c| c.log.filter = " ".into(), &[("log.filter", "empty")]);
        check(|c| c.log.filter = "inof".into(), &[("log.filter", "is no level")]);
        check(|c| c.log.filter = "info,convpipe::ws=debug, warn".into(), &[]);
    }

    #[test]
    fn what_pubsub_would_refuse_is_refused_before() {
        check(|c| c.bus.backend = BusBackend::Google, &[("bus.google.project", "is needed")]);
        let google = |change: fn(&mut crate::config::GoogleBusConfig), expected: &[(&str, &str)]| {
            check(
                |c| {
                    c.bus.backend = BusBackend::Google;
                    c.bus.google.project = Some("demo".into());
                    change(&mut c.bus.google);
                },
                expected,
            );
        };
        google(|_| {}, &[]);
        google(|g| g.project = Some("a/topics/b".into()), &[("bus.google.project", "no project id")]);
        google(|g| g.endpoint = Some("https://europe-west1-pubsub.googleapis.com:443".into()), &[]);
        google(|g| g.endpoint = Some("europe-west1-pubsub.googleapis.com".into()), &[("bus.google.endpoint", "is a URL")]);
        for (emulator, valid) in [("127.0.0.1:8085", true), ("[::1]:8085", true), ("8085", false), ("http://a:1", false), ("a:0", false)] {
            let mut config = Config::default();
            config.bus.google.emulator = Some(emulator.into());
            assert_eq!(violations(&config).is_empty(), valid, "{emulator}");
        }
        google(|g| g.publish_batch_max = 1_001, &[("bus.google.publish_batch_max", "1 to 1000")]);
        google(|g| g.lease_s = 5, &[("bus.google.lease_s", "10 to 600")]);
        google(|g| g.retention_s = 60, &[("bus.google.retention_s", "600 to")]);
        google(|g| g.attempts_max = 101, &[("bus.google.dead_letter_attempts_max", "at least bus.google.attempts_max, which is 101")]);
        google(|g| g.in_flight_max = 10, &[("bus.google.in_flight_max", "at least snapshot.batch_max")]);
        google(|g| g.dead_letter_topic = "goog-x".into(), &[("bus", "goog")]);
        google(|g| g.dead_letter_topic = "convpipe-events".into(), &[("bus.google.dead_letter_topic", "of its own")]);
    }

    #[test]
    fn what_firestore_would_refuse_is_refused_before() {
        check(|c| c.documents.backend = DocumentsBackend::Firestore, &[("documents.firestore.project", "is needed")]);
        let firestore = |change: fn(&mut crate::config::FirestoreConfig), expected: &[(&str, &str)]| {
            check(
                |c| {
                    c.documents.backend = DocumentsBackend::Firestore;
                    c.documents.firestore.project = Some("demo".into());
                    change(&mut c.documents.firestore);
                },
                expected,
            );
        };
        firestore(|_| {}, &[]);
        firestore(|f| f.project = Some("a/databases/b".into()), &[("documents.firestore.project", "no project id")]);
        for (database, valid) in [("(default)", true), ("chat-2", true), ("abc", false), ("Chat", false), ("a/b/c", false), ("", false)] {
            let mut config = Config::default();
            config.documents.firestore.database = database.into();
            assert_eq!(violations(&config).is_empty(), valid, "{database:?}");
        }
        firestore(|f| f.endpoint = Some("http://firestore.googleapis.com".into()), &[("documents.firestore.endpoint", "is a URL")]);
        firestore(|f| f.emulator = Some("http://127.0.0.1:1".into()), &[("documents.firestore.emulator", "host:port")]);
        firestore(|f| f.batch_max = 501, &[("documents.firestore.batch_max", "1 to 500")]);
        firestore(|f| f.batch_bytes_max = 10 << 20, &[("documents.firestore.batch_bytes_max", "1048576 to")]);
        firestore(|f| f.concurrency_max = 101, &[("documents.firestore.concurrency_max", "1 to 100")]);
        firestore(|f| f.retry_max_ms = 1, &[("documents.firestore.retry_max_ms", "at least documents.firestore.timeout_ms")]);
        firestore(|f| f.summary_interval_ms = 0, &[]);
    }

    #[test]
    fn redis_urls_hold_no_secret_and_messages_do_not_repeat_it() {
        for (url, message) in [
            ("redis://127.0.0.1:6379/3", ""),
            ("rediss://cache.example:6380", ""),
            ("unix:///run/redis.sock", ""),
            ("redis://:canary@127.0.0.1", "password_file"),
            ("unix:///run/redis.sock?pass=canary", "password_file"),
            ("redis://me@127.0.0.1", "redis.user"),
            ("http://127.0.0.1", "begins with"),
            ("127.0.0.1:6379", "is no URL"),
        ] {
            let mut config = Config::default();
            config.redis.url = url.into();
            let found = violations(&config);
            assert_eq!(found.is_empty(), message.is_empty(), "{url}: {found:?}");
            assert!(found.iter().all(|v| v.told.1.contains(message) && !v.told.1.contains("canary")), "{url}: {found:?}");
        }
        for (prefix, valid) in [
            ("convpipe", true),
            ("a-b_C9", true),
            ("", false),
            ("a:b", false),
            ("{a}", false),
            (&"a".repeat(32), true),
            (&"a".repeat(33), false),
        ] {
            let mut config = Config::default();
            config.redis.prefix = prefix.into();
            assert_eq!(violations(&config).is_empty(), valid, "{prefix:?}");
        }
    }

    #[test]
    fn what_people_decide_makes_sense() {
        check(|c| c.tiers = Tiers(Vec::new()), &[("tiers", "spend_min 0")]);
        check(|c| c.tiers = Tiers(vec![tier("a", 5), tier("b", 1)]), &[("tiers", "spend_min 0")]);
        check(|c| c.tiers = Tiers(vec![tier("a", -1), tier("b", 0)]), &[("tiers", "spend_min 0")]);
        check(|c| c.tiers = Tiers(vec![tier("a", 0), tier("a", 1)]), &[("tiers", "same name")]);
        check(|c| c.tiers = Tiers(vec![tier("a", 0), tier("b", 0)]), &[("tiers", "same spend_min")]);
        check(|c| c.high_value.payment_min = Some(0), &[("high_value.payment_min", "above 0")]);
        check(|c| c.priority.due.awaiting_s = vec![300, 120], &[("priority.due.awaiting_s", "ascending")]);
        check(|c| c.priority.due.awaiting_s = vec![0, 120], &[("priority.due.awaiting_s", "ascending")]);
        check(|c| c.priority.rules[1].kinds = vec!["tip.recieved".into()], &[("priority.rules[1].kinds", "nearest is tip.received")]);
        check(|c| c.priority.rules[1].kinds = vec!["tip.".into()], &[]);
        check(|c| c.priority.rules[0].kinds.clear(), &[("priority.rules[0].kinds", "never matches")]);
        let due = DuePolicy { awaiting_s: vec![2, 1], ..DuePolicy::default() };
        let own = crate::config::AccountConfig { due: Some(due), ..Default::default() };
        check(|c| _ = c.accounts.insert("7".into(), own), &[("accounts.7.due.awaiting_s", "ascending")]);
    }
}
