//! The settings of `email`, and every fault that they can have.

mod smtp;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cdr_core::{
    BuildError, Language, SettingFault, SettingPath, SinkConfig, SinkName,
    setting::{self, Step},
};
use jiff::tz::TimeZone;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::smtp::{MechanismSetting, Oauth2Settings, SmtpSettings, TlsSetting};

use crate::{
    EmailSink, GroupBy, Recipient, Way,
    attempt::LONGEST_TIMEOUT,
    letter::{Link, Numbers, Style, TemplateSettings, Templates, samples},
    outbox::Outbox,
    owed::OwedMails,
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
    /// Longest time for what comes before a mail's text, from the connection on: above 0 s, at most 60 s. The answer to the text is
    /// waited for until the attempt must end, 115 s after it began.
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

impl SinkConfig for EmailSettings {
    const KIND: &'static str = "email";
    type Sink = EmailSink;

    fn build(self, name: &SinkName) -> Result<EmailSink, BuildError> {
        let mut faults = BuildError::default();
        if self.timeout.is_zero() {
            faults.push("timeout", "no mail is sent in no time; 30s is usual");
        }
        if self.timeout > LONGEST_TIMEOUT {
            faults.push("timeout", "is longer than 60s: too little would be left of an attempt for the answer to the mail; 30s is usual");
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
        (Some(smtp), None) => return smtp.server(timeout, faults).map(|server| Way::Smtp(Box::new(server))),
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
