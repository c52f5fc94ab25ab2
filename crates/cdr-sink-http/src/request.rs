//! What is sent for a push.

use bytes::Bytes;
use cdr_core::{Delivery, Push};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, uri::PathAndQuery};
use http_body_util::Full;

/// The same for every attempt on a push, different for every push.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The sender's own mark of a push (product page 679/67256).
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// `true` when an operator sends the push again, so that the receiver can tell; absent otherwise.
const REPLAY: HeaderName = HeaderName::from_static("x-cdr-gateway-replay");

/// All of a request that is the same for every push: made once, since it would cost more than the rest.
pub(crate) struct RequestTemplate {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub keep_query: bool,
}

impl RequestTemplate {
    /// The request for this delivery. Its body is the bytes that came; their length is known, so it is not chunked.
    pub fn fill(&self, delivery: &Delivery) -> Request<Full<Bytes>> {
        let push = &delivery.push;
        let mut request = Request::new(Full::new(push.body().clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri(push);
        *request.headers_mut() = self.headers.clone();
        let key = format!("{}-{}", push.spool(), push.position());
        let uuid = push.facts().uuid.as_deref();
        let replay = delivery.replay.then_some("true");
        for (name, value) in [(IDEMPOTENCY_KEY, Some(&*key)), (PUSH_UUID, uuid), (REPLAY, replay)] {
            // A UUID that no header can carry is left out: it is no reason to keep a call from the CRM.
            if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                request.headers_mut().insert(name, value);
            }
        }
        request
    }

    fn uri(&self, push: &Push) -> Uri {
        match self.keep_query {
            false => self.uri.clone(),
            // Only a version of 64 KiB makes an address too long; then the push goes without it.
            true => with_query(&self.uri, push).unwrap_or_else(|| self.uri.clone()),
        }
    }
}

fn with_query(uri: &Uri, push: &Push) -> Option<Uri> {
    let own = uri.query().unwrap_or_default();
    let mut query = form_urlencoded::Serializer::new(own.to_owned());
    query.append_pair("action", push.action().as_str());
    if let Some(version) = &push.facts().version {
        query.append_pair("version", version);
    }
    let path_and_query = format!("{}?{}", uri.path(), query.finish());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}
