//! What the sender is told: one table for status, code and both texts.
//!
//! TCCC reads the body, not the status: a push has arrived when the answer is JSON with `ErrCode` 0 (product
//! page 679/67256). Everything else makes it push again, at most three times.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use bytesize::ByteSize;
use cdr_core::{NotStored, Position, json::Fault};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use crate::{
    proof::{Asking, Scheme, Token, TokenFault},
    tls::NoHandshake,
};

macro_rules! verdicts {
    ($($(#[$doc:meta])* $verdict:ident = $name:literal,)*) => {
        /// What became of a request, without the details: what is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Verdict {
            $($(#[$doc])* $verdict,)*
        }

        impl Verdict {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$verdict),*];

            /// As in metrics and logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$verdict => $name,)*
                }
            }
        }
    };
}

verdicts! {
    /// Kept for the first time.
    Stored = "stored",
    /// Kept before: same action, UUID and bytes.
    Repeat = "repeat",
    /// Kept as a push of its own, though its UUID came before with other bytes.
    UuidReused = "uuid_reused",
    /// Authentic, but no push; its bytes are kept in quarantine.
    Quarantined = "quarantined",
    /// Authentic, but no push, and the quarantine is full.
    QuarantineFull = "quarantine_full",
    /// Sent from a network that `allow` does not name.
    Network = "network",
    /// Another method than POST.
    Method = "method",
    /// Another path than `path`.
    Path = "path",
    /// Without the proof that `verify` asks for.
    NoProof = "no_proof",
    /// With a wrong proof.
    WrongProof = "wrong_proof",
    /// With a proof that was right at another time.
    StaleProof = "stale_proof",
    /// An access token was given.
    Token = "token",
    /// A request for an access token that is none.
    TokenRequest = "token_request",
    /// The URL names no `action`, or something that cannot be one.
    Action = "action",
    /// A question whose answer steers a live call, not a push.
    Question = "question",
    /// A body that is compressed by something else than gzip.
    Encoding = "encoding",
    /// A body above `limits.body`.
    TooLarge = "too_large",
    /// A head that took longer than `limits.header_timeout`.
    SlowHead = "slow_head",
    /// A body that took longer than `limits.body_timeout`.
    SlowBody = "slow_body",
    /// A body that ended early, or whose chunks are malformed.
    BrokenBody = "broken_body",
    /// Not HTTP/1, or plain HTTP where TLS is spoken, or a PROXY header that counts for nothing.
    NotHttp = "not_http",
    /// A head that is larger, has more lines or a longer URL than are read.
    LargeHead = "large_head",
    /// A TLS handshake that failed or took too long.
    Tls = "tls",
    /// More TLS handshakes of senders of whom nothing is known than are made.
    Handshakes = "handshakes",
    /// More connections than `limits.connections`.
    Connections = "connections",
    /// More connections of one client than `limits.connections_per_client`.
    ClientConnections = "client_connections",
    /// More requests than `limits.requests_per_second`.
    Requests = "requests",
    /// More requests of one client than `limits.requests_per_second_per_client`.
    ClientRequests = "client_requests",
    /// The spool is full of what sinks have not taken yet.
    SpoolFull = "spool_full",
    /// The spool cannot write.
    SpoolFailing = "spool_failing",
    /// More than `limits.in_flight` bytes were waiting.
    Busy = "busy",
    /// The commit took too long; the push may be kept all the same, and then counts as stored too.
    SlowCommit = "slow_commit",
    /// The gateway was stopping.
    Stopping = "stopping",
}

/// Why a request was not answered with `ErrCode` 0.
#[derive(Clone, Debug)]
pub(crate) enum Rejection {
    Network {
        /// Whether it asks for what is served here: then it may have been a push.
        is_for_us: bool,
    },
    /// So many such connections are open already that this one is not heard.
    CrowdedNetwork {
        limit: usize,
        per_client: usize,
    },
    Method,
    Path,
    NoProof {
        asking: Arc<Asking>,
    },
    WrongProof {
        scheme: Scheme,
        asking: Arc<Asking>,
    },
    StaleProof {
        scheme: Scheme,
        asking: Arc<Asking>,
    },
    NoToken(TokenFault),
    NoAction,
    InvalidAction,
    Question,
    Encoding,
    TooLarge {
        limit: ByteSize,
    },
    SlowHead {
        limit: Duration,
    },
    SlowBody {
        limit: Duration,
    },
    BrokenBody,
    NotHttp {
        looks_like: Option<&'static str>,
    },
    NotTls,
    NoHandshake(NoHandshake),
    ProxyHeader {
        is_trusted: bool,
    },
    Handshakes {
        limit: u32,
        per_client: u32,
    },
    LargeHead,
    Connections {
        limit: usize,
    },
    ClientConnections {
        limit: usize,
    },
    Requests {
        limit: u32,
        wait: Duration,
    },
    ClientRequests {
        limit: u32,
        wait: Duration,
        /// As with [`Network`](Self::Network).
        is_for_us: bool,
    },
    Quarantined {
        fault: Fault,
        number: Position,
    },
    QuarantineFull {
        fault: Fault,
    },
    NotStored(NotStored),
}

