//! Logging in by OAuth 2.0 (RFC 6749): client credentials, or a refresh token that a person got once.
//!
//! A token is fetched when the first request needs one, kept until shortly before it expires, and renewed once when the receiver
//! does not take it. An endpoint that gives none makes the receiver away: no push is at fault.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use cdr_core::{Secret, Unavailable, http_status, oauth::Lifetime};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::{
    answer::Answer,
    connect::{NoAnswer, Receiver},
    settings::CredentialsIn,
};

/// A token is not used in its last moments: it could expire on its way.
const MARGIN: Duration = Duration::from_secs(30);

/// Whoever gives tokens, and the one that is good now.
pub(crate) struct OAuth {
    pub endpoint: Receiver,
    pub target: Uri,
    pub headers: HeaderMap,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub scope: Option<String>,
    pub credentials_in: CredentialsIn,
    /// What stands in front of the token, as a rule `Bearer`.
    pub scheme: String,
    pub state: Mutex<State>,
}

/// What changes.
#[derive(Default)]
pub(crate) struct State {
    refresh_token: Option<Secret>,
    token: Option<Token>,
}

struct Token {
    header: HeaderValue,
    until: Option<Instant>,
}

/// What the endpoint answers (RFC 6749 §5).
#[derive(Deserialize, Default)]
struct Granted {
    access_token: Option<String>,
    expires_in: Option<Lifetime>,
    refresh_token: Option<String>,
    error: Option<String>,
}

impl State {
    /// Before the first token.
    pub fn new(refresh_token: Option<Secret>) -> Self {
        Self { refresh_token, token: None }
    }
}

impl OAuth {
    /// The value of `Authorization`, of a new token when `refused` is the one that is kept.
    pub async fn header(
        &self,
        refused: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<HeaderValue, Unavailable> {
        // Those that wait for somebody else's token, too.
        timeout_at(deadline, self.kept_or_new(refused, deadline))
            .await
            .unwrap_or_else(|_| Err(self.away("did not answer in time")))
    }

    async fn kept_or_new(
        &self,
        refused: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<HeaderValue, Unavailable> {
        // Whoever comes while a token is fetched waits for that one.
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.until.is_none_or(|until| Instant::now() < until)
            && refused != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        state.token = None;
        let granted = self.ask(&state, deadline).await?;
        let token = granted.access_token.unwrap_or_default();
        let header = HeaderValue::try_from(format!("{} {token}", self.scheme));
        let mut header = header.map_err(|_| self.away("gave a token that no header can carry"))?;
        header.set_sensitive(true);
        if let Some(new) = granted.refresh_token {
            let is_new = state.refresh_token.as_ref().is_some_and(|old| old.expose() != new);
            if is_new {
                tracing::warn!(
                    endpoint = self.endpoint.origin(),
                    "the token endpoint gave a new refresh token; it is used until the gateway stops or reloads its configuration, then the one in the settings may be refused"
                );
                state.refresh_token = Some(Secret::new(new));
            }
        }
        let lifetime = granted.expires_in.and_then(|lifetime| lifetime.read());
        let until = lifetime.map(|lifetime| Instant::now() + lifetime.saturating_sub(MARGIN));
        state.token = Some(Token { header: header.clone(), until });
        Ok(header)
    }

    async fn ask(&self, state: &State, deadline: Instant) -> Result<Granted, Unavailable> {
        let (response, connection) = self.endpoint.send(self.request(state)).await.map_err(|error| {
            let (NoAnswer::NotConnected(reason) | NoAnswer::Broken(reason)) = error;
            Unavailable::new(format!("auth: no token: {reason}"))
        })?;
        let answer = Answer::read(response, false, deadline).await;
        if answer.is_whole() {
            self.endpoint.give_back(connection);
        }
        let granted: Granted = serde_json::from_slice(answer.body()).unwrap_or_default();
        // Some refuse with a 200.
        if answer.status() == StatusCode::OK && granted.access_token.is_some() {
            return Ok(granted);
        }
        let error = granted.error.filter(|error| is_code(error)).map(|error| format!(" with {error}"));
        let told = format!("answered {}{}", answer.status(), error.unwrap_or_default());
        let wait = answer.header(&header::RETRY_AFTER);
        let wait = wait.and_then(|value| http_status::retry_after(value, SystemTime::now()));
        Err(self.away(&told).retry_after(wait))
    }

    fn request(&self, state: &State) -> Request<Full<Bytes>> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match &state.refresh_token {
            Some(token) => {
                form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose())
            }
            None => form.append_pair("grant_type", "client_credentials"),
        };
        form.extend_pairs(self.scope.as_ref().map(|scope| ("scope", scope)));
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let secret = self.client_secret.as_ref().map(Secret::expose);
        match self.credentials_in {
            CredentialsIn::Body => {
                form.append_pair("client_id", &self.client_id);
                form.extend_pairs(secret.map(|secret| ("client_secret", secret)));
            }
            CredentialsIn::Basic => {
                headers.extend(basic(&self.client_id, secret).map(|value| (header::AUTHORIZATION, value)));
            }
        }
        let mut request = Request::new(Full::new(form.finish().into()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }

    fn away(&self, told: &str) -> Unavailable {
        let origin = self.endpoint.origin();
        Unavailable::new(format!("auth: no token: {origin} {told}; check auth.oauth2"))
    }
}

/// Both are form-encoded first (RFC 6749 §2.3.1).
fn basic(id: &str, secret: Option<&str>) -> Option<HeaderValue> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let login = format!("{}:{}", encoded(id), encoded(secret.unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(login))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Errors are short words (RFC 6749 §5.2); anything else could hold what we sent.
fn is_code(error: &str) -> bool {
    error.len() <= 40 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
