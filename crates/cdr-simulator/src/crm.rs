//! A CRM: takes what is pushed to it over HTTP, holds it, and misbehaves on request.
//!
//! It promises to hold exactly the bytes that came, and to say truly what it *kept*: requests that it answered
//! as taken, and those that it was told to keep in spite of its answer. What it was told to lose is not kept,
//! whatever it answered. Tests and the demo count what it kept against what was sent, by SHA-256.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

mod behaviour;
mod book;

use behaviour::Act;
pub use behaviour::Behaviour;
pub use book::Book;

/// How a CRM is set up.
#[derive(Clone, Default)]
pub struct CrmOptions {
    /// What it remembers.
    pub memory: Memory,
    /// Speak HTTPS with this certificate.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Know contacts and their calls, instead of taking everything.
    pub has_book: bool,
}

/// What a CRM remembers of what it got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Memory {
    /// Every request whole.
    #[default]
    Everything,
    /// How often it kept which SHA-256 and which `Idempotency-Key`; for millions of pushes.
    Digests,
}

/// One request that was read to its end.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its last byte was read.
    pub at: SystemTime,
    /// Where its connection came from: the same for requests that shared one.
    pub from: SocketAddr,
    /// POST, as a rule.
    pub method: Method,
    /// Path and query; the whole address by HTTP/2 and from whoever takes it for a proxy.
    pub uri: Uri,
    /// How it came.
    pub version: http::Version,
    /// As they came.
    pub headers: HeaderMap,
    /// As it came.
    pub body: Bytes,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
    /// Whether the CRM kept it.
    pub kept: bool,
    /// Whether it had kept one with the same `Idempotency-Key` before.
    pub repeat: bool,
}

impl Received {
    /// A header as text; none when it is absent or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A running CRM. It ends when it is dropped.
pub struct Crm {
    desk: Arc<Desk>,
    addr: SocketAddr,
    tls: Option<TlsAcceptor>,
    listening: Option<JoinHandle<()>>,
}

impl Crm {
    /// Listens at this address (port 0 for any) and remembers everything.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub async fn start(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::start_with(addr, CrmOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub async fn start_with(addr: impl ToSocketAddrs, options: CrmOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let tls = options.tls.map(TlsAcceptor::from);
        let desk = Arc::new(Desk::new(options.memory, options.has_book));
        let mut crm = Self { desk, addr, tls, listening: None };
        crm.listen(listener);
        Ok(crm)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it takes calls.
    pub fn url(&self) -> String {
        format!("{}/calls", self.origin())
    }

    /// The same without a path.
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Its contacts and calls; none of a CRM [without a book](CrmOptions::has_book).
    pub fn book(&self) -> Option<Book> {
        self.desk.state().book.clone()
    }

    /// Misbehaves from now on. Of several behaviours the newest that applies to a request counts, until its
    /// `times` are over.
    pub fn behave(&self, behaviour: Behaviour) {
        self.desk.state().behaviours.push_front(behaviour);
    }

    /// Takes everything again.
    pub fn behave_well(&self) {
        self.desk.state().behaviours.clear();
    }

    /// Goes away: nobody listens at its address any more, and open connections are cut.
    pub async fn go_away(&mut self) {
        if let Some(task) = self.listening.take() {
            task.abort();
            // It was cancelled, which is no news; what matters is that its sockets are closed now.
            let _ = task.await;
        }
    }

    /// Comes back at the same address, with all that it held.
    ///
    /// # Errors
    /// Somebody else listens there now.
    pub async fn come_back(&mut self) -> io::Result<()> {
        self.go_away().await;
        self.listen(TcpListener::bind(self.addr).await?);
        Ok(())
    }

    fn listen(&mut self, listener: TcpListener) {
        self.listening = Some(tokio::spawn(accept(listener, self.tls.clone(), Arc::clone(&self.desk))));
    }

    /// All requests that were read to their end, in the order of their arrival; empty with [`Memory::Digests`].
    pub fn received(&self) -> Vec<Received> {
        self.desk.state().received.clone()
    }

    /// How many requests were kept, repeats included.
    pub fn kept(&self) -> usize {
        *self.desk.kept.borrow()
    }

    /// How many requests were kept whose `Idempotency-Key` had been kept before.
    pub fn repeats(&self) -> usize {
        self.desk.state().repeats
    }

    /// How often which body was kept, by its SHA-256.
    pub fn digests(&self) -> HashMap<[u8; 32], usize> {
        self.desk.state().digests.clone()
    }

