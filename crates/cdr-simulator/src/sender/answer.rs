//! What an attempt met, judged as TCCC judges it, in words for whoever runs the sender.

use std::{borrow::Cow, fmt};

use http::StatusCode;
use serde::Deserialize;

use super::{Proof, connection::NoAnswer};

/// What an attempt met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its kind, for counting.
    pub outcome: Outcome,
    /// The rest of the story: `ErrMsg` of a push that was taken, else what went wrong and what to do.
    pub detail: String,
}

/// What an attempt can meet. Only [`Taken`](Self::Taken) ends a push well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// HTTP 2xx and JSON with `ErrCode` 0.
    Taken,
    /// JSON with an `ErrCode`, but that is not 0 or the HTTP status is not 2xx.
    Refused {
        /// HTTP status.
        status: u16,
        /// `ErrCode`.
        err_code: i64,
    },
    /// An HTTP answer that is not JSON with a whole `ErrCode`.
    NoErrCode {
        /// HTTP status.
        status: u16,
    },
    /// The host's name has no address.
    Unresolved,
    /// Nothing listens there.
    NobodyListens,
    /// The network does not lead there.
    Unreachable,
    /// TLS failed.
    Tls,
    /// No access token was given.
    NoToken,
    /// No answer in time.
    TimedOut,
    /// The connection ended without an answer.
    HungUp,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("taken"),
            Self::Refused { status, err_code } => write!(f, "HTTP {status}, ErrCode {err_code}"),
            Self::NoErrCode { status } => write!(f, "HTTP {status} without an ErrCode"),
            Self::Unresolved => f.write_str("unknown host"),
            Self::NobodyListens => f.write_str("nobody listens"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Tls => f.write_str("TLS failed"),
            Self::NoToken => f.write_str("no access token"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::HungUp => f.write_str("hung up"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Taken => f.write_str("taken"),
            Outcome::Refused { .. } | Outcome::NoErrCode { .. } => {
                write!(f, "{}: {}", self.outcome, self.detail)
            }
            _ => f.write_str(&self.detail),
        }
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(rename = "ErrCode")]
    err_code: i64,
    #[serde(rename = "ErrMsg", borrow, default)]
    err_msg: Option<Cow<'a, str>>,
}

impl Answer {
    /// `proof`: what the request brought.
    pub(super) fn of(status: StatusCode, body: &[u8], proof: Option<&Proof>) -> Self {
        let Ok(reply) = serde_json::from_slice::<Reply<'_>>(body) else {
            let outcome = Outcome::NoErrCode { status: status.as_u16() };
            let detail = match meaning(status, proof) {
                Some(meaning) => format!("{meaning}; the answer is {}", excerpt(body)),
                None => {
                    format!("TCCC wants JSON with ErrCode 0, and would push again; got {}", excerpt(body))
                }
            };
            return Self { outcome, detail };
        };
        let err_msg = reply.err_msg.unwrap_or_default();
        if status.is_success() && reply.err_code == 0 {
            return Self { outcome: Outcome::Taken, detail: err_msg.into_owned() };
        }
        let outcome = Outcome::Refused { status: status.as_u16(), err_code: reply.err_code };
        let detail = match meaning(status, proof) {
            Some(meaning) if err_msg.is_empty() => meaning.to_owned(),
            Some(meaning) => format!("{meaning}; it says \"{err_msg}\""),
            None => format!("the receiver says \"{err_msg}\""),
        };
        Self { outcome, detail }
    }

    pub(super) fn none(why: &NoAnswer, authority: &str) -> Self {
        let (outcome, detail) = match why {
            NoAnswer::Unresolved(error) => {
                (Outcome::Unresolved, format!("the name of {authority} has no address: {error}"))
            }
            NoAnswer::NobodyListens => (
                Outcome::NobodyListens,
                format!("nobody listens at {authority}; is the receiver running, and is that its port?"),
            ),
            NoAnswer::Unreachable(error) => {
                (Outcome::Unreachable, format!("{authority} cannot be reached: {error}"))
            }
            NoAnswer::Tls(error) => (
                Outcome::Tls,
                format!(
                    "no TLS with {authority}: {error}; a private authority's certificate has to be given"
                ),
            ),
            NoAnswer::Alert(alert) => (
                Outcome::Tls,
                format!("{authority} ended TLS: {alert}; it may want a client certificate, or another one"),
            ),
            NoAnswer::NoToken(why) => (Outcome::NoToken, format!("no access token: {why}")),
            NoAnswer::TimedOut { after } => {
                (Outcome::TimedOut, format!("no answer from {authority} within {after:?}"))
            }
            NoAnswer::HungUp(why) => (Outcome::HungUp, format!("{authority} did not answer: {why}")),
            NoAnswer::NeverLeft => {
                (Outcome::HungUp, format!("{authority} closed the connection before the request was written"))
            }
        };
        Self { outcome, detail }
    }
}

/// What a status says about the settings on either side; none where it says nothing that helps.
fn meaning(status: StatusCode, proof: Option<&Proof>) -> Option<&'static str> {
    Some(match status {
        StatusCode::UNAUTHORIZED => proof.map_or(
            "the receiver asks for a proof of sender, such as a user name and a password",
            Proof::when_refused,
        ),
        StatusCode::FORBIDDEN => "the receiver does not take pushes from this network",
        StatusCode::NOT_FOUND => "nothing takes pushes at this path; look at the URL",
        StatusCode::METHOD_NOT_ALLOWED => "the receiver takes no POST at this path; look at the URL",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too large for the receiver",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            "the receiver does not take \"application/json;charset=utf8\", which is what TCCC sends"
        }
        StatusCode::TOO_MANY_REQUESTS => "too many pushes for the receiver",
        StatusCode::SERVICE_UNAVAILABLE => "the receiver cannot take pushes now",
        status if status.is_redirection() => "a redirect, which is not followed; give the URL it leads to",
        _ => return None,
    })
}

/// The first characters of what is no JSON.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    match text.trim() {
        "" => "empty".to_owned(),
        text => format!("{:?}", text.chars().take(80).collect::<String>()),
    }
}