/// A row of the table.
struct Row {
    verdict: Verdict,
    /// HTTP status, and the `ErrCode` too.
    status: StatusCode,
    /// For the sender: what to change on that side. Says nothing about ours.
    said: Cow<'static, str>,
    /// For the log. Holds nothing of the body.
    logged: Cow<'static, str>,
}

fn row(
    verdict: Verdict,
    status: u16,
    said: impl Into<Cow<'static, str>>,
    logged: impl Into<Cow<'static, str>>,
) -> Row {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Row { verdict, status, said: said.into(), logged: logged.into() }
}

/// The sender decides when it comes again; this is what we would like, in seconds, where we don't know better.
const RETRY_AFTER: u64 = 5;

impl Rejection {
    /// The table.
    #[rustfmt::skip]
    fn row(&self) -> Row {
        use Verdict as V;
        match self {
            Self::Network { .. } => row(V::Network, 403, "pushes from this network are not accepted",
                "its network is not in ingress.allow.networks"),
            Self::CrowdedNetwork { limit, per_client } => row(V::Network, 403, "pushes from this network are not accepted",
                format!("its network is not in ingress.allow.networks, and {per_client} such connections of its own or {limit} of all are open, so that it was not heard")),
            Self::Method => row(V::Method, 405, "pushes come by POST",
                "its method is not POST"),
            Self::Path => row(V::Path, 404, "nothing is here; check the path of the push URL",
                "its path is not ingress.path"),
            Self::NoProof { asking } => row(V::NoProof, 401, asking.said().to_owned(),
                format!("it bears none of the proofs of ingress.verify, and was told that {}", asking.said())),
            Self::WrongProof { scheme, .. } => row(V::WrongProof, 401, scheme.wrong(), scheme.wrong_here()),
            Self::StaleProof { scheme, .. } => row(V::StaleProof, 401, scheme.stale(), scheme.stale_here()),
            Self::NoToken(TokenFault::NoClient) => row(V::NoProof, 401, "client_id and client_secret are expected",
                "it asks for an access token without a client_id and client_secret"),
            Self::NoToken(TokenFault::WrongClient) => row(V::WrongProof, 401, "wrong client_id or client_secret",
                "it asks for an access token with a client_id or client_secret that is not one of ingress.verify"),
            Self::NoToken(TokenFault::GrantType) => row(V::TokenRequest, 400, "expected grant_type=client_credentials",
                "it asks for an access token with another grant_type than client_credentials"),
            Self::NoToken(TokenFault::Request(why)) => row(V::TokenRequest, 400, *why,
                format!("it asks for an access token, but {why}")),
            Self::NoAction => row(V::Action, 404, "the URL names no action; expected ?action=cdr&version=1 at its end",
                "its URL names no action; TCCC appends ?action=cdr&version=1 by itself"),
            Self::InvalidAction => row(V::Action, 404, "this action cannot be; expected 1 to 32 letters, digits or underscores, such as ?action=cdr&version=1",
                "the action in its URL is not 1 to 32 letters, digits or underscores"),
            Self::Question => row(V::Question, 404, "this action asks which agent takes a live call, and only pushes are taken here; point that IVR node elsewhere",
                "its action asks a question whose answer steers a live call, so an ok would be a wrong answer; only the data pushes of TCCC's console belong here, not an IVR node"),
            Self::Encoding => row(V::Encoding, 415, "this Content-Encoding is not taken; send the body with gzip or without",
                "its body is compressed by something else than gzip, once"),
            Self::TooLarge { limit } => row(V::TooLarge, 413, format!("the body is larger than {limit}"),
                format!("its body is larger than ingress.limits.body, {limit}")),
            Self::SlowHead { limit } => row(V::SlowHead, 408, format!("the head of the request did not arrive within {limit:?}"),
                format!("its head did not arrive within ingress.limits.header_timeout, {limit:?}")),
            Self::SlowBody { limit } => row(V::SlowBody, 408, format!("the body did not arrive within {limit:?}"),
                format!("its body did not arrive within ingress.limits.body_timeout, {limit:?}")),
            Self::BrokenBody => row(V::BrokenBody, 400, "the body ended early or its chunks are malformed",
                "its body ended early or its chunks are malformed"),
            Self::NotHttp { looks_like: None } => row(V::NotHttp, 400, "this is not HTTP/1.1",
                "it is not HTTP/1.1"),
            Self::NotHttp { looks_like: Some(protocol) } => row(V::NotHttp, 400, "this is not HTTP/1.1",
                format!("it speaks {protocol} and this port speaks plain HTTP/1.1")),
            Self::NotTls => row(V::NotHttp, 400, "this port speaks HTTPS; push to a URL that begins with https://",
                "it speaks plain HTTP, if anything, and this port speaks TLS (ingress.tls)"),
            Self::ProxyHeader { is_trusted: true } => row(V::NotHttp, 400, "the header of the PROXY protocol is malformed",
                "its header of the PROXY protocol is malformed"),
            Self::ProxyHeader { is_trusted: false } => row(V::NotHttp, 400, "this is not HTTP/1.1",
                "it speaks the PROXY protocol, which counts only from ingress.trusted_proxies"),
            Self::NoHandshake(why) => no_handshake(why),
            Self::Handshakes { limit, per_client } => row(V::Handshakes, 429, NO_TLS,
                format!("it is not in ingress.allow.networks and has brought no push yet, and of such senders no more TLS handshakes are made than {per_client} a second of one and {limit} of all")),
            Self::LargeHead => row(V::LargeHead, 431, "the head of the request is too large",
                "its head has more than 100 lines or 64 KiB"),
            Self::Connections { limit } => row(V::Connections, 429, "too many connections; come again later",
                format!("ingress.limits.connections, {limit}, are open")),
            Self::ClientConnections { limit } => row(V::ClientConnections, 429, "too many connections; come again later",
                format!("it has ingress.limits.connections_per_client, {limit}, open")),
            Self::Requests { limit, .. } => row(V::Requests, 429, format!("too many requests; {limit} a second are taken"),
                format!("more come than ingress.limits.requests_per_second, {limit}")),
            Self::ClientRequests { limit, .. } => row(V::ClientRequests, 429, format!("too many requests; {limit} a second are taken"),
                format!("it sends more than ingress.limits.requests_per_second_per_client, {limit}")),
            Self::Quarantined { fault, number } => row(V::Quarantined, 400, format!("{fault}; kept in quarantine as number {number}"),
                format!("{}; kept in quarantine as number {number}", fault.without_excerpt())),
            Self::QuarantineFull { fault } => row(V::QuarantineFull, 400, format!("{fault}; not kept"),
                format!("{}; not kept, the quarantine is full", fault.without_excerpt())),
            Self::NotStored(why) => row(not_stored(why), 503, "the push cannot be stored now; push it again later",
                why.to_string()),
        }
    }

