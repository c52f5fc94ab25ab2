//! What the sender is told: one table for status, code and both texts.
//!
//! TCCC reads the body, not the status: a push has arrived when the answer is JSON with `ErrCode` 0 (product
//! page 679/67256). Everything else makes it push again, at most three times.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use bytesize::ByteSize;
use cdr_core::{NotStored, Position, json::Fault};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

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
    /// The URL names no `action`, or something that cannot be one.
    Action = "action",
    /// A question whose answer steers a live call, not a push.
    Question = "question",
    /// A compressed body.
    Encoding = "encoding",
    /// A body above `limits.body`.
    TooLarge = "too_large",
    /// A head that took longer than `limits.header_timeout`.
    SlowHead = "slow_head",
    /// A body that took longer than `limits.body_timeout`.
    SlowBody = "slow_body",
    /// A body that ended early, or whose chunks are malformed.
    BrokenBody = "broken_body",
    /// Not HTTP/1.
    NotHttp = "not_http",
    /// More connections than `limits.connections`.
    Connections = "connections",
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
    /// Whether it asks for what is served here: then it may have been a push.
    Network {
        is_for_us: bool,
    },
    Method,
    Path,
    NoProof,
    WrongProof,
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
    Connections {
        limit: usize,
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

/// The sender decides when it comes again; this is what we would like, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

impl Rejection {
    /// The table.
    #[rustfmt::skip]
    fn row(&self) -> Row {
        use Verdict as V;
        match self {
            Self::Network { .. } => row(V::Network, 403, "pushes from this network are not accepted",
                "its network is not in ingress.allow.networks"),
            Self::Method => row(V::Method, 405, "pushes come by POST",
                "its method is not POST"),
            Self::Path => row(V::Path, 404, "nothing is here; check the path of the push URL",
                "its path is not ingress.path"),
            Self::NoProof => row(V::NoProof, 401, "basicAuth is expected: set user name and password at the push URL",
                "it has no Authorization header; set basicAuth in TCCC's console as in ingress.verify"),
            Self::WrongProof => row(V::WrongProof, 401, "wrong user name or password",
                "its user name or password is not one of ingress.verify"),
            Self::NoAction => row(V::Action, 404, "the URL names no action; expected ?action=cdr&version=1 at its end",
                "its URL names no action; TCCC appends ?action=cdr&version=1 by itself"),
            Self::InvalidAction => row(V::Action, 404, "this action cannot be; expected 1 to 32 letters, digits or underscores, such as ?action=cdr&version=1",
                "the action in its URL is not 1 to 32 letters, digits or underscores"),
            Self::Question => row(V::Question, 404, "this action asks which agent takes a live call, and only pushes are taken here; point that IVR node elsewhere",
                "its action asks a question whose answer steers a live call, so an ok would be a wrong answer; only the data pushes of TCCC's console belong here, not an IVR node"),
            Self::Encoding => row(V::Encoding, 415, "compressed bodies are not taken; send it without Content-Encoding",
                "its body is compressed"),
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
            Self::Connections { limit } => row(V::Connections, 429, "too many connections; come again later",
                format!("ingress.limits.connections, {limit}, are open")),
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
            Self::Network { is_for_us } => *is_for_us,
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
        let mut response = json(status, &said);
        let headers = response.headers_mut();
        match status {
            _ if is_for_now(status) => headers.insert(header::RETRY_AFTER, RETRY_AFTER),
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, CHALLENGE),
            _ => None,
        };
        if !self.comes_after_the_body() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same for a connection that hyper has given up, or never got.
    pub fn raw(&self) -> Vec<u8> {
        let Row { status, said, .. } = self.row();
        let body = body(status, &said);
        let reason = status.canonical_reason().unwrap_or_default();
        let retry_after = if is_for_now(status) { "retry-after: 5\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{retry_after}\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            status.as_u16(),
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }

    /// Whether the whole request was read by then, so that the connection can serve another.
    fn comes_after_the_body(&self) -> bool {
        matches!(self, Self::Quarantined { .. } | Self::QuarantineFull { .. } | Self::NotStored(_))
    }
}

/// Whether the same request may be taken a moment later.
fn is_for_now(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"cdr-gateway\", charset=\"UTF-8\"");

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

/// The push is fsynced, now or earlier: the only answer with `ErrCode` 0.
pub(crate) fn stored() -> Response<Full<Bytes>> {
    with_type(Response::new(Full::from(Bytes::from_static(br#"{"ErrCode":0,"ErrMsg":"ok"}"#))))
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
