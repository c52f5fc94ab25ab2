//! One connection: hyper speaks HTTP/1 on it, and we say the last word where hyper has none.

use std::{convert::Infallible, future::poll_fn, net::IpAddr, sync::Arc, time::Duration};

use cdr_core::Intake;
use hyper::{
    body::Incoming,
    server::conn::http1::{self, Parts},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Rejection,
    keeper::{Keeper, Policy},
    unread::Unread,
    visit::Visit,
};

/// The head of a request must fit in here, and no connection holds more than this unread.
const BUFFER: usize = 64 * 1024;

/// How long we listen to a sender whom we have said the last word.
const LINGER: Duration = Duration::from_secs(1);

/// The stop of the gateway, in two steps.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Finish the request and close; said first.
    pub finish: CancellationToken,
    /// Close, whatever is going on.
    pub abandon: CancellationToken,
}

/// Counts a connection as open for as long as it lives.
pub(crate) struct Open(Arc<Keeper>);

impl Open {
    pub fn new(keeper: &Arc<Keeper>) -> Self {
        keeper.counters.connection_opened();
        Self(Arc::clone(keeper))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connection_closed();
    }
}

/// Answers all requests of a connection, until its end.
pub(crate) async fn serve<I: Intake>(socket: TcpStream, visit: Visit<I>, stop: Stop) {
    let visit = Arc::new(visit);
    let policy = visit.keeper.policy.load_full();
    let service = service_fn(|request: http::Request<Incoming>| {
        let visit = Arc::clone(&visit);
        Box::pin(async move { Ok::<_, Infallible>(visit.answer(request).await) })
    });
    let socket = Unread::new(socket, policy.settings.limits.header_timeout);
    let mut connection = http1(&policy).serve_connection(TokioIo::new(socket), service);
    // What has arrived is read before the stop is looked at. To abandon comes after to finish, and is listened for
    // only then: each thing to listen for costs a lock at every wake-up.
    let ended = tokio::select! {
        biased;
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        () = stop.finish.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            let finished = poll_fn(|context| connection.poll_without_shutdown(context));
            stop.abandon.run_until_cancelled(finished).await
        }
    };
    let Some(ended) = ended else { return };
    let Parts { io, read_buf, .. } = connection.into_parts();
    let mut socket = io.into_inner().into_inner();
    if let Err(error) = ended {
        last_word(&mut socket, &error, &read_buf, &visit.keeper, visit.peer, &policy).await;
    }
    linger(&mut socket, &stop).await;
}

fn http1(policy: &Policy) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(policy.settings.limits.header_timeout)
        .max_buf_size(BUFFER)
        // Or a head that arrives in one piece could be larger. hyper's own limit of 100 lines is left as it is.
        .max_header_size(BUFFER)
        // Whoever closes one direction after sending still hears the answer.
        .half_close(true);
    http1
}

/// hyper closes on a slow head without a word, and answers what is not HTTP without a reason.
async fn last_word(
    socket: &mut TcpStream,
    error: &hyper::Error,
    unread: &[u8],
    keeper: &Keeper,
    peer: IpAddr,
    policy: &Policy,
) {
    if error.is_timeout() && !unread.is_empty() {
        let slow = Rejection::SlowHead { limit: policy.settings.limits.header_timeout };
        keeper.refused(&slow, peer);
        say(socket, &slow).await;
    } else if error.is_parse_too_large() {
        keeper.refused(&Rejection::LargeHead, peer);
    } else if error.is_parse() {
        keeper.refused(&Rejection::NotHttp { looks_like: protocol(error, unread) }, peer);
    } else {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// What else people speak to a port of HTTP/1.
fn protocol(error: &hyper::Error, unread: &[u8]) -> Option<&'static str> {
    // A TLS record of the handshake, RFC 8446 §5.1.
    let is_tls = unread.starts_with(&[0x16, 0x03]);
    let is_proxy = unread.starts_with(b"PROXY ") || unread.starts_with(b"\r\n\r\n\0\r\nQUIT\n");
    match () {
        () if error.is_parse_version_h2() => Some("HTTP/2"),
        () if is_tls => Some("TLS (https)"),
        () if is_proxy => Some("the PROXY protocol"),
        () => None,
    }
}

/// Refuses a connection before anything is read from it.
pub(crate) async fn turn_away(
    mut socket: TcpStream,
    rejection: Rejection,
    stop: Stop,
    turned_away: OwnedSemaphorePermit,
) {
    let _turned_away = turned_away;
    say(&mut socket, &rejection).await;
    linger(&mut socket, &stop).await;
}

/// Nobody is kept waiting by a sender who does not read.
async fn say(socket: &mut TcpStream, rejection: &Rejection) {
    let raw = rejection.raw();
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, socket.write_all(&raw)).await {
        tracing::debug!(%error, "a refused sender has gone");
    }
}

/// Closes our side and reads what still comes for a while. Closing at once would let the kernel answer unread
/// bytes with a reset, which makes the sender forget our last words.
async fn linger(socket: &mut TcpStream, stop: &Stop) {
    let until_closed = async {
        let mut ignored = [0; 4096];
        socket.shutdown().await?;
        while socket.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    tokio::select! {
        // Whether the sender has gone is no news here.
        _ = tokio::time::timeout(LINGER, until_closed) => {}
        () = stop.finish.cancelled() => {}
    }
}
