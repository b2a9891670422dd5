//! Why a provider gave no artifact. None of it repeats what the provider answered.

use std::path::PathBuf;

use crate::auth::{Content, Fault};
use crate::runtime::secret_file::SecretFileError;
use crate::runtime::trust::TrustError;
use crate::schema::time::Millis;

/// Why a provider gave no artifact: what happened, and what to do where that is not plain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The config names neither a command nor an endpoint.
    #[error("the provider is neither a command nor http")]
    Nothing,
    /// The program does not start.
    #[error("the program {} cannot be started: {detail}", program.display())]
    Start {
        /// As configured.
        program: PathBuf,
        /// Why.
        detail: String,
    },
    /// The program said that it failed.
    #[error("the program ended with exit code {0}")]
    Exit(i32),
    /// A signal ended the program.
    #[error("the program was ended by signal {0}")]
    Killed(i32),
    /// No whole answer came in time.
    #[error("no answer within {after_ms} ms")]
    Timeout {
        /// The time it had.
        after_ms: u64,
    },
    /// The answer is larger than one may be.
    #[error("the answer is larger than {max} bytes (auth.refresh.answer_max_bytes)")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// Its pipe or connection broke.
    #[error("the answer cannot be read: {detail}")]
    Read {
        /// Why.
        detail: String,
    },
    /// What it answered is no artifact of this account.
    #[error("the answer {0}")]
    Content(#[from] Content),
    /// The answer has nothing where the config says that a field is.
    #[error("the answer has nothing at {pointer}, where the config says that {field} is")]
    Pointer {
        /// The artifact's field.
        field: &'static str,
        /// The JSON pointer.
        pointer: String,
    },
    /// The token in the answer has ended.
    #[error("the answer holds a token that ended at {0}; compare the clocks")]
    Ended(Millis),
    /// The answer is what the platform refused already.
    #[error("the answer holds the token that the platform refused")]
    SameToken,
    /// The endpoint cannot be reached, or does not speak HTTP or TLS.
    #[error("the endpoint cannot be asked: {detail}")]
    Request {
        /// Why, without the URL.
        detail: String,
    },
    /// The endpoint refused our credentials.
    #[error("the endpoint refused our credentials (HTTP {0}); renew what header_files names")]
    Unauthorized(u16),
    /// The endpoint leads elsewhere.
    #[error("the endpoint redirects (HTTP {0}), which is not followed, because credentials would go along; name the URL that it leads to")]
    Redirect(u16),
    /// The endpoint said that it failed.
    #[error("the endpoint answered with HTTP {code}")]
    Status {
        /// The status code.
        code: u16,
        /// How long it wants to be left alone, seconds.
        retry_after_s: Option<u64>,
    },
    /// A header's file cannot be used.
    #[error("header_files: {0}")]
    Header(#[from] SecretFileError),
    /// A header's value cannot stand in one.
    #[error("header_files: {} holds what cannot stand in a header", .0.display())]
    HeaderValue(PathBuf),
    /// The certificates to trust cannot be used.
    #[error("ca_file: {0}")]
    CaFile(TrustError),
    /// Nobody is there to vouch for the endpoint.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl ProviderError {
    /// Whose failure it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unauthorized(_) => Fault::Refused,
            Self::Nothing | Self::Header(_) | Self::HeaderValue(_) | Self::CaFile(_) | Self::Trust(_) => Fault::Config,
            Self::TooLarge { .. } | Self::Content(_) | Self::Pointer { .. } | Self::Ended(_) | Self::SameToken | Self::Redirect(_) => {
                Fault::BadAnswer
            }
            Self::Start { .. }
            | Self::Exit(_)
            | Self::Killed(_)
            | Self::Timeout { .. }
            | Self::Read { .. }
            | Self::Request { .. }
            | Self::Status { .. } => Fault::Unavailable,
        }
    }

    /// How long the provider wants to be left alone, where it said so, seconds.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Status { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }
}
