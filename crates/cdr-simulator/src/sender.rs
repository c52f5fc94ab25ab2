//! Pushes bodies to any URL as TCCC does; the load tool as well.
//!
//! What TCCC does, as far as it is published (product pages 679/67256 and 679/67257): a POST of one JSON
//! object to `{url}?action=cdr&version=1` with `Content-Type: application/json;charset=utf8` and
//! `X-TCCC-PUSH-UUID`, which names the push and is the same on its retries; optionally Basic or OAuth 2.0,
//! and here whatever else a receiver may ask for as [`Proof`]. An answer that is JSON with `ErrCode` 0 takes
//! the push; anything else is tried again, at most 3 times, and then the push is lost. How long it waits for
//! an answer and between retries is published nowhere: 5 s, and 1, 2 and 5 s,
//! are guesses that can be set.
//!
//! * [`Sender::send_one`] pushes one body, retries included.
//! * [`Sender::run`] pushes all of a source over a number of connections, at a rate if one is set.
//!
//! Connections speak HTTP/1.1 and are kept. HTTP proxies and redirects are not followed.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use cdr_simulator::{calls::CallCentre, sender::{Sender, SenderSettings}};
//! use tokio_util::sync::CancellationToken;
//!
//! let sender = Sender::new(SenderSettings::new("http://127.0.0.1:8080/".parse()?))?;
//! let stop = CancellationToken::new();
//! tokio::spawn({
//!     let stop = stop.clone();
//!     async move { tokio::signal::ctrl_c().await.map(|()| stop.cancel()) }
//! });
//! let bodies = CallCentre::new(7).calls().take(1000).map(|call| call.body);
//! let summary = sender.run(bodies, |_, sent| println!("{}: {}", sent.uuid, sent.answer), stop).await;
//! println!("{summary}");
//! # Ok(())
//! # }
//! ```

mod answer;
mod connection;
mod proof;
mod run;
mod signing;
mod summary;
mod tokens;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use cdr_core::Action;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use connection::{Connection, Host, NoAnswer};
use signing::Signer;
use tokens::Tokens;

pub use answer::{Answer, Outcome};
pub use proof::{ClientCertificate, Proof};
pub use signing::{Preset, UnknownPreset};
pub use summary::Summary;

/// Not the registered spelling of the charset, but the one that TCCC sends.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json;charset=utf8");
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// Where to push, and how.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// The address as one would type it into TCCC's console, `http` or `https`; `action` and `version` are
    /// appended to its query. A user name and password in it serve as [`Proof::Basic`] where `proof` is none.
    pub url: Url,
    /// What is pushed; `cdr`.
    pub action: Action,
    /// How the sender proves who it is.
    pub proof: Option<Proof>,
    /// What it shows beside that; `https` only.
    pub certificate: Option<ClientCertificate>,
    /// A PEM file of certificates to trust beside those of the system.
    pub extra_ca: Option<PathBuf>,
    /// How many pushes are on their way at once, at most, those that wait for a retry included; 1.
    pub connections: usize,
    /// Pushes a second, evenly spaced; without it each connection pushes as fast as it is answered.
    pub rate: Option<f64>,
    /// How long to wait before each retry, and so how many there are; 1 s, 2 s and 5 s.
    pub retry_waits: Vec<Duration>,
    /// How long an attempt may take, connecting included; 5 s. An access token that it needs first may take as long again.
    pub timeout: Duration,
}

impl SenderSettings {
    /// As TCCC pushes a CDR, one at a time.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            action: "cdr".parse().expect("three letters are an action"),
            proof: None,
            certificate: None,
            extra_ca: None,
            connections: 1,
            rate: None,
            retry_waits: [1, 2, 5].map(Duration::from_secs).to_vec(),
            timeout: Duration::from_secs(5),
        }
    }
}

/// A body on its way out, and the UUID that names the push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// What is pushed.
    pub body: Bytes,
    /// `X-TCCC-PUSH-UUID`.
    pub uuid: Uuid,
}

impl From<Bytes> for Outgoing {
    /// A push of its own, with a fresh UUID.
    fn from(body: Bytes) -> Self {
        Self { body, uuid: Uuid::new_v4() }
    }
}

