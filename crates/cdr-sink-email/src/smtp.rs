//! Hands a mail to a mail server (RFC 5321), and says what happened when it did not take it.
//!
//! lettre speaks the protocol; the steps are taken here one by one, because its transport, and the pool in it, give up at the
//! first refused recipient and do not say at which step they failed. Both decide what becomes of a push. A connection on which a
//! mail was taken or refused is kept for the next one, for a while.
//!
//! A mail goes out at most once in an attempt: a kept connection that breaks before the mail's text is replaced by a new one;
//! once the text is on its way, nothing is sent again. Servers look at a text for as long as they like before they answer
//! (RFC 5321 §4.5.3.2.6 grants them ten minutes), and whoever does not wait for them sends it twice: so `timeout` bounds what
//! comes before the text, and the answer to it is waited for until the attempt must end.

mod kept;
mod login;
mod token;
mod words;

use std::{fmt, path::PathBuf, time::Duration};

use cdr_core::Failure;
use lettre::{
    Address,
    transport::smtp::{
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
    },
};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::{
    kept::Kept,
    login::{Login, Proof},
    token::{State as TokenState, Tokens},
};

use self::{
    kept::leave,
    login::NoLogin,
    words::{ANSWER, code, root},
};
use crate::{Recipient, letter::one_line};

/// A mail server.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) encryption: Encryption,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) login: Option<Login>,
    pub(crate) timeout: Duration,
    pub(crate) kept: Kept,
}

/// How the connection is kept private.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encryption {
    Tls,
    StartTls,
    None,
}

/// A mail that the server took.
pub(crate) struct Accepted {
    /// What it answered.
    pub(crate) answer: String,
    /// For whom it did not take it; never all.
    pub(crate) refused: Vec<Refused>,
}

/// A recipient for whom the server did not take a mail.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Which of those who were named.
    pub(crate) index: usize,
    who: String,
    code: u16,
}

impl Refused {
    /// Whether it may take it later (4xx).
    pub(crate) fn is_put_off(&self) -> bool {
        self.code < 500
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.who, self.code)
    }
}

/// Why a mail was not taken.
pub(crate) enum Failed {
    /// No mail would be, at present.
    Away(String),
    /// None of its recipients is one, as far as the server knows.
    Nobody(String),
    /// This one may pass another time.
    Later(Failure),
    /// This one will never pass.
    Never(Failure),
}

/// Why a conversation did not get further.
enum Stopped {
    /// The server left, or the connection broke.
    Gone(Failed),
    /// The server said no.
    Answered(Failed),
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        let (Stopped::Gone(failed) | Stopped::Answered(failed)) = stopped;
        failed
    }
}

impl Server {
    /// Hands a mail over: announces it within `timeout`, and waits for the answer to its text until `end`.
    pub(crate) async fn send(
        &self,
        from: &Address,
        to: &[Recipient],
        mail: &[u8],
        end: Instant,
    ) -> Result<Accepted, Failed> {
        let deadline = Instant::now() + self.timeout;
        let Ok(announced) = timeout_at(deadline, self.announced(deadline, from, to)).await else {
            let reason = format!("{self} did not ask for the mail's text within {:?}", self.timeout);
            return Err(Failed::Later(Failure::new(reason)));
        };
        let (mut connection, refused) = announced?;
        let began = Instant::now();
        let Ok(answer) = timeout_at(end, connection.message(mail)).await else {
            return Err(self.unanswered(began.elapsed()));
        };
        let answer = match answer.map_err(|error| self.content_refused(&error)) {
            Ok(answer) => answer,
            Err(stopped) => return Err(self.given_up(connection, stopped).await),
        };
        self.kept.keep(connection).await;
        let words = answer.message().collect::<Vec<_>>().join(" ");
        Ok(Accepted { answer: one_line(&format!("{} {words}", answer.code()), ANSWER), refused })
    }

    /// Connects, logs in and leaves again.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        leave(self.connect_by(Instant::now() + self.timeout).await?).await;
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

