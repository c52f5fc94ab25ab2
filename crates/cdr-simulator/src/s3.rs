//! An S3 server on loopback: checks signatures (SigV4) and bodies against their signed SHA-256, holds what it
//! got in memory, counts how often each key was written, and misbehaves on request.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use cdr_simulator::s3::{Keys, Mishap, S3Receiver};
//!
//! let s3 = S3Receiver::start(0, &["archive"], Keys::new("AKDEMO", "secret")).await?;
//! s3.next(2, Mishap::slow_down());
//! // … somebody uploads to s3.endpoint() …
//! for object in s3.objects("archive") {
//!     println!("{}: {} bytes, written {} times", object.key, object.bytes.len(), object.puts);
//! }
//! # Ok(()) }
//! ```
//!
//! Buckets are reached by path (`http://127.0.0.1:PORT/bucket/key`) and by virtual host
//! (`http://bucket.localhost:PORT/key`, for whom that name resolves).

mod store;

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{
    HttpResponse, S3Error, S3ErrorCode, S3Result,
    auth::{S3Auth, SecretKey},
    host::MultiDomain,
    service::{S3Service, S3ServiceBuilder},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use store::Store;
pub use store::{Kept, Object};

/// Where the token of temporary keys stands.
const SESSION_TOKEN: &str = "x-amz-security-token";

/// The one pair of keys that the receiver knows.
#[derive(Clone, Default)]
pub struct Keys {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// What must be signed and sent beside them, when they are temporary.
    pub session_token: Option<String>,
}

impl Keys {
    /// A pair of keys.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into(), session_token: None }
    }

    /// Temporary ones, which are nothing without their token.
    pub fn temporary(
        id: impl Into<String>,
        secret: impl Into<String>,
        session_token: impl Into<String>,
    ) -> Self {
        Self { session_token: Some(session_token.into()), ..Self::new(id, secret) }
    }

    /// Whether a request bears the token that belongs to them, under its signature.
    fn has_token(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(SESSION_TOKEN).map(HeaderValue::as_bytes);
        let signed = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match &self.session_token {
            Some(token) => sent == Some(token.as_bytes()) && signed.contains(SESSION_TOKEN),
            // Permanent ones need none.
            None => true,
        }
    }
}

/// What happens to a request instead of its due answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// It is answered with this status and S3 error code, and nothing is stored.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The code in the XML, such as `SlowDown`.
        code: &'static str,
        /// Seconds in a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// It is never answered.
    Hang,
    /// The connection is cut after the first piece of its body; nothing is stored.
    Cut,
    /// It is served, and the connection is cut instead of the answer.
    LoseAnswer,
}

impl Mishap {
    /// S3's throttling: 503 `SlowDown`.
    pub const fn slow_down() -> Self {
        Self::answer(503, "SlowDown")
    }

    /// An answer of this status and S3 error code.
    pub const fn answer(status: u16, code: &'static str) -> Self {
        Self::Answer { status, code, retry_after: None }
    }
}

/// A running S3 server; it stops when dropped.
pub struct S3Receiver {
    address: SocketAddr,
    state: Arc<State>,
    service: S3Service,
    server: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Default)]
struct State {
    store: Store,
    keys: Mutex<Keys>,
    /// None is a request that is served.
    mishaps: Mutex<VecDeque<Option<Mishap>>>,
    ignores_conditions: AtomicBool,
    requests: AtomicU64,
}

