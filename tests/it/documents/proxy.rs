//! A server between the engine and the emulator: it passes calls on, and answers some of them as Firestore does on a bad day. Index settings,
//! which the emulator has not, it keeps itself.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use firestore::gcloud_sdk::google::firestore::admin::v1 as admin;
use firestore::gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use firestore::gcloud_sdk::google::firestore::v1::{BatchWriteRequest, BatchWriteResponse, WriteResult};
use firestore::gcloud_sdk::google::longrunning::Operation;
use firestore::gcloud_sdk::google::rpc;
use firestore::gcloud_sdk::prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

/// What happens to one call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Answered with this and not passed on.
    Refuse(Code, &'static str),
    /// Passed on; then the answer is lost, and this comes in its place. Only of `BatchWrite`.
    Lose(Code),
    /// Of a `BatchWrite`: the writes at these places are not passed on, and have this status; the others are.
    Writes(Code, fn(usize) -> bool),
    /// Never answered.
    Hang,
}

/// The server; it ends with this value.
pub(super) struct Proxy {
    /// `127.0.0.1:port`.
    pub(super) address: String,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    faults: VecDeque<(&'static str, Fault)>,
    calls: HashMap<String, usize>,
    fields: HashMap<String, admin::Field>,
    indexes: Vec<admin::Index>,
}

impl Proxy {
    /// Listens, in front of the emulator at `upstream`.
    pub(super) async fn start(upstream: &str) -> Self {
        let upstream = Channel::from_shared(format!("http://{upstream}")).unwrap().connect().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let front = Front { upstream, shared: shared.clone() };
        let server = Server::builder().add_service(front).add_service(Settings { shared: shared.clone() });
        let task = tokio::spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self { address, shared, task }
    }

    /// The next call of `method` meets this; of several, one call after the other.
    pub(super) fn fault(&self, method: &'static str, fault: Fault) {
        self.shared.lock().unwrap().faults.push_back((method, fault));
    }

    /// Calls of `method` so far.
    pub(super) fn calls(&self, method: &str) -> usize {
        self.shared.lock().unwrap().calls.get(method).copied().unwrap_or(0)
    }

    /// What was not met yet does not happen.
    pub(super) fn forget_faults(&self) {
        self.shared.lock().unwrap().faults.clear();
    }

    /// Changes the settings of a field behind everybody's back.
    pub(super) fn set_field(&self, field: admin::Field) {
        self.shared.lock().unwrap().fields.insert(field.name.clone(), field);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// The documents.
#[derive(Clone)]
struct Front {
    upstream: Channel,
    shared: Arc<Mutex<Shared>>,
}

impl NamedService for Front {
    const NAME: &'static str = "google.firestore.v1.Firestore";
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let method = method(&request);
        let mut shared = self.shared.lock().unwrap();
        *shared.calls.entry(method.clone()).or_default() += 1;
        let at = shared.faults.iter().position(|(of, _)| *of == method);
        let fault = at.and_then(|at| shared.faults.remove(at)).map(|(_, fault)| fault);
        drop(shared);
        let mut upstream = self.upstream.clone();
        Box::pin(async move {
            Ok(match fault {
                None => match upstream_ready(&mut upstream).await {
                    Ok(()) => upstream.call(request).await.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()),
                    Err(status) => status.into_http(),
                },
                Some(Fault::Refuse(code, message)) => Status::new(code, message).into_http(),
                Some(Fault::Hang) => pending().await,
                Some(fault) => Grpc::new(ProstCodec::default()).unary(BatchWrite { upstream, fault }, request).await,
            })
        })
    }
}

async fn upstream_ready(upstream: &mut Channel) -> Result<(), Status> {
    std::future::poll_fn(|context| Service::<http::Request<Body>>::poll_ready(upstream, context))
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}

/// A `BatchWrite` that meets a fault.
struct BatchWrite {
    upstream: Channel,
    fault: Fault,
}

impl UnaryService<BatchWriteRequest> for BatchWrite {
    type Response = BatchWriteResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<BatchWriteResponse>, Status>> + Send>>;

