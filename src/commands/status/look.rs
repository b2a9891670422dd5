//! One look at one daemon: what it answers, or why it does not.
//!
//! Invariants: whatever listens at the address, a look ends and is bounded; what is kept of foreign text is a few short lines.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;

use super::target::{Daemon, Target};
use crate::runtime::samples::Samples;
use crate::runtime::scrape::{Address, Answer, AskError, ask};

/// Most bytes of `/metrics`; a daemon of ours has about 25 KiB.
const METRICS_BYTES_MAX: usize = 1 << 20;
/// Most bytes of any other answer.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Reasons that are kept, and characters of each.
const REASONS_MAX: usize = 8;
const REASON_CHARS_MAX: usize = 200;

/// What was seen of one target.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Look {
    pub(in crate::commands) target: Target,
    pub(in crate::commands) at: Instant,
    pub(in crate::commands) seen: Seen,
}

/// What is at an address.
#[derive(Debug, Clone)]
pub(in crate::commands) enum Seen {
    /// The config has no address to ask.
    NoAddress,
    /// Nobody answers; why.
    Down(String),
    /// Somebody else answers; what.
    Foreign(String),
    /// A daemon with a health listener.
    Up(Up),
    /// The dashboard, which has no metrics of its own.
    Page(Page),
}

/// A daemon that answers.
#[derive(Debug, Clone, Default)]
pub(in crate::commands) struct Up {
    /// Why it does not live, a line each; empty where it does.
    pub(in crate::commands) stalled: Vec<String>,
    /// Why it is not ready, a line each; empty where it is.
    pub(in crate::commands) missing: Vec<String>,
    pub(in crate::commands) samples: Samples,
}

/// A dashboard that answers.
#[derive(Debug, Clone, Default)]
pub(in crate::commands) struct Page {
    /// `None` where it wants a token first.
    pub(in crate::commands) version: Option<String>,
    /// Why it shows nothing current; `None` where it does, or does not say.
    pub(in crate::commands) fault: Option<String>,
}

/// Looks at a target.
pub(in crate::commands) async fn look(target: &Target) -> Look {
    let seen = match &target.address {
        None => Seen::NoAddress,
        Some(address) if target.daemon == Daemon::Dashboard => page(address).await,
        Some(address) => daemon(address, target.daemon).await,
    };
    Look { target: target.clone(), at: Instant::now(), seen }
}

async fn daemon(address: &Address, daemon: Daemon) -> Seen {
    let (metrics, live, ready) = tokio::join!(
        ask(address, "/metrics", METRICS_BYTES_MAX),
        ask(address, "/livez", ANSWER_BYTES_MAX),
        ask(address, "/readyz", ANSWER_BYTES_MAX),
    );
    let answer = match metrics {
        Ok(answer) if answer.status == StatusCode::OK => answer,
        Ok(answer) => return Seen::Foreign(format!("/metrics answers {}", answer.status)),
        Err(error) => return nobody(&error),
    };
    let samples = match Samples::read(&answer.body) {
        Ok(samples) => samples,
        Err(error) => return Seen::Foreign(error.to_string()),
    };
    let named = samples.by("daemon", "daemon").next().map(|(name, _)| short(name));
    match named {
        Some(name) if name == daemon.name() => {}
        Some(name) => return Seen::Foreign(format!("it is {name}")),
        None => return Seen::Foreign("its metrics are not those of a daemon of convpipe".to_owned()),
    }
    Seen::Up(Up { stalled: reasons(live), missing: reasons(ready), samples })
}

/// Why not, as `/livez` and `/readyz` say it.
fn reasons(answer: Result<Answer, AskError>) -> Vec<String> {
    match answer {
        Ok(Answer { status: StatusCode::OK, .. }) => Vec::new(),
        Ok(answer) => {
            let lines = answer.body.lines().filter(|line| !line.trim().is_empty()).take(REASONS_MAX).map(short);
            let lines: Vec<String> = lines.collect();
            if lines.is_empty() { vec![format!("it answers {}", answer.status)] } else { lines }
        }
        Err(error) => vec![short(&error.to_string())],
    }
}

async fn page(address: &Address) -> Seen {
    #[derive(Deserialize)]
    struct Status {
        service: String,
        version: String,
        redis: Redis,
    }
    #[derive(Deserialize)]
    struct Redis {
        fault: Option<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        message: String,
    }
    let answer = match ask(address, "/api/v1/status", ANSWER_BYTES_MAX).await {
        Ok(answer) => answer,
        Err(error) => return nobody(&error),
    };
    match answer.status {
        StatusCode::OK => match serde_json::from_str::<Status>(&answer.body) {
            Ok(status) if status.service == "convpipe dashboard" => {
                Seen::Page(Page { version: Some(short(&status.version)), fault: status.redis.fault.map(|fault| short(&fault.message)) })
            }
            _ => Seen::Foreign("/api/v1/status is not that of the dashboard".to_owned()),
        },
        // Nobody is told more without the token; that it asks for one says that it is there.
        StatusCode::UNAUTHORIZED if answer.body.contains("no_token") => Seen::Page(Page::default()),
        StatusCode::MISDIRECTED_REQUEST if answer.body.contains("dashboard.hosts") => Seen::Page(Page::default()),
        status => Seen::Foreign(format!("/api/v1/status answers {status}")),
    }
}

fn nobody(error: &AskError) -> Seen {
    let why = short(&error.to_string());
    if error.is_foreign() { Seen::Foreign(why) } else { Seen::Down(why) }
}

fn short(text: &str) -> String {
    let mut chars = text.chars();
    let mut kept: String = chars.by_ref().take(REASON_CHARS_MAX).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept
}

impl Look {
    /// What it counts, where it does.
    pub(in crate::commands) const fn samples(&self) -> Option<&Samples> {
        match &self.seen {
            Seen::Up(up) => Some(&up.samples),
            _ => None,
        }
    }

    /// The same process a moment ago: what it counted then, and how long ago that was. `None` where another process took its place.
    pub(in crate::commands) fn since<'a>(&self, before: &'a Self) -> Option<(&'a Samples, Duration)> {
        let started = |samples: &Samples| samples.value("start_timestamp_seconds", &[]);
        let (now, then) = (self.samples()?, before.samples()?);
        let is_same = self.target == before.target && started(now).is_some() && started(now) == started(then);
        let elapsed = self.at.checked_duration_since(before.at).filter(|elapsed| !elapsed.is_zero())?;
        is_same.then_some((then, elapsed))
    }
}
