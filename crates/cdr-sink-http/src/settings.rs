//! The settings of `http`, and their faults.

mod auth;
mod batch;
mod preset;
mod step;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use cdr_core::{ATTEMPT_DEADLINE, BuildError, Secret, SinkConfig, SinkName, setting};
use cdr_expression::{Expression, Kind, Names};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

pub use self::{
    auth::{ApiKey, Auth, CredentialsIn, Oauth2, SignatureSettings, Tls},
    batch::BatchSettings,
    preset::Preset,
    step::{As, Classify, FindSettings, StepSettings},
};
use crate::{
    bundle::Format,
    connect::{Network, Receiver},
    place::Place,
    redirect::Redirects,
    request,
    sink::HttpSink,
    template::Text,
    wire::Wire,
};
use auth::{as_quoted, secret_value};

/// Behind it an attempt can still say what it waited for, before the lane's deadline cuts it off.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(100);
const _: () = assert!(LONGEST_TIMEOUT.as_secs() < ATTEMPT_DEADLINE.as_secs());

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
    ("accept-encoding", "answers are read as they are"),
    // One value for all pushes would make the receiver take every push but the first for a repeat.
    ("idempotency-key", "each push has its own"),
    ("x-tccc-push-uuid", "each push has its own"),
];

/// Where pushes are sent, and how.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// `http` or `https`, without credentials; a query in it is kept. Must be set, unless a preset knows it.
    pub url: Option<String>,
    /// Ready `steps` for a CRM that many use.
    pub preset: Option<Preset>,
    /// POST unless set.
    pub method: Option<Method>,
    /// Below the path of `url`; `{{…}}` in it is encoded.
    pub path: Option<String>,
    /// Parameters beside those of `url`; one whose value is null is left out, one whose value is a list is repeated.
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    /// More headers. Their values may be secrets: `X-Api-Key: { env: CRM_KEY }`; `{{…}}` in a text is an expression.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// `raw`, the bytes as they came, unless set; or JSON with `{{…}}` in its texts.
    pub body: Option<Value>,
    /// Many pushes in one request, each as `body` has it.
    pub batch: Option<BatchSettings>,
    /// Several requests for each push, one after the other, instead of the one of `method`, `path`, `query` and `body`.
    #[serde(default)]
    pub steps: Vec<StepSettings>,
    /// Pushes for which this expression gives the same go through `steps` one after the other; the customer's number unless set.
    pub lock: Option<String>,
    /// For a whole attempt, from connecting to the last byte of the answer, all steps together; 30 s unless set, 100 s at most.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// For looking up the host, connecting and TLS; 5 s unless set.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How to log in.
    pub auth: Option<Auth>,
    /// How requests are signed, so that a receiver of one's own can tell them from forged ones.
    pub signature: Option<SignatureSettings>,
    /// Whom to trust, and who we are.
    #[serde(default)]
    pub tls: Tls,
    /// Whether a public name may lead to a private address, and any to where clouds hand out credentials.
    #[serde(default)]
    pub allow_private: bool,
    /// Whether redirects are followed: `refuse` unless set.
    #[serde(default)]
    pub redirects: Redirects,
    /// An `http://` proxy, or `none`; that of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` unless set.
    pub proxy: Option<String>,
    /// What counts as taken beyond a status of 2xx.
    #[serde(default)]
    pub success: Success,
    /// An expression over the answer: it has it already, which is as good as taken.
    pub already_there: Option<String>,
    /// What answers mean instead of what their status says.
    #[serde(default)]
    pub classify: Vec<Classify>,
    /// How to ask whether an earlier attempt was stored.
    pub find: Option<FindSettings>,
    /// Whether the query bears the push's `action` and `version`, as the sender's did.
    #[serde(default)]
    pub keep_query: bool,
    /// The sender itself says `charset=utf8`, which is no registered charset: receivers built on Express answer
    /// 415 or 500 to it. So this is our own: `application/json; charset=utf-8` unless set.
    /// With `batch` and lines `application/x-ndjson`.
    pub content_type: Option<String>,
    /// What expressions know as `timezone`; the configuration's unless set.
    #[serde(default = "default_timezone")]
    pub timezone: String,
}

/// The method of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Tell me.
    Get,
    /// Here is something new.
    #[default]
    Post,
    /// For receivers that want it.
    Put,
    /// For receivers that want it.
    Patch,
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
        }
    }
}

/// What counts as taken beyond a status of 2xx.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// Whether a JSON answer with a non-zero `ErrCode` means that it was not taken, as in the sender's own
    /// protocol. On unless set.
    #[serde(default = "yes")]
    pub err_code: bool,
    /// An expression over `status`, `headers` and `body` of the answer that must hold, too.
    pub when: Option<String>,
}

impl Default for Success {
    fn default() -> Self {
        Self { err_code: true, when: None }
    }
}

fn yes() -> bool {
    true
}

fn default_timezone() -> String {
    setting::timezone().unwrap_or_else(|| "UTC".to_owned())
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(5)
}

