//! The admin listener: is it alive, can it store, what does it count, and the commands that need the running gateway.
//!
//! | path | what |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 when a push can be stored now, else 503; sinks never change it, its JSON names the sick ones |
//! | `GET /metrics` | see [`metrics`](crate::metrics) |
//! | `GET /api/v1/lanes` | every lane, parked ones too |
//! | `GET /api/v1/trace?session=…`, `?uuid=…`, `?number=…` | the life of pushes; with `after` and `limit` in pages |
//! | `GET /api/v1/senders` | who passed since the start only because of `allow: { mode: log }`, with the networks that are allowed |
//! | `POST /api/v1/reload` | reads the configuration again |
//! | `POST /api/v1/sinks/{sink}/retire`, `…/rename` | of a parked one; the body of the latter `{"to":"new-name"}` |
//! | `GET /api/v1/replays` | those under way, and those that were over since the start |
//! | `POST /api/v1/replays` | begins one: `{"sink":"crm","from":…,"to":…,"where":…,"rate":"10/s"}` |
//! | `POST /api/v1/replays/{number}/cancel` | ends it where it is |
//! | `POST /api/v1/dead/{sink}/find` | body `{"after":0,"which":{…}}`, see [`Which`](crate::dead::Which); a [`Page`](crate::dead::Page) of dead letters |
//! | `POST /api/v1/dead/{sink}/retry`, `…/discard` | body `{"positions":[…]}`; the answer too, and whether the sink is parked |
//! | `POST /api/v1/quarantine/retry` | body `{"positions":[…]}`; which of them are pushes now, and why the others are none |
//! | `POST /api/v1/quarantine/discard` | body `{"positions":[…]}`; the answer too |
//!
//! Without a token no web page is answered there. On a listener that is not loopback, `/metrics` and `/api` ask for `Authorization: Bearer` with `admin.token`.

mod dead;
mod quarantine;
mod replays;
mod senders;
mod trace;

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::{Position, SinkName};
use cdr_dispatch::{LaneSnapshot, RenameError, RetireError, lane::UnmendedNow};
use cdr_spool::{ControlError, Health};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
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
    if !open && settings.token.is_none() && is_of_a_page(&request) {
        return told(
            StatusCode::FORBIDDEN,
            "no web page may ask without admin.token; ask for 127.0.0.1 or localhost",
        );
    }
    match (request.method(), &parts[..]) {
        (&Method::GET, ["healthz"]) => told(StatusCode::OK, "alive"),
        (&Method::GET, ["readyz"]) => ready(engine),
        (&Method::GET, ["metrics"]) => page(metrics::text(engine)),
        (&Method::GET, ["api", "v1", "lanes"]) => json_answer(StatusCode::OK, &lanes(engine)),
        (&Method::GET, ["api", "v1", "trace"]) => trace::trace(engine, request.uri().query()).await,
        (&Method::GET, ["api", "v1", "senders"]) => json_answer(StatusCode::OK, &senders::list(engine)),
        (&Method::POST, ["api", "v1", "reload"]) => reload(engine).await,
        (&Method::POST, ["api", "v1", "dead", sink, "find"]) => dead::find(engine, sink, request).await,
        (&Method::POST, ["api", "v1", "dead", sink, verb @ ("retry" | "discard")]) => {
            dead::decide(engine, sink, verb, request).await
        }
        (&Method::POST, ["api", "v1", "quarantine", "retry"]) => quarantine::retry(engine, request).await,
        (&Method::POST, ["api", "v1", "quarantine", "discard"]) => quarantine::discard(engine, request).await,
        (&Method::POST, ["api", "v1", "sinks", sink, "retire"]) => retire(engine, sink).await,
        (&Method::POST, ["api", "v1", "sinks", sink, "rename"]) => rename(engine, sink, request).await,
        (&Method::GET, ["api", "v1", "replays"]) => json_answer(StatusCode::OK, &replays::list(engine)),
        (&Method::POST, ["api", "v1", "replays"]) => replays::begin(engine, request).await,
        (&Method::POST, ["api", "v1", "replays", number, "cancel"]) => replays::cancel(engine, number).await,
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

/// Whether a page in a browser on this machine asks: it says where it is from, or has let a name of its own point to loopback.
/// Such a page could discard dead letters, or read numbers.
fn is_of_a_page(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let is_ours = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        host.parse::<IpAddr>().or_else(|_| name.trim_matches(['[', ']']).parse()).is_ok()
            || name == "localhost"
    };
    request.headers().contains_key(header::ORIGIN) || host.is_some_and(|host| !is_ours(host))
}

/// Can a push be stored now? Nothing else counts.
fn ready(engine: &Arc<Engine>) -> Answer {
    let spool = engine.dispatcher.pushes().spool();
    let reason = match &spool.health() {
        _ if engine.is_stopping() => Some("the gateway is stopping".to_owned()),
        Health::Ok => None,
        Health::Full { owed, max_size } => {
            let holder = spool.holders().into_iter().next();
            let most = holder.map(|holder| format!("; {} holds most", holder.lane)).unwrap_or_default();
            Some(format!("the spool is full: {owed} bytes are owed to sinks, {max_size} are allowed{most}"))
        }
        Health::Failing { reason, .. } => Some(format!("the spool cannot write: {reason}")),
    };
    let mut sick: Vec<Value> =
        engine.dispatcher.lanes().into_iter().flat_map(|(sink, lane)| sick(&sink, lane)).collect();
    sick.extend(engine.dispatcher.unmended().into_iter().map(unmended));
    let parked: Vec<String> = engine.dispatcher.parked().into_iter().map(|lane| lane.name).collect();
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(
        status,
        &json!({ "ready": reason.is_none(), "reason": reason, "sick_sinks": sick, "parked": parked }),
    )
}

