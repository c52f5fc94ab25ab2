//! The settings of `email`, and every fault that they can have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cdr_core::{
    BuildError, Language, Secret, SettingFault, SettingPath, SinkConfig, SinkName,
    setting::{self, Step},
};
use jiff::tz::TimeZone;
use lettre::{message::Mailbox, transport::smtp::authentication::Mechanism};
use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use crate::{
    EmailSink, GroupBy, Recipient, Way,
    letter::{Link, Numbers, Style, TemplateSettings, Templates, samples},
    outbox::Outbox,
    owed::OwedMails,
    smtp::{Encryption, Kept, Login, Proof, Server},
};

/// What `email: { … }` holds: exactly one of `smtp` and `outbox`, a sender, and recipients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// The mail server.
    pub smtp: Option<SmtpSettings>,
    /// A folder that mails are written to instead: nobody is told.
    pub outbox: Option<SettingPath>,
    /// The sender, `cdr@example.com` or `CDR gateway <cdr@example.com>`.
    pub from: String,
    /// The recipients, at least one, each as in `from`.
    pub to: Vec<String>,
    /// How long the first push waits for company; at once by default.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "String")]
    pub group_wait: Duration,
    /// Least time between two mails about calls, or about one kind of alert: what comes in between goes together.
    #[serde(default = "group_interval", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub group_interval: Duration,
    /// What calls have in common that are told together.
    #[serde(default = "group_by")]
    pub group_by: BTreeSet<GroupBy>,
    /// Whether a mail tells that an incident is over.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// It is over when no such call came for so long; at least `group_interval`.
    #[serde(default = "resolve_after", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub resolve_after: Duration,
    /// Most mails about calls within an hour, 1 to 120; what is beyond gathers.
    #[serde(default = "max_per_hour")]
    pub max_per_hour: usize,
    /// Longest time for one mail, from the connection to the server's answer.
    #[serde(default = "timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// In which times are told, by its IANA name.
    #[serde(default = "timezone")]
    pub timezone: String,
    /// Which language mails are written in.
    #[serde(default)]
    pub language: Language,
    /// How much of phone numbers mails show.
    #[serde(default)]
    pub numbers: Numbers,
    /// Where more is to be read about a session, `https://ops.example.com/trace/{session}`; without it mails name the command.
    pub link: Option<String>,
    /// Other recipients for what a route sent here, by the route's name; `to` for all other routes.
    #[serde(default)]
    pub to_by_route: BTreeMap<String, Vec<String>>,
    /// Templates of one's own instead of the built-in ones.
    #[serde(default)]
    pub templates: TemplateSettings,
}

fn group_interval() -> Duration {
    Duration::from_secs(300)
}

fn group_by() -> BTreeSet<GroupBy> {
    BTreeSet::from([GroupBy::Status])
}

fn yes() -> bool {
    true
}

fn resolve_after() -> Duration {
    Duration::from_secs(1800)
}

fn max_per_hour() -> usize {
    10
}

fn timeout() -> Duration {
    Duration::from_secs(30)
}

fn timezone() -> String {
    cdr_core::setting::timezone().unwrap_or_else(|| "Asia/Shanghai".to_owned())
}

/// A mail server and how to log in there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    /// `smtps://host:465` (TLS from the start) or `smtp://host:587` (STARTTLS); the ports are the defaults.
    pub url: String,
    /// What the URL's scheme says unless set; `none` must be said.
    pub tls: Option<TlsSetting>,
    /// Together with `password` or `token_file`, or neither.
    pub username: Option<String>,
    /// Together with `username`, or neither.
    pub password: Option<Secret>,
    /// Instead of `password`: a file that holds an OAuth 2.0 access token, read at each login (XOAUTH2).
    pub token_file: Option<SettingPath>,
    /// How to log in; what the server offers of `plain` and `login` unless set.
    pub mechanism: Option<MechanismSetting>,
    /// PEM file of the only authorities that are trusted; the system's by default.
    pub ca: Option<SettingPath>,
}

/// How a connection is kept private.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsSetting {
    /// TLS from the start: `smtps://`.
    Required,
    /// Plain at first, TLS before anything is told, or nothing at all: `smtp://`.
    Starttls,
    /// No TLS: password, names and numbers can be read on the way.
    None,
}

