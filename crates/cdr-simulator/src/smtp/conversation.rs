//! One client's conversation with the mail server, line by line.

use std::{future::pending, io, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Act, Desk, Privacy, ReceivedMail, Step};

/// Longest line in bytes, of a command or of a mail; RFC 5321 §4.5.3.1 asks for 512 and 1000.
const LINE: u64 = 16 << 10;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) struct Conversation {
    desk: Arc<Desk>,
    wire: BufReader<Box<dyn Wire>>,
    encrypted: bool,
    login: Option<String>,
    envelope: Option<Envelope>,
}

/// A mail that is being announced.
struct Envelope {
    from: String,
    to: Vec<String>,
}

/// Why a conversation is over. Both ends may leave at any time.
fn over() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the conversation is over")
}

impl Conversation {
    /// Talks until one of both leaves.
    pub(super) async fn hold(desk: Arc<Desk>, stream: TcpStream) -> io::Result<()> {
        // Else each short answer waits for the client's delayed acknowledgement of the one before.
        stream.set_nodelay(true)?;
        let encrypted = matches!(desk.options.privacy, Privacy::Tls(_));
        let wire: Box<dyn Wire> = match &desk.tls {
            Some(tls) if encrypted => Box::new(tls.accept(stream).await?),
            _ => Box::new(stream),
        };
        let mut this = Self { desk, wire: BufReader::new(wire), encrypted, login: None, envelope: None };
        if !this.goes_wrong(Step::Greeting, "").await? {
            this.say("220 simulator ESMTP").await?;
        }
        loop {
            let line = this.line().await?;
            this = this.obey(&line).await?;
        }
    }