impl SinkConfig for HttpSettings {
    const KIND: &'static str = "http";
    type Sink = HttpSink;

    fn build(mut self, name: &SinkName) -> Result<HttpSink, BuildError> {
        let faults = RefCell::default();
        let place = Place::whole(&faults);
        self.take_preset(&place);
        let uri = self.uri(&place);
        let common = self.common(uri.clone().unwrap_or_default(), &place);
        self.check_times(&place);
        let is_plain = self.is_plain();
        let lock = self.lock(&common.names, &place);
        let bundling = self.bundling(&place.key("batch"));
        let taken: Vec<String> = self.steps.iter().flat_map(|step| step.take.keys().cloned()).collect();
        let steps = self.steps(&common, &place);
        let mut given: Vec<(String, Value)> = taken.into_iter().map(|name| (name, Value::Null)).collect();
        if !is_plain {
            given.push((TIMEZONE.to_owned(), self.timezone.clone().into()));
        }
        let network = self.network(&place);
        let secrets = self.secrets();
        let wire = Wire {
            secrets,
            oauth: self.auth.and_then(|auth| auth.oauth(&network, &place.key("auth"))),
            signature: self.signature.map(|signature| signature.read(&place.key("signature"))),
            redirects: self.redirects,
            receiver: Receiver::new(common.uri, network),
        };
        faults.into_inner().or_ok(HttpSink {
            name: name.clone(),
            wire,
            steps,
            given,
            lock,
            bundling,
            timeout: self.timeout,
            since: OnceLock::new(),
        })
    }

    fn schema() -> Option<serde_json::Value> {
        Some(setting::schema::<Self>())
    }
}

/// The name under which expressions know the time zone.
const TIMEZONE: &str = "timezone";

impl HttpSettings {
    /// Takes over what a preset sets.
    fn take_preset(&mut self, place: &Place<'_>) {
        let Some(preset) = self.preset else { return };
        let place = place.key("preset");
        match preset.read() {
            Err(fault) => place.fault(fault),
            Ok(_) if !self.steps.is_empty() => {
                place.fault("a preset brings its own steps: leave it or steps out");
            }
            Ok(preselected) => {
                self.steps = preselected.steps;
                self.url = self.url.take().or(preselected.url);
            }
        }
    }

