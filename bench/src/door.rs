//! The reference that only stores: hyper reads the body, one writer thread appends and syncs for all who wait, then
//! the answer. It checks nothing and knows nothing; whoever syncs before answering cannot do less.

use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::oneshot,
};

use crate::process;

const TAKEN: &[u8] = br#"{"ErrCode":0,"ErrMsg":"ok"}"#;

/// The role: serves until it is killed.
///
/// # Errors
/// There is no folder to write to.
pub fn run(folder: &Path) -> anyhow::Result<()> {
    process::die_with_parent()?;
    let log = Log::create(folder, drop)?;
    Runtime::new()?.block_on(serve(log))
}

/// Serves whoever comes, and tells where.
pub async fn serve(log: Log) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("\"http://{}/\"", listener.local_addr()?);
    let log = Arc::new(log);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream, Arc::clone(&log)));
    }
}

async fn connection(stream: TcpStream, log: Arc<Log>) {
    // Both end when the load has had enough.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, &log));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, log: &Log) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    let Ok(body) = request.into_body().collect().await else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    if !log.append(body.to_bytes()).await {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    *response.body_mut() = Full::new(Bytes::from_static(TAKEN));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// A file that one thread appends to, for all.
pub struct Log(mpsc::Sender<Waiting>);

struct Waiting {
    body: Bytes,
    synced: oneshot::Sender<()>,
}

impl Log {
    /// Starts the writer. It hands what it has synced to `then`, before anybody is answered.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(folder: &Path, then: impl FnMut(Vec<Bytes>) + Send + 'static) -> anyhow::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(folder.join("log"))?;
        let (appenders, waiting) = mpsc::channel();
        thread::Builder::new().name("writer".to_owned()).spawn(move || write(file, &waiting, then))?;
        Ok(Self(appenders))
    }

    /// Whether it is on disk.
    async fn append(&self, body: Bytes) -> bool {
        let (synced, when_synced) = oneshot::channel();
        self.0.send(Waiting { body, synced }).is_ok() && when_synced.await.is_ok()
    }
}

/// All that waits: one write, one sync. A failure ends the thread, and so all appending.
fn write(mut file: File, waiting: &mpsc::Receiver<Waiting>, mut then: impl FnMut(Vec<Bytes>)) {
    let mut bytes = Vec::new();
    while let Ok(first) = waiting.recv() {
        let (bodies, synced): (Vec<_>, Vec<_>) =
            std::iter::once(first).chain(waiting.try_iter()).map(|one| (one.body, one.synced)).unzip();
        bytes.clear();
        for body in &bodies {
            bytes.extend_from_slice(body);
            bytes.push(b'\n');
        }
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            return eprintln!("the log cannot be written: {error}");
        }
        then(bodies);
        // Whoever hung up meanwhile needs no answer.
        synced.into_iter().for_each(|synced| {
            let _ = synced.send(());
        });
    }
}
