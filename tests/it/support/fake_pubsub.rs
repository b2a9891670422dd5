//! A Pub/Sub that does what the emulator never would: refuses, falls silent, loses answers, breaks streams. In process, on a free port.
//!
//! gRPC and REST on one port, as the emulator has it. What publishes get is a function of the test's; streams are driven by hand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::{
    AcknowledgeRequest, ModifyAckDeadlineRequest, PublishRequest, PublishResponse, PubsubMessage, ReceivedMessage, StreamingPullRequest,
    StreamingPullResponse,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Longest wait for something that should happen.
const LIMIT: Duration = Duration::from_secs(20);

/// What a publish request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is taken and confirmed.
    Confirmed,
    /// It is not taken.
    Refused(Code),
    /// It is taken, and the answer says that it is not.
    Lost(Code),
    /// It is taken, and the answer names one message fewer.
    ShortByOne,
    /// It is taken, and confirmed so much later.
    Late(Duration),
    /// There is no answer, ever.
    Silence,
}

/// Decides on a publish request by its number, from 0, and its messages.
pub(crate) type OnPublish = Box<dyn FnMut(usize, &[PubsubMessage]) -> Answer + Send>;

/// The server. It ends with the value.
pub(crate) struct FakePubSub {
    address: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    inner: Mutex<Inner>,
    /// Rings whenever something happened.
    changed: watch::Sender<u64>,
}

struct Inner {
    on_publish: OnPublish,
    requests: usize,
    connections: usize,
    /// What comes over a connection with a smaller number is never answered.
    swallows_before: usize,
    keeps: bool,
    taken: Vec<PubsubMessage>,
    streams: Vec<Stream>,
    /// What the next streams get instead of being opened.
    refuses_streams: Option<Code>,
    acked: Vec<String>,
    refuses_acks: Option<Code>,
    deadlines: Vec<(String, i32)>,
    subscriptions: HashMap<String, Result<Value, u16>>,
    seeks: Vec<(String, Value)>,
}

/// One streaming pull.
#[derive(Clone)]
pub(crate) struct Stream {
    /// What opened it.
    pub(crate) opened: StreamingPullRequest,
    out: mpsc::Sender<Result<StreamingPullResponse, Status>>,
}

impl FakePubSub {
    /// A server on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// A server in the place of one that has ended.
    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let inner = Inner {
            on_publish: Box::new(|_, _| Answer::Confirmed),
            requests: 0,
            connections: 0,
            swallows_before: 0,
            keeps: true,
            taken: Vec::new(),
            streams: Vec::new(),
            refuses_streams: None,
            acked: Vec::new(),
            refuses_acks: None,
            deadlines: Vec::new(),
            subscriptions: HashMap::new(),
            seeks: Vec::new(),
        };
        let state = Arc::new(State { inner: Mutex::new(inner), changed: watch::Sender::new(0) });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    /// Ends it, and waits until its port is free.
    pub(crate) async fn end(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// From now on publish requests get what this says.
    pub(crate) fn on_publish(&self, answer: impl FnMut(usize, &[PubsubMessage]) -> Answer + Send + 'static) {
        self.state.lock().on_publish = Box::new(answer);
    }

    /// From now on what is taken is not kept, so that memory is the publisher's alone.
    pub(crate) fn keep_nothing(&self) {
        self.state.lock().keeps = false;
    }

    /// The data of the messages that were taken, in order.
    pub(crate) fn taken(&self) -> Vec<String> {
        self.state.lock().taken.iter().map(|message| String::from_utf8_lossy(&message.data).into_owned()).collect()
    }

    /// The messages that were taken, in order.
    pub(crate) fn messages(&self) -> Vec<PubsubMessage> {
        self.state.lock().taken.clone()
    }

    /// Publish requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().requests
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Whatever comes over the connections there are is swallowed; new ones work.
    pub(crate) fn swallow_old_connections(&self) {
        let mut state = self.state.lock();
        state.swallows_before = state.connections;
    }

    /// A subscription that the REST side knows.
    pub(crate) fn subscription(&self, path: &str, topic: &str) {
        let subscription = json!({"name": path, "topic": topic, "ackDeadlineSeconds": 10, "messageRetentionDuration": "3600s"});
        self.state.lock().subscriptions.insert(path.to_owned(), Ok(subscription));
    }

    /// A subscription that the REST side answers with an error for.
    pub(crate) fn subscription_error(&self, path: &str, http_status: u16) {
        self.state.lock().subscriptions.insert(path.to_owned(), Err(http_status));
    }

    /// Seeks so far: subscription and body.
    pub(crate) fn seeks(&self) -> Vec<(String, Value)> {
        self.state.lock().seeks.clone()
    }

    /// What the next streams get: an error instead of being opened, or nothing of the kind.
    pub(crate) fn refuse_streams(&self, code: Option<Code>) {
        self.state.lock().refuses_streams = code;
    }

    /// Whether acks get an error, and are not taken.
    pub(crate) fn refuse_acks(&self, code: Option<Code>) {
        self.state.lock().refuses_acks = code;
    }

    /// Ids acked so far.
    pub(crate) fn acked(&self) -> Vec<String> {
        self.state.lock().acked.clone()
    }

    /// Ids nacked so far.
    pub(crate) fn nacked(&self) -> Vec<String> {
        self.deadlines().into_iter().filter(|(_, seconds)| *seconds == 0).map(|(id, _)| id).collect()
    }

    /// Deadlines set so far: id and seconds.
    pub(crate) fn deadlines(&self) -> Vec<(String, i32)> {
        self.state.lock().deadlines.clone()
    }

    /// The stream that was opened as number `number`, from 0; waits for it.
    pub(crate) async fn stream(&self, number: usize) -> Stream {
        self.wait(&format!("stream {number}"), |fake| fake.state.lock().streams.len() > number).await;
        self.state.lock().streams[number].clone()
    }

    /// Waits until something holds.
    pub(crate) async fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.state.changed.subscribe();
        let waited = tokio::time::timeout(LIMIT, async {
            while !holds(self) {
                changed.changed().await.expect("the sender lives in the state");
            }
        });
        assert!(waited.await.is_ok(), "{what} has not happened");
    }
}

