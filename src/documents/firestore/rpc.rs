//! The calls to Firestore, each with a deadline, and what their failures mean.
//!
//! Owns: requests, deadlines, trying reads again, counting. Does not own trying writes again ([`super::batch`]). Invariant: no call waits longer
//! than `timeout_ms`, and none is tried again for longer than `retry_max_ms`.

use std::collections::HashMap;
use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firestore::FirestoreDb;
use firestore::gcloud_sdk::error::Error as SdkError;
use firestore::gcloud_sdk::google::firestore::v1::batch_get_documents_response::Result as Got;
use firestore::gcloud_sdk::google::firestore::v1::run_query_request::QueryType;
use firestore::gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchWriteRequest, BatchWriteResponse, Document, DocumentMask, ListDocumentsRequest, RunQueryRequest,
    StructuredQuery, Write,
};
use firestore::gcloud_sdk::prost_types::Timestamp;
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::{Code, Request, Status, Streaming};

use super::super::DocumentsError;
use super::connect;
use super::path::Names;
use crate::config::FirestoreConfig;
use crate::runtime::backoff::Backoff;

/// Documents asked for in one request.
const GET_MAX: usize = 300;
/// Accounts in one page of their list.
const ACCOUNTS_PAGE: i32 = 300;
/// Waits between two tries.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A document that exists, and when it was read.
#[derive(Clone)]
pub(super) struct Found {
    pub document: Document,
    pub read_time: Option<Timestamp>,
}

/// A database.
pub(super) struct Rpc {
    pub store: String,
    pub names: Names,
    pub counters: FirestoreCounters,
    pub concurrency: usize,
    database: FirestoreDb,
    timeout: Duration,
    retry_max: Duration,
}

/// What was asked of Firestore since the start: what it bills, and what went wrong on the way.
#[derive(Debug, Default)]
pub struct FirestoreCounters {
    /// Documents read, and queries that found none.
    pub reads: AtomicU64,
    /// Documents written.
    pub writes: AtomicU64,
    /// Writes whose precondition did not hold.
    pub unmet: AtomicU64,
    /// Writes sent again because Firestore did not take them the first time.
    pub retried: AtomicU64,
    /// Tries that were throttled, wholly or in part.
    pub throttled: AtomicU64,
}

impl FirestoreCounters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }
}

impl Rpc {
    pub(super) async fn connect(config: &FirestoreConfig) -> Result<Self, DocumentsError> {
        let names = Names::of(config.project.as_deref().unwrap_or_default(), &config.database);
        let store = format!("firestore database {}", names.database);
        let database = connect::connect(config, &store).await?;
        Ok(Self {
            store,
            names,
            counters: FirestoreCounters::default(),
            concurrency: config.concurrency_max,
            database,
            timeout: Duration::from_millis(config.timeout_ms),
            retry_max: Duration::from_millis(config.retry_max_ms),
        })
    }

    /// The channel, for the other services on it.
    pub(super) const fn database(&self) -> &FirestoreDb {
        &self.database
    }

    /// One `BatchWrite`, not tried again. Each write has a status of its own in the answer.
    pub(super) async fn batch_write(&self, writes: Vec<Write>) -> Result<BatchWriteResponse, Status> {
        let request = BatchWriteRequest { database: self.names.database.clone(), writes, ..Default::default() };
        self.timed(async { Ok(self.database.client().get().batch_write(self.request(request)).await?.into_inner()) }).await
    }

    /// The documents of these names, place by place; `fields` are all that is wanted of them.
    pub(super) async fn get(&self, names: &[String], fields: &[&str]) -> Result<Vec<Option<Found>>, DocumentsError> {
        let chunks = names.chunks(GET_MAX).map(|chunk| self.get_chunk(chunk, fields));
        // Boxed, because the compiler cannot see that a stream of these futures may move to another thread.
        let chunks: Vec<_> = chunks.map(Box::pin).collect();
        let found: Vec<HashMap<String, Found>> = stream::iter(chunks).buffered(self.concurrency).try_collect().await?;
        let found: HashMap<String, Found> = found.into_iter().flatten().collect();
        // Firestore answers a name once, however often it stands there.
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    async fn get_chunk(&self, names: &[String], fields: &[&str]) -> Result<HashMap<String, Found>, DocumentsError> {
        let request = BatchGetDocumentsRequest {
            database: self.names.database.clone(),
            documents: names.to_vec(),
            mask: (!fields.is_empty()).then(|| mask(fields)),
            ..Default::default()
        };
        FirestoreCounters::add(&self.counters.reads, names.len());
        self.read("reading documents", async || {
            let answers = self.database.client().get().batch_get_documents(self.request(request.clone())).await?.into_inner();
            let mut found = HashMap::new();
            collect(answers, |answer| {
                if let Some(Got::Found(document)) = answer.result {
                    found.insert(document.name.clone(), Found { document, read_time: answer.read_time });
                }
            })
            .await?;
            Ok(found)
        })
        .await
    }

    /// What a query finds below `parent`, in its order.
    pub(super) async fn query(&self, parent: &str, query: StructuredQuery) -> Result<Vec<Document>, DocumentsError> {
        let request =
            RunQueryRequest { parent: parent.to_owned(), query_type: Some(QueryType::StructuredQuery(query)), ..Default::default() };
        let found = self
            .read("querying documents", async || {
                let answers = self.database.client().get().run_query(self.request(request.clone())).await?.into_inner();
                let mut found = Vec::new();
                collect(answers, |answer| found.extend(answer.document)).await?;
                Ok(found)
            })
            .await?;
        FirestoreCounters::add(&self.counters.reads, found.len().max(1));
        Ok(found)
    }

    /// The documents of all accounts, with their `account_id`. An account may have none and still lie in the path of others, so Firestore is asked for
    /// those that are "missing", too.
    pub(super) async fn account_documents(&self) -> Result<Vec<Document>, DocumentsError> {
        let (mut documents, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListDocumentsRequest {
                parent: self.names.root.clone(),
                collection_id: "accounts".to_owned(),
                page_size: ACCOUNTS_PAGE,
                page_token,
                mask: Some(mask(&["account_id"])),
                show_missing: true,
                ..Default::default()
            };
            let page = self
                .read("listing accounts", async || {
                    Ok(self.database.client().get().list_documents(self.request(request.clone())).await?.into_inner())
                })
                .await?;
            FirestoreCounters::add(&self.counters.reads, page.documents.len().max(1));
            documents.extend(page.documents);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(documents);
            }
        }
    }

