//! One look at one daemon: what it answers, or why it does not.
//!
//! Invariants: whatever listens at the address, a look ends and is bounded; what is kept of foreign text is a few short lines.

use std::time::Duration;

use http::StatusCode;
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
    /// Somebody is there and says nothing in time; what was waited for.
    Hangs(String),
    /// Somebody else answers; what.
    Foreign(String),
    /// A daemon with a health listener.
    Up(Up),
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

/// Looks at a target.
pub(in crate::commands) async fn look(target: &Target) -> Look {
    let seen = match &target.address {
        None => Seen::NoAddress,
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

fn nobody(error: &AskError) -> Seen {
    let why = short(&error.to_string());
    match error {
        AskError::Unreachable(_) => Seen::Down(why),
        AskError::Silent => Seen::Hangs(why),
        AskError::NotHttp(_) | AskError::TooLarge(_) => Seen::Foreign(why),
    }
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