/// What became of a push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Its `X-TCCC-PUSH-UUID`.
    pub uuid: Uuid,
    /// What the attempts before the last one met; empty when the first one was the last.
    pub retried: Vec<Answer>,
    /// What the last attempt met.
    pub answer: Answer,
    /// How long the last attempt took. In a run that is behind its rate, the first attempt counts from when
    /// it was due: a receiver that stalls must not look fast because it was asked less.
    pub latency: Duration,
    /// How long all of it took, the waits between attempts included.
    pub elapsed: Duration,
}

impl Sent {
    /// How often it was sent.
    pub fn attempts(&self) -> usize {
        self.retried.len() + 1
    }

    /// Whether the receiver answered with `ErrCode` 0.
    pub fn is_taken(&self) -> bool {
        self.answer.outcome == Outcome::Taken
    }
}

/// Pushes to one URL. Clones share their connections.
#[derive(Clone)]
pub struct Sender(Arc<Line>);

/// The way to one URL, with all that stays the same from push to push.
struct Line {
    settings: SenderSettings,
    host: Host,
    target: Uri,
    headers: HeaderMap,
    fresh: Fresh,
    idle: Mutex<Vec<Connection>>,
}

/// What of a proof is not the same from push to push.
enum Fresh {
    Nothing,
    Token(Box<Tokens>),
    Signature(Signer),
}

impl Sender {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// A setting cannot be: a URL is not `http` or `https`, a proof that no request can carry, certificates that
    /// cannot be read or have no TLS to be shown in, no connections, a rate that is not above 0.
    pub fn new(mut settings: SenderSettings) -> anyhow::Result<Self> {
        anyhow::ensure!(settings.connections > 0, "connections: 0 would send nothing; use at least 1");
        let rate_is_fit = settings.rate.is_none_or(|rate| rate.is_finite() && rate > 0.0);
        anyhow::ensure!(rate_is_fit, "rate: needs a number of pushes a second above 0");
        settings.proof = settings.proof.or_else(|| Proof::in_url(&settings.url));
        let host = Host::of(&settings.url, &settings)?;
        let mut headers = headers(host.authority())?;
        let mut url = settings.url.clone();
        if let Some(proof) = &settings.proof {
            proof.add_to(&mut url, &mut headers)?;
        }
        let target = target(url, &settings.action)?;
        let fresh = Fresh::of(&settings)?;
        Ok(Self(Arc::new(Line { settings, host, target, headers, fresh, idle: Mutex::default() })))
    }

    /// Pushes one body, and again while it is not taken and retries are left.
    pub async fn send_one(&self, push: impl Into<Outgoing>) -> Sent {
        self.0.send(&push.into(), Instant::now(), &CancellationToken::new()).await
    }

    /// Pushes all that `source` gives, and tells `on_each` what became of each, in the order in which they
    /// end.
    ///
    /// When `stop` is cancelled no further push begins; those on their way get their answer, but no retry.
    /// Dropping the future leaves them without.
    pub async fn run<S, F>(&self, source: S, on_each: F, stop: CancellationToken) -> Summary
    where
        S: IntoIterator<Item: Into<Outgoing>, IntoIter: Send + 'static>,
        F: Fn(&Outgoing, &Sent) + Send + Sync + 'static,
    {
        run::run(Arc::clone(&self.0), source.into_iter(), on_each, stop).await
    }
}

impl Fresh {
    fn of(settings: &SenderSettings) -> anyhow::Result<Self> {
        Ok(match &settings.proof {
            Some(Proof::OAuth2 { token_url, client_id, client_secret }) => {
                let url = token_url.clone().unwrap_or_else(|| beside_pushes(&settings.url));
                let endpoint = Host::of(&url, settings).context("token URL")?;
                Self::Token(Box::new(Tokens::new(endpoint, &url, client_id, client_secret)?))
            }
            Some(Proof::Signature { preset, key }) => Self::Signature(Signer::new(*preset, key)?),
            _ => Self::Nothing,
        })
    }
}

