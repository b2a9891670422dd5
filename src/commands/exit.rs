//! How a command ends: the documented exit codes, and errors as a story that a person reads.

use std::error::Error;
use std::process::ExitCode;

use super::output::{Tone, term_safe};
use crate::config::ConfigError;
use crate::runtime::shutdown::Signal;

/// The exit codes, after sysexits where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; also when the reader of stdout had seen enough.
    Done,
    /// 1: a finding: drift, no such fan, nothing matched.
    Finding,
    /// 2: the command line is wrong.
    Usage,
    /// 65: input that cannot be read as what it should be.
    BadData,
    /// 69: a backend is down.
    Unavailable,
    /// 75: try later: a lock is held, a drain is incomplete, a disk is full.
    TryLater,
    /// 77: the platform or a backend refused the session material.
    AuthRefused,
    /// 78: the config is wrong.
    Config,
    /// 130: ended by SIGINT before it was done.
    Interrupted,
    /// 143: ended by SIGTERM before it was done.
    Terminated,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Finding => 1,
            Self::Usage => 2,
            Self::BadData => 65,
            Self::Unavailable => 69,
            Self::TryLater => 75,
            Self::AuthRefused => 77,
            Self::Config => 78,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The end of a command that a signal ended before it was done.
pub(super) const fn ended_by(signal: Signal) -> Exit {
    match signal {
        Signal::Interrupt => Exit::Interrupted,
        Signal::Terminate => Exit::Terminated,
    }
}

/// Why a command could not do what it should: what happened, because of what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    is_of_redis: bool,
}

impl CommandError {
    /// An error in the command's own words.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None, is_of_redis: false }
    }

    /// An error in the words of what failed, with its causes.
    #[must_use]
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        let own = Self::new(exit, error.to_string());
        match error.source() {
            Some(source) => own.caused_by(source),
            None => own,
        }
    }

    /// Adds a cause and the causes behind it.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let cause = error.to_string();
            // Many errors repeat their source in their own text.
            if !self.causes.last().unwrap_or(&self.message).ends_with(&cause) {
                self.causes.push(cause);
            }
            next = error.source();
        }
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Redis cannot be reached: what there is to do depends on where the config comes from.
    pub(super) const fn no_redis(mut self) -> Self {
        self.is_of_redis = true;
        self
    }

    /// Whether it is that Redis cannot be reached.
    pub(super) const fn is_of_redis(&self) -> bool {
        self.is_of_redis
    }

    /// The reader of stdout is gone: a clean end without a word.
    pub(super) const fn reader_gone() -> Self {
        Self { exit: Exit::Done, message: String::new(), causes: Vec::new(), hint: None, is_of_redis: false }
    }

    /// The code to end with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The message with each of its causes, for a log: one for each problem of a config that has several.
    pub(super) fn told(&self) -> Vec<String> {
        match &self.causes[..] {
            [] => vec![self.message.clone()],
            causes => causes.iter().map(|cause| format!("{}: {cause}", self.message)).collect(),
        }
    }

    /// The lines for stderr, made terminal-safe; `paint` colours the words in front. Nothing where there is nothing to say.
    pub(super) fn lines(&self, paint: impl Fn(Tone, &str) -> String) -> Vec<String> {
        if self.message.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![format!("{} {}", paint(Tone::Bad, "error:"), term_safe(&self.message))];
        lines.extend(self.causes.iter().map(|cause| format!("  {} {}", paint(Tone::Faint, "cause:"), term_safe(cause))));
        lines.extend(self.hint.iter().map(|hint| format!("  {} {}", paint(Tone::Strong, "hint:"), term_safe(hint))));
        lines
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Invalid(problems) if problems.len() > 1 => {
                let causes = problems.iter().map(ToString::to_string).collect();
                Self { causes, ..Self::new(Exit::Config, format!("the config has {} problems", problems.len())) }
            }
            ConfigError::Invalid(_) => Self::new(Exit::Config, error.to_string()),
            ConfigError::Read { .. } | ConfigError::TooLarge { .. } => Self::of(Exit::Config, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no answer from \u{1b}[31mredis")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_told_as_a_story_on_safe_lines() {
        let io = std::io::Error::other("connection refused");
        let error =
            CommandError::new(Exit::Unavailable, "cannot read the views").caused_by(&Outer(io)).hint("start it with `convpipe dev`");
        assert_eq!(
            error.lines(|_, text| text.to_owned()),
            [
                "error: cannot read the views",
                r"  cause: no answer from \u{1b}[31mredis",
                "  cause: connection refused",
                "  hint: start it with `convpipe dev`",
            ]
        );
        assert!(CommandError::reader_gone().lines(|_, text| text.to_owned()).is_empty());
    }
}
