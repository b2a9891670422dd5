//! What can be wrong with a config, and how it is told.

use std::fmt;
use std::path::PathBuf;

use super::Origin;

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than a config can be.
    #[error("the config file {} is larger than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// The values are wrong: every problem that was found, in the order of its source.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One thing that is wrong. `Display` is one line: place, key, what to do. Text out of the file in it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// What.
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// The file is not YAML.
    Syntax(String),
    /// No such key.
    UnknownKey {
        /// Its full path.
        key: String,
        /// The known key that was probably meant.
        nearest: Option<String>,
    },
    /// No such variable.
    UnknownVariable {
        /// The known variable that was probably meant.
        nearest: Option<String>,
    },
    /// The key stands there twice.
    DuplicateKey {
        /// Its full path.
        key: String,
    },
    /// The value is of the wrong type, or not one that can be.
    Value {
        /// The key's full path.
        key: String,
        /// What is wrong with the value.
        message: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin.place())?;
        match &self.kind {
            ProblemKind::Syntax(message) => f.write_str(message),
            ProblemKind::UnknownKey { key, nearest } => {
                write!(f, "unknown key {key}")?;
                did_you_mean(f, nearest.as_deref())
            }
            ProblemKind::UnknownVariable { nearest } => {
                f.write_str("unknown variable")?;
                did_you_mean(f, nearest.as_deref())
            }
            ProblemKind::DuplicateKey { key } => write!(f, "{key} stands there twice"),
            ProblemKind::Value { key, message } => write!(f, "{key}: {message}"),
        }
    }
}

fn did_you_mean(f: &mut fmt::Formatter<'_>, nearest: Option<&str>) -> fmt::Result {
    nearest.map_or(Ok(()), |nearest| write!(f, "; did you mean {nearest}?"))
}
