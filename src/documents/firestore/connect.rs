//! The way to Firestore: endpoint, credentials, channel.
//!
//! Owns the choice of credentials: Application Default Credentials, or none for an emulator.

use std::time::Duration;

use firestore::errors::FirestoreError;
use firestore::gcloud_sdk::google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use firestore::gcloud_sdk::google_cloud_auth::errors::CredentialsError;
use firestore::gcloud_sdk::{GCP_DEFAULT_SCOPES, GoogleAuthHeaders, error::Error as SdkError, error::ErrorKind};
use firestore::{FirestoreDb, FirestoreDbOptions};
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Extensions, HeaderMap, HeaderValue};

use super::super::DocumentsError;
use crate::config::FirestoreConfig;
use crate::runtime::causes::chain;

/// Where Firestore is, if nothing else is said.
const SERVICE: &str = "https://firestore.googleapis.com";

/// Opens the database that the config names. It asks for a token, so that missing credentials show here and not with the first write.
pub(super) async fn connect(config: &FirestoreConfig, store: &str) -> Result<FirestoreDb, DocumentsError> {
    // Two providers may be compiled in, and rustls panics where nobody has chosen. An error only says that somebody has.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_millis(config.timeout_ms);
    let (endpoint, headers) = match &config.emulator {
        Some(emulator) => {
            (format!("http://{emulator}"), GoogleAuthHeaders::from(Credentials::from(EmulatorOwner { tag: EntityTag::new() })))
        }
        None => (config.endpoint.clone().unwrap_or_else(|| SERVICE.to_owned()), credentials(store, timeout).await?),
    };
    let options = FirestoreDbOptions::new(config.project.clone().unwrap_or_default())
        .with_database_id(config.database.clone())
        .with_firebase_api_url(endpoint.clone());
    match tokio::time::timeout(timeout, FirestoreDb::with_options_auth(options, headers)).await {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(unreachable(store, &endpoint, &detail(error))),
        Err(_) => Err(unreachable(store, &endpoint, "no answer in time")),
    }
}

fn unreachable(store: &str, endpoint: &str, detail: &str) -> DocumentsError {
    DocumentsError::Unavailable { store: store.to_owned(), what: "connecting", detail: format!("{endpoint}: {detail}") }
}

fn detail(error: FirestoreError) -> String {
    match error {
        FirestoreError::SystemError(error) => error.message.trim_start_matches("GCloud system error: ").to_owned(),
        error => error.to_string(),
    }
}

async fn credentials(store: &str, timeout: Duration) -> Result<GoogleAuthHeaders, DocumentsError> {
    let missing = |detail: String| DocumentsError::Credentials { store: store.to_owned(), detail };
    let headers = GoogleAuthHeaders::from_adc_with_scopes(GCP_DEFAULT_SCOPES.clone()).await;
    let headers = headers.map_err(|error| missing(told(&error)))?;
    match tokio::time::timeout(timeout, headers.headers()).await {
        Ok(Ok(_)) => Ok(headers),
        Ok(Err(error)) => {
            let detail = told(&error);
            let is_transient = matches!(error.kind(), ErrorKind::Credentials(error) if error.is_transient());
            // Where there is nothing else, the machine's own service is asked; that it is not there says that this is no machine of Google's.
            if is_transient && !detail.contains("application-default login") {
                return Err(DocumentsError::Unavailable { store: store.to_owned(), what: "asking for a token", detail });
            }
            Err(missing(detail))
        }
        Err(_) => Err(missing("asking for a token had no answer in time".to_owned())),
    }
}

/// What the SDK says of credentials, without its own preface.
pub(super) fn told(error: &SdkError) -> String {
    match error.kind() {
        ErrorKind::CredentialsBuild(error) => chain(error),
        ErrorKind::Credentials(error) => chain(error),
        _ => error.to_string(),
    }
}

/// Who may do everything in an emulator, by the convention of Google's tools.
#[derive(Debug)]
struct EmulatorOwner {
    tag: EntityTag,
}

impl CredentialsProvider for EmulatorOwner {
    async fn headers(&self, known: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        if known.get::<EntityTag>() == Some(&self.tag) {
            return Ok(CacheableResource::NotModified);
        }
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer owner"))]);
        Ok(CacheableResource::New { entity_tag: self.tag.clone(), data: headers })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