    /// Whether this may have been the sender whom the operator waits for: it is one alert's matter.
    pub fn may_be_ours(&self) -> bool {
        match self {
            Self::Network { is_for_us } | Self::ClientRequests { is_for_us, .. } => *is_for_us,
            // It has proven who it is.
            Self::Requests { .. } => true,
            // Whoever looks for doors can show a certificate of his own making.
            Self::NoHandshake(NoHandshake::BadCertificate(_)) => false,
            // Each push of a sender that does not trust our certificate is lost.
            Self::NoHandshake(NoHandshake::OursRefused(_)) => true,
            _ => self.row().status == StatusCode::UNAUTHORIZED,
        }
    }

    /// What is counted.
    pub fn verdict(&self) -> Verdict {
        self.row().verdict
    }

    /// For the log: why, and what to do. Holds nothing of the body.
    pub fn logged(&self) -> Cow<'static, str> {
        self.row().logged
    }

    /// For the sender.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let Row { status, said, .. } = self.row();
        let mut response = match self {
            Self::NoToken(fault) => no_token(status, *fault, &said),
            _ => json(status, &said),
        };
        let headers = response.headers_mut();
        match status {
            _ if is_for_now(status) => headers.insert(header::RETRY_AFTER, self.retry_after().into()),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => headers.insert(header::ACCEPT_ENCODING, GZIP),
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
            _ => None,
        };
        for challenge in self.challenges() {
            // Ours are ASCII; one that is not would not be worth losing the answer for.
            let Ok(challenge) = HeaderValue::try_from(challenge) else { continue };
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
        if !self.comes_after_the_body() {
            headers.insert(header::CONNECTION, CLOSE);
        }
        response
    }

    /// The same for a connection that hyper has given up, or never got.
    pub fn raw(&self) -> Vec<u8> {
        let Row { status, said, .. } = self.row();
        let body = body(status, &said);
        let reason = status.canonical_reason().unwrap_or_default();
        let retry_after = match is_for_now(status) {
            true => format!("retry-after: {}\r\n", self.retry_after()),
            false => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{retry_after}\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            status.as_u16(),
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }

    /// In whole seconds, rounded up: who comes then is not too early.
    fn retry_after(&self) -> u64 {
        match self {
            Self::Requests { wait, .. } | Self::ClientRequests { wait, .. } => {
                wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
            }
            _ => RETRY_AFTER,
        }
    }

    /// How to prove oneself, for a 401.
    fn challenges(&self) -> Vec<String> {
        match self {
            Self::NoProof { asking } => asking.challenges(None),
            Self::WrongProof { scheme, asking } | Self::StaleProof { scheme, asking } => {
                asking.challenges(Some(*scheme))
            }
            Self::NoToken(TokenFault::NoClient | TokenFault::WrongClient) => {
                vec![Scheme::Basic.challenge().to_owned()]
            }
            _ => Vec::new(),
        }
    }

    /// Whether the whole request was read by then, so that the connection can serve another.
    fn comes_after_the_body(&self) -> bool {
        match self {
            // Said while the body is read, too.
            Self::NotStored(why) => !matches!(why, NotStored::Busy),
            _ => matches!(self, Self::Quarantined { .. } | Self::QuarantineFull { .. }),
        }
    }
}