    fn call(&mut self, mut request: Request<BatchWriteRequest>) -> Self::Future {
        let (mut upstream, fault) = (FirestoreClient::new(self.upstream.clone()), self.fault);
        Box::pin(async move {
            let Fault::Writes(code, is_refused) = fault else {
                let Fault::Lose(code) = fault else { unreachable!("the others are answered before") };
                upstream.batch_write(request).await?;
                return Err(Status::new(code, "the answer is lost"));
            };
            let count = request.get_ref().writes.len();
            let mut place = 0..count;
            request.get_mut().writes.retain(|_| !is_refused(place.next().unwrap()));
            let passed = if request.get_ref().writes.is_empty() {
                BatchWriteResponse::default()
            } else {
                upstream.batch_write(request).await?.into_inner()
            };
            let mut passed = passed.write_results.into_iter().zip(passed.status);
            let refused =
                || (WriteResult::default(), rpc::Status { code: code.into(), message: "not now".to_owned(), details: Vec::new() });
            let all = (0..count).map(|place| if is_refused(place) { refused() } else { passed.next().unwrap() });
            let (write_results, status) = all.unzip();
            Ok(Response::new(BatchWriteResponse { write_results, status }))
        })
    }
}

/// Index settings and TTL policies, in memory.
#[derive(Clone)]
struct Settings {
    shared: Arc<Mutex<Shared>>,
}

impl NamedService for Settings {
    const NAME: &'static str = "google.firestore.admin.v1.FirestoreAdmin";
}

impl Service<http::Request<Body>> for Settings {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let shared = self.shared.clone();
        *shared.lock().unwrap().calls.entry(method(&request)).or_default() += 1;
        Box::pin(async move {
            Ok(match method(&request).as_str() {
                "GetField" => unary(request, |get: admin::GetFieldRequest| Ok(stored(&shared.lock().unwrap(), &get.name))).await,
                "UpdateField" => unary(request, |update| update_field(&mut shared.lock().unwrap(), update)).await,
                "ListIndexes" => {
                    let list = |_: admin::ListIndexesRequest| {
                        Ok(admin::ListIndexesResponse { indexes: shared.lock().unwrap().indexes.clone(), ..Default::default() })
                    };
                    unary(request, list).await
                }
                "CreateIndex" => {
                    let create = |create: admin::CreateIndexRequest| {
                        let mut index = create.index.unwrap();
                        // Firestore ends every index with the document's name.
                        let last = index.fields.last().unwrap().clone();
                        index.fields.push(admin::index::IndexField { field_path: "__name__".to_owned(), ..last });
                        shared.lock().unwrap().indexes.push(index);
                        Ok(Operation::default())
                    };
                    unary(request, create).await
                }
                _ => Status::unimplemented("not here").into_http(),
            })
        })
    }
}

/// A field that nobody changed has the settings of all fields.
fn stored(shared: &Shared, name: &str) -> admin::Field {
    let inherited = admin::field::IndexConfig { uses_ancestor_config: true, ..Default::default() };
    let default = || admin::Field { name: name.to_owned(), index_config: Some(inherited), ttl_config: None };
    shared.fields.get(name).cloned().unwrap_or_else(default)
}

fn update_field(shared: &mut Shared, update: admin::UpdateFieldRequest) -> Result<Operation, Status> {
    let wanted = update.field.unwrap();
    let mut field = stored(shared, &wanted.name);
    for path in update.update_mask.unwrap().paths {
        match path.as_str() {
            "index_config" => field.index_config.clone_from(&wanted.index_config),
            "ttl_config" => field.ttl_config.clone_from(&wanted.ttl_config),
            path => return Err(Status::invalid_argument(path)),
        }
    }
    shared.fields.insert(field.name.clone(), field);
    Ok(Operation::default())
}

struct Unary<F>(F);

impl<Q, A, F> UnaryService<Q> for Unary<F>
where
    F: FnMut(Q) -> Result<A, Status>,
    A: Send + 'static,
{
    type Response = A;
    type Future = std::future::Ready<Result<Response<A>, Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        std::future::ready((self.0)(request.into_inner()).map(Response::new))
    }
}

async fn unary<Q, A, F>(request: http::Request<Body>, answer: F) -> http::Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Default + Send + 'static,
    F: FnMut(Q) -> Result<A, Status> + Send,
{
    Grpc::new(ProstCodec::<A, Q>::default()).unary(Unary(answer), request).await
}

fn method(request: &http::Request<Body>) -> String {
    request.uri().path().rsplit('/').next().unwrap_or_default().to_owned()
}
