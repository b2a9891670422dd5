//! Which exit code an error of each room has.

use super::{CommandError, Exit};
use crate::auth::{ArtifactError, LockError, Problem};
use crate::backends::ProvisionError;
use crate::bus::{BusError, PublishError, ServiceFault, StorageFault, SubscribeError};
use crate::daemons::auth_refresh::RefreshError;
use crate::daemons::dashboard::DashboardError;
use crate::daemons::ingest::{IngestError, RecordError};
use crate::daemons::playback::RecordingError;
use crate::daemons::reconcile::CheckError;
use crate::daemons::snapshot::SnapshotError;
use crate::documents::DocumentsError;
use crate::runtime::telemetry::TelemetryError;
use crate::runtime::trace::TraceError;
use crate::runtime::trust::TrustError;
use crate::transform::materialize::MaterializeError;
use crate::transform::policy::PolicyError;
use crate::views::ViewsError;

impl From<BusError> for CommandError {
    fn from(error: BusError) -> Self {
        let exit = match &error {
            BusError::Storage(storage) if storage.fault == StorageFault::Full => Exit::TryLater,
            BusError::Service(service) => of_service(service.fault),
            _ => Exit::Unavailable,
        };
        Self::of(exit, &error)
    }
}

impl From<PublishError> for CommandError {
    fn from(error: PublishError) -> Self {
        let exit = match &error {
            PublishError::Service(service) => of_service(service.fault),
            PublishError::TooLarge { .. } | PublishError::Refused { .. } => Exit::BadData,
            PublishError::Storage(_) | PublishError::Closed => Exit::Unavailable,
        };
        Self::of(exit, &error)
    }
}

impl From<SubscribeError> for CommandError {
    fn from(error: SubscribeError) -> Self {
        let exit = match &error {
            SubscribeError::Service(service) => of_service(service.fault),
            SubscribeError::Storage(_) | SubscribeError::Closed => Exit::Unavailable,
        };
        Self::of(exit, &error)
    }
}

const fn of_service(fault: ServiceFault) -> Exit {
    match fault {
        ServiceFault::Credentials | ServiceFault::Denied => Exit::AuthRefused,
        _ => Exit::Unavailable,
    }
}

impl From<DocumentsError> for CommandError {
    fn from(error: DocumentsError) -> Self {
        let exit = match &error {
            DocumentsError::Full { .. } => Exit::TryLater,
            error if error.is_auth() => Exit::AuthRefused,
            _ => Exit::Unavailable,
        };
        Self::of(exit, &error)
    }
}

impl From<CheckError> for CommandError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Views(error) => error.into(),
            CheckError::Documents(error) => error.into(),
            CheckError::Bus(error) => error.into(),
        }
    }
}

impl From<ProvisionError> for CommandError {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Bus(error) => error.into(),
            ProvisionError::Documents(error) => error.into(),
        }
    }
}

impl From<ViewsError> for CommandError {
    fn from(error: ViewsError) -> Self {
        match &error {
            ViewsError::Config { .. } | ViewsError::PasswordFile { .. } => Self::of(Exit::Config, &error),
            ViewsError::Auth { .. } | ViewsError::NoPermission(_) => Self::of(Exit::AuthRefused, &error),
            ViewsError::Unreachable { .. } => Self::of(Exit::Unavailable, &error)
                .hint("start Redis, or set redis.url (CONVPIPE_REDIS_URL); `convpipe dev` brings one of its own")
                .no_redis(),
            _ => Self::of(Exit::Unavailable, &error),
        }
    }
}

impl From<ArtifactError> for CommandError {
    fn from(error: ArtifactError) -> Self {
        Self::of(Exit::AuthRefused, &error)
    }
}

impl From<PolicyError> for CommandError {
    fn from(error: PolicyError) -> Self {
        Self::of(Exit::Config, &error)
    }
}

impl From<TraceError> for CommandError {
    fn from(error: TraceError) -> Self {
        Self::of(Exit::Config, &error)
    }
}

impl From<TelemetryError> for CommandError {
    fn from(error: TelemetryError) -> Self {
        Self::of(Exit::Config, &error)
    }
}

impl From<RecordingError> for CommandError {
    fn from(error: RecordingError) -> Self {
        Self::of(Exit::BadData, &error)
    }
}

impl From<MaterializeError> for CommandError {
    fn from(error: MaterializeError) -> Self {
        Self::of(Exit::BadData, &error)
    }
}

impl From<IngestError> for CommandError {
    fn from(error: IngestError) -> Self {
        match &error {
            IngestError::Undrained { .. } | IngestError::Broken(_) => Self::of(Exit::TryLater, &error),
        }
    }
}

impl From<DashboardError> for CommandError {
    fn from(error: DashboardError) -> Self {
        match error {
            DashboardError::Views(error) => error.into(),
            DashboardError::Listen { .. } => Self::of(Exit::Unavailable, &error)
                .hint("another program listens there, most likely; --listen 127.0.0.1:0 takes any free port"),
            DashboardError::Address(_) | DashboardError::Open(_) | DashboardError::TokenFile(_) | DashboardError::Token { .. } => {
                Self::of(Exit::Config, &error)
            }
        }
    }
}

impl From<RecordError> for CommandError {
    fn from(error: RecordError) -> Self {
        let exit = match error {
            RecordError::KeyFile(_) | RecordError::KeyShort(_) => Exit::Config,
            RecordError::Dir { .. } | RecordError::Key => Exit::TryLater,
        };
        Self::of(exit, &error)
    }
}

impl From<TrustError> for CommandError {
    fn from(error: TrustError) -> Self {
        Self::of(Exit::Config, &error)
    }
}

impl From<RefreshError> for CommandError {
    fn from(error: RefreshError) -> Self {
        match &error {
            RefreshError::NoProvider | RefreshError::Account(_) => Self::of(Exit::Config, &error).hint("docs/auth.md has examples"),
            RefreshError::NoAccount(_) => Self::of(Exit::Usage, &error),
            RefreshError::Provider { .. } => Self::of(Exit::Config, &error),
            RefreshError::Store(ArtifactError { problem: Problem::Io { .. }, .. }) => Self::of(Exit::TryLater, &error),
            RefreshError::Store(_) => Self::of(Exit::AuthRefused, &error),
            RefreshError::Lock(LockError::Held { .. }) => {
                Self::of(Exit::TryLater, &error).hint("`convpipe auth-refresh request ID` asks the one that runs")
            }
            RefreshError::Lock(_) | RefreshError::Metrics { .. } | RefreshError::Undrained { .. } | RefreshError::Broken => {
                Self::of(Exit::TryLater, &error)
            }
        }
    }
}

impl From<SnapshotError> for CommandError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Policy(error) => error.into(),
            SnapshotError::Bus(error) => error.into(),
            SnapshotError::Views(error) => error.into(),
            SnapshotError::Consumer(_) | SnapshotError::Undrained(_) => Self::of(Exit::TryLater, &error),
        }
    }
}
