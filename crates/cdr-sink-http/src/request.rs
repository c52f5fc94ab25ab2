//! What is sent for a push.

use bytes::Bytes;
use cdr_core::Push;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{PathAndQuery, Scheme},
};
use http_body_util::Full;

/// The same for every attempt on a push, different for every push.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The sender's own mark of a push (product page 679/67256).
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// All of a request that is the same for every push: made once, since it would cost more than the rest.
pub(crate) struct RequestTemplate {
    method: Method,
    /// Path and query, as a request's first line bears them.
    target: Uri,
    headers: HeaderMap,
    keep_query: bool,
}

impl RequestTemplate {
    /// For this address. A `Host` among the headers is kept: some proxies go by it.
    pub fn new(method: Method, uri: &Uri, mut headers: HeaderMap, keep_query: bool) -> Self {
        if let Some(host) = host(uri) {
            headers.entry(header::HOST).or_insert(host);
        }
        let target = uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        Self { method, target, headers, keep_query }
    }

    /// How it is sent.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request for this push. Its body is the bytes that came; their length is known, so it is not chunked.
    pub fn fill(&self, push: &Push) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(push.body().clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri(push);
        *request.headers_mut() = self.headers.clone();
        let key = format!("{}-{}", push.spool(), push.position());
        let uuid = push.facts().uuid.as_deref();
        for (name, value) in [(IDEMPOTENCY_KEY, Some(&*key)), (PUSH_UUID, uuid)] {
            // A UUID that no header can carry is left out: it is no reason to keep a call from the CRM.
            if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                request.headers_mut().insert(name, value);
            }
        }
        request
    }

    fn uri(&self, push: &Push) -> Uri {
        match self.keep_query {
            false => self.target.clone(),
            // Only a version of 64 KiB makes an address too long; then the push goes without it.
            true => with_query(&self.target, push).unwrap_or_else(|| self.target.clone()),
        }
    }
}

/// Host and port, as RFC 9110 wants them: without the port that goes without saying.
fn host(uri: &Uri) -> Option<HeaderValue> {
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
