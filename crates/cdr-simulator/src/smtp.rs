//! A mail server on loopback (RFC 5321): takes mails, holds them, and misbehaves on request.
//!
//! It speaks EHLO and HELO, STARTTLS and TLS from the start, AUTH PLAIN, LOGIN and XOAUTH2, SIZE and PIPELINING. It holds
//! what a mailbox would: the envelope and the bytes as they were before dot-stuffing.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use cdr_simulator::smtp::{Mishap, SmtpOptions, SmtpReceiver, Step};
//!
//! let server = SmtpReceiver::start(0, SmtpOptions::default()).await?;
//! server.misbehave(Mishap::reply(Step::Rcpt, "451 4.7.1 come back later").about("b@example.com").times(1));
//! // … somebody mails to 127.0.0.1:{server.port()} …
//! for mail in server.mails() {
//!     println!("{} to {:?}", mail.subject, mail.to);
//! }
//! # Ok(()) }
//! ```

mod conversation;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mail_parser::MessageParser;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use conversation::Conversation;

/// How a mail server is set up. By default it takes anything from anybody, without TLS.
#[derive(Clone, Debug)]
pub struct SmtpOptions {
    /// What it does about TLS.
    pub privacy: Privacy,
    /// The one username and password that it knows. Nobody sends without them when they are set, and they are
    /// taken over TLS only, when there is TLS.
    pub login: Option<(String, String)>,
    /// Largest mail in bytes.
    pub max_size: usize,
}

impl Default for SmtpOptions {
    fn default() -> Self {
        Self { privacy: Privacy::None, login: None, max_size: 10 << 20 }
    }
}

/// What a mail server does about TLS.
#[derive(Clone, Debug)]
pub enum Privacy {
    /// Nothing.
    None,
    /// Offers STARTTLS.
    StartTls(Identity),
    /// Speaks TLS from the start.
    Tls(Identity),
}

