//! An answer, and what it means for the push that it answers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use cdr_core::{
    Failure, Outcome, Receipt, Unavailable,
    http_status::{self, Verdict},
    json,
};
use cdr_expression::{Expression, Variables};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use crate::settings::As;

/// Most bytes of an answer that are read when nobody looks into it; its beginning is kept for the operator, the rest is nobody's.
const LONGEST: usize = 64 << 10;

/// The same when expressions look into it.
const LONGEST_LOOKED_INTO: usize = 1 << 20;

/// What hides what an answer says (IANA's registry of content codings, with the aliases).
const CODINGS: [&str; 7] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];

/// An answer, read.
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    is_whole: bool,
    /// Why its end did not come, where it was waited for.
    cut: Option<String>,
    /// Where it leads, and why nobody follows.
    leads: Option<String>,
    /// What is never quoted.
    secrets: Arc<[String]>,
    token: Option<String>,
}

impl Answer {
    /// Reads the answer to its end, so that its connection can be used again, or to the most that anybody looks at. Its status
    /// counts also where the rest does not come before the deadline.
    pub async fn read(response: Response<Incoming>, looked_into: bool, deadline: Instant) -> Self {
        let longest = if looked_into { LONGEST_LOOKED_INTO } else { LONGEST };
        let (head, mut incoming) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let mut answer = Self {
            status,
            headers,
            body: Vec::new(),
            is_whole: false,
            cut: None,
            leads: None,
            secrets: Arc::default(),
            token: None,
        };
        while answer.body.len() < longest {
            match timeout_at(deadline, incoming.frame()).await {
                Ok(None) => {
                    answer.is_whole = true;
                    break;
                }
                Ok(Some(Err(error))) => {
                    answer.cut = Some(format!("broke off: {error}"));
                    break;
                }
                Err(_) => {
                    answer.cut = Some("did not come to its end in time".to_owned());
                    break;
                }
                Ok(Some(Ok(frame))) => answer.body.extend(frame.into_data().unwrap_or_default()),
            }
        }
        answer
    }

    /// Never quotes these: some receivers repeat what they got.
    pub fn hiding(self, secrets: &Arc<[String]>) -> Self {
        Self { secrets: Arc::clone(secrets), ..self }
    }

