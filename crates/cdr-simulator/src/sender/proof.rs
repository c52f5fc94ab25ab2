//! How a sender proves who it is.

use std::path::PathBuf;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cdr_core::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{PUSH_UUID, Preset};

/// How the sender proves who it is. TCCC knows `Basic` and `OAuth2`, and sends a URL with a `Query` as it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Proof {
    /// User name and password as HTTP Basic (RFC 7617).
    Basic {
        /// Without a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A text that this header holds.
    Header {
        /// Any but those that a push has anyway.
        name: HeaderName,
        /// The text.
        token: Secret,
    },
    /// A text in the query of the URL.
    Query {
        /// The parameter's name.
        name: String,
        /// The text.
        token: Secret,
    },
    /// A text as `Authorization: Bearer` (RFC 6750).
    Bearer(Secret),
    /// An access token, got by OAuth 2.0 client credentials (RFC 6749 §4.4) as `client_secret_basic` when the first push
    /// needs it, and again shortly before it ends or when it is refused.
    OAuth2 {
        /// Where tokens are given; without it `/oauth2/token` behind the path of the push URL.
        token_url: Option<Url>,
        /// The client's name.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// A signature by a key that both sides know.
    Signature {
        /// How it signs.
        preset: Preset,
        /// The key, as the receiver's settings have it.
        key: Secret,
    },
}

/// What the sender shows during TLS, as PEM files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its authority behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Proof {
    /// The login that a URL may hold.
    pub(super) fn in_url(url: &Url) -> Option<Self> {
        let text = |encoded: &str| percent_decode_str(encoded).decode_utf8_lossy().into_owned();
        let password = Secret::new(text(url.password().unwrap_or_default()));
        (!url.username().is_empty()).then(|| Self::Basic { username: text(url.username()), password })
    }

    /// Adds what is the same for every push.
    pub(super) fn add_to(&self, url: &mut Url, headers: &mut HeaderMap) -> anyhow::Result<()> {
        let (name, value) = match self {
            Self::Basic { username, password } => {
                anyhow::ensure!(
                    !username.contains(':'),
                    "user name: HTTP Basic cannot carry one with a colon"
                );
                (header::AUTHORIZATION, basic(username, password.expose()))
            }
            Self::Header { name, token } => {
                let is_there = headers.contains_key(name) || *name == PUSH_UUID;
                anyhow::ensure!(!is_there, "token: every push has the header {name} anyway");
                (name.clone(), token.expose().to_owned())
            }
            Self::Bearer(token) => (header::AUTHORIZATION, format!("Bearer {}", token.expose())),
            Self::Query { name, token } => {
                url.query_pairs_mut().append_pair(name, token.expose());
                return Ok(());
            }
            Self::OAuth2 { .. } | Self::Signature { .. } => return Ok(()),
        };
        let mut value = HeaderValue::try_from(value).context("token: no header can carry it")?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }

    /// What it means when the receiver does not take it.
    pub(super) fn when_refused(&self) -> &'static str {
        match self {
            Self::Basic { .. } => "wrong user name or password",
            Self::Header { .. } | Self::Query { .. } | Self::Bearer(_) => "wrong token",
            Self::OAuth2 { .. } => "the access token is not taken",
            Self::Signature { .. } => "the signature is not taken; compare preset, key and clock",
        }
    }
}

/// The value of `Authorization`.
pub(super) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}