/// Who a server is: certificate chain and private key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, those of its authorities after it.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let invalid =
            |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| invalid(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(&error))?
            .with_no_client_auth()
            .with_single_cert(chain.map_err(|error| invalid(&error))?, key)
            .map_err(|error| invalid(&error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A point in a conversation at which something can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Somebody connected, and the greeting is due.
    Greeting,
    /// EHLO or HELO came.
    Hello,
    /// STARTTLS came.
    StartTls,
    /// AUTH came.
    Auth,
    /// MAIL FROM came.
    Mail,
    /// RCPT TO came.
    Rcpt,
    /// DATA came.
    Data,
    /// The first line of a mail came; its rest is not read.
    Content,
    /// The whole mail came; it is not kept.
    End,
    /// The mail is kept, and the answer is due.
    Kept,
    /// QUIT came.
    Quit,
}

/// Something that goes wrong instead of what is due.
#[derive(Clone, Debug)]
pub struct Mishap {
    step: Step,
    act: Act,
    about: String,
    times: u32,
}

#[derive(Clone, Debug)]
enum Act {
    Reply(String),
    Cut,
    Stall,
    Late(Duration),
}

impl Mishap {
    /// The server says this, such as `451 4.7.1 later`, and does nothing. After a 421 it hangs up.
    pub fn reply(step: Step, line: impl Into<String>) -> Self {
        Self::new(step, Act::Reply(line.into()))
    }

    /// The connection is cut.
    pub fn cut(step: Step) -> Self {
        Self::new(step, Act::Cut)
    }

    /// Nothing more comes, and the connection stays.
    pub fn stall(step: Step) -> Self {
        Self::new(step, Act::Stall)
    }

    /// What is due comes so much later.
    pub fn late(step: Step, by: Duration) -> Self {
        Self::new(step, Act::Late(by))
    }

    fn new(step: Step, act: Act) -> Self {
        Self { step, act, about: String::new(), times: u32::MAX }
    }

    /// Only when the client's line contains this text; the whole mail for [`Step::End`] and [`Step::Kept`].
    #[must_use]
    pub fn about(self, text: impl Into<String>) -> Self {
        Self { about: text.into(), ..self }
    }

    /// Only so often.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

/// A mail that the server took.
#[derive(Clone, Debug)]
pub struct ReceivedMail {
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope that were accepted.
    pub to: Vec<String>,
    /// The bytes, as they were before dot-stuffing.
    pub raw: Vec<u8>,
    /// The subject, decoded; empty when there is none.
    pub subject: String,
    /// The text, decoded, its lines ended by `\n`; empty when there is none.
    pub text: String,
    /// The message id without its brackets; empty when there is none.
    pub message_id: String,
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// As whom the client had logged in.
    pub login: Option<String>,
}

impl ReceivedMail {
    fn new(from: String, to: Vec<String>, raw: Vec<u8>, encrypted: bool, login: Option<String>) -> Self {
        let parsed = MessageParser::default().parse(&raw);
        let parsed = parsed.as_ref();
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let subject = owned(parsed.and_then(|mail| mail.subject()));
        let text = owned(parsed.and_then(|mail| mail.body_text(0)).as_deref()).replace("\r\n", "\n");
        let message_id = owned(parsed.and_then(|mail| mail.message_id()));
        Self { from, to, raw, subject, text, message_id, encrypted, login }
    }
}

/// A running mail server; it stops when dropped.
pub struct SmtpReceiver {
    addr: SocketAddr,
    desk: Arc<Desk>,
    listening: Option<AbortOnDropHandle<()>>,
}

/// What all conversations share.
struct Desk {
    options: SmtpOptions,
    tls: Option<TlsAcceptor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mails: Vec<ReceivedMail>,
    lines: Vec<String>,
    connections: usize,
    mishaps: Vec<Mishap>,
    /// What it knows now instead of what its options say.
    login: Option<(String, String)>,
}

impl SmtpReceiver {
    /// Starts on loopback; port 0 takes a free one.
    ///
    /// # Errors
    /// The port cannot be had, or certificate and key are none.
    pub async fn start(port: u16, options: SmtpOptions) -> io::Result<Self> {
        let tls = match &options.privacy {
            Privacy::None => None,
            Privacy::StartTls(identity) | Privacy::Tls(identity) => Some(identity.acceptor()?),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let addr = listener.local_addr()?;
        let desk = Arc::new(Desk { options, tls, state: Mutex::default() });
        let listening = Some(listen(listener, Arc::clone(&desk)));
        Ok(Self { addr, desk, listening })
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The mails that it took, in order.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.desk.state().mails.clone()
    }

    /// The lines that clients sent outside of mails, in order, logins included.
    pub fn lines(&self) -> Vec<String> {
        self.desk.state().lines.clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.desk.state().connections
    }

    /// Knows this username and password or token from now on, instead of the one before.
    pub fn knows(&self, (username, password): (&str, &str)) {
        self.desk.state().login = Some((username.to_owned(), password.to_owned()));
    }

    /// Misbehaves from now on; the first mishap that applies happens.
    pub fn misbehave(&self, mishap: Mishap) {
        self.desk.state().mishaps.push(mishap);
    }

    /// Does what it should again.
    pub fn behave_well(&self) {
        self.desk.state().mishaps.clear();
    }

    /// Goes away: nobody listens any more, and open connections are cut.
    pub async fn go_away(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            // It was cancelled, which is no news; what matters is that its sockets are closed now.
            let _ = listening.await;
        }
    }

    /// Comes back at the same port, with the mails that it took.
    ///
    /// # Errors
    /// Somebody else listens there now.
    pub async fn come_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.addr).await?;
        self.listening = Some(listen(listener, Arc::clone(&self.desk)));
        Ok(())
    }
}

fn listen(listener: TcpListener, desk: Arc<Desk>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut conversations = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            desk.state().connections += 1;
            let desk = Arc::clone(&desk);
            conversations.spawn(async move {
                if let Err(error) = Conversation::hold(desk, stream).await {
                    tracing::debug!(%error, "a mail client's connection ended");
                }
            });
            while conversations.try_join_next().is_some() {}
        }
    }))
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one username and password that it knows.
    fn login(&self) -> Option<(String, String)> {
        self.state().login.clone().or_else(|| self.options.login.clone())
    }

    /// What was ordered to go wrong here.
    fn mishap(&self, step: Step, text: &str) -> Option<Act> {
        let mut state = self.state();
        let applies = |m: &&mut Mishap| m.step == step && m.times > 0 && text.contains(&m.about);
        let mishap = state.mishaps.iter_mut().find(applies)?;
        mishap.times -= 1;
        Some(mishap.act.clone())
    }
}
