//! Opens the adapters that the config names; the only place that asks which engine it is.

use crate::bus::Bus;
use crate::bus::BusError;
use crate::bus::embedded::EmbeddedBus;
use crate::bus::google::GoogleBus;
use crate::bus::google::admin::Admin;
use crate::config::{BusBackend, Config, DocumentsBackend};
use crate::documents::{Access, Documents, DocumentsError};
use crate::runtime::provision::Change;

/// Opens the bus.
///
/// # Errors
/// Where its storage cannot be opened, or the credentials for it are missing or refused; the text says what to do.
pub async fn bus(config: &Config) -> Result<Bus, BusError> {
    match config.bus.backend {
        BusBackend::Embedded => EmbeddedBus::open(&config.bus.embedded).map(Bus::Embedded),
        BusBackend::Google => Box::pin(GoogleBus::open(&config.bus.google)).await.map(Bus::Google),
    }
}

/// Opens the bus for looking; `None` where the embedded engine has no folder yet, which is not made then.
///
/// # Errors
/// As [`bus`].
pub async fn existing_bus(config: &Config) -> Result<Option<Bus>, BusError> {
    if config.bus.backend == BusBackend::Embedded && !config.bus.embedded.dir.exists() {
        return Ok(None);
    }
    bus(config).await.map(Some)
}

/// Opens the documents.
///
/// # Errors
/// Where the store cannot be opened; the text says what to do.
pub async fn documents(config: &Config, access: Access) -> Result<Documents, DocumentsError> {
    match config.documents.backend {
        DocumentsBackend::Embedded => Documents::embedded(&config.documents.embedded, access).await,
        DocumentsBackend::Firestore => Documents::firestore(&config.documents.firestore, access).await,
    }
}

/// Compares what the engines need on their services with what is there, the bus first; with `apply`, makes it so. Empty for the embedded engines, which
/// make what they need by themselves.
///
/// # Errors
/// Where a service cannot be asked, or the credentials for it are missing or refused.
pub async fn provision(config: &Config, apply: bool) -> Result<Vec<(&'static str, Change)>, ProvisionError> {
    let mut changes = Vec::new();
    if config.bus.backend == BusBackend::Google {
        let admin = Box::pin(Admin::open(&config.bus)).await?;
        let bus = if apply { admin.apply().await? } else { admin.plan().await? };
        changes.extend(bus.into_iter().map(|change| ("pubsub", change)));
    }
    if config.documents.backend == DocumentsBackend::Firestore {
        let documents = documents(config, Access::ReadWrite).await?.provision(apply).await?;
        changes.extend(documents.into_iter().map(|change| ("firestore", change)));
    }
    Ok(changes)
}

/// Names of the subscriptions that hold what the topic's subscriptions give up; `None` on the embedded engine, which gives nothing up.
///
/// # Errors
/// Where the service cannot be asked, or the credentials for it are missing or refused.
pub async fn dead_letter_readers(config: &Config) -> Result<Option<Vec<String>>, BusError> {
    match config.bus.backend {
        BusBackend::Embedded => Ok(None),
        BusBackend::Google => Box::pin(Admin::open(&config.bus)).await?.readers(&config.bus.google.dead_letter_topic).await.map(Some),
    }
}

/// Why a service could not be provisioned. What was done before stays done.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The documents.
    #[error(transparent)]
    Documents(#[from] DocumentsError),
}