/// How the password is shown to the server. Both are as private as the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MechanismSetting {
    /// RFC 4616.
    Plain,
    /// The older way, for servers that offer PLAIN and do not do it.
    Login,
    /// OAuth 2.0, as Microsoft 365 and Gmail want it; with `token_file`.
    Xoauth2,
}

impl SinkConfig for EmailSettings {
    const KIND: &'static str = "email";
    type Sink = EmailSink;

    fn build(self, name: &SinkName) -> Result<EmailSink, BuildError> {
        let mut faults = BuildError::default();
        if self.timeout.is_zero() {
            faults.push("timeout", "no mail is sent in no time; 30s is usual");
        }
        if self.resolve_after < self.group_interval {
            faults.push("resolve_after", "is shorter than group_interval: what still gathers would be over");
        }
        if !(1..=120).contains(&self.max_per_hour) {
            faults.push("max_per_hour", "must be between 1 and 120");
        }
        let from = mailbox("from", &self.from, &mut faults);
        let to = recipients(SettingFault::at("to", ""), &self.to, &mut faults);
        let mut to_by_route = BTreeMap::new();
        for (route, to) in self.to_by_route {
            let place =
                SettingFault::at("", "").below(&["to_by_route".to_owned(), route.clone()].map(Step::Key));
            to_by_route.insert(route, recipients(place, &to, &mut faults));
        }
        let link = self.link.and_then(|link| Link::new(link).map_err(|why| faults.push("link", why)).ok());
        let zone = TimeZone::get(&self.timezone);
        if zone.is_err() {
            faults.push("timezone", "no time zone has this name; they look like Asia/Shanghai");
        }
        let way = way(self.smtp, self.outbox, self.timeout, &mut faults);
        let zone = zone.unwrap_or(TimeZone::UTC);
        let style = Style { zone, language: self.language, numbers: self.numbers, link };
        let templates = Templates::new(self.templates, &style, &samples(&style), &mut faults);
        match (from, way, templates) {
            (Some(from), Some(way), Some(templates)) if faults.0.is_empty() => Ok(EmailSink {
                name: name.clone(),
                way,
                from,
                to,
                to_by_route,
                style,
                templates,
                group_by: self.group_by,
                send_resolved: self.send_resolved,
                resolve_after: self.resolve_after,
                max_per_hour: self.max_per_hour,
                group_wait: self.group_wait,
                group_interval: self.group_interval,
                owed: OwedMails::default(),
            }),
            _ => Err(faults),
        }
    }

    fn schema() -> Option<serde_json::Value> {
        Some(setting::schema::<Self>())
    }
}

/// Where mails go: to exactly one of both.
fn way(
    smtp: Option<SmtpSettings>,
    outbox: Option<SettingPath>,
    timeout: Duration,
    faults: &mut BuildError,
) -> Option<Way> {
    match (smtp, outbox) {
        (Some(smtp), None) => return smtp.server(timeout, faults).map(Way::Smtp),
        (None, Some(path)) => return Some(Way::Outbox(Outbox(path.0))),
        (Some(smtp), Some(_)) => {
            smtp.server(timeout, faults);
            faults.push("outbox", "stands beside smtp; only one can be: take outbox away to send mails");
        }
        (None, None) => faults.push("", "needs smtp, or outbox to try it without a mail server"),
    }
    None
}

/// At least one recipient. `place` is where they stand.
fn recipients(place: SettingFault, texts: &[String], faults: &mut BuildError) -> Vec<Recipient> {
    if texts.is_empty() {
        faults.0.push(SettingFault { message: "needs at least one recipient".to_owned(), ..place.clone() });
    }
    let mut read = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let mut own = BuildError::default();
        let way: Vec<Step> = place.path.iter().cloned().chain([Step::Index(index)]).collect();
        let mailbox = mailbox("", text, &mut own);
        read.extend(mailbox.map(|mailbox| Recipient { mailbox, place: setting::dotted(&way) }));
        faults.0.extend(own.0.into_iter().map(|fault| fault.below(&way)));
    }
    read
}

/// One mailbox.
fn mailbox(setting: &str, text: &str, faults: &mut BuildError) -> Option<Mailbox> {
    let fault = match text.parse::<Mailbox>() {
        _ if text.chars().any(char::is_control) => "holds a line end or another control character",
        Err(_) => {
            "is not one mail address; write on-call@example.com or On call <on-call@example.com>, \
             each recipient as an entry of its own"
        }
        // Such an address needs SMTPUTF8 from every server on the way, and lettre would send it as it is.
        Ok(mailbox) if !mailbox.email.to_string().is_ascii() => {
            "has letters beyond ASCII in its address; write the domain as xn--…"
        }
        Ok(mailbox) => return Some(mailbox),
    };
    faults.push(setting, fault);
    None
}