impl Line {
    /// `since`: when the first attempt was due.
    async fn send(&self, push: &Outgoing, since: Instant, stop: &CancellationToken) -> Sent {
        let body = self.body(push);
        let mut retried = Vec::new();
        let mut attempted_at = since;
        loop {
            let answer = self.attempt(push.uuid, &body).await;
            let latency = attempted_at.elapsed();
            let wait = self.settings.retry_waits.get(retried.len());
            let Some(&wait) = wait.filter(|_| answer.outcome != Outcome::Taken) else {
                return Sent { uuid: push.uuid, retried, answer, latency, elapsed: since.elapsed() };
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Sent { uuid: push.uuid, retried, answer, latency, elapsed: since.elapsed() };
            }
            retried.push(answer);
            attempted_at = Instant::now();
        }
    }

    fn body(&self, push: &Outgoing) -> Bytes {
        match &self.fresh {
            Fresh::Signature(signer) => signer.body(&push.body, Timestamp::now().as_second()),
            Fresh::Nothing | Fresh::Token(_) => push.body.clone(),
        }
    }

    async fn attempt(&self, uuid: Uuid, body: &Bytes) -> Answer {
        match self.proven(uuid, body).await {
            Ok((status, body)) => Answer::of(status, &body, self.settings.proof.as_ref()),
            Err(why) => Answer::none(&why, self.host.authority()),
        }
    }

    /// An exchange with the access token that it may need.
    async fn proven(&self, uuid: Uuid, body: &Bytes) -> connection::Answered {
        let Fresh::Token(tokens) = &self.fresh else { return self.in_time(uuid, body, None).await };
        let token = tokens.header(self.settings.timeout).await?;
        let answered = self.in_time(uuid, body, Some(&token)).await;
        if matches!(answered, Ok((StatusCode::UNAUTHORIZED, _))) {
            tokens.forget(&token).await;
        }
        answered
    }

    async fn in_time(&self, uuid: Uuid, body: &Bytes, token: Option<&HeaderValue>) -> connection::Answered {
        let limit = self.settings.timeout;
        let answered = tokio::time::timeout(limit, self.exchange(uuid, body, token)).await;
        answered.unwrap_or(Err(NoAnswer::TimedOut { after: limit }))
    }

    async fn exchange(&self, uuid: Uuid, body: &Bytes, token: Option<&HeaderValue>) -> connection::Answered {
        loop {
            let (mut connection, kept) = match self.take_idle() {
                Some(connection) => (connection, true),
                None => (self.host.connect().await?, false),
            };
            match connection.exchange(self.request(uuid, body, token)).await {
                // The other side closed a kept connection just then; that is no fault of this push.
                Err(NoAnswer::NeverLeft) if kept => {}
                Err(why) => return Err(why),
                Ok(answer) => {
                    self.idle().push(connection);
                    return Ok(answer);
                }
            }
        }
    }

    /// A connection that is still open, as far as one can know.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find_map(Connection::if_open)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole between any two of its calls.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, uuid: Uuid, body: &Bytes, token: Option<&HeaderValue>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        let mut text = Uuid::encode_buffer();
        if let Ok(value) = HeaderValue::from_str(uuid.hyphenated().encode_lower(&mut text)) {
            request.headers_mut().insert(PUSH_UUID, value);
        }
        if let Some(token) = token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        if let Fresh::Signature(signer) = &self.fresh {
            signer.sign(&mut request, body, uuid, Timestamp::now().as_second());
        }
        request
    }
}

/// Path and query: `?action=cdr&version=1`, joined by `&` to a query that is there. The pages print a version
/// for every kind of push but voicemails.
fn target(mut url: Url, action: &Action) -> anyhow::Result<Uri> {
    url.query_pairs_mut().append_pair("action", action.as_str());
    if action.as_str() != "voicemail" {
        url.query_pairs_mut().append_pair("version", "1");
    }
    // Not told whole: a token may stand in the query.
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    target
        .parse()
        .with_context(|| format!("url: \"{}\" and its query cannot stand in an HTTP request", url.path()))
}

/// Where the gateway gives tokens for a push URL.
fn beside_pushes(url: &Url) -> Url {
    let mut url = url.clone();
    let path = format!("{}/oauth2/token", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_query(None);
    url
}

fn headers(host: &str) -> anyhow::Result<HeaderMap> {
    // Room for the UUID, the length and a proof, which come with each push.
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::HOST, HeaderValue::from_str(host).context("url: the host's name")?);
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    Ok(headers)
}
