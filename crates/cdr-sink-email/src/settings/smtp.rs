//! The settings of `smtp`: which server, how private, and who we are there.

use std::time::Duration;

use cdr_core::{BuildError, Secret, SettingPath};
use lettre::transport::smtp::authentication::Mechanism;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::{Host, Url};

use crate::smtp::{Encryption, Kept, Login, Proof, Server, TokenState, Tokens};

/// A mail server and how to log in there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    /// `smtps://host:465` (TLS from the start) or `smtp://host:587` (STARTTLS); the ports are the defaults.
    pub url: String,
    /// What the URL's scheme says unless set; `none` must be said.
    pub tls: Option<TlsSetting>,
    /// Together with one of `password`, `token_file` and `oauth2`, or none.
    pub username: Option<String>,
    /// Together with `username`, or neither.
    pub password: Option<Secret>,
    /// Instead of `password`: a file that holds an OAuth 2.0 access token, read at each login (XOAUTH2).
    pub token_file: Option<SettingPath>,
    /// Instead of `password`: where access tokens are fetched (XOAUTH2).
    pub oauth2: Option<Oauth2Settings>,
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
    /// OAuth 2.0, as Microsoft 365 and Gmail want it; with `token_file` or `oauth2`.
    Xoauth2,
}

/// Where access tokens come from (RFC 6749).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2Settings {
    /// The token endpoint; `https://`, but on this machine.
    pub token_url: String,
    /// Who we are there.
    pub client_id: String,
    /// How we prove it.
    pub client_secret: Option<Secret>,
    /// What the token shall be good for; several words separated by blanks.
    pub scope: Option<String>,
    /// A token that a person got once; without one, client credentials are used.
    pub refresh_token: Option<Secret>,
}

/// A setting, and what is wrong with it.
type Fault = (&'static str, &'static str);

impl SmtpSettings {
    pub(super) fn server(self, timeout: Duration, faults: &mut BuildError) -> Option<Server> {
        let before = faults.0.len();
        let place = self.place().map_err(|(setting, message)| faults.push(setting, message)).ok();
        if matches!(place, Some((_, _, Encryption::None))) && self.ca.is_some() {
            faults.push("smtp.ca", "is of no use without TLS");
        }
        let login = login(self.username, self.password, self.token_file, self.oauth2, self.mechanism, faults);
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

/// A username and how it is proved: by exactly one of password, token and tokens.
fn login(
    username: Option<String>,
    password: Option<Secret>,
    token_file: Option<SettingPath>,
    oauth2: Option<Oauth2Settings>,
    mechanism: Option<MechanismSetting>,
    faults: &mut BuildError,
) -> Option<Login> {
    let proofs = [password.is_some(), token_file.is_some(), oauth2.is_some()];
    let proofs = proofs.into_iter().filter(|is_set| *is_set).count();
    match (proofs, &username) {
        (0, None) if mechanism.is_none() => return None,
        (0, _) => {
            faults.push(
                "smtp.password",
                "is missing beside smtp.username; or set smtp.token_file or smtp.oauth2",
            );
        }
        (1, Some(_)) => {}
        (1, None) => {
            faults.push("smtp.username", "is missing beside smtp.password, smtp.token_file or smtp.oauth2");
        }
        (_, _) => {
            faults.push("smtp", "has several of password, token_file and oauth2; only one can be");
        }
    }
    let is_by_token = password.is_none() && proofs > 0;
    let password_by = match mechanism {
        None => None,
        Some(MechanismSetting::Plain) => Some(Mechanism::Plain),
        Some(MechanismSetting::Login) => Some(Mechanism::Login),
        Some(MechanismSetting::Xoauth2) if is_by_token => None,
        Some(MechanismSetting::Xoauth2) => {
            faults.push("smtp.mechanism", "xoauth2 wants smtp.token_file or smtp.oauth2, not a password");
            None
        }
    };
    if is_by_token && password_by.is_some() {
        faults.push("smtp.mechanism", "a token is shown by xoauth2 only; take mechanism away");
    }
    let by_password = password.map(|password| Proof::Password(password, password_by));
    let by_file = token_file.map(|path| Proof::TokenFile(path.0));
    let by_tokens =
        oauth2.and_then(|oauth2| oauth2.tokens(faults)).map(|tokens| Proof::Tokens(Box::new(tokens)));
    Some(Login { username: username?, proof: by_password.or(by_file).or(by_tokens)? })
}

impl Oauth2Settings {
    fn tokens(self, faults: &mut BuildError) -> Option<Tokens> {
        if self.refresh_token.is_none() && self.client_secret.is_none() {
            faults.push("smtp.oauth2", "without a refresh_token it needs a client_secret");
        }
        let url = Url::parse(&self.token_url).ok().filter(|url| match (url.scheme(), url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
            ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
            _ => false,
        });
        let Some(url) = url else {
            faults.push("smtp.oauth2.token_url", "is no https:// address; secrets go there");
            return None;
        };
        Some(Tokens {
            url,
            client_id: self.client_id,
            client_secret: self.client_secret,
            scope: self.scope,
            state: Mutex::new(TokenState::new(self.refresh_token)),
        })
    }
}

/// The host as it is looked up and named in certificates: an IPv6 address without its brackets.
fn host(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.to_owned()).filter(|name| !name.is_empty()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}