    /// The same for a token.
    pub fn hiding_token(self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self }
    }

    /// Of a redirect: where it leads, and why nobody follows.
    pub fn leading(self, words: String) -> Self {
        Self { leads: Some(words), ..self }
    }

    /// Its beginning, without secrets.
    fn beginning(&self) -> String {
        // Longer than an excerpt, so that none is cut in the middle of a secret.
        let beginning = &self.body[..self.body.len().min(8 * Failure::EXCERPT)];
        let secrets = self.secrets.iter().chain(&self.token);
        secrets.fold(String::from_utf8_lossy(beginning).into_owned(), |text, secret| {
            text.replace(secret.as_str(), "…")
        })
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What came of its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// One of its headers, as text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether nothing of it is left on its connection.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Makes it `status`, `headers` and `body` of expressions: a body that is no JSON is a text, none at all
    /// is null.
    pub fn show(&self, variables: &mut Variables<'_>) {
        let body = match self.body.is_empty() {
            true => Value::Null,
            false => self.json().unwrap_or_else(|| String::from_utf8_lossy(&self.body).into()),
        };
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            headers.insert(name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into());
        }
        variables.set("status", self.status.as_u16().into());
        variables.set("headers", headers.into());
        variables.set("body", body);
    }

    /// Its body, where that is JSON; the byte order mark that some write in front is none of it (RFC 8259 §8.1).
    fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.body)).ok()
    }

    /// Whether it is a page for people, say, where a program was asked.
    pub fn is_no_json(&self) -> bool {
        !self.body.is_empty() && self.json().is_none()
    }

    /// Why nothing can be said of what it says, as far as expressions want to know; none of an answer that can be read whole.
    fn unread(&self) -> Option<String> {
        let too_long = || {
            format!(
                " with more than {} KiB; ask for less, so that it can be looked into",
                LONGEST_LOOKED_INTO >> 10
            )
        };
        self.unknown().or_else(|| (!self.is_whole).then(too_long))
    }

    /// Why an `ErrCode` may be missing from what is here. A long one is no reason: it would stand in its beginning.
    fn unknown(&self) -> Option<String> {
        match &self.cut {
            Some(how) => Some(format!(", but the answer {how}")),
            None if self.is_coded() => Some(
                ", but in a Content-Encoding that was not asked for, so that it cannot be read".to_owned(),
            ),
            None if self.ends_early() => Some(", but the answer ends in the middle of its JSON".to_owned()),
            None => None,
        }
    }

    /// Whether it is compressed although the request wants it as it is. Some name a charset here, which changes nothing.
    fn is_coded(&self) -> bool {
        let codings =
            self.headers.get_all(header::CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let is_one = |coding: &str| CODINGS.iter().any(|known| known.eq_ignore_ascii_case(coding.trim()));
        !self.body.is_empty() && codings.flat_map(|codings| codings.split(',')).any(is_one)
    }

    /// Whether its end is missing though nothing broke: where no length is announced, the end of the connection is that of the
    /// answer, however it comes about.
    fn ends_early(&self) -> bool {
        let is_object = self.body.trim_ascii_start().starts_with(b"{");
        let cut = || serde_json::from_slice::<IgnoredAny>(&self.body).is_err_and(|error| error.is_eof());
        self.is_whole && is_object && cut()
    }

    /// A failure that quotes it.
    pub fn failure(&self, more: &str) -> Failure {
        Failure::new(format!("the receiver answered {}{more}", self.status))
            .quoting(self.beginning().as_bytes())
            .retry_after(self.retry_after())
    }

    /// The receiver takes nothing at present.
    pub fn away(&self) -> Unavailable {
        let todo = match self.status.as_u16() {
            401 | 407 => "; check auth".to_owned(),
            403 => "; check auth, and whether it lets this machine in".to_owned(),
            _ => self.leads.clone().unwrap_or_default(),
        };
        Unavailable::new(format!("the receiver answered {}{todo}", self.status))
            .retry_after(self.retry_after())
    }

    /// Whether it is "see there for what became of it" as much as "not here" (RFC 9110 §15.4.3 and §15.4.4).
    fn leads_on(&self) -> bool {
        matches!(self.status, StatusCode::FOUND | StatusCode::SEE_OTHER)
    }

    /// A failure that tells of such an answer.
    fn led_on(&self) -> Failure {
        let (status, leads) = (self.status.as_u16(), self.leads.as_deref().unwrap_or_default());
        let set = format!("classify: [{{ when: \"status == {status}\", as: delivered }}]");
        self.failure(&format!("{leads}; or, if that is how it says that it took the call, set {set}"))
    }

    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        http_status::retry_after(value, SystemTime::now())
    }
}

/// What the answers to a request mean.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The first that holds decides.
    pub classify: Vec<(Expression, As)>,
    /// Whether the request may have stored something: then a 302 or 303 may be how the receiver says that it did.
    pub may_store: bool,
    /// Holds where the receiver has it already.
    pub already_there: Option<Expression>,
    /// Whether a non-zero `ErrCode` means that it was not taken.
    pub err_code: bool,
    /// Holds where it was taken, beyond a status of 2xx.
    pub success: Option<Expression>,
    /// What later steps want to know.
    pub take: Vec<(String, Expression)>,
}

impl Rules {
    /// Whether they look at more than the status.
    pub fn look(&self) -> bool {
        !self.classify.is_empty()
            || !self.take.is_empty()
            || self.already_there.is_some()
            || self.success.is_some()
    }

