//! HTTP/1 by hyper, and the last word where hyper has none.

use std::{convert::Infallible, future::poll_fn, net::IpAddr, sync::Arc};

use cdr_core::Intake;
use hyper::{
    body::Incoming,
    server::conn::http1::{self, Parts},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{Socket, Stop, linger, say};
use crate::{
    answer::Rejection,
    keeper::{Keeper, Policy},
    proxy_protocol,
    unread::Unread,
    visit::Visit,
};

/// The head of a request must fit in here, and no connection holds more than this unread.
const BUFFER: usize = 64 * 1024;

/// Answers all requests of a connection, until its end.
pub(super) async fn serve<I: Intake>(socket: impl Socket, visit: Visit<I>, stop: &Stop) {
    let visit = Arc::new(visit);
    let policy = visit.keeper.policy.load_full();
    let service = service_fn(|request: http::Request<Incoming>| {
        let visit = Arc::clone(&visit);
        Box::pin(async move { Ok::<_, Infallible>(visit.answer(request).await) })
    });
    let mut connection = http1(&policy)
        .serve_connection(TokioIo::new(Unread::new(socket, policy.settings.limits.header_timeout)), service);
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
    linger(&mut socket, stop).await;
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
    socket: &mut impl Socket,
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
        keeper.refused(&not_http(error, unread), peer);
    } else {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// What else people speak to a port of HTTP/1.
fn not_http(error: &hyper::Error, unread: &[u8]) -> Rejection {
    // A TLS record of the handshake, RFC 8446 §5.1.
    let is_tls = unread.starts_with(&[0x16, 0x03]);
    match () {
        () if error.is_parse_version_h2() => Rejection::NotHttp { looks_like: Some("HTTP/2") },
        () if is_tls => Rejection::NotHttp { looks_like: Some("TLS (https)") },
        () if proxy_protocol::begins(unread) => Rejection::ProxyHeader { is_trusted: false },
        () => Rejection::NotHttp { looks_like: None },
    }
}
