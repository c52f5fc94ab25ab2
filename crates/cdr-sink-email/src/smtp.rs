//! Hands a mail to a mail server (RFC 5321), and says in words what happened when it did not take it.
//!
//! lettre speaks the protocol; the steps are taken here one by one, because its transport gives up at the first
//! refused recipient and does not say at which step it failed. Both decide what becomes of a push. A mail has a
//! connection of its own: with minutes between mails, a server would have closed a kept one long ago.

use std::{error::Error as _, fmt, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cdr_core::{Failure, Secret};
use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
    },
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{letter::one_line, mail::masked};

/// How long a server may take to say goodbye. The mail is in its hands by then.
const GOODBYE: Duration = Duration::from_secs(1);

/// Most characters of a server's answer that are told.
const ANSWER: usize = 200;

/// A mail server.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) encryption: Encryption,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) login: Option<Login>,
    pub(crate) timeout: Duration,
}

/// How the connection is kept private.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encryption {
    Tls,
    StartTls,
    None,
}

/// Who we are to the server.
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

/// A mail that the server took.
pub(crate) struct Accepted {
    /// What it answered.
    pub(crate) answer: String,
    /// For whom it did not take it; never all.
    pub(crate) refused: Vec<Refused>,
}

/// A recipient that the server refused.
pub(crate) struct Refused {
    /// Which entry of `to`.
    index: usize,
    masked: String,
    code: u16,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to.{} {} ({})", self.index, self.masked, self.code)
    }
}

/// A mail that nobody took.
pub(crate) enum Failed {
    /// No mail would pass at present.
    Away(String),
    /// This one may pass another time.
    Later(Failure),
    /// This one will never pass.
    Never(Failure),
}

impl Server {
    /// Hands a mail over, within `timeout`.
    pub(crate) async fn send(&self, from: &Address, to: &[Address], mail: &[u8]) -> Result<Accepted, Failed> {
        let deadline = Instant::now() + self.timeout;
        let mut connection = self.connect_by(deadline).await.map_err(Failed::Away)?;
        let Ok(handed_over) = timeout_at(deadline, self.hand_over(&mut connection, from, to, mail)).await
        else {
            let reason = format!("{self} did not take the mail within {:?}", self.timeout);
            return Err(Failed::Later(Failure::new(reason)));
        };
        let _ = timeout(GOODBYE, connection.quit()).await;
        handed_over
    }