/// A setting, and what is wrong with it.
type Fault = (&'static str, &'static str);

impl SmtpSettings {
    fn server(self, timeout: Duration, faults: &mut BuildError) -> Option<Server> {
        let before = faults.0.len();
        let place = self.place().map_err(|(setting, message)| faults.push(setting, message)).ok();
        if matches!(place, Some((_, _, Encryption::None))) && self.ca.is_some() {
            faults.push("smtp.ca", "is of no use without TLS");
        }
        let login = login(self.username, self.password, self.token_file, self.mechanism, faults);
        let (host, port, encryption) = place.filter(|_| faults.0.len() == before)?;
        let ca = self.ca.map(|path| path.0);
        Some(Server { host, port, encryption, ca, login, timeout, kept: Kept::default() })
    }

    /// Host, port and encryption. The URL is never quoted: somebody may have put a password into it.
    fn place(&self) -> Result<(String, u16, Encryption), Fault> {
        const EXPECTED: Fault =
            ("smtp.url", "is no address of a mail server; write smtps://mail.example.com:465");
        let url = Url::parse(&self.url).map_err(|_| EXPECTED)?;
        let host = host(&url).ok_or(EXPECTED)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(("smtp.url", "holds a login; it goes into smtp.username and smtp.password"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(("smtp.url", "goes on after the port; it is smtps://mail.example.com:465, no more"));
        }
        let (port, encryption) = match (url.scheme(), self.tls) {
            ("smtps", None | Some(TlsSetting::Required)) => (465, Encryption::Tls),
            ("smtp", None | Some(TlsSetting::Starttls)) => (587, Encryption::StartTls),
            ("smtp", Some(TlsSetting::None)) => (587, Encryption::None),
            ("smtps", Some(_)) => {
                return Err(("smtp.tls", "contradicts smtps://, which is TLS from the start; use smtp://"));
            }
            ("smtp", Some(TlsSetting::Required)) => {
                return Err(("smtp.tls", "contradicts smtp://, which begins without TLS; use smtps://"));
            }
            _ => return Err(EXPECTED),
        };
        Ok((host, url.port().unwrap_or(port), encryption))
    }
}

/// A username and how it is proved: by exactly one of password and token.
fn login(
    username: Option<String>,
    password: Option<Secret>,
    token_file: Option<SettingPath>,
    mechanism: Option<MechanismSetting>,
    faults: &mut BuildError,
) -> Option<Login> {
    let password_by = match mechanism {
        None => Some(None),
        Some(MechanismSetting::Plain) => Some(Some(Mechanism::Plain)),
        Some(MechanismSetting::Login) => Some(Some(Mechanism::Login)),
        Some(MechanismSetting::Xoauth2) => None,
    };
    let is_for_a_token = matches!(mechanism, None | Some(MechanismSetting::Xoauth2));
    let proof = match (password, token_file, password_by) {
        (Some(password), None, Some(by)) => Some(Proof::Password(password, by)),
        (None, Some(path), _) if is_for_a_token => Some(Proof::TokenFile(path.0)),
        (None, None, _) if username.is_none() && mechanism.is_none() => return None,
        (None, None, _) => {
            faults.push("smtp.password", "is missing beside smtp.username; or set smtp.token_file");
            None
        }
        (Some(_), Some(_), _) => {
            faults.push("smtp.token_file", "stands beside smtp.password; only one can be");
            None
        }
        (Some(_), None, None) => {
            faults.push("smtp.mechanism", "xoauth2 wants smtp.token_file instead of smtp.password");
            None
        }
        (None, Some(_), _) => {
            faults.push("smtp.mechanism", "a token is shown by xoauth2 only; take mechanism away");
            None
        }
    };
    if username.is_none() {
        faults.push("smtp.username", "is missing beside smtp.password or smtp.token_file");
    }
    Some(Login { username: username?, proof: proof? })
}

/// The host as it is looked up and named in certificates: an IPv6 address without its brackets.
fn host(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.to_owned()).filter(|name| !name.is_empty()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}