    /// A connection on which the server waits for the mail's text, and for whom it does not take it.
    async fn announced(
        &self,
        deadline: Instant,
        from: &Address,
        to: &[Recipient],
    ) -> Result<(AsyncSmtpConnection, Vec<Refused>), Failed> {
        if let Some(mut kept) = self.kept.take().await {
            match self.announce(&mut kept, from, to).await {
                Ok(refused) => return Ok((kept, refused)),
                Err(stopped @ Stopped::Answered(_)) => return Err(self.given_up(kept, stopped).await),
                // Some servers take only so many mails on a connection. Nothing of this one was sent.
                Err(Stopped::Gone(_)) => {}
            }
        }
        let mut connection = self.connect_by(deadline).await.map_err(Failed::Away)?;
        match self.announce(&mut connection, from, to).await {
            Ok(refused) => Ok((connection, refused)),
            Err(stopped) => Err(self.given_up(connection, stopped).await),
        }
    }

    /// Why a mail was not taken. A connection on which the server said so is as good as before.
    async fn given_up(&self, connection: AsyncSmtpConnection, stopped: Stopped) -> Failed {
        if matches!(stopped, Stopped::Answered(_)) {
            self.kept.keep(connection).await;
        }
        stopped.into()
    }

    async fn announce(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &[Recipient],
    ) -> Result<Vec<Refused>, Stopped> {
        let sender = Mail::new(Some(from.clone()), vec![]);
        connection.command(sender).await.map_err(|error| self.sender_refused(&error))?;
        let refused = self.name_recipients(connection, to).await?;
        connection.command(Data).await.map_err(|error| self.content_refused(&error))?;
        Ok(refused)
    }

    /// Names every recipient; goes on while one of them is accepted.
    async fn name_recipients(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &[Recipient],
    ) -> Result<Vec<Refused>, Stopped> {
        let mut refused = Vec::new();
        for (index, recipient) in to.iter().enumerate() {
            let rcpt = Rcpt::new(recipient.mailbox.email.clone(), vec![]);
            let Err(error) = connection.command(rcpt).await else { continue };
            match code(&error) {
                Some(code) if code != 421 => {
                    refused.push(Refused { index, who: recipient.to_string(), code })
                }
                _ => return Err(self.broken(&error)),
            }
        }
        if refused.len() < to.len() {
            return Ok(refused);
        }
        let reason = format!("{self} refused every recipient: {}", list(&refused));
        Err(Stopped::Answered(match refused.iter().any(Refused::is_put_off) {
            true => Failed::Later(Failure::new(reason)),
            false => Failed::Nobody(format!("{reason}; check `to`")),
        }))
    }

    async fn connect_by(&self, deadline: Instant) -> Result<AsyncSmtpConnection, String> {
        let hint = match self.encryption {
            Encryption::Tls => "is it there?",
            _ => "a port that speaks TLS from the start, such as 465, wants smtps://",
        };
        let late = || format!("{self} did not answer within {:?}; {hint}", self.timeout);
        timeout_at(deadline, self.connect(deadline)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(&self, deadline: Instant) -> Result<AsyncSmtpConnection, String> {
        let connected = match self.connect_once(deadline).await {
            // A token can be taken back before it expires.
            Err(NoLogin { was_kept: true, .. }) => self.connect_once(deadline).await,
            connected => connected,
        };
        connected.map_err(|error| error.reason)
    }

    async fn connect_once(&self, deadline: Instant) -> Result<AsyncSmtpConnection, NoLogin> {
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
                let why = "offers no STARTTLS, so nothing was told to it; use smtps:// if it has a TLS port";
                return Err(format!("{self} {why}").into());
            }
            connection.starttls(tls, &hello).await.map_err(|error| self.no_connection(&error))?;
        }
        if let Some(login) = &self.login {
            self.log_in(&mut connection, login, deadline).await?;
        }
        Ok(connection)
    }

    /// What the server's certificate is checked against. Read for every connection, off the runtime's threads: files may
    /// be renewed, and connections are minutes apart.
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
}

/// Recipients for whom a mail was not taken, in a row.
pub(crate) fn list<'a>(refused: impl IntoIterator<Item = &'a Refused>) -> String {
    refused.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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
