//! The settings for logging in, and for being trusted.

use base64::{Engine, prelude::BASE64_STANDARD};
use cdr_core::{Secret, SettingPath};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{NOT_A_VALUE, address};
use crate::{
    connect::{Network, Receiver},
    oauth::{self, OAuth},
    place::Place,
    request,
    signature::{self, Signature},
};

/// How to log in.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// RFC 7617.
    #[serde(rename_all = "snake_case")]
    Basic {
        /// Without a colon.
        username: String,
        /// Anything.
        password: Secret,
    },
    /// RFC 6750: a token that a person got from the receiver.
    Bearer(Secret),
    /// A key in a header or a parameter.
    ApiKey(ApiKey),
    /// RFC 6749: tokens that the gateway fetches and renews.
    Oauth2(Box<Oauth2>),
}

/// A key in a header or a parameter: one of the two.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The header that bears it.
    pub header: Option<String>,
    /// The parameter that bears it.
    pub query: Option<String>,
    /// The key.
    pub value: Secret,
}

/// Where tokens come from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2 {
    /// The token endpoint.
    pub token_url: String,
    /// Who we are there.
    pub client_id: String,
    /// How we prove it.
    pub client_secret: Option<Secret>,
    /// What the token shall be good for; several words separated by blanks.
    pub scope: Option<String>,
    /// A token that a person got once; without one, client credentials are used.
    pub refresh_token: Option<Secret>,
    /// Where client id and secret stand in the request.
    #[serde(default)]
    pub credentials_in: CredentialsIn,
    /// What stands in front of the token in `Authorization`; `Bearer` unless set.
    #[serde(default = "bearer")]
    pub scheme: String,
}

/// Where client id and secret stand in the request for a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsIn {
    /// Among the parameters of the body, as most want it.
    #[default]
    Body,
    /// In a header of their own.
    Basic,
}

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file of the only authorities that are trusted; the system's unless set.
    pub ca: Option<SettingPath>,
    /// A PEM file of our certificate and those between it and its authority.
    pub certificate: Option<SettingPath>,
    /// A PEM file of its private key.
    pub key: Option<SettingPath>,
}

/// How requests are signed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SignatureSettings {
    /// <https://www.standardwebhooks.com>
    StandardWebhooks {
        /// `whsec_` and base64 of 24 to 64 bytes.
        secret: Secret,
        /// The one before, while receivers change.
        previous: Option<Secret>,
    },
}

fn bearer() -> String {
    "Bearer".to_owned()
}

impl Auth {
    /// The header that logs in, the same for every request; none when there is no such header, or when it is faulty, which the
    /// place is told.
    pub(super) fn header(&self, place: &Place<'_>) -> Option<(HeaderName, HeaderValue)> {
        let (place, name, login) = match self {
            Self::Basic { username, .. } if username.contains(':') => {
                let place = place.key("basic").key("username");
                place.fault("a username with a colon cannot be sent (RFC 7617)");
                return None;
            }
            Self::Basic { username, password } => {
                let login = BASE64_STANDARD.encode(format!("{username}:{}", password.expose()));
                (place.key("basic"), header::AUTHORIZATION, format!("Basic {login}"))
            }
            Self::Bearer(token) => {
                (place.key("bearer"), header::AUTHORIZATION, format!("Bearer {}", token.expose()))
            }
            Self::ApiKey(ApiKey { header: Some(name), query: None, value }) => {
                let place = place.key("api_key");
                let Ok(name) = name.parse::<HeaderName>() else {
                    place.key("header").fault("this cannot name a header");
                    return None;
                };
                (place.key("value"), name, value.expose().to_owned())
            }
            Self::ApiKey(_) | Self::Oauth2(_) => return None,
        };
        let value = secret_value(&login);
        if value.is_none() {
            place.fault(NOT_A_VALUE);
        }
        value.map(|value| (name, value))
    }

    /// What must never be told, in the forms in which it is sent.
    pub(super) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Basic { username, password } => {
                let password = password.expose();
                vec![password.to_owned(), BASE64_STANDARD.encode(format!("{username}:{password}"))]
            }
            Self::Bearer(token) => vec![token.expose().to_owned()],
            Self::ApiKey(key) => vec![key.value.expose().to_owned()],
            // They are sent to who gives tokens, whose answers are not quoted.
            Self::Oauth2(_) => Vec::new(),
        }
    }

    /// The parameter that logs in.
    pub(super) fn parameter(&self, place: &Place<'_>) -> Option<(&str, &str)> {
        match self {
            Self::ApiKey(ApiKey { header: None, query: Some(name), value }) => Some((name, value.expose())),
            Self::ApiKey(ApiKey { header, query, .. }) if header.is_some() == query.is_some() => {
                place
                    .key("api_key")
                    .fault("it needs one of header and query, which names where the key stands");
                None
            }
            _ => None,
        }
    }

    /// Whoever gives tokens.
    pub(super) fn oauth(self, network: &Network, place: &Place<'_>) -> Option<OAuth> {
        let Self::Oauth2(settings) = self else { return None };
        let place = place.key("oauth2");
        if settings.refresh_token.is_none() && settings.client_secret.is_none() {
            place.fault("without a refresh_token it needs a client_secret");
        }
        if HeaderValue::from_str(&settings.scheme).is_err() {
            place.key("scheme").fault(NOT_A_VALUE);
        }
        let url = address(&settings.token_url, &place.key("token_url"))?;
        let uri: Uri = url.as_str().parse().ok()?;
        let mut headers = HeaderMap::new();
        headers.extend(request::host(&uri).map(|host| (header::HOST, host)));
        Some(OAuth {
            target: uri.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
            endpoint: Receiver::new(uri, network.clone()),
            headers,
            client_id: settings.client_id,
            client_secret: settings.client_secret,
            scope: settings.scope,
            credentials_in: settings.credentials_in,
            scheme: settings.scheme,
            state: Mutex::new(oauth::State::new(settings.refresh_token)),
        })
    }
}

impl Tls {
    pub(super) fn check(&self, place: &Place<'_>) {
        if self.certificate.is_some() != self.key.is_some() {
            place.fault("certificate and key belong together: set both or neither");
        }
    }
}

impl SignatureSettings {
    pub(super) fn read(&self, place: &Place<'_>) -> Signature {
        let Self::StandardWebhooks { secret, previous } = self;
        let place = place.key("standard_webhooks");
        let key = |name: &str, secret: &Secret| {
            let key = signature::key(secret.expose());
            if key.is_none() {
                place
                    .key(name)
                    .fault("expected whsec_ and base64 of 24 to 64 bytes, as of: openssl rand -base64 32");
            }
            key
        };
        let keys = [key("secret", secret), previous.as_ref().and_then(|previous| key("previous", previous))];
        Signature::new(keys.iter().flatten().map(Vec::as_slice))
    }
}

/// A value that never prints itself.
pub(super) fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A text in the forms in which answers repeat it: as it is, in JSON, in an address.
pub(super) fn as_quoted(text: String) -> Vec<String> {
    let json = Value::from(text.as_str()).to_string();
    let parameter = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let part = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
    let mut forms = vec![json[1..json.len() - 1].to_owned(), parameter, part, text];
    forms.sort();
    forms.dedup();
    forms
}
