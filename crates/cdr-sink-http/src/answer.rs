//! What an answer means for the push that it answers.

use std::time::{Duration, SystemTime};

use cdr_core::{
    Failure, Outcome, Receipt, Unavailable,
    http_status::{self, Verdict},
    json,
};
use http::{HeaderMap, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::Success;

/// Most bytes of an answer that are read; its beginning is kept for the operator, the rest is nobody's.
const LONGEST: usize = 64 << 10;

/// An answer, read.
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    is_whole: bool,
    broken: Option<hyper::Error>,
}

impl Answer {
    /// Reads the answer to its end, so that its connection can be used again, or to [`LONGEST`].
    pub async fn read(response: Response<Incoming>) -> Self {
        let (head, mut incoming) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let mut answer = Self { status, headers, body: Vec::new(), is_whole: false, broken: None };
        while answer.body.len() < LONGEST {
            match incoming.frame().await {
                None => {
                    answer.is_whole = true;
                    break;
                }
                Some(Err(error)) => {
                    answer.broken = Some(error);
                    break;
                }
                Some(Ok(frame)) => answer.body.extend(frame.into_data().unwrap_or_default()),
            }
        }
        answer
    }

    /// Whether nothing of it is left on its connection.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How the attempt went; `Err` when the receiver takes nothing at present, whatever the push.
    pub fn judge(&self, success: Success) -> Result<Outcome, Unavailable> {
        match http_status::judge(self.status.as_u16(), self.headers.contains_key(header::RETRY_AFTER)) {
            Verdict::Delivered => Ok(self.taken(success)),
            Verdict::Retry => Ok(Outcome::Retry(self.failure(""))),
            Verdict::Reject => Ok(Outcome::Reject(self.failure(""))),
            Verdict::Unavailable => Err(self.away()),
        }
    }

    fn taken(&self, success: Success) -> Outcome {
        if success.err_code {
            if let Some(error) = &self.broken {
                // What was cut off may have been an `ErrCode`: sending twice is better than not at all.
                return Outcome::Retry(self.failure(&format!(", but the answer broke off: {error}")));
            }
            if let Some(code) = err_code(&self.body) {
                return Outcome::Retry(self.failure(&format!(" with {code}")));
            }
        }
        Outcome::Delivered(Receipt::new(format!("HTTP {}", self.status.as_u16())))
    }

    fn failure(&self, more: &str) -> Failure {
        Failure::new(format!("the receiver answered {}{more}", self.status))
            .quoting(&self.body)
            .retry_after(self.retry_after())
    }

    fn away(&self) -> Unavailable {
        let todo = match self.status.as_u16() {
            401 | 407 => "; check auth".to_owned(),
            403 => "; check auth, and whether it lets this machine in".to_owned(),
            300..=399 => format!("{}; redirects are not followed, check url", self.new_origin()),
            _ => String::new(),
        };
        Unavailable::new(format!("the receiver answered {}{todo}", self.status))
            .retry_after(self.retry_after())
    }

    /// Where a redirect leads: scheme, host and port, as its path may be a secret.
    fn new_origin(&self) -> String {
        let location = self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let uri: Option<Uri> = location.and_then(|text| text.parse().ok());
        let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?, uri.port())));
        match parts {
            Some((scheme, host, Some(port))) => format!(" to {scheme}://{host}:{port}"),
            Some((scheme, host, None)) => format!(" to {scheme}://{host}"),
            None => String::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        http_status::retry_after(value, SystemTime::now())
    }
}

/// The `ErrCode` of an answer of the sender's own shape when it is not zero, in words: numbers alone are
/// repeated, as a text may hold anything. None of an answer of any other shape.
fn err_code(body: &[u8]) -> Option<String> {
    let mut code = None;
    json::read_object(body, |key, value| {
        if key == "ErrCode" {
            code = Some(value.get().trim_matches('"').trim());
        }
    })
    .ok()?;
    let code = code.filter(|code| !code.is_empty() && *code != "null")?;
    match code.parse::<f64>() {
        Ok(0.0) => None,
        Ok(number) => Some(format!("ErrCode {number}")),
        Err(_) => Some("an ErrCode that is no number".to_owned()),
    }
}