impl Drop for FakePubSub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stream {
    /// Delivers messages; each one's data is also its ack id.
    pub(crate) async fn deliver(&self, texts: &[&str]) {
        self.deliver_again(texts, 1).await;
    }

    /// Delivers messages as the service says they were delivered before.
    pub(crate) async fn deliver_again(&self, texts: &[&str], attempt: i32) {
        let received = texts.iter().map(|text| ReceivedMessage {
            ack_id: (*text).to_owned(),
            message: Some(PubsubMessage { data: text.as_bytes().to_vec(), message_id: (*text).to_owned(), ..PubsubMessage::default() }),
            delivery_attempt: attempt,
        });
        let response = StreamingPullResponse { received_messages: received.collect(), ..StreamingPullResponse::default() };
        self.out.send(Ok(response)).await.expect("the stream is open");
    }

    /// Ends the stream with an error.
    pub(crate) async fn cut(&self, code: Code) {
        let _ = self.out.send(Err(Status::new(code, "cut by the test"))).await;
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a test's own closure does not panic")
    }

    fn ring(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut inner = state.lock();
            inner.connections += 1;
            inner.connections - 1
        };
        state.ring();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = hyper::service::service_fn(|request| serve(Arc::clone(&state), number, request));
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn serve(state: Arc<State>, connection: usize, request: hyper::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    if connection < state.lock().swallows_before {
        std::future::pending::<()>().await;
    }
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/google.pubsub.v1.Publisher/Publish" => Grpc::new(ProstCodec::default()).unary(Unary::new(&state, publish), request).await,
        "/google.pubsub.v1.Subscriber/Acknowledge" => {
            Grpc::new(ProstCodec::default()).unary(Unary::new(&state, acknowledge), request).await
        }
        "/google.pubsub.v1.Subscriber/ModifyAckDeadline" => {
            Grpc::new(ProstCodec::default()).unary(Unary::new(&state, modify), request).await
        }
        "/google.pubsub.v1.Subscriber/StreamingPull" => Grpc::new(ProstCodec::default()).streaming(Pull(state), request).await,
        _ => rest(&state, &path, request).await,
    })
}

