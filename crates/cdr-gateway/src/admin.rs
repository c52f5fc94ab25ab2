//! The admin listener: is it alive, can it store, what does it count, and the commands that need the running gateway.
//!
//! | path | what |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 when a push can be stored now, else 503; sinks never change it, its JSON names the sick ones |
//! | `GET /metrics` | see [`metrics`](crate::metrics) |
//! | `GET /api/v1/lanes` | every lane, parked ones too |
//! | `GET /api/v1/trace?session=…`, `?uuid=…`, `?number=…` | the life of pushes; with `after` and `limit` in pages |
//! | `POST /api/v1/reload` | reads the configuration again |
//! | `POST /api/v1/dead/{sink}/retry`, `…/discard` | body `{"positions":[…]}`; the answer too, and whether the sink is parked |
//!
//! On a listener that is not loopback, `/metrics` and `/api` ask for `Authorization: Bearer` with `admin.token`.

mod trace;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::Position;
use cdr_dispatch::RetireError;
use cdr_spool::{ControlError, Health};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::{net::TcpListener, time::Instant};
use tracing::{debug, warn};

use crate::{config::Admin, engine::Engine, metrics};

/// The largest body of a command.
pub(crate) const BODY_LIMIT: usize = 4 << 20;

type Answer = Response<Full<Bytes>>;

/// Serves until it is aborted: while the gateway stops, `/readyz` still says so.
pub async fn serve(listener: TcpListener, settings: Admin, engine: Arc<Engine>) {
    let settings = Arc::new(settings);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (engine, settings) = (Arc::clone(&engine), Arc::clone(&settings));
                tokio::spawn(connection(TokioIo::new(stream), engine, settings));
            }
            Err(error) => {
                warn!(%error, "the admin listener cannot accept; it tries again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connection(io: TokioIo<tokio::net::TcpStream>, engine: Arc<Engine>, settings: Arc<Admin>) {
    let service = service_fn(|request| {
        let (engine, settings) = (Arc::clone(&engine), Arc::clone(&settings));
        async move { Ok::<_, Infallible>(to_the_end(request, engine, settings).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    if let Err(error) = server.serve_connection(io, service).await {
        debug!(%error, "admin connection ended");
    }
}

/// Answers in a task of its own: hyper drops us when the client hangs up, and a reload or a decision must not stop
/// half-way.
async fn to_the_end(request: Request<Incoming>, engine: Arc<Engine>, settings: Arc<Admin>) -> Answer {
    let answered = tokio::spawn(async move { answer(request, &engine, &settings).await }).await;
    answered.unwrap_or_else(|error| {
        told(StatusCode::INTERNAL_SERVER_ERROR, &format!("the command was broken off: {error}"))
    })
}

async fn answer(request: Request<Incoming>, engine: &Arc<Engine>, settings: &Admin) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let open = matches!(parts[..], ["healthz" | "readyz"]);
    if !open && !is_allowed(&request, settings) {
        return told(StatusCode::UNAUTHORIZED, "this needs Authorization: Bearer with admin.token");
    }
    match (request.method(), &parts[..]) {
        (&Method::GET, ["healthz"]) => told(StatusCode::OK, "alive"),
        (&Method::GET, ["readyz"]) => ready(engine),
        (&Method::GET, ["metrics"]) => page(metrics::text(engine)),
        (&Method::GET, ["api", "v1", "lanes"]) => json_answer(StatusCode::OK, &lanes(engine)),
        (&Method::GET, ["api", "v1", "trace"]) => trace::trace(engine, request.uri().query()).await,
        (&Method::POST, ["api", "v1", "reload"]) => reload(engine).await,
        (&Method::POST, ["api", "v1", "dead", sink, verb @ ("retry" | "discard")]) => {
            decide_dead(engine, sink, verb, request).await
        }
        (&Method::POST, ["api", "v1", "quarantine", "discard"]) => discard_quarantine(engine, request).await,
        (&Method::POST, ["api", "v1", "sinks", sink, "retire"]) => retire(engine, sink).await,
        (_, ["healthz" | "readyz" | "metrics"] | ["api", "v1", ..]) => {
            told(StatusCode::METHOD_NOT_ALLOWED, "no such command, or another method")
        }
        _ => told(StatusCode::NOT_FOUND, "there are /healthz, /readyz, /metrics and /api/v1"),
    }
}

/// Without a token everybody on a loopback listener may ask; elsewhere the configuration insists on one.
fn is_allowed(request: &Request<Incoming>, settings: &Admin) -> bool {
    let Some(token) = &settings.token else { return settings.listen.ip().is_loopback() };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    given.as_bytes().ct_eq(token.expose().as_bytes()).into()
}

/// Can a push be stored now? Nothing else counts.
fn ready(engine: &Arc<Engine>) -> Answer {
    let spool = engine.dispatcher.pushes().spool().health();
    let reason = match &spool {
        _ if engine.is_stopping() => Some("the gateway is stopping".to_owned()),
        Health::Ok => None,
        Health::Full { owed, max_size } => {
            Some(format!("the spool is full: {owed} bytes are owed to sinks, {max_size} are allowed"))
        }
        Health::Failing { reason, .. } => Some(format!("the spool cannot write: {reason}")),
    };
    let sick: Vec<Value> = (engine.dispatcher.lanes().into_iter())
        .filter_map(|(sink, lane)| {
            let paused = lane.now.paused?;
            Some(json!({ "sink": sink.as_str(), "since": paused.since, "reason": paused.reason }))
        })
        .collect();
    let parked: Vec<String> = engine.dispatcher.parked().into_iter().map(|lane| lane.name).collect();
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(
        status,
        &json!({ "ready": reason.is_none(), "reason": reason, "sick_sinks": sick, "parked": parked }),
    )
}

fn lanes(engine: &Arc<Engine>) -> Value {
    let end = engine.dispatcher.pushes().end().0;
    let now_ms = Timestamp::now().as_millisecond();
    let lane = |(sink, lane): (cdr_core::SinkName, cdr_dispatch::LaneSnapshot)| {
        let paused = lane.now.paused.map(|paused| {
            let probe_in = paused.probe_at.saturating_duration_since(Instant::now());
            json!({ "since": paused.since, "reason": paused.reason, "probe_in_s": probe_in.as_secs_f64() })
        });
        json!({
            "sink": sink.as_str(), "paused": paused, "unread": end.saturating_sub(lane.now.next), "open": lane.now.open,
            "waiting": lane.now.waiting, "trying": lane.now.trying, "delivered": lane.delivered, "failed": lane.failed,
            "dead": lane.died, "last_failure": lane.now.last_failure,
            "oldest_undelivered_s": lane.now.oldest_received_at_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1e3),
        })
    };
    let parked = |lane: cdr_dispatch::Parked| json!({ "name": lane.name, "unread": end.saturating_sub(lane.next.0), "open": lane.open });
    json!({
        "lanes": engine.dispatcher.lanes().into_iter().map(lane).collect::<Vec<_>>(),
        "parked": engine.dispatcher.parked().into_iter().map(parked).collect::<Vec<_>>(),
    })
}

async fn reload(engine: &Arc<Engine>) -> Answer {
    match engine.reload().await {
        Ok(notes) => json_answer(StatusCode::OK, &json!({ "reloaded": true, "notes": notes })),
        Err(faults) => {
            json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "reloaded": false, "faults": faults }))
        }
    }
}