    async fn obey(mut self, line: &str) -> io::Result<Self> {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "HELO" => self.hello(line).await?,
            "STARTTLS" => return self.start_tls(line).await,
            "AUTH" => self.auth(line).await?,
            "MAIL" => self.mail(line).await?,
            "RCPT" => self.rcpt(line).await?,
            "DATA" => self.data(line).await?,
            "RSET" => {
                self.envelope = None;
                self.say("250 2.0.0 forgotten").await?;
            }
            "NOOP" => self.say("250 2.0.0 ok").await?,
            "QUIT" => self.quit(line).await?,
            _ => self.say("500 5.5.2 what?").await?,
        }
        Ok(self)
    }

    async fn hello(&mut self, line: &str) -> io::Result<()> {
        if self.goes_wrong(Step::Hello, line).await? {
            return Ok(());
        }
        self.envelope = None;
        if line.to_ascii_uppercase().starts_with("HELO") {
            return self.say("250 simulator").await;
        }
        let mut reply = "250-simulator\r\n250-PIPELINING\r\n".to_owned();
        if self.may_start_tls() {
            reply += "250-STARTTLS\r\n";
        }
        if self.may_log_in() {
            reply += "250-AUTH PLAIN LOGIN XOAUTH2\r\n";
        }
        self.say(&format!("{reply}250 SIZE {}", self.desk.options.max_size)).await
    }

    fn may_start_tls(&self) -> bool {
        matches!(self.desk.options.privacy, Privacy::StartTls(_)) && !self.encrypted
    }

    fn may_log_in(&self) -> bool {
        self.desk.options.login.is_some() && !self.may_start_tls()
    }

    async fn start_tls(mut self, line: &str) -> io::Result<Self> {
        if self.goes_wrong(Step::StartTls, line).await? {
            return Ok(self);
        }
        let Some(tls) = self.desk.tls.clone().filter(|_| self.may_start_tls()) else {
            self.say("502 5.5.1 no STARTTLS here").await?;
            return Ok(self);
        };
        self.say("220 2.0.0 go ahead").await?;
        // What was sent ahead in the clear goes with the old buffer, as RFC 3207 §4.2 wants.
        let wire: Box<dyn Wire> = Box::new(tls.accept(self.wire.into_inner()).await?);
        Ok(Self { wire: BufReader::new(wire), encrypted: true, login: None, envelope: None, ..self })
    }

    async fn auth(&mut self, line: &str) -> io::Result<()> {
        if self.goes_wrong(Step::Auth, line).await? {
            return Ok(());
        }
        if !self.may_log_in() {
            return self.say("503 5.5.1 no AUTH here").await;
        }
        let mut words = line.split(' ').skip(1);
        let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
        let given = match (mechanism.as_str(), words.next()) {
            ("PLAIN", Some(initial)) => plain(initial),
            ("PLAIN", None) => plain(&self.ask("").await?),
            ("XOAUTH2", Some(initial)) => {
                let given = xoauth2(initial);
                if given != self.desk.login() {
                    // What is wrong comes as a question; the client answers with an empty line.
                    self.ask(r#"{"status":"401","schemes":"bearer"}"#).await?;
                }
                given
            }
            ("LOGIN", initial) => {
                let username = match initial {
                    Some(initial) => initial.to_owned(),
                    None => self.ask("Username:").await?,
                };
                let password = self.ask("Password:").await?;
                decode(&username).zip(decode(&password))
            }
            _ => return self.say("504 5.5.4 PLAIN, LOGIN or XOAUTH2").await,
        };
        if given.is_none() || given != self.desk.login() {
            return self.say("535 5.7.8 wrong username or password").await;
        }
        self.login = given.map(|(username, _)| username);
        self.say("235 2.7.0 welcome").await
    }

    async fn ask(&mut self, question: &str) -> io::Result<String> {
        self.say(&format!("334 {}", STANDARD.encode(question))).await?;
        self.line().await
    }

    async fn mail(&mut self, line: &str) -> io::Result<()> {
        if self.goes_wrong(Step::Mail, line).await? {
            return Ok(());
        }
        if self.desk.options.login.is_some() && self.login.is_none() {
            return self.say("530 5.7.0 log in first").await;
        }
        let size = line.split(' ').find_map(|word| word.strip_prefix("SIZE=")?.parse::<usize>().ok());
        if size.is_some_and(|size| size > self.desk.options.max_size) {
            return self.say("552 5.3.4 too large").await;
        }
        let Some(from) = address(line) else { return self.say("501 5.5.4 whose?").await };
        self.envelope = Some(Envelope { from, to: vec![] });
        self.say("250 2.1.0 ok").await
    }

    async fn rcpt(&mut self, line: &str) -> io::Result<()> {
        if self.goes_wrong(Step::Rcpt, line).await? {
            return Ok(());
        }
        let (Some(envelope), Some(to)) = (&mut self.envelope, address(line)) else {
            return self.say("503 5.5.1 MAIL first").await;
        };
        envelope.to.push(to);
        self.say("250 2.1.5 ok").await
    }

    async fn data(&mut self, line: &str) -> io::Result<()> {
        if self.goes_wrong(Step::Data, line).await? {
            return Ok(());
        }
        let Some(Envelope { from, to }) = self.envelope.take_if(|envelope| !envelope.to.is_empty()) else {
            return self.say("503 5.5.1 RCPT first").await;
        };
        self.say("354 go ahead").await?;
        let Some(raw) = self.content().await? else { return self.say("552 5.3.4 too large").await };
        let text = String::from_utf8_lossy(&raw).into_owned();
        if self.goes_wrong(Step::End, &text).await? {
            return Ok(());
        }
        let mail = ReceivedMail::new(from, to, raw, self.encrypted, self.login.clone());
        let number = {
            let mut state = self.desk.state();
            state.mails.push(mail);
            state.mails.len()
        };
        if self.goes_wrong(Step::Kept, &text).await? {
            return Ok(());
        }
        self.say(&format!("250 2.0.0 kept as {number}")).await
    }

    async fn quit(&mut self, line: &str) -> io::Result<()> {
        if !self.goes_wrong(Step::Quit, line).await? {
            self.say("221 2.0.0 goodbye").await?;
        }
        Err(over())
    }

    /// A mail's bytes up to the line that holds a dot alone; none when they were too many.
    async fn content(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        let mut size = 0;
        loop {
            let line = self.raw_line().await?;
            if size == 0 && self.goes_wrong(Step::Content, &String::from_utf8_lossy(&line)).await? {
                return Err(over());
            }
            if line == b".\r\n" {
                return Ok((size <= self.desk.options.max_size).then_some(content));
            }
            let line = line.strip_prefix(b".").unwrap_or(&line);
            size += line.len();
            if size <= self.desk.options.max_size {
                content.extend_from_slice(line);
            }
        }
    }

    /// Whether something was ordered to go wrong here; a reply has been sent then.
    async fn goes_wrong(&mut self, step: Step, text: &str) -> io::Result<bool> {
        match self.desk.mishap(step, text) {
            None => Ok(false),
            Some(Act::Cut) => Err(over()),
            Some(Act::Stall) => pending().await,
            Some(Act::Late(by)) => {
                tokio::time::sleep(by).await;
                Ok(false)
            }
            Some(Act::Reply(reply)) => {
                self.say(&reply).await?;
                if reply.starts_with("421") { Err(over()) } else { Ok(true) }
            }
        }
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.wire.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.wire.flush().await
    }

    async fn line(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.raw_line().await?).trim_end().to_owned();
        self.desk.state().lines.push(line.clone());
        Ok(line)
    }

    async fn raw_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.wire).take(LINE).read_until(b'\n', &mut line).await?;
        if line.ends_with(b"\n") { Ok(line) } else { Err(over()) }
    }
}

/// What stands between the angle brackets.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

fn decode(base64: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(base64).ok()?).ok()
}

/// `user=…\x01auth=Bearer …\x01\x01`, as <https://developers.google.com/workspace/gmail/imap/xoauth2-protocol> has it.
fn xoauth2(base64: &str) -> Option<(String, String)> {
    let decoded = decode(base64)?;
    let (user, token) = decoded.strip_suffix("\x01\x01")?.split_once('\x01')?;
    Some((user.strip_prefix("user=")?.to_owned(), token.strip_prefix("auth=Bearer ")?.to_owned()))
}

/// RFC 4616: authorization id, username, password, separated by NUL.
fn plain(base64: &str) -> Option<(String, String)> {
    let decoded = decode(base64)?;
    let mut parts = decoded.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}