    /// Connects, logs in and leaves again.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let mut connection = self.connect_by(Instant::now() + self.timeout).await?;
        let _ = timeout(GOODBYE, connection.quit()).await;
        Ok(())
    }

    /// In words for the start's log.
    pub(crate) fn describe(&self) -> String {
        let privacy = match self.encryption {
            Encryption::Tls => "TLS",
            Encryption::StartTls => "STARTTLS",
            Encryption::None => "WITHOUT TLS: names, numbers and password can be read on the way",
        };
        let login = if self.login.is_some() { "with login" } else { "without login" };
        format!("{self} ({login}, {privacy})")
    }

    async fn connect_by(&self, deadline: Instant) -> Result<AsyncSmtpConnection, String> {
        let hint = match self.encryption {
            Encryption::Tls => "is it there?",
            _ => "a port that speaks TLS from the start, such as 465, wants smtps://",
        };
        let late = || format!("{self} did not answer within {:?}; {hint}", self.timeout);
        timeout_at(deadline, self.connect()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let hello = ClientId::default();
        let place = (self.host.as_str(), self.port);
        let tls = self.tls().await?;
        let from_the_start = tls.clone().filter(|_| self.encryption == Encryption::Tls);
        // Of several addresses of a host, a silent first one must leave time for the next.
        let patience = Some(self.timeout / 2);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, patience, &hello, from_the_start, None)
                .await
                .map_err(|error| self.no_connection(&error))?;
        if let (Some(tls), Encryption::StartTls) = (tls, self.encryption) {
            if !connection.can_starttls() {
                return Err(format!(
                    "{self} offers no STARTTLS, so nothing was told to it; use smtps:// if it has a TLS port"
                ));
            }
            connection.starttls(tls, &hello).await.map_err(|error| self.no_connection(&error))?;
        }
        if let Some(login) = &self.login {
            let credentials = Credentials::new(login.username.clone(), login.password.expose().to_owned());
            let answer = connection.auth(DEFAULT_MECHANISMS, &credentials).await;
            answer.map_err(|error| self.no_login(&error, login))?;
        }
        Ok(connection)
    }

    /// What the server's certificate is checked against. Read for every mail, off the runtime's threads: files may
    /// be renewed, and mails are minutes apart.
    async fn tls(&self) -> Result<Option<TlsParameters>, String> {
        if self.encryption == Encryption::None {
            return Ok(None);
        }
        let (host, ca) = (self.host.clone(), self.ca.clone());
        let read = tokio::task::spawn_blocking(move || match ca {
            None => TlsParameters::new(host).map_err(|error| format!("TLS cannot be set up: {error}")),
            Some(path) => {
                private_tls(host, &path).map_err(|why| format!("smtp.ca {}: {why}", path.display()))
            }
        });
        read.await.unwrap_or_else(|error| Err(format!("TLS cannot be set up: {error}"))).map(Some)
    }

    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Accepted, Failed> {
        let sender = Mail::new(Some(from.clone()), vec![]);
        connection.command(sender).await.map_err(|error| self.sender_refused(&error))?;
        let refused = self.name_recipients(connection, to).await?;
        connection.command(Data).await.map_err(|error| self.content_refused(&error))?;
        let answer = connection.message(mail).await.map_err(|error| self.content_refused(&error))?;
        let words = answer.message().collect::<Vec<_>>().join(" ");
        Ok(Accepted { answer: one_line(&format!("{} {words}", answer.code()), ANSWER), refused })
    }

    /// Names every recipient; goes on while one of them is accepted.
    async fn name_recipients(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &[Address],
    ) -> Result<Vec<Refused>, Failed> {
        let mut refused = Vec::new();
        for (index, address) in to.iter().enumerate() {
            let Err(error) = connection.command(Rcpt::new(address.clone(), vec![])).await else { continue };
            match code(&error) {
                Some(code) if code != 421 => refused.push(Refused { index, masked: masked(address), code }),
                _ => return Err(self.broken(&error)),
            }
        }
        if refused.len() < to.len() {
            return Ok(refused);
        }
        let all: Vec<_> = refused.iter().map(ToString::to_string).collect();
        let reason = format!("{self} refused every recipient: {}", all.join(", "));
        match refused.iter().any(|refused| refused.code < 500) {
            true => Err(Failed::Later(Failure::new(reason))),
            false => Err(Failed::Away(format!("{reason}; check `to`"))),
        }
    }

    fn no_connection(&self, error: &Error) -> String {
        let why = root(error);
        match io_kind(error) {
            _ if error.status().is_some() => format!("{self} turned us away: {}", answer(error)),
            _ if error.is_response() => format!("{self} does not answer as a mail server would ({why})"),
            Some(std::io::ErrorKind::ConnectionRefused) => format!("nobody listens at {self}"),
            Some(std::io::ErrorKind::InvalidData) => format!(
                "no TLS with {self}: {why}; check scheme and port of smtp.url, and smtp.ca for a private authority"
            ),
            _ => format!("no connection to {self}: {why}; check smtp.url"),
        }
    }

    /// A server may quote what it was sent; an answer that holds the password in any form is not told.
    fn no_login(&self, error: &Error, login: &Login) -> String {
        let Login { username, password } = login;
        let password = password.expose();
        let forms = [
            password.to_owned(),
            STANDARD.encode(password),
            STANDARD.encode(format!("\0{username}\0{password}")),
        ];
        let answer = answer(error);
        match code(error) {
            None if error.is_client() => {
                format!("{self} offers no login that we speak (PLAIN or LOGIN); does it want TLS first?")
            }
            None => format!("{self} broke off the login: {}", root(error)),
            Some(code) if forms.iter().any(|form| answer.contains(form)) => {
                format!("{self} refused the login ({code}); check smtp.username and smtp.password")
            }
            Some(_) => format!("{self} refused the login: {answer}; check smtp.username and smtp.password"),
        }
    }

    /// A sender that is refused is refused for every mail.
    fn sender_refused(&self, error: &Error) -> Failed {
        match code(error) {
            Some(500..) => Failed::Away(format!(
                "{self} refused the sender: {}; check `from`, and smtp.username if it wants a login",
                answer(error)
            )),
            _ => self.content_refused(error),
        }
    }

    fn content_refused(&self, error: &Error) -> Failed {
        let quoting = |reason: String| Failure::new(reason).quoting(answer(error).as_bytes());
        match code(error) {
            None | Some(421) => self.broken(error),
            Some(code @ ..500) => Failed::Later(quoting(format!("{self} put the mail off ({code})"))),
            Some(code) => Failed::Never(quoting(format!("{self} refused the mail ({code})"))),
        }
    }

    /// The conversation ended in the middle: because the server leaves, or for a reason that may be this mail.
    fn broken(&self, error: &Error) -> Failed {
        match code(error) {
            Some(_) => Failed::Away(format!("{self} is closing down: {}", answer(error))),
            None => {
                let reason =
                    format!("the connection to {self} broke in the middle of the mail: {}", root(error));
                Failed::Later(Failure::new(reason))
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// TLS that trusts the authorities of one file and nobody else.
fn private_tls(host: String, ca: &std::path::Path) -> Result<TlsParameters, String> {
    let pem = std::fs::read(ca).map_err(|error| error.to_string())?;
    let authorities = Certificate::from_pem(&pem).map_err(|error| root(&error))?;
    let builder = TlsParameters::builder(host).certificate_store(CertificateStore::None);
    builder.add_root_certificate(authorities).build().map_err(|error| root(&error))
}

fn code(error: &Error) -> Option<u16> {
    error.status().map(u16::from)
}

/// The server's answer, as one line.
fn answer(error: &Error) -> String {
    let words = error.source().map(ToString::to_string).unwrap_or_default();
    let code = code(error).map(|code| code.to_string()).unwrap_or_default();
    one_line(&format!("{code} {words}"), ANSWER)
}

/// What lies at the bottom of an error, as one line: lettre wraps errors in others that say nothing more.
fn root(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    one_line(&deepest.to_string(), ANSWER)
}

fn io_kind(error: &Error) -> Option<std::io::ErrorKind> {
    let mut at: Option<&dyn std::error::Error> = error.source();
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        at = error.source();
    }
    None
}