#[derive(Deserialize)]
struct Positions {
    positions: Vec<Position>,
}

async fn retire(engine: &Arc<Engine>, sink: &str) -> Answer {
    match engine.dispatcher.retire(sink).await {
        Ok(()) => told(StatusCode::OK, "retired"),
        Err(error @ RetireError::Configured) => told(StatusCode::CONFLICT, &error.to_string()),
        Err(RetireError::Spool(error)) => not_decided(&error),
    }
}

async fn discard_quarantine(engine: &Arc<Engine>, request: Request<Incoming>) -> Answer {
    let numbers = match positions(request).await {
        Ok(numbers) => numbers,
        Err(answer) => return answer,
    };
    match engine.dispatcher.discard_quarantine(&numbers).await {
        Ok(done) => json_answer(StatusCode::OK, &json!({ "positions": done })),
        Err(error) => not_decided(&error),
    }
}

async fn decide_dead(engine: &Arc<Engine>, sink: &str, verb: &str, request: Request<Incoming>) -> Answer {
    let positions = match positions(request).await {
        Ok(positions) => positions,
        Err(answer) => return answer,
    };
    let done = match verb {
        "retry" => engine.dispatcher.retry_dead(sink, &positions).await,
        _ => engine.dispatcher.discard_dead(sink, &positions).await,
    };
    match done {
        Ok(done) => {
            let parked = engine.dispatcher.parked().iter().any(|lane| lane.name == sink);
            json_answer(StatusCode::OK, &json!({ "positions": done, "parked": parked }))
        }
        Err(error) => not_decided(&error),
    }
}

/// The positions that the body of a command names.
async fn positions(request: Request<Incoming>) -> Result<Vec<Position>, Answer> {
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let body =
        body.map_err(|error| told(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")))?;
    let read = serde_json::from_slice::<Positions>(&body.to_bytes());
    read.map(|read| read.positions)
        .map_err(|error| told(StatusCode::BAD_REQUEST, &format!("expected {{\"positions\":[…]}}: {error}")))
}

fn not_decided(error: &ControlError) -> Answer {
    match error {
        ControlError::UnknownLane { .. } => told(StatusCode::NOT_FOUND, &error.to_string()),
        error => told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn told(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "message": message }))
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn page(text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    let kind = header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// Binds the admin listener.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(settings: &Admin) -> io::Result<TcpListener> {
    TcpListener::bind(settings.listen).await
}
