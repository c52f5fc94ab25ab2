//! A small HTTP server that answers by a script and remembers what it was sent.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// How to meet a request.
#[derive(Clone)]
pub enum Reply {
    /// This HTTP status and body.
    Answer(u16, &'static str),
    /// The same, and close the connection after it.
    AnswerAndClose(u16, &'static str),
    /// Never.
    Silence,
    /// Close the connection instead.
    HangUp,
}

pub const OK: Reply = Reply::Answer(200, r#"{"ErrCode":0,"ErrMsg":"ok"}"#);

/// A request as it came.
pub struct Got {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn uuid(&self) -> &str {
        self.header("x-tccc-push-uuid").expect("every push has a UUID")
    }
}

#[derive(Default)]
struct Seen {
    script: VecDeque<Reply>,
    got: Vec<Got>,
    connections: usize,
    at_once: usize,
    most_at_once: usize,
}

/// Answers by its script, then with [`OK`].
pub struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receiver {
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::listen(script, None).await
    }

    pub async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::listen([], Some(tls)).await
    }

    async fn listen(script: impl IntoIterator<Item = Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen { script: script.into_iter().collect(), ..Seen::default() }));
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&seen)));
        Self { address, seen, accepting }
    }

    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// What came so far; forgotten by asking.
    pub fn got(&self) -> Vec<Got> {
        std::mem::take(&mut self.seen().got)
    }

    pub fn connections(&self) -> usize {
        self.seen().connections
    }

    pub fn most_at_once(&self) -> usize {
        self.seen().most_at_once
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, seen: Arc<Mutex<Seen>>) {
    while let Ok((tcp, _)) = listener.accept().await {
        seen.lock().unwrap().connections += 1;
        let (seen, tls) = (Arc::clone(&seen), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            match tls {
                None => drop(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await),
                Some(tls) => {
                    let Ok(stream) = tls.accept(tcp).await else { return };
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                }
            }
        });
    }
}

/// An error makes hyper close the connection without an answer.
async fn answer(request: Request<Incoming>, seen: Arc<Mutex<Seen>>) -> Result<Response<Full<Bytes>>, HungUp> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let reply = {
        let mut seen = seen.lock().unwrap();
        let target = parts.uri.to_string();
        seen.got.push(Got { method: parts.method.to_string(), target, headers: parts.headers, body });
        seen.at_once += 1;
        seen.most_at_once = seen.most_at_once.max(seen.at_once);
        seen.script.pop_front().unwrap_or(OK)
    };
    // Others get their turn, so that what comes at once is seen at once.
    tokio::task::yield_now().await;
    let answer = match reply {
        Reply::Answer(status, body) => Ok(response(status, body)),
        Reply::AnswerAndClose(status, body) => {
            let mut response = response(status, body);
            response.headers_mut().insert("connection", "close".parse().unwrap());
            Ok(response)
        }
        Reply::Silence => std::future::pending().await,
        Reply::HangUp => Err(HungUp),
    };
    seen.lock().unwrap().at_once -= 1;
    answer
}

fn response(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}

#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hung up by the script")
    }
}

impl std::error::Error for HungUp {}