async fn publish(state: Arc<State>, request: PublishRequest) -> Result<PublishResponse, Status> {
    let answer = {
        let mut inner = state.lock();
        let number = inner.requests;
        inner.requests += 1;
        let answer = (inner.on_publish)(number, &request.messages);
        if inner.keeps && !matches!(answer, Answer::Refused(_) | Answer::Silence) {
            inner.taken.extend(request.messages.iter().cloned());
        }
        answer
    };
    state.ring();
    let ids = |count: usize| Ok(PublishResponse { message_ids: (0..count).map(|id| id.to_string()).collect() });
    match answer {
        Answer::Confirmed => ids(request.messages.len()),
        Answer::ShortByOne => ids(request.messages.len() - 1),
        Answer::Refused(code) | Answer::Lost(code) => Err(Status::new(code, "said by the test")),
        Answer::Late(time) => {
            tokio::time::sleep(time).await;
            ids(request.messages.len())
        }
        Answer::Silence => std::future::pending().await,
    }
}

async fn acknowledge(state: Arc<State>, request: AcknowledgeRequest) -> Result<(), Status> {
    let refused = {
        let mut inner = state.lock();
        if inner.refuses_acks.is_none() {
            inner.acked.extend(request.ack_ids);
        }
        inner.refuses_acks
    };
    state.ring();
    refused.map_or(Ok(()), |code| Err(Status::new(code, "the ack is lost")))
}

async fn modify(state: Arc<State>, request: ModifyAckDeadlineRequest) -> Result<(), Status> {
    let ids = request.ack_ids.into_iter().map(|id| (id, request.ack_deadline_seconds));
    state.lock().deadlines.extend(ids);
    state.ring();
    Ok(())
}

/// A call with one request and one answer.
struct Unary<Function> {
    state: Arc<State>,
    function: Function,
}

impl<Function> Unary<Function> {
    fn new(state: &Arc<State>, function: Function) -> Self {
        Self { state: Arc::clone(state), function }
    }
}

impl<Function, Asked, Answered, Working> UnaryService<Asked> for Unary<Function>
where
    Function: Fn(Arc<State>, Asked) -> Working,
    Working: Future<Output = Result<Answered, Status>> + Send + 'static,
{
    type Response = Answered;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answered>, Status>> + Send>>;

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let working = (self.function)(Arc::clone(&self.state), request.into_inner());
        Box::pin(async move { working.await.map(Response::new) })
    }
}

/// The streaming pull. As with the service, nothing is answered before there is something to say: not even that the stream is open.
struct Pull(Arc<State>);

impl StreamingService<StreamingPullRequest> for Pull {
    type Response = StreamingPullResponse;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<StreamingPullRequest>>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let mut asked = request.into_inner();
            let opened = asked.message().await?.ok_or_else(|| Status::invalid_argument("an empty stream"))?;
            let refused = state.lock().refuses_streams;
            if let Some(code) = refused {
                state.ring();
                return Err(Status::new(code, "no stream for you"));
            }
            let (out, mut waiting) = mpsc::channel(64);
            state.lock().streams.push(Stream { opened, out });
            state.ring();
            let first = waiting.recv().await.ok_or_else(|| Status::unavailable("the test is over"))??;
            Ok(Response::new(Responses { first: Some(first), waiting, _asked: asked }))
        })
    }
}

struct Responses {
    first: Option<StreamingPullResponse>,
    waiting: mpsc::Receiver<Result<StreamingPullResponse, Status>>,
    /// The client's side stays open for its keepalives.
    _asked: Streaming<StreamingPullRequest>,
}

impl futures_util::Stream for Responses {
    type Item = Result<StreamingPullResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.waiting.poll_recv(context),
        }
    }
}

/// The little of REST that the engine asks for: one subscription, and a seek.
async fn rest(state: &Arc<State>, path: &str, request: hyper::Request<Incoming>) -> http::Response<Body> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = path.trim_start_matches("/v1/");
    let (status, answer) = match path.strip_suffix(":seek") {
        Some(subscription) => {
            let sought = serde_json::from_slice(&body).unwrap_or_default();
            state.lock().seeks.push((subscription.to_owned(), sought));
            (200, json!({}))
        }
        None => match state.lock().subscriptions.get(path) {
            Some(Ok(subscription)) => (200, subscription.clone()),
            Some(Err(status)) => (*status, error(*status)),
            None => (404, error(404)),
        },
    };
    state.ring();
    let response = http::Response::builder().status(status).header("content-type", "application/json");
    let body = Body::new(Full::from(answer.to_string()).map_err(|never| match never {}));
    response.body(body).expect("a plain response")
}

fn error(status: u16) -> Value {
    let name = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        _ => "UNAVAILABLE",
    };
    json!({"error": {"code": status, "message": "said by the test", "status": name}})
}
