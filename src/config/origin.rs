//! Where a value comes from.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. `Display` is what `config print --origin` says: `default`, `file convpipe.yaml:3`, `env CONVPIPE_…`,
/// `flag --log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A place in the config file, counted from 1.
    File {
        /// The file, as it was found.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    /// The place as an error names it: `convpipe.yaml:3:5`, `CONVPIPE_…`, `--log`, `default`.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File { path, line, column } => format!("{}:{line}:{column}", path.display()),
            Self::Env(name) | Self::Flag(name) => name.clone(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, .. } => write!(f, "file {}:{line}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}