/// Whether the same request may be taken a moment later.
fn is_for_now(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Nobody hears this: where TLS fails, only TLS is spoken.
const NO_TLS: &str = "no TLS";

fn no_handshake(why: &NoHandshake) -> Row {
    let said = NO_TLS;
    match why {
        NoHandshake::TooSlow => {
            row(Verdict::Tls, 408, said, "its TLS handshake took longer than ingress.limits.header_timeout")
        }
        NoHandshake::BadCertificate(why) => row(
            Verdict::WrongProof,
            401,
            said,
            format!("its certificate is not one that ingress.tls.client_ca vouches for: {why}"),
        ),
        NoHandshake::OursRefused(alert) => row(
            Verdict::Tls,
            400,
            said,
            format!("it does not accept the certificate of ingress.tls: {alert}"),
        ),
        NoHandshake::Other(why) => row(Verdict::Tls, 400, said, format!("no TLS came about: {why}")),
    }
}

fn not_stored(why: &NotStored) -> Verdict {
    match why {
        NotStored::Full => Verdict::SpoolFull,
        NotStored::QuarantineFull => Verdict::QuarantineFull,
        NotStored::Failing(_) => Verdict::SpoolFailing,
        NotStored::Busy => Verdict::Busy,
        NotStored::Slow(_) => Verdict::SlowCommit,
        NotStored::Stopping => Verdict::Stopping,
    }
}

/// Beside an answer after which its connection is of no use to the sender. Over HTTP/2 other refusals leave it be for a while.
#[derive(Clone)]
pub(crate) struct LastAnswer;

/// Makes an answer the last one of its connection.
pub(crate) fn take_leave<B>(answer: &mut Response<B>) {
    answer.headers_mut().insert(header::CONNECTION, CLOSE);
    answer.extensions_mut().insert(LastAnswer);
}

/// The push is fsynced, now or earlier: the only answer with `ErrCode` 0.
pub(crate) fn stored() -> Response<Full<Bytes>> {
    with_type(Response::new(Full::from(Bytes::from_static(br#"{"ErrCode":0,"ErrMsg":"ok"}"#))))
}

/// The answer of RFC 6749 §5.1.
pub(crate) fn token(token: &Token) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Given<'a> {
        access_token: &'a str,
        token_type: &'static str,
        expires_in: u64,
    }
    let Token { access_token, lifetime } = token;
    let given = Given { access_token, token_type: "Bearer", expires_in: lifetime.as_secs() };
    not_to_be_kept(&given)
}

/// The answer of RFC 6749 §5.2.
fn no_token(status: StatusCode, fault: TokenFault, said: &str) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct NotGiven<'a> {
        error: &'static str,
        error_description: &'a str,
    }
    let mut response = not_to_be_kept(&NotGiven { error: fault.code(), error_description: said });
    *response.status_mut() = status;
    response
}

fn not_to_be_kept(answer: &impl Serialize) -> Response<Full<Bytes>> {
    // Texts and numbers are always JSON.
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = with_type(Response::new(Full::from(body)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    err_code: u16,
    err_msg: &'a str,
}

fn body(status: StatusCode, said: &str) -> Vec<u8> {
    let body = Body { err_code: status.as_u16(), err_msg: said };
    // A number and a text are always JSON; an empty body, if ever, is no success to the sender either.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn json(status: StatusCode, said: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body(status, said)));
    *response.status_mut() = status;
    with_type(response)
}

fn with_type(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
