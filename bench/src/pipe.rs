//! The reference that stores and passes on: door, and then one POST per push to the receiver over as many
//! connections as the gateway's `concurrency`, and a line per push in an archive file that nobody syncs.
//!
//! No parsing, no routes, no outcomes, no retry: what fails or is on its way when it dies is lost.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::mpsc,
    thread,
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Runtime, sync::mpsc as queue};
use url::Url;

use crate::{
    door::{self, Log},
    process,
};

/// The archive's name in the folder.
pub const ARCHIVE: &str = "archive";

/// What `concurrency` is when `gateway.yaml` does not say.
const CONNECTIONS: usize = 8;

/// The role: serves until it is killed.
///
/// # Errors
/// There is no folder to write to, or nobody at the receiver's address.
pub fn run(folder: &Path, receiver: &Url) -> anyhow::Result<()> {
    process::die_with_parent()?;
    let archive = OpenOptions::new().append(true).create_new(true).open(folder.join(ARCHIVE))?;
    let (to_archive, archived) = mpsc::channel();
    thread::Builder::new().name("archive".to_owned()).spawn(move || keep(archive, &archived))?;
    let (posters, queues): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| queue::unbounded_channel()).unzip();
    let mut next = (0..CONNECTIONS).cycle();
    let log = Log::create(folder, move |bodies: Vec<Bytes>| {
        for (body, poster) in bodies.iter().zip(&mut next) {
            // Without its receiver it still is a door; the benchmark sees what is missing.
            let _ = posters[poster].send(body.clone());
        }
        let _ = to_archive.send(bodies);
    })?;
    Runtime::new()?.block_on(async {
        for queue in queues {
            tokio::spawn(pass_on(queue, connect(receiver).await?, receiver.clone()));
        }
        door::serve(log).await
    })
}

fn keep(mut file: File, archived: &mpsc::Receiver<Vec<Bytes>>) {
    let mut lines = Vec::new();
    for bodies in archived {
        lines.clear();
        for body in &bodies {
            lines.extend_from_slice(body);
            lines.push(b'\n');
        }
        if let Err(error) = file.write_all(&lines) {
            return eprintln!("the archive cannot be written: {error}");
        }
    }
}

async fn connect(receiver: &Url) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let address =
        receiver.socket_addrs(|| None)?.into_iter().next().context("the receiver has no address")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(requests)
}

async fn pass_on(
    mut queue: queue::UnboundedReceiver<Bytes>,
    mut requests: SendRequest<Full<Bytes>>,
    to: Url,
) {
    while let Some(body) = queue.recv().await {
        if let Err(error) = post(&mut requests, &to, body).await {
            return eprintln!("a push was not passed on: {error:#}");
        }
    }
}

async fn post(requests: &mut SendRequest<Full<Bytes>>, to: &Url, body: Bytes) -> anyhow::Result<()> {
    let request = Request::post(to.path())
        .header(header::HOST, to.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    requests.ready().await?;
    let answer = requests.send_request(request).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    anyhow::ensure!(status.is_success(), "the receiver answered {status}");
    Ok(())
}
