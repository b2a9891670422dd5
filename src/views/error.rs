//! What can go wrong with Redis, sorted by what to do about it.

use std::path::PathBuf;

use redis::{ErrorKind, RedisError, ServerError};

/// Why a call to Redis failed. No variant carries a password.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The address or the key prefix in the config cannot be used.
    #[error("redis.{key}: {reason}")]
    Config {
        /// The config key, below `redis`.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The password file cannot be used.
    #[error("password file {}: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection, or it broke. Whatever was under way may or may not have happened.
    #[error("Redis at {addr} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port, or the socket's path.
        addr: String,
        /// What the attempt ended with.
        reason: String,
    },
    /// Redis does not know the user, or not with this password.
    #[error("Redis at {addr} refuses the user {user:?}: {reason}; check the user, the password file and the ACL (scripts/redis.acl)")]
    Auth {
        /// Host and port, or the socket's path.
        addr: String,
        /// The user that was tried.
        user: String,
        /// What Redis says.
        reason: String,
    },
    /// The user may not do that.
    #[error("Redis does not let the user do that: {0}; load the rights in scripts/redis.acl")]
    NoPermission(String),
    /// Redis is a replica, or was made one by a failover.
    #[error("Redis is read-only: {0}")]
    ReadOnly(String),
    /// `maxmemory` is reached and nothing may be evicted. Nothing of the refused script was written.
    #[error("Redis is out of memory: raise its maxmemory or lower the bounds under redis in the config")]
    OutOfMemory,
    /// Redis is there and cannot answer now: it is loading, a script runs, its cluster is not up.
    #[error("Redis is busy: {0}")]
    Busy(String),
    /// No answer in time. Whatever was asked may still happen.
    #[error("Redis at {addr} gave no answer within {after_ms} ms")]
    Timeout {
        /// Host and port, or the socket's path.
        addr: String,
        /// How long was waited.
        after_ms: u64,
    },
    /// A script is gone right after it was loaded: someone flushes scripts. Nothing of it was run.
    #[error("Redis lost a script that was just loaded: {0}")]
    Script(String),
    /// What stands in Redis, or what it answered, is not what this version writes.
    #[error("unexpected content of {what}: {reason}")]
    Unexpected {
        /// The key or the command.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Any other error that Redis answered with.
    #[error("Redis answers: {0}")]
    Server(String),
}

impl ViewsError {
    /// Whether the same call may succeed later without anybody changing the config: wait, then try again. Every call of
    /// [`Writer`](super::Writer) and [`Reader`](super::Reader) may be repeated; a write that did happen then answers `Conflict`.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::ReadOnly(_) | Self::OutOfMemory | Self::Busy(_) | Self::Script(_)
        )
    }

    pub(super) fn unexpected(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unexpected { what: what.into(), reason: reason.into() }
    }

    /// An error reply. Redis before 7 wraps what a command inside a script answers in the script's own error, so the text is looked at too.
    pub(super) fn from_reply(error: &ServerError) -> Self {
        Self::from_code(error.code(), error.details().unwrap_or_default())
    }

    fn from_code(code: &str, details: &str) -> Self {
        let text = format!("{code} {details}").trim_end().to_owned();
        let says = |needle: &str| details.contains(needle);
        match code {
            "OOM" => Self::OutOfMemory,
            "NOPERM" => Self::NoPermission(text),
            "READONLY" => Self::ReadOnly(text),
            "NOSCRIPT" => Self::Script(text),
            "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => Self::Busy(text),
            _ if says("OOM command not allowed") => Self::OutOfMemory,
            _ if says("NOPERM") || says("The user executing the script can't") => Self::NoPermission(text),
            _ if says("READONLY") => Self::ReadOnly(text),
            _ => Self::Server(text),
        }
    }
}

/// Where a connection leads and as whom, for the errors that name it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) addr: String,
    pub(super) user: String,
    pub(super) timeout_ms: u64,
}

impl Peer {
    /// What a failed call or attempt to connect means.
    pub(super) fn error(&self, error: &RedisError) -> ViewsError {
        let code = error.code().unwrap_or_default();
        if error.is_timeout() {
            return self.timeout();
        }
        if matches!(code, "NOAUTH" | "WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed {
            return ViewsError::Auth { addr: self.addr.clone(), user: self.user.clone(), reason: error.to_string() };
        }
        if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
            return ViewsError::from_code(code, error.detail().unwrap_or_default());
        }
        self.unreachable(error.to_string())
    }

    pub(super) fn timeout(&self) -> ViewsError {
        ViewsError::Timeout { addr: self.addr.clone(), after_ms: self.timeout_ms }
    }

    pub(super) fn unreachable(&self, reason: String) -> ViewsError {
        ViewsError::Unreachable { addr: self.addr.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_what_to_do() {
        for (code, details, expected, transient) in [
            ("OOM", "command not allowed when used memory > 'maxmemory'.", "OutOfMemory", true),
            ("ERR", "Error running script (call to f_1): @user_script:3: -OOM command not allowed", "OutOfMemory", true),
            ("READONLY", "You can't write against a read only replica.", "ReadOnly", true),
            ("NOPERM", "this user has no permissions", "NoPermission", false),
            ("ERR", "The user executing the script can't run this command or subcommand", "NoPermission", false),
            ("LOADING", "Redis is loading the dataset in memory", "Busy", true),
            ("NOSCRIPT", "No matching script.", "Script", true),
            ("WRONGTYPE", "Operation against a key", "Server", false),
        ] {
            let error = ViewsError::from_code(code, details);
            assert!(format!("{error:?}").starts_with(expected), "{code} {details}: {error:?}");
            assert_eq!(error.is_transient(), transient, "{code} {details}");
        }
    }
}