    /// A read, tried again while that may help.
    pub(super) async fn read<T, F>(&self, what: &'static str, call: impl Fn() -> F) -> Result<T, DocumentsError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut retrying = self.retrying(what);
        loop {
            match self.timed(call()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => retrying.again(status).await?,
            }
        }
    }

    /// Begins to try something.
    pub(super) fn retrying(&self, what: &'static str) -> Retrying<'_> {
        Retrying { rpc: self, what, begun: Instant::now(), backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX) }
    }

    async fn timed<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let limit = || Err(Status::deadline_exceeded(format!("no answer within {} ms", self.timeout.as_millis())));
        tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| limit())
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // The server stops as well when we do.
        request.set_timeout(self.timeout);
        request
    }

    /// What a failed call means.
    pub(super) fn failed(&self, what: &'static str, status: &Status) -> DocumentsError {
        let (store, detail) = (self.store.clone(), status.message().to_owned());
        if let Some(error) = credentials_error(status) {
            return DocumentsError::Credentials { store, detail: connect::told(error) };
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => DocumentsError::Refused { store, what, detail },
            Code::NotFound => DocumentsError::NoDatabase { store, detail },
            Code::FailedPrecondition if detail.contains("index") => DocumentsError::NotProvisioned { store, detail },
            Code::ResourceExhausted => DocumentsError::Throttled { store, detail, waited_ms: 0 },
            code if is_transient(code) => DocumentsError::Unavailable { store, what, detail: format!("{code:?}: {detail}") },
            code => DocumentsError::Rejected { store, what: what.to_owned(), detail: format!("{code:?}: {detail}") },
        }
    }

    pub(super) fn document(&self, what: String, source: serde_json::Error) -> DocumentsError {
        DocumentsError::Document { store: self.store.clone(), what, source }
    }
}

/// Whether the same call may succeed a little later.
pub(super) const fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
    )
}

/// Something that is tried until it succeeds, cannot, or `retry_max_ms` is over.
pub(super) struct Retrying<'r> {
    rpc: &'r Rpc,
    what: &'static str,
    begun: Instant,
    backoff: Backoff,
}

impl Retrying<'_> {
    /// Waits before the next try.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) async fn again(&mut self, status: Status) -> Result<(), DocumentsError> {
        if status.code() == Code::ResourceExhausted {
            FirestoreCounters::add(&self.rpc.counters.throttled, 1);
        }
        let wait = self.backoff.next_wait();
        let waited = self.begun.elapsed();
        let is_final = !is_transient(status.code()) || credentials_error(&status).is_some();
        if !is_final && waited + wait <= self.rpc.retry_max {
            tracing::debug!(what = self.what, code = ?status.code(), failures = self.backoff.failures(), "trying again");
            tokio::time::sleep(wait).await;
            return Ok(());
        }
        Err(match self.rpc.failed(self.what, &status) {
            DocumentsError::Throttled { store, detail, .. } => {
                DocumentsError::Throttled { store, detail, waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
            }
            error => error,
        })
    }
}

/// The SDK's own error behind a status, where it is for lack of a token and waiting does not bring one.
fn credentials_error(status: &Status) -> Option<&SdkError> {
    let mut next = status.source();
    while let Some(error) = next {
        let sdk = error.downcast_ref::<SdkError>().or_else(|| error.downcast_ref::<Box<SdkError>>().map(|boxed| &**boxed));
        if let Some(sdk) = sdk {
            let is_transient = matches!(sdk.kind(), firestore::gcloud_sdk::error::ErrorKind::Credentials(error) if error.is_transient());
            return (!is_transient).then_some(sdk);
        }
        next = error.source();
    }
    None
}

async fn collect<T>(mut answers: Streaming<T>, mut each: impl FnMut(T)) -> Result<(), Status> {
    while let Some(answer) = answers.message().await? {
        each(answer);
    }
    Ok(())
}

fn mask(fields: &[&str]) -> DocumentMask {
    DocumentMask { field_paths: fields.iter().map(|&field| field.to_owned()).collect() }
}
