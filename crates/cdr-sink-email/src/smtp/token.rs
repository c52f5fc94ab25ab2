//! Access tokens by OAuth 2.0 (RFC 6749): client credentials, or a refresh token that a person got once.
//!
//! A token is fetched when a login needs one and kept until shortly before it expires. One that the mail server refuses is
//! not shown again.

use std::{sync::Arc, time::Duration};

use cdr_core::{Secret, oauth::Lifetime};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    header::{ACCEPT, CONTENT_TYPE},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use url::{Url, form_urlencoded};

/// A token is not used in its last moments: it could expire on its way.
const MARGIN: Duration = Duration::from_secs(30);

/// Most bytes of an answer; a token has a few thousand.
const ANSWER: usize = 64 << 10;

/// Whoever gives tokens, and the one that is good now.
pub(crate) struct Tokens {
    pub(crate) url: Url,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<Secret>,
    pub(crate) scope: Option<String>,
    pub(crate) state: Mutex<State>,
}

/// What changes.
pub(crate) struct State {
    refresh_token: Option<Secret>,
    token: Option<Token>,
}

impl State {
    /// Before the first token.
    pub(crate) fn new(refresh_token: Option<Secret>) -> Self {
        Self { refresh_token, token: None }
    }
}

struct Token {
    text: String,
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

impl Tokens {
    /// A token, and whether it is one that was kept. The error is in words for the operator.
    pub(super) async fn token(&self, deadline: Instant) -> Result<(String, bool), String> {
        // Those that wait for somebody else's token, too.
        let in_time = timeout_at(deadline, self.kept_or_new()).await;
        in_time.unwrap_or_else(|_| Err(self.none("did not answer in time")))
    }

    async fn kept_or_new(&self) -> Result<(String, bool), String> {
        // Whoever comes while a token is fetched waits for that one.
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok((token.text.clone(), true));
        }
        state.token = None;
        let granted = self.ask(&state).await?;
        let text = granted.access_token.unwrap_or_default();
        if let Some(new) = granted.refresh_token {
            let is_new = state.refresh_token.as_ref().is_some_and(|old| old.expose() != new);
            if is_new {
                tracing::warn!(
                    endpoint = self.place(),
                    "the token endpoint gave a new refresh token; it is used until the gateway stops or reloads its configuration, then the one in the settings may be refused"
                );
                state.refresh_token = Some(Secret::new(new));
            }
        }
        let lifetime = granted.expires_in.and_then(|lifetime| lifetime.read());
        let until = lifetime.map(|lifetime| Instant::now() + lifetime.saturating_sub(MARGIN));
        state.token = Some(Token { text: text.clone(), until });
        Ok((text, false))
    }

    /// Forgets the token that was refused.
    pub(super) async fn refused(&self, text: &str) {
        let mut state = self.state.lock().await;
        state.token.take_if(|token| token.text == text);
    }

    async fn ask(&self, state: &State) -> Result<Granted, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Reads files, once in the hour that a token lives.
        let connector = tokio::task::spawn_blocking(|| {
            HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)
        });
        let connector = connector.await.unwrap_or_else(|error| Err(error.into()));
        let connector = connector
            .map_err(|error| {
                self.none(&format!("cannot be asked: {error}; install the system's ca-certificates"))
            })?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
        let request = Request::post(self.url.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::new(self.form(state).into()));
        let request = request.map_err(|error| self.none(&format!("cannot be asked: {error}")))?;
        let answer = client.request(request).await.map_err(|error| {
            let deepest = std::error::Error::source(&error).map(ToString::to_string);
            self.none(&format!("does not answer: {}", deepest.unwrap_or_else(|| error.to_string())))
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let body = body.map_err(|error| self.none(&format!("broke off its answer: {error}")))?.to_bytes();
        let granted: Granted = serde_json::from_slice(&body).unwrap_or_default();
        // Some refuse with a 200.
        if status == StatusCode::OK && granted.access_token.as_deref().is_some_and(is_token) {
            return Ok(granted);
        }
        let error = granted.error.filter(|error| is_code(error)).map(|error| format!(" with {error}"));
        Err(self.none(&format!("answered {status}{}", error.unwrap_or_default())))
    }

    fn form(&self, state: &State) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match &state.refresh_token {
            Some(token) => {
                form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose())
            }
            None => form.append_pair("grant_type", "client_credentials"),
        };
        form.extend_pairs(self.scope.as_ref().map(|scope| ("scope", scope)));
        form.append_pair("client_id", &self.client_id);
        form.extend_pairs(self.client_secret.as_ref().map(|secret| ("client_secret", secret.expose())));
        form.finish()
    }

    fn none(&self, told: &str) -> String {
        format!("no token for the login: {} {told}; check smtp.oauth2", self.place())
    }

    fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// What a login can carry.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Errors are short words (RFC 6749 §5.2); anything else could hold what we sent.
fn is_code(error: &str) -> bool {
    error.len() <= 40 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
