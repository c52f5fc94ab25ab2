//! What is sent for a push.

use std::sync::Arc;

use bytes::Bytes;
use cdr_core::{Delivery, Push};
use cdr_expression::Variables;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    uri::{PathAndQuery, Scheme},
};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::template::{Template, Text, as_text};

/// The same for every attempt on a push, different for every push.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The sender's own mark of a push (product page 679/67256).
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// `true` when an operator sends the push again, so that the receiver can tell; absent otherwise.
const REPLAY: HeaderName = HeaderName::from_static("x-cdr-gateway-replay");

/// What means nothing in any part of an address (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request with places that a push fills. All of it that is the same for every push is made once, since it would cost more
/// than the rest.
#[derive(Debug)]
pub(crate) struct RequestTemplate {
    pub method: Method,
    pub target: Target,
    /// Those that are the same for every push.
    pub headers: HeaderMap,
    pub made_headers: Arc<[(HeaderName, Text)]>,
    pub body: Body,
    /// Whether the query bears the push's `action` and `version`.
    pub keep_query: bool,
    /// What tells its `Idempotency-Key` from those of other requests for the same push; empty for the delivery itself.
    pub key_suffix: String,
}

/// Path and query, as a request's first line bears them. The host is never made of a push.
#[derive(Debug)]
pub(crate) enum Target {
    Fixed(Uri),
    Made {
        /// In front of the path.
        base: String,
        path: Text,
        /// The names of `path` that earlier steps take.
        taken: Vec<String>,
        /// The query of the base, encoded.
        own_query: String,
        query: Vec<(String, Text)>,
    },
}

/// What a request carries.
#[derive(Debug)]
pub(crate) enum Body {
    /// The very bytes that came.
    Raw,
    Nothing,
    Made(Template),
}

/// Why there is no request for a push.
#[derive(Debug)]
pub(crate) enum Unmade {
    /// There will never be one.
    Never(String),
    /// An earlier step did not find what it needs; another time it may.
    NotNow(String),
}

impl RequestTemplate {
    /// The request for this delivery. The length of its body is known, so that it is not chunked.
    pub fn fill(&self, delivery: &Delivery, variables: &Variables<'_>) -> Result<Request<Bytes>, Unmade> {
        let push = &delivery.push;
        let key = format!("{}-{}{}", push.spool(), push.position(), self.key_suffix);
        let uuid = push.facts().uuid.as_deref();
        let mut request = self.marked(self.body(push, variables)?, &key, uuid, delivery.replay);
        *request.uri_mut() = self.uri(push, variables)?;
        for (name, text) in self.made_headers.iter() {
            let value =
                text.give(variables).map_err(|why| Unmade::Never(format!("headers: {name}: {why}")))?;
            if let Some(value) = as_text(value).and_then(|text| header_value(&text)) {
                request.headers_mut().insert(name, value);
            }
        }
        Ok(request)
    }

    /// The request for many deliveries, of which `body` tells. Its key is that of just these: another batch with the same
    /// first and last push would otherwise be taken for a repeat.
    pub fn fill_bundle(
        &self,
        deliveries: &[&Delivery],
        body: Bytes,
        variables: &Variables<'_>,
    ) -> Result<Request<Bytes>, Unmade> {
        let mut positions = Sha256::new();
        for delivery in deliveries {
            positions.update(delivery.push.position().0.to_be_bytes());
        }
        let digest = u64::from_be_bytes(std::array::from_fn({
            let digest = positions.finalize();
            move |index| digest[index]
        }));
        let spool = variables.push().spool();
        let replay = deliveries.iter().any(|delivery| delivery.replay);
        let mut request = self.marked(body, &format!("{spool}-{digest:016x}"), None, replay);
        *request.uri_mut() = self.target.fill(variables)?;
        Ok(request)
    }