impl S3Receiver {
    /// Starts on loopback with these buckets, empty; port 0 takes a free one.
    ///
    /// # Errors
    /// The port cannot be had.
    pub async fn start(port: u16, buckets: &[&str], keys: Keys) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { keys: Mutex::new(keys), ..State::default() });
        let domain = MultiDomain::new([format!("localhost:{}", address.port())]).map_err(io::Error::other)?;
        let mut builder = S3ServiceBuilder::new(store::Face(state.clone()));
        builder.set_host(domain);
        builder.set_auth(KnownKeys(state.clone()));
        let receiver = Self { address, state, service: builder.build(), server: Mutex::default() };
        for bucket in buckets {
            receiver.create_bucket(bucket);
        }
        receiver.serve(listener);
        Ok(receiver)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its endpoint, for settings.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a bucket holds, in the order of keys; nothing when there is no such bucket.
    pub fn objects(&self, bucket: &str) -> Vec<Object> {
        self.state.store.objects(bucket)
    }

    /// How many uploads in parts were begun and neither finished nor aborted.
    pub fn unfinished(&self) -> usize {
        self.state.store.unfinished()
    }

    /// How many requests came, misfortunate ones included.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Knows these keys from now on, and no others.
    pub fn know(&self, keys: Keys) {
        *lock(&self.state.keys) = keys;
    }

    /// Makes an empty bucket, if there is none of this name.
    pub fn create_bucket(&self, bucket: &str) {
        self.state.store.create_bucket(bucket);
    }

    /// Removes a bucket with all that it holds.
    pub fn delete_bucket(&self, bucket: &str) {
        self.state.store.delete_bucket(bucket);
    }

    /// Puts an object there without a request, as somebody else would: no metadata.
    pub fn plant(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.state.store.plant(bucket, key, bytes);
    }

    /// The next `count` requests, after those already spoken for, meet this.
    pub fn next(&self, count: usize, mishap: Mishap) {
        lock(&self.state.mishaps).extend(std::iter::repeat_n(Some(mishap), count));
    }

    /// As [`next`](Self::next), behind `served` requests that are served as is due.
    pub fn after(&self, served: usize, mishap: Mishap) {
        lock(&self.state.mishaps).extend(std::iter::repeat_n(None, served).chain([Some(mishap)]));
    }

    /// Forgets the mishaps that are still to come.
    pub fn behave(&self) {
        lock(&self.state.mishaps).clear();
    }

    /// Whether conditions such as `If-None-Match: *` are accepted and ignored, as some servers do.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.state.ignores_conditions.store(ignore, Ordering::Relaxed);
    }

    /// Closes the port and every connection; what it holds stays.
    pub async fn go_away(&self) {
        let Some(server) = lock(&self.server).take() else { return };
        server.abort();
        // An error here is the abort itself: the task is over, and its sockets with it.
        let _ = server.await;
    }

    /// Listens on the same port again.
    ///
    /// # Errors
    /// Somebody else took the port.
    pub async fn come_back(&self) -> io::Result<()> {
        self.go_away().await;
        let listener = TcpListener::bind(self.address).await?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let accepting = accept(listener, self.state.clone(), self.service.clone());
        *lock(&self.server) = Some(AbortOnDropHandle::new(tokio::spawn(accepting)));
    }
}

/// Serves until aborted; its connections end with it.
async fn accept(listener: TcpListener, state: Arc<State>, service: S3Service) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(connection(stream, state.clone(), service.clone()));
            }
            Some(_) = connections.join_next() => {}
            else => tokio::task::yield_now().await,
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, service: S3Service) {
    let answering = service_fn(|request| answer(request, &state, &service));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await {
        tracing::debug!(%error, "s3 connection ended");
    }
}

/// An error makes hyper cut the connection.
async fn answer(
    mut request: http::Request<Incoming>,
    state: &State,
    service: &S3Service,
) -> Result<HttpResponse, io::Error> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    let mishap = lock(&state.mishaps).pop_front().flatten();
    match mishap {
        None if !lock(&state.keys).has_token(request.headers()) => {
            let _ = request.into_body().collect().await;
            misfortune(400, "InvalidToken", None).map_err(io::Error::other)
        }
        None => serve(service, request).await,
        Some(Mishap::Hang) => std::future::pending().await,
        Some(Mishap::Cut) => {
            let _ = request.body_mut().frame().await;
            Err(io::Error::other("cut on request"))
        }
        Some(Mishap::LoseAnswer) => {
            serve(service, request).await?;
            Err(io::Error::other("answer lost on request"))
        }
        Some(Mishap::Answer { status, code, retry_after }) => {
            // The body is read first, as real servers do: a client that still writes sees a reset instead.
            let _ = request.into_body().collect().await;
            misfortune(status, code, retry_after).map_err(io::Error::other)
        }
    }
}

async fn serve(service: &S3Service, request: http::Request<Incoming>) -> Result<HttpResponse, io::Error> {
    let request = request.map(s3s::Body::from);
    service
        .call(request)
        .await
        .map_err(|error| io::Error::other(Box::<dyn std::error::Error + Send + Sync>::from(error)))
}

fn misfortune(status: u16, code: &'static str, retry_after: Option<u32>) -> S3Result<HttpResponse> {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), "made up by the simulator");
    error.set_status_code(
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR),
    );
    let mut response = error.to_http_response()?;
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

struct KnownKeys(Arc<State>);

#[async_trait::async_trait]
impl S3Auth for KnownKeys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        let keys = lock(&self.0.keys);
        match id == keys.id {
            true => Ok(SecretKey::from(keys.secret.as_str())),
            false => {
                Err(s3s::s3_error!(InvalidAccessKeyId, "the access key id does not exist in our records"))
            }
        }
    }
}

/// A panic elsewhere does not make what is held here wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
