//! The ways of events, as an OpenTelemetry collector is told them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::health::replayed::play;
use crate::pipeline::place::{LIMIT, Place};
use crate::support::redis::RedisServer;

/// What a collector was told: by whom, and what.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Told {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for told in request.into_inner().resource_spans {
            let about = told.resource.unwrap_or_default().attributes;
            let name = about.into_iter().find(|attribute| attribute.key == "service.name").and_then(|name| name.value);
            let Some(Value::StringValue(name)) = name.and_then(|name| name.value) else { return Err(Status::invalid_argument("whose?")) };
            let spans = told.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (name.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Told {
    /// Serves until the test ends; the address.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone())).serve_with_incoming(incoming));
        address
    }

    /// The spans, by their traces and names.
    fn traces(&self) -> BTreeMap<Vec<u8>, BTreeMap<String, (String, Span)>> {
        let mut traces: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (service, span) in self.0.lock().unwrap().iter().cloned() {
            traces.entry(span.trace_id.clone()).or_default().insert(span.name.clone(), (service, span));
        }
        traces
    }
}

/// Sends the recording through, and stops; each daemon has to end well.
async fn send_through(place: &Place) {
    let played = play(place).await;
    for daemon in [played.ingest, played.snapshot] {
        let ended = daemon.terminate(LIMIT);
        assert!(ended.status.success(), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_events_way_is_one_trace_over_both_daemons_and_carries_no_text() {
    let told = Told::default();
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "convpipe");
    place.config.trace.endpoint = Some(told.serve().await);
    place.config.trace.sample_ratio = 1.0;
    place.config.trace.queue_max = 100_000;
    send_through(&place).await;

    let events = told.0.lock().unwrap().iter().filter(|(_, span)| span.name == "ingest").count();
    assert!(events >= 606, "{events}: each event of the recording, those that are in it twice too");
    for trace in told.traces().values() {
        let of = |name: &str| trace.get(name).unwrap_or_else(|| panic!("no {name} in {trace:?}"));
        let (service, ingest) = of("ingest");
        assert_eq!((service.as_str(), ingest.parent_span_id.is_empty()), ("convpipe-ingest", true));
        for (name, by) in [("publish", "convpipe-ingest"), ("apply views", "convpipe-snapshot"), ("apply documents", "convpipe-snapshot")] {
            let (service, span) = of(name);
            assert_eq!((service.as_str(), &span.parent_span_id), (by, &ingest.span_id), "{name}");
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{name}");
        }
        for (_, span) in trace.values() {
            let keys: Vec<&str> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
            let ids = ["convpipe.event.id", "convpipe.event.kind", "convpipe.account", "convpipe.connection", "convpipe.frame_no"];
            assert_eq!(keys, ids, "ids and nothing that anybody wrote");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "convpipe");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    place.config.trace.endpoint = Some(format!("http://{gone}"));
    place.config.trace.sample_ratio = 1.0;
    place.config.trace.queue_max = 10;
    send_through(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_nothing_up() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "convpipe");
    // The kernel takes the connection; nobody ever reads from it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    place.config.trace.endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    place.config.trace.sample_ratio = 1.0;
    place.config.trace.queue_max = 10;
    send_through(&place).await;
}