    /// How the attempt went; `Err` when the receiver takes nothing at present, whatever the push. What it takes from the answer
    /// goes to the variables.
    pub fn judge(&self, answer: &Answer, variables: &mut Variables<'_>) -> Result<Outcome, Unavailable> {
        if self.look() {
            answer.show(variables);
        }
        // An expression that has no answer does not hold: of an unforeseen answer its status decides.
        let holds = |expression: &Expression| expression.holds(variables) == Ok(true);
        if let Some((rule, class)) = self.classify.iter().find(|(rule, _)| holds(rule)) {
            let why = format!(", which classify makes {}: {}", class.as_str(), rule.text());
            return match class {
                As::Delivered => Ok(self.take(answer, variables, "")),
                As::Retry => Ok(Outcome::Retry(answer.failure(&why))),
                As::Reject => Ok(Outcome::Reject(answer.failure(&why))),
                As::Away => Err(answer.away()),
            };
        }
        if self.already_there.as_ref().is_some_and(holds) {
            return Ok(self.take(answer, variables, ", already there"));
        }
        match http_status::judge(answer.status.as_u16(), answer.headers.contains_key(header::RETRY_AFTER)) {
            Verdict::Delivered => Ok(self.taken(answer, variables)),
            Verdict::Retry => Ok(Outcome::Retry(answer.failure(""))),
            Verdict::Reject => Ok(Outcome::Reject(answer.failure(""))),
            // Away would bring it a copy at every probe for ever: no attempt would count.
            Verdict::Unavailable if self.may_store && answer.leads_on() => {
                Ok(Outcome::Retry(answer.led_on()))
            }
            Verdict::Unavailable => Err(answer.away()),
        }
    }

    fn taken(&self, answer: &Answer, variables: &mut Variables<'_>) -> Outcome {
        if let Some(code) = self.err_code.then(|| err_code(&answer.body)).flatten() {
            return Outcome::Retry(answer.failure(&format!(" with {code}")));
        }
        // What is missing may have been an `ErrCode`: sending twice is better than not at all.
        let looks = self.success.is_some() || !self.take.is_empty();
        let missing = match looks {
            true => answer.unread(),
            false => self.err_code.then(|| answer.unknown()).flatten(),
        };
        if let Some(why) = missing {
            return Outcome::Retry(answer.failure(&why));
        }
        match self.success.as_ref().map(|success| success.holds(variables)) {
            None | Some(Ok(true)) => self.take(answer, variables, ""),
            Some(Ok(false)) => Outcome::Retry(answer.failure(", and success.when does not hold")),
            Some(Err(error)) => {
                Outcome::Retry(answer.failure(&format!(", and success.when has no answer: {error}")))
            }
        }
    }

    /// Takes what later steps want to know; null leaves what an earlier step took.
    fn take(&self, answer: &Answer, variables: &mut Variables<'_>, how: &str) -> Outcome {
        for (name, expression) in &self.take {
            match expression.give(variables) {
                Ok(Value::Null) => {}
                Ok(value) => variables.set(name.clone(), value),
                Err(error) => {
                    return Outcome::Retry(answer.failure(&format!(", which has no {name}: {error}")));
                }
            }
        }
        Outcome::Delivered(Receipt::new(format!("HTTP {}{how}", answer.status.as_u16())))
    }
}

/// The `ErrCode` of an answer of the sender's own shape when it is not zero, in words: numbers alone are
/// repeated, as a text may hold anything. None of an answer of any other shape.
fn err_code(body: &[u8]) -> Option<String> {
    let mut code = None;
    // Old receivers write their messages in GBK, and the end of a long answer is not here: what can be read counts.
    let _ = json::read_object(String::from_utf8_lossy(body).as_bytes(), |key, value| {
        if key == "ErrCode" {
            code = Some(value.get().trim_matches('"').trim().to_owned());
        }
    });
    let code = code.filter(|code| !code.is_empty() && code != "null")?;
    match code.parse::<f64>() {
        Ok(0.0) => None,
        Ok(number) => Some(format!("ErrCode {number}")),
        Err(_) => Some("an ErrCode that is no number".to_owned()),
    }
}
