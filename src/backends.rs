//! Opens the adapters that the config names; the only place that asks which engine it is.

use crate::bus::Bus;
use crate::bus::BusError;
use crate::bus::embedded::EmbeddedBus;
use crate::bus::google::GoogleBus;
use crate::config::{BusBackend, Config, DocumentsBackend};
use crate::documents::{Access, Documents, DocumentsError};

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
