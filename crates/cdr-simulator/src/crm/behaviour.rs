//! What a CRM does when it is asked to misbehave.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// What the CRM answers when it takes something.
const TAKEN: &str = r#"{"ErrCode":0,"ErrMsg":"ok"}"#;

/// What a CRM does instead of taking what it gets; see [`Crm::behave`](super::Crm::behave).
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub(super) act: Act,
    pub(super) keeps: bool,
    pub(super) left: Option<usize>,
    only: Option<Bytes>,
    only_at: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Answer { status: StatusCode, headers: HeaderMap, body: Bytes },
    Hang,
    BreakOff { status: StatusCode, part: Bytes },
    CutBeforeReading,
    CutAfterReading,
}

impl Behaviour {
    /// Answers with this status, keeping nothing unless it is a 2xx.
    ///
    /// # Panics
    /// When it is no status: this is for tests.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status is 100 to 999");
        let act = Act::Answer { status, headers: HeaderMap::new(), body: Bytes::new() };
        Self::of(act, status.is_success())
    }

    /// Answers 200 with an `ErrCode` of 1, keeping nothing.
    pub fn err_code() -> Self {
        Self::status(200).body(r#"{"ErrCode":1,"ErrMsg":"busy"}"#).losing()
    }

    /// What it does when nobody asks for anything else.
    pub(super) fn takes() -> Self {
        Self::status(200).header("content-type", "application/json").body(TAKEN)
    }

    /// Answers as if it took it, and keeps nothing: what no test must miss.
    pub fn loses() -> Self {
        Self::takes().losing()
    }

    /// Reads the request and never answers.
    pub fn hang() -> Self {
        Self::of(Act::Hang, false)
    }

    /// Closes the connection when it has seen the head of a request; takes no heed of [`Self::only_for`].
    pub fn cut_before_reading() -> Self {
        Self::of(Act::CutBeforeReading, false)
    }

    /// Keeps the request and closes the connection without an answer, so that the sender must send it again.
    pub fn cut_after_reading() -> Self {
        Self::of(Act::CutAfterReading, true)
    }

    /// Begins an answer of this status, sends `part` of its body and closes the connection.
    ///
    /// # Panics
    /// When it is no status: this is for tests.
    pub fn break_off(status: u16, part: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).expect("a status is 100 to 999");
        Self::of(Act::BreakOff { status, part: part.into() }, false)
    }

    fn of(act: Act, keeps: bool) -> Self {
        Self { act, keeps, left: None, only: None, only_at: None }
    }

    /// The same with a header in its answer.
    ///
    /// # Panics
    /// When it cannot be a header: this is for tests.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Act::Answer { headers, .. } = &mut self.act {
            let value = HeaderValue::from_str(value).expect("a header's value");
            headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// The same with this body in its answer.
    #[must_use]
    pub fn body(mut self, text: impl Into<Bytes>) -> Self {
        if let Act::Answer { body, .. } = &mut self.act {
            *body = text.into();
        }
        self
    }

    /// The same, and it keeps what it got all the same.
    #[must_use]
    pub fn keeping(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// The same, and it keeps nothing.
    #[must_use]
    pub fn losing(mut self) -> Self {
        self.keeps = false;
        self
    }

    /// The same for the next `n` requests that it applies to.
    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.left = Some(n);
        self
    }

    /// The same for bodies that contain this text.
    #[must_use]
    pub fn only_for(mut self, text: impl Into<Bytes>) -> Self {
        self.only = Some(text.into());
        self
    }

    /// The same for requests of this method and path: `POST /calls`.
    #[must_use]
    pub fn only_at(mut self, method_and_path: &'static str) -> Self {
        self.only_at = Some(method_and_path);
        self
    }

    pub(super) fn applies(&self, method: &Method, uri: &Uri, body: &[u8]) -> bool {
        self.only_at.is_none_or(|at| at.split_once(' ') == Some((method.as_str(), uri.path())))
            && self.only_text(body)
    }

    fn only_text(&self, body: &[u8]) -> bool {
        self.only.as_ref().is_none_or(|text| body.windows(text.len().max(1)).any(|part| part == &text[..]))
    }
}
