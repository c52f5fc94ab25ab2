//! HTTP/2 by hyper, over TLS. Many requests share a connection, so that all of its limits are here: how many at once, how
//! much unread, how long idle.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cdr_core::Intake;
use http::header;
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

use super::{LINGER, Socket, Stop};
use crate::{
    answer::LastAnswer,
    visit::{COMMIT_TIMEOUT, Visit},
};

/// Requests at once on a connection; a sender that wants more waits for an answer or opens another one.
const STREAMS: u32 = 64;

/// What a connection holds unread, as with HTTP/1; hyper's own limit is 1 MiB. 64 KiB is what HTTP/2 begins with and no
/// server can go below (RFC 9113 §6.9.2).
const WINDOW: u32 = 64 * 1024 - 1;

/// The head of a request.
const HEAD: u32 = 16 * 1024;

/// So many requests may be broken off before they were looked at; one more ends the connection (CVE-2023-44487).
const BROKEN_OFF: usize = 20;

/// So many faults of a sender we answer by resetting its request; one more ends the connection (CVE-2025-8671).
const RESET: usize = 64;

/// So many refusals end a connection, each of which would have ended one of HTTP/1. One alone does not: others may be under way
/// with it, and a proxy may bring requests of many senders.
const REFUSED: usize = 20;

/// How often a sender that says nothing is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// Answers all requests of a connection, until its end.
///
/// `header_timeout` is how long it may have no request under way, as with HTTP/1; then it is told to go, and closed. So it is
/// after [`REFUSED`] refusals, and at once after a [`LastAnswer`]; requests under way are answered nevertheless.
pub(crate) async fn serve<I: Intake>(socket: impl Socket, visit: Visit<I>, stop: &Stop) {
    let (keeper, tasks, peer) = (Arc::clone(&visit.keeper), visit.stores.clone(), visit.peer);
    let (visit, work) = (Arc::new(visit), Arc::new(Work::new()));
    let service = service_fn(|request: http::Request<Incoming>| {
        let (visit, under_way) = (Arc::clone(&visit), UnderWay::new(&work));
        async move {
            let (head, mut body) = request.into_parts();
            let mut answer = visit.answer(http::Request::from_parts(head, &mut body)).await;
            if !body.is_end_stream() {
                tokio::spawn(tokio::time::timeout(LINGER, hear_out(body)));
            }
            // HTTP/2 has none (RFC 9113 §8.2.2); a connection is told to go as a whole.
            if answer.headers_mut().remove(header::CONNECTION).is_some() {
                under_way.0.refused(answer.extensions().get::<LastAnswer>().is_some());
            }
            drop(under_way);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(http2(tasks).serve_connection(TokioIo::new(socket), service));
    let idle = keeper.policy.load().settings.limits.header_timeout;
    let ended = tokio::select! {
        biased;
        ended = &mut connection => Some(ended),
        () = stop.finish.cancelled() => None,
        () = work.rests_for(idle) => None,
        () = work.enough.notified() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            let body_timeout = keeper.policy.load().settings.limits.body_timeout;
            // Requests that are under way are waited for, and nothing else: neither senders who do not answer, nor those who
            // go on with new requests as if they had heard nothing.
            tokio::select! {
                biased;
                ended = &mut connection => ended,
                () = stop.abandon.cancelled() => return,
                () = work.rests_for(LINGER) => return,
                () = tokio::time::sleep(body_timeout + COMMIT_TIMEOUT + LINGER) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// Reads what still comes of a request that has its answer, as [`linger`](super::linger) does for a connection. A body that is
/// dropped resets its request, and there are senders that forget the answer over that (curl 7.88).
async fn hear_out(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn http2(tasks: TaskTracker) -> http2::Builder<Tracked> {
    let mut http2 = http2::Builder::new(Tracked(tasks));
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_header_list_size(HEAD)
        .max_pending_accept_reset_streams(BROKEN_OFF)
        .max_local_error_reset_streams(RESET)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    http2
}

/// Runs each request among the tasks that a stop waits for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tracked {
    fn execute(&self, request: F) {
        self.0.spawn(request);
    }
}

/// The requests of a connection: how many are under way, when the last one ended, and how many were refused.
struct Work {
    under_way: AtomicUsize,
    rests_since: Mutex<Instant>,
    refused: AtomicUsize,
    /// Told when the connection has to go.
    enough: Notify,
}

impl Work {
    fn new() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            rests_since: Mutex::new(Instant::now()),
            refused: AtomicUsize::new(0),
            enough: Notify::new(),
        }
    }

    /// Notes an answer that would end a connection of HTTP/1.
    fn refused(&self, is_last: bool) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if is_last || refused >= REFUSED {
            self.enough.notify_one();
        }
    }

    /// Waits until no request has been under way for so long, from now on.
    async fn rests_for(&self, time: Duration) {
        let begun = Instant::now();
        loop {
            // Asked first: who ends notes the time before it counts itself out.
            let is_at_work = self.under_way.load(Ordering::Acquire) > 0;
            let rests_since = begun.max(*self.rests_since.lock().unwrap_or_else(PoisonError::into_inner));
            let due = if is_at_work { Instant::now() } else { rests_since } + time;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// One request, until its answer is handed over or its sender breaks it off.
struct UnderWay(Arc<Work>);

impl UnderWay {
    fn new(work: &Arc<Work>) -> Self {
        work.under_way.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(work))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.rests_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