/// What keeps a lane from its work: its sink is away, or the disk does not give its pushes.
fn sick(sink: &SinkName, lane: LaneSnapshot) -> Vec<Value> {
    let paused = lane.now.paused.map(|paused| (paused.since, paused.reason));
    let unreadable = lane.now.unreadable.map(|unreadable| {
        (
            unreadable.since,
            format!("{} of its pushes cannot be read: {}", unreadable.pushes, unreadable.reason),
        )
    });
    let told = |(since, reason)| json!({ "sink": sink.as_str(), "since": since, "reason": reason });
    [paused, unreadable].into_iter().flatten().map(told).collect()
}

/// What of a lane waits for a person.
fn unmended((lane, now): (String, UnmendedNow)) -> Value {
    let reason = format!("{} of its pushes wait for a person: {}", now.pushes, now.reason);
    json!({ "sink": lane, "since": now.since, "reason": reason })
}

fn unmended_of(lane: &LaneSnapshot) -> Option<Value> {
    let now = lane.now.unmended.as_ref()?;
    Some(json!({ "since": now.since, "pushes": now.pushes, "reason": now.reason }))
}

fn lanes(engine: &Arc<Engine>) -> Value {
    let end = engine.dispatcher.pushes().end().0;
    let now_ms = Timestamp::now().as_millisecond();
    let lane = |(sink, lane): (SinkName, LaneSnapshot)| {
        let unmended = unmended_of(&lane);
        let paused = lane.now.paused.map(|paused| {
            let probe_in = paused.probe_at.saturating_duration_since(Instant::now());
            json!({ "since": paused.since, "reason": paused.reason, "probe_in_s": probe_in.as_secs_f64() })
        });
        let held = lane.now.held_back;
        let rate_limit = held.rate.map(|rate| {
            json!({ "rate": rate.to_string(), "holds_back": held.since.is_some(), "held_back_s": held.total().as_secs_f64() })
        });
        json!({
            "sink": sink.as_str(), "paused": paused, "rate_limit": rate_limit, "unread": end.saturating_sub(lane.now.next),
            "open": lane.now.open, "waiting": lane.now.waiting, "trying": lane.now.trying,
            "unreadable": lane.now.unreadable.map_or(0, |unreadable| unreadable.pushes), "unmended": unmended, "delivered": lane.delivered, "failed": lane.failed,
            "dead": lane.died, "last_failure": lane.now.last_failure,
            "oldest_undelivered_s": lane.now.oldest_received_at_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1e3),
        })
    };
    let parked = |lane: cdr_dispatch::Parked| json!({ "name": lane.name, "set_aside_of": lane.set_aside_of, "unread": lane.unread, "open": lane.open, "why": lane.why });
    // What a renamed sink left is owed like what any lane owes; a replay is not.
    let (replays, left): (Vec<_>, Vec<_>) =
        engine.dispatcher.errands().into_iter().partition(|errand| errand.replay().is_some());
    json!({
        "lanes": engine.dispatcher.lanes().into_iter().map(lane).chain(left.iter().filter_map(replays::as_lane)).collect::<Vec<_>>(),
        "replays": replays.iter().filter_map(replays::as_lane).collect::<Vec<_>>(),
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
        Err(error @ RetireError::Ending(_)) => told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(RetireError::Spool(error)) => not_decided(&error),
    }
}

#[derive(Deserialize)]
struct NewName {
    to: String,
}

async fn rename(engine: &Arc<Engine>, old: &str, request: Request<Incoming>) -> Answer {
    let NewName { to } = match body(request, r#"{"to":"new-name"}"#).await {
        Ok(name) => name,
        Err(answer) => return answer,
    };
    match engine.dispatcher.rename(old, &to).await {
        Ok(lanes) => {
            let parked = engine.dispatcher.parked().iter().any(|lane| lanes.contains(&lane.name));
            json_answer(StatusCode::OK, &json!({ "lanes": lanes, "parked": parked }))
        }
        Err(error @ RenameError::Configured(_)) => told(StatusCode::CONFLICT, &error.to_string()),
        Err(error @ RenameError::NoName { .. }) => told(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(RenameError::Spool(error @ (ControlError::LaneExists { .. } | ControlError::Beside { .. }))) => {
            told(StatusCode::CONFLICT, &error.to_string())
        }
        Err(error @ RenameError::Ending(_)) => told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(RenameError::Spool(error)) => not_decided(&error),
    }
}

/// The positions that the body of a command names.
async fn positions(request: Request<Incoming>) -> Result<Vec<Position>, Answer> {
    body::<Positions>(request, "{\"positions\":[…]}").await.map(|read| read.positions)
}

/// The body of a command, which looks as `expected` does.
async fn body<T: DeserializeOwned>(request: Request<Incoming>, expected: &str) -> Result<T, Answer> {
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let body =
        body.map_err(|error| told(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| told(StatusCode::BAD_REQUEST, &format!("expected {expected}: {error}")))
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
