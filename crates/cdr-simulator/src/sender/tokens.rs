//! Access tokens by OAuth 2.0 client credentials: asked for once, kept until shortly before they end.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use cdr_core::Secret;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{
    Answer,
    connection::{Answered, Host, NoAnswer},
    proof,
};

/// A token is not used in its last moments: it could end on its way.
const MARGIN: Duration = Duration::from_secs(30);

/// Whoever gives tokens, and the one that is good now.
pub(super) struct Tokens {
    endpoint: Host,
    target: Uri,
    headers: HeaderMap,
    kept: Mutex<Option<Token>>,
}

struct Token {
    header: HeaderValue,
    /// None: until it is refused.
    until: Option<Instant>,
}

/// What the endpoint answers (RFC 6749 §5).
#[derive(Deserialize, Default)]
struct Granted {
    access_token: Option<String>,
    /// In seconds.
    expires_in: Option<f64>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    pub fn new(endpoint: Host, url: &Url, client_id: &str, secret: &Secret) -> anyhow::Result<Self> {
        // Both are form-encoded first (RFC 6749 §2.3.1).
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let login = proof::basic(&encoded(client_id), &encoded(secret.expose()));
        let mut login = HeaderValue::try_from(login).context("client: no header can carry its secret")?;
        login.set_sensitive(true);
        let host = HeaderValue::from_str(endpoint.authority()).context("token URL: the host's name")?;
        let headers = HeaderMap::from_iter([
            (header::HOST, host),
            (header::AUTHORIZATION, login),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let target = target.parse().context("token URL: cannot stand in an HTTP request")?;
        Ok(Self { endpoint, target, headers, kept: Mutex::default() })
    }

    /// The value of `Authorization`, within this time; asks for a token when none is good.
    pub async fn header(&self, limit: Duration) -> Result<HeaderValue, NoAnswer> {
        let got = tokio::time::timeout(limit, self.kept_or_new()).await;
        got.unwrap_or_else(|_| Err(self.told(&NoAnswer::TimedOut { after: limit })))
            .map_err(NoAnswer::NoToken)
    }

    async fn kept_or_new(&self) -> Result<HeaderValue, String> {
        // Whoever comes while a token is asked for waits for that one.
        let mut kept = self.kept.lock().await;
        if let Some(token) = kept.as_ref()
            && token.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(token.header.clone());
        }
        let (status, body) = self.ask().await.map_err(|why| self.told(&why))?;
        Ok(kept.insert(self.token(status, &body)?).header.clone())
    }

    fn told(&self, why: &NoAnswer) -> String {
        Answer::none(why, self.endpoint.authority()).to_string()
    }

    /// This token was refused; the next push asks for another one.
    pub async fn forget(&self, refused: &HeaderValue) {
        let mut kept = self.kept.lock().await;
        kept.take_if(|token| token.header == refused);
    }

    async fn ask(&self) -> Answered {
        let mut request = Request::new(Full::new(Bytes::from_static(b"grant_type=client_credentials")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        self.endpoint.connect().await?.exchange(request).await
    }

    fn token(&self, status: StatusCode, body: &[u8]) -> Result<Token, String> {
        let authority = self.endpoint.authority();
        let granted: Granted = serde_json::from_slice(body).unwrap_or_default();
        let Some(token) = granted.access_token.filter(|_| status.is_success()) else {
            let told = granted.error_description.or(granted.error).map(|error| format!(": {error}"));
            return Err(format!("{authority} answers HTTP {}{}", status.as_u16(), told.unwrap_or_default()));
        };
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| format!("{authority} gave one that no header can carry"))?;
        header.set_sensitive(true);
        let lifetime = granted.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let until = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime.saturating_sub(MARGIN)));
        Ok(Token { header, until })
    }
}
