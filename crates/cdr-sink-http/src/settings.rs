//! The settings of `http`, and their faults.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use cdr_core::{BuildError, Secret, SinkConfig, SinkName, setting};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::{connect::Receiver, request::RequestTemplate, sink::HttpSink};

/// Headers that only this sink or the connection may set, with what to do instead.
const OURS: &[(&str, &str)] = &[
    ("content-type", "set content_type instead"),
    ("content-length", "it follows from the body"),
    ("transfer-encoding", "the body is never chunked"),
    ("connection", "connections are kept by the gateway"),
    ("keep-alive", "connections are kept by the gateway"),
    ("upgrade", "connections are kept by the gateway"),
    ("te", "connections are kept by the gateway"),
    ("trailer", "the body is never chunked"),
    ("expect", "the body is sent at once"),
    // One value for all pushes would make the receiver take every push but the first for a repeat.
    ("idempotency-key", "each push has its own"),
    ("x-tccc-push-uuid", "each push has its own"),
];

/// Where pushes are sent, and how.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// `http` or `https`, without credentials; a query in it is kept.
    pub url: String,
    /// POST unless set.
    #[serde(default)]
    pub method: Method,
    /// More headers. Their values may be secrets: `X-Api-Key: { env: CRM_KEY }`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// For a whole attempt, from connecting to the last byte of the answer; 30 s unless set.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// For looking up the host, connecting and TLS; 5 s unless set.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How to log in.
    pub auth: Option<Auth>,
    /// What counts as taken beyond a status of 2xx.
    #[serde(default)]
    pub success: Success,
    /// Whether the query bears the push's `action` and `version`, as the sender's did.
    #[serde(default)]
    pub keep_query: bool,
    /// The sender itself says `charset=utf8`, which is no registered charset: receivers built on Express answer
    /// 415 or 500 to it. So this is our own: `application/json; charset=utf-8` unless set.
    #[serde(default = "default_content_type")]
    pub content_type: String,
}

/// The method of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Here is something new.
    #[default]
    Post,
    /// For receivers that want it.
    Put,
    /// For receivers that want it.
    Patch,
}

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
}

/// What counts as taken beyond a status of 2xx.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// Whether a JSON answer with a non-zero `ErrCode` means that it was not taken, as in the sender's own
    /// protocol. On unless set.
    pub err_code: bool,
}

impl Default for Success {
    fn default() -> Self {
        Self { err_code: true }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_content_type() -> String {
    "application/json; charset=utf-8".to_owned()
}

impl SinkConfig for HttpSettings {
    const KIND: &'static str = "http";
    type Sink = HttpSink;

    fn build(self, _name: &SinkName) -> Result<HttpSink, BuildError> {
        let mut faults = BuildError::default();
        let uri = self.uri(&mut faults);
        let headers = self.headers(&mut faults);
        for (setting, duration) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if duration.is_zero() {
                faults.push(setting, "no attempt can succeed in no time; leave it out for the default");
            }
        }
        let uri = faults.or_ok(uri)?.unwrap_or_default();
        let method = match self.method {
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
        };
        let template = RequestTemplate::new(method, &uri, headers, self.keep_query);
        let receiver = Receiver::new(uri, self.connect_timeout);
        Ok(HttpSink::new(receiver, template, self.timeout, self.success))
    }

    fn schema() -> Option<serde_json::Value> {
        Some(setting::schema::<Self>())
    }
}

impl HttpSettings {
    /// The address; none when it is faulty. No message repeats it: it may hold a password.
    fn uri(&self, faults: &mut BuildError) -> Option<Uri> {
        let url = match Url::parse(&self.url) {
            Ok(url) => url,
            Err(error) => {
                faults.push("url", format!("{error}; expected something like https://crm.example.com/calls"));
                return None;
            }
        };
        if !matches!(url.scheme(), "http" | "https") {
            faults.push("url", format!("the scheme is {}; expected http or https", url.scheme()));
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() {
            faults.push("url", "credentials do not belong in the address: use auth: { basic: … }");
            return None;
        }
        if url.fragment().is_some() {
            faults.push("url", "what follows # is never sent: leave it out");
            return None;
        }
        let uri = url.as_str().parse();
        uri.map_err(|error| faults.push("url", format!("{error}"))).ok()
    }

    /// The headers that are the same for every push.
    fn headers(&self, faults: &mut BuildError) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let version = concat!("cdr-gateway/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(version));
        match HeaderValue::from_str(&self.content_type) {
            Ok(value) => drop(headers.insert(header::CONTENT_TYPE, value)),
            Err(_) => faults.push("content_type", NOT_A_VALUE),
        }
        if let Some(auth) = &self.auth {
            match auth.header() {
                Ok(value) => drop(headers.insert(header::AUTHORIZATION, value)),
                Err((setting, message)) => faults.push(setting, message),
            }
        }
        for (name, value) in &self.headers {
            if let Err(message) = self.add(&mut headers, name, value) {
                faults.push(&format!("headers.{name}"), message);
            }
        }
        headers
    }

    fn add(&self, headers: &mut HeaderMap, name: &str, value: &Secret) -> Result<(), String> {
        let name: HeaderName = name.parse().map_err(|_| "this cannot name a header".to_owned())?;
        if let Some((_, instead)) = OURS.iter().find(|(ours, _)| *ours == name.as_str()) {
            return Err(format!("this header cannot be set: {instead}"));
        }
        if name == header::AUTHORIZATION && self.auth.is_some() {
            return Err("auth sets this header too: keep one of the two".to_owned());
        }
        headers.insert(name, secret_value(value.expose()).ok_or(NOT_A_VALUE)?);
        Ok(())
    }
}

const NOT_A_VALUE: &str = "it holds a line break or another character that no header can carry";

impl Auth {
    fn header(&self) -> Result<HeaderValue, (&'static str, &'static str)> {
        match self {
            Self::Basic { username, .. } if username.contains(':') => {
                Err(("auth.basic.username", "a username with a colon cannot be sent (RFC 7617)"))
            }
            Self::Basic { username, password } => {
                let login = BASE64_STANDARD.encode(format!("{username}:{}", password.expose()));
                secret_value(&format!("Basic {login}")).ok_or(("auth.basic", NOT_A_VALUE))
            }
            Self::Bearer(token) => {
                secret_value(&format!("Bearer {}", token.expose())).ok_or(("auth.bearer", NOT_A_VALUE))
            }
        }
    }
}

/// A value that never prints itself.
fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
