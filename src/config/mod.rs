//! The config: typed sections, defaults, layering with provenance, validation.
//!
//! Owns: which keys there are and what they mean, where values come from (flag over environment over file over default), and what a
//! person reads when one of them is wrong. Does not own: CEL conditions (compiled by [`crate::transform`]), log filters (parsed by
//! the telemetry) and anything that has to look at the world, such as whether a folder exists, but for the files in
//! `$CREDENTIALS_DIRECTORY`.
//! Invariant: a [`Loaded`] has passed every check here, and each of its values knows its [`Origin`].
//!
//! **Relative paths.** A relative path in a file is relative to the folder of that file; one in an environment variable, a flag or a
//! default is relative to the current directory. So a file in `/etc/convpipe` names its neighbours, whatever the working directory
//! of the service is. The bare name of a secret file is first looked for in `$CREDENTIALS_DIRECTORY`, where systemd puts what `LoadCredential=` names.

mod auth;
mod bus;
mod dashboard;
mod diff;
mod environment;
mod error;
mod health;
mod known;
mod layers;
mod load;
mod origin;
mod policy;
mod render;
mod sections;
mod shard;
mod trace;
mod validate;
mod yaml;

pub use auth::*;
pub use bus::{BusBackend, BusConfig, EmbeddedBusConfig, GoogleBusConfig};
pub use dashboard::DashboardConfig;
pub use diff::{Change, changes};
pub use environment::Environment;
pub use error::{ConfigError, Problem, ProblemKind};
pub use health::{HealthConfig, Listen, ListenError};
pub use known::{EnvironmentNames, environment_names};
pub use load::{Loaded, Override, Sources, load};
pub use origin::Origin;
pub use render::{default_file, render};
pub use sections::*;
pub use shard::{Shard, ShardError};
pub use trace::TraceConfig;