    fn check_times(&self, place: &Place<'_>) {
        for (setting, duration) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if duration.is_zero() {
                place.key(setting).fault("no attempt can succeed in no time; leave it out for the default");
            }
        }
        if self.timeout > LONGEST_TIMEOUT {
            place.key("timeout").fault("a timeout is at most 100s: the lane ends an attempt after 120s");
        }
    }

    /// The address; none when it is faulty. No message repeats it: it may hold a password.
    fn uri(&self, place: &Place<'_>) -> Option<Uri> {
        let parameter = self.auth.as_ref().and_then(|auth| auth.parameter(&place.key("auth")));
        let Some(text) = &self.url else {
            place.fault("missing setting \"url\"");
            return None;
        };
        let place = place.key("url");
        let mut url = address(text, &place)?;
        if let Some((name, key)) = parameter {
            url.query_pairs_mut().append_pair(name, key);
        }
        if text.contains("{{") {
            place.fault("the address is the same for every push: write {{…}} in path and query");
            return None;
        }
        url.as_str().parse().map_err(|error| place.fault(format!("{error}"))).ok()
    }

    /// What its requests have in common.
    fn common(&self, uri: Uri, place: &Place<'_>) -> step::Common {
        let names = Names::default().and(TIMEZONE, Kind::Text);
        let mut headers = HeaderMap::new();
        let version = concat!("cdr-gateway/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(version));
        let is_ndjson = self.batch.is_some_and(|batch| batch.format == Format::Ndjson);
        let content_type = match self.content_type.as_deref() {
            Some(set) => HeaderValue::from_str(set),
            None if is_ndjson => Ok(HeaderValue::from_static("application/x-ndjson")),
            None => Ok(HeaderValue::from_static("application/json; charset=utf-8")),
        };
        let content_type = content_type.map_err(|_| place.key("content_type").fault(NOT_A_VALUE)).ok();
        // Whoever does not say so may get any coding (RFC 9110 §12.5.3), and could not tell an `ErrCode` in it.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(auth) = &self.auth {
            headers.extend(auth.header(&place.key("auth")));
        }
        let mut made_headers = Vec::new();
        for (name, value) in &self.headers {
            let place = place.key("headers").key(name);
            let Some(name) = self.header_name(name, &place) else { continue };
            match value.expose() {
                // Of a secret from elsewhere nothing is an expression.
                text if value.is_literal() && text.contains("{{") => {
                    made_headers.extend(Text::read(text, &names, &place).map(|text| (name, text)));
                }
                text => match secret_value(text) {
                    Some(value) => drop(headers.insert(name, value)),
                    None => place.fault(NOT_A_VALUE),
                },
            }
        }
        // A `Host` among them is kept: some proxies go by it.
        if let Some(host) = request::host(&uri) {
            headers.entry(header::HOST).or_insert(host);
        }
        let made_headers = Arc::from(made_headers);
        step::Common { uri, headers, made_headers, content_type, keep_query: self.keep_query, names }
    }

    fn header_name(&self, name: &str, place: &Place<'_>) -> Option<HeaderName> {
        let Ok(name) = name.parse::<HeaderName>() else {
            place.fault("this cannot name a header");
            return None;
        };
        if let Some((_, instead)) = OURS.iter().find(|(ours, _)| *ours == name.as_str()) {
            place.fault(format!("this header cannot be set: {instead}"));
            return None;
        }
        let is_login = match &self.auth {
            Some(Auth::ApiKey(key)) => key.header.as_deref().is_some_and(|own| name == own),
            other => name == header::AUTHORIZATION && other.is_some(),
        };
        if is_login {
            place.fault("auth sets this header too: keep one of the two");
            return None;
        }
        Some(name)
    }

    /// What must never be quoted. Shorter ones would hide half of an answer.
    fn secrets(&self) -> Arc<[String]> {
        let of_headers = self.headers.values().map(|secret| secret.expose().to_owned());
        let of_auth = self.auth.iter().flat_map(Auth::secrets);
        let secrets = of_headers.chain(of_auth);
        secrets.filter(|secret| secret.len() >= 6 && !secret.contains("{{")).flat_map(as_quoted).collect()
    }

    fn network(&self, place: &Place<'_>) -> Network {
        self.tls.check(&place.key("tls"));
        let is_proxy =
            |proxy: &str| Url::parse(proxy).is_ok_and(|url| url.scheme() == "http" && url.has_host());
        if self.proxy.as_deref().is_some_and(|proxy| proxy != "none" && !is_proxy(proxy)) {
            place.key("proxy").fault("expected none, or something like http://proxy.example.com:3128");
        }
        Network {
            connect_timeout: self.connect_timeout,
            tls: self.tls.clone(),
            allow_private: self.allow_private,
            proxy: self.proxy.clone(),
        }
    }

    /// Whether every push is sent as it came, and only the status and `ErrCode` of the answer count.
    fn is_plain(&self) -> bool {
        let is_raw = self.body.as_ref().is_none_or(|body| body == "raw");
        let has_expression = |secret: &Secret| secret.expose().contains("{{");
        is_raw
            && self.steps.is_empty()
            && self.path.is_none()
            && self.query.is_empty()
            && self.classify.is_empty()
            && self.find.is_none()
            && self.already_there.is_none()
            && self.success.when.is_none()
            && self.lock.is_none()
            && !self.headers.values().any(has_expression)
    }

    /// By what pushes take turns.
    fn lock(&self, names: &Names, place: &Place<'_>) -> Option<Expression> {
        let default = (!self.steps.is_empty()).then_some("e164(customer)");
        let text = self.lock.as_deref().or(default)?;
        let faulty = |faults: Vec<_>| step::tell(&faults, &place.key("lock"));
        Expression::value(text.trim(), names).map_err(faulty).ok()
    }

    /// Its steps: those that are set, or the one that the other settings are.
    fn steps(&mut self, common: &step::Common, place: &Place<'_>) -> Vec<crate::step::Step> {
        let is_set = [
            ("method", self.method.is_some()),
            ("path", self.path.is_some()),
            ("query", !self.query.is_empty()),
            ("body", self.body.is_some()),
            ("success", self.success != Success::default()),
            ("already_there", self.already_there.is_some()),
            ("classify", !self.classify.is_empty()),
            ("find", self.find.is_some()),
        ];
        if !self.steps.is_empty() {
            for (setting, _) in is_set.into_iter().filter(|(_, is_set)| *is_set) {
                place
                    .key(setting)
                    .fault("each of the steps has its own: move it into the one that it is for");
            }
            return common.steps(&self.steps, &place.key("steps"));
        }
        let body = self.body.take().or_else(|| (self.method != Some(Method::Get)).then(|| "raw".into()));
        let only = StepSettings {
            name: String::new(),
            when: None,
            needs: Vec::new(),
            method: self.method,
            path: self.path.take(),
            query: std::mem::take(&mut self.query),
            body,
            take: BTreeMap::new(),
            success: std::mem::take(&mut self.success),
            already_there: self.already_there.take(),
            classify: std::mem::take(&mut self.classify),
            find: self.find.take(),
        };
        common.step(&only, None, String::new(), &[], place).into_iter().collect()
    }
}

/// The address of a server; none when it is faulty, which the place is told without repeating it.
fn address(text: &str, place: &Place<'_>) -> Option<Url> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            place.fault(format!("{error}; expected something like https://crm.example.com/calls"));
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        place.fault(format!("the scheme is {}; expected http or https", url.scheme()));
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        place.fault("credentials do not belong in the address: use auth: { basic: … }");
        return None;
    }
    if url.fragment().is_some() {
        place.fault("what follows # is never sent: leave it out");
        return None;
    }
    Some(url)
}

const NOT_A_VALUE: &str = "it holds a line break or another character that no header can carry";