    /// Waits until it has kept at least `n` requests, repeats included. The caller sets a deadline.
    pub async fn until_kept(&self, n: usize) {
        let mut kept = self.desk.kept.subscribe();
        // The sender lives as long as `self`, so that this cannot fail.
        let _ = kept.wait_for(|kept| *kept >= n).await;
    }
}

impl Drop for Crm {
    fn drop(&mut self) {
        if let Some(task) = &self.listening {
            task.abort();
        }
    }
}

/// Accepts until it is aborted; its connections end with it.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => drop(connections.spawn(greet(stream, from, tls.clone(), Arc::clone(&desk)))),
                Err(error) => tracing::warn!(%error, "the crm cannot accept"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn greet(stream: TcpStream, from: SocketAddr, tls: Option<TlsAcceptor>, desk: Arc<Desk>) {
    // Answers are small: waiting for more of them would cost the sender 40 ms each.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, from, desk).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                let service = service_fn(move |request| {
                    let desk = Arc::clone(&desk);
                    async move { desk.answer(from, request).await }
                });
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http2.serve_connection(TokioIo::new(stream), service).await;
            }
            Ok(stream) => serve(stream, from, desk).await,
            Err(error) => tracing::debug!(%error, "the crm's tls handshake failed"),
        },
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, from: SocketAddr, desk: Arc<Desk>) {
    let service = service_fn(|request| desk.answer(from, request));
    // A connection that breaks is the sender's business.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Where requests arrive: what the CRM holds, and how it behaves.
struct Desk {
    memory: Memory,
    state: Mutex<State>,
    kept: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    behaviours: VecDeque<Behaviour>,
    received: Vec<Received>,
    digests: HashMap<[u8; 32], usize>,
    keys: HashSet<HeaderValue>,
    repeats: usize,
    book: Option<Book>,
}

type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

impl Desk {
    fn new(memory: Memory, has_book: bool) -> Self {
        let state = State { book: has_book.then(Book::default), ..State::default() };
        Self { memory, state: Mutex::new(state), kept: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread leaves counters behind that are still true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, from: SocketAddr, request: Request<Incoming>) -> io::Result<Response<AnswerBody>> {
        if self.take_behaviour(|behaviour| matches!(behaviour.act, Act::CutBeforeReading)).is_some() {
            return Err(cut());
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let applies = |behaviour: &Behaviour| {
            !matches!(behaviour.act, Act::CutBeforeReading)
                && behaviour.applies(&head.method, &head.uri, &body)
        };
        let behaviour = self.take_behaviour(applies);
        let keeps = behaviour.as_ref().is_none_or(|behaviour| behaviour.keeps);
        let written = if keeps { self.write(&head, &body) } else { None };
        let behaviour = behaviour.or(written).unwrap_or_else(Behaviour::takes);
        self.hold(from, head, body, keeps);
        match behaviour.act {
            Act::Answer { status, headers, body } => Ok(answer(status, headers, whole(body))),
            Act::BreakOff { status, part } => Ok(answer(status, HeaderMap::new(), broken(part))),
            Act::Hang => std::future::pending().await,
            Act::CutBeforeReading | Act::CutAfterReading => Err(cut()),
        }
    }

    /// Has the book answer, if there is one.
    fn write(&self, head: &http::request::Parts, body: &[u8]) -> Option<Behaviour> {
        let (status, answer) = self.state().book.as_mut()?.answer(&head.method, &head.uri, body);
        Some(Behaviour::status(status.as_u16()).body(answer.to_string()))
    }

    /// The newest behaviour that applies; one more of its times is over.
    fn take_behaviour(&self, applies: impl Fn(&Behaviour) -> bool) -> Option<Behaviour> {
        let mut state = self.state();
        let index = state.behaviours.iter().position(applies)?;
        let behaviour = &mut state.behaviours[index];
        let taken = behaviour.clone();
        match &mut behaviour.left {
            None => return Some(taken),
            Some(left) => *left = left.saturating_sub(1),
        }
        if behaviour.left == Some(0) {
            state.behaviours.remove(index);
        }
        Some(taken)
    }

    fn hold(&self, from: SocketAddr, head: http::request::Parts, body: Bytes, kept: bool) {
        let sha256: [u8; 32] = Sha256::digest(&body).into();
        let key = head.headers.get("idempotency-key");
        let mut state = self.state();
        let repeat = key.is_some_and(|key| state.keys.contains(key));
        if kept {
            *state.digests.entry(sha256).or_default() += 1;
            state.repeats += usize::from(repeat);
            if let Some(key) = key {
                state.keys.insert(key.clone());
            }
        }
        if self.memory == Memory::Everything {
            let http::request::Parts { method, uri, version, headers, .. } = head;
            let at = SystemTime::now();
            state.received.push(Received {
                at,
                from,
                method,
                uri,
                version,
                headers,
                body,
                sha256,
                kept,
                repeat,
            });
        }
        drop(state);
        self.kept.send_modify(|count| *count += usize::from(kept));
    }
}

fn answer(status: StatusCode, headers: HeaderMap, body: AnswerBody) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

fn whole(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(io::Error::other).boxed_unsync()
}

fn broken(part: Bytes) -> AnswerBody {
    let part = stream::once(async { Ok(Frame::data(part)) });
    // hyper sends what it has when it must wait; an error at once would take the part back.
    let error = stream::once(async {
        tokio::task::yield_now().await;
        Err(cut())
    });
    StreamBody::new(part.chain(error)).boxed_unsync()
}

/// Makes hyper close the connection.
fn cut() -> io::Error {
    io::Error::other("the connection is cut on purpose")
}