    /// A request with what tells a repeat from something new.
    fn marked(&self, body: Bytes, key: &str, uuid: Option<&str>, replay: bool) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let replay = replay.then_some("true");
        for (name, value) in [(IDEMPOTENCY_KEY, Some(key)), (PUSH_UUID, uuid), (REPLAY, replay)] {
            // A UUID that no header can carry is left out: it is no reason to keep a call from the CRM.
            if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                request.headers_mut().insert(name, value);
            }
        }
        request
    }

    /// What a push is in the body.
    pub fn body(&self, push: &Push, variables: &Variables<'_>) -> Result<Bytes, Unmade> {
        match &self.body {
            Body::Raw => Ok(push.body().clone()),
            Body::Nothing => Ok(Bytes::new()),
            Body::Made(template) => {
                let value = template.give(variables).map_err(|why| Unmade::Never(format!("body: {why}")))?;
                Ok(value.to_string().into())
            }
        }
    }

    /// Method, path, parameters and body, for people. The address that they come below is left out, and so are headers: both may
    /// hold secrets.
    ///
    /// # Errors
    /// There is no request; the reason holds no value.
    pub fn shown(&self, push: &Push, variables: &Variables<'_>) -> Result<String, Unmade> {
        let target = match &self.target {
            Target::Fixed(_) => String::new(),
            Target::Made { .. } => self.target.made(variables)?.below("", ""),
        };
        let line = format!("{} …{target}", self.method);
        Ok(match &self.body {
            Body::Nothing => line,
            Body::Raw => format!("{line}\nthe body as it came"),
            Body::Made(_) => {
                let body = self.body(push, variables)?;
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                format!("{line}\n{body:#}")
            }
        })
    }

    fn uri(&self, push: &Push, variables: &Variables<'_>) -> Result<Uri, Unmade> {
        let target = self.target.fill(variables)?;
        Ok(match self.keep_query {
            false => target,
            // Only a version of 64 KiB makes an address too long; then the push goes without it.
            true => with_query(&target, push).unwrap_or(target),
        })
    }
}

impl Target {
    fn fill(&self, variables: &Variables<'_>) -> Result<Uri, Unmade> {
        let (base, own_query) = match self {
            Self::Fixed(uri) => return Ok(uri.clone()),
            Self::Made { base, own_query, .. } => (base, own_query),
        };
        let target = PathAndQuery::try_from(self.made(variables)?.below(base, own_query));
        target.map(Uri::from).map_err(|_| Unmade::Never("the address becomes longer than 64 KiB".to_owned()))
    }

    /// What of it is made for a push.
    fn made(&self, variables: &Variables<'_>) -> Result<MadeTarget, Unmade> {
        let Self::Made { path, taken, query, .. } = self else { return Ok(MadeTarget::default()) };
        let never = |setting: &str| {
            let setting = setting.to_owned();
            move |why: String| Unmade::Never(format!("{setting}: {why}"))
        };
        let encode = |made: &str| utf8_percent_encode(made, UNRESERVED).to_string();
        let path = path.encoded(variables, encode).map_err(never("path"))?.ok_or_else(|| {
            let missing = "path: a part of it is null or empty".to_owned();
            if taken.is_empty() { Unmade::Never(missing) } else { Unmade::NotNow(missing) }
        })?;
        // Full stops need no encoding, and no encoding would keep a receiver from following them.
        if path.split('/').any(|part| part == "." || part == "..") {
            return Err(Unmade::Never(
                "path: a part of it is . or .., which would lead elsewhere".to_owned(),
            ));
        }
        let mut parameters = Vec::new();
        for (name, text) in query {
            let values = match text.give(variables).map_err(never(&format!("query: {name}")))? {
                Value::Array(values) => values,
                value => vec![value],
            };
            parameters.extend(values.into_iter().filter_map(as_text).map(|value| (name.clone(), value)));
        }
        Ok(MadeTarget { path, parameters })
    }
}

/// Path and parameters as they were made for a push.
#[derive(Default)]
struct MadeTarget {
    /// Encoded.
    path: String,
    parameters: Vec<(String, String)>,
}

impl MadeTarget {
    /// Below the path of an address, behind its query.
    fn below(self, base: &str, own_query: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(own_query.to_owned());
        let query = query.extend_pairs(self.parameters).finish();
        let question_mark = if query.is_empty() { "" } else { "?" };
        format!("{base}{}{question_mark}{query}", self.path)
    }
}

/// A text as the value of a header: what no header can carry is percent-encoded.
fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(utf8_percent_encode(text, CONTROLS).to_string()).ok()
}

/// Host and port, as RFC 9110 wants them: without the port that goes without saying.
pub(crate) fn host(uri: &Uri) -> Option<HeaderValue> {
    let host = uri.host()?;
    let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    match uri.port_u16().filter(|&port| port != default) {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")).ok(),
        None => HeaderValue::from_str(host).ok(),
    }
}

fn with_query(target: &Uri, push: &Push) -> Option<Uri> {
    let own = target.query().unwrap_or_default();
    let mut query = form_urlencoded::Serializer::new(own.to_owned());
    query.append_pair("action", push.action().as_str());
    if let Some(version) = &push.facts().version {
        query.append_pair("version", version);
    }
    let path_and_query = format!("{}?{}", target.path(), query.finish());
    PathAndQuery::try_from(path_and_query).ok().map(Uri::from)
}
