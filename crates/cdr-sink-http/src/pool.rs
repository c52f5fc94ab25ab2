//! Connections to the receiver that are free at present.
//!
//! As many as attempts were ever made side by side. hyper-util's pool keeps them for many receivers, by name, and costs more
//! than the request itself.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use tokio::time::Instant;

/// Shorter than the 5 s after which receivers built on Node.js close an idle connection: a request that crosses
/// such a close on its way would be sent a second time.
const IDLE: Duration = Duration::from_secs(4);

/// A connection, to send requests on one after the other: also by HTTP/2, whose many streams would save a sink a few
/// connections and cost it a pool of another kind.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Whether it is of no use any more.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(requests) => requests.is_closed(),
            Self::Http2(requests) => requests.is_closed(),
        }
    }

    /// Waits until it takes a request.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(requests) => requests.ready().await,
            Self::Http2(requests) => requests.ready().await,
        }
    }

    /// Sends a request; gives it back when it was not sent at all.
    pub async fn try_send_request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Self::Http1(requests) => requests.try_send_request(request).await,
            Self::Http2(requests) => requests.try_send_request(request).await,
        }
    }
}

/// The free connections. Whoever takes one gives it back when its answer was read to the end, or drops and so closes it.
#[derive(Default)]
pub(crate) struct Pool(Arc<Mutex<Free>>);

#[derive(Default)]
struct Free {
    /// With the time since which each is free; the last one was used last.
    connections: Vec<(Connection, Instant)>,
    /// Somebody closes those that stay unused.
    is_watched: bool,
}

impl Pool {
    /// The connection that was used last, unless it has been closed or was free for too long.
    pub fn take(&self) -> Option<Connection> {
        let mut free = lock(&self.0);
        let usable =
            |(connection, since): &(Connection, Instant)| !connection.is_closed() && since.elapsed() < IDLE;
        std::iter::from_fn(|| free.connections.pop()).find(usable).map(|(connection, _)| connection)
    }

    /// A connection is free again.
    pub fn give_back(&self, connection: Connection) {
        let is_watched = {
            let mut free = lock(&self.0);
            free.connections.push((connection, Instant::now()));
            std::mem::replace(&mut free.is_watched, true)
        };
        if !is_watched {
            tokio::spawn(Watch(Arc::downgrade(&self.0)).close_unused());
        }
    }
}

/// Closes connections that stay unused, until none is left.
struct Watch(Weak<Mutex<Free>>);

impl Watch {
    async fn close_unused(self) {
        while let Some(oldest) = self.close_older(Instant::now()) {
            tokio::time::sleep_until(oldest + IDLE).await;
        }
    }

    /// Closes what is too old by now; since when the oldest of the others is free.
    fn close_older(&self, now: Instant) -> Option<Instant> {
        let pool = self.0.upgrade()?;
        let mut free = lock(&pool);
        free.connections.retain(|(_, since)| now.duration_since(*since) < IDLE);
        let oldest = free.connections.iter().map(|&(_, since)| since).min();
        free.is_watched = oldest.is_some();
        oldest
    }
}

impl Drop for Watch {
    /// The runtime may end before the pool does; whoever uses that next watches again.
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            lock(&pool).is_watched = false;
        }
    }
}

fn lock(free: &Mutex<Free>) -> MutexGuard<'_, Free> {
    // Nothing in here panics half-way.
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    async fn connection() -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(1024);
        let (requests, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        (Connection::Http1(requests), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stays_unused_is_closed_and_one_that_comes_later_too() {
        let pool = Pool::default();
        for _ in 0..2 {
            let (connection, mut receiver) = connection().await;
            let given_back = Instant::now();
            pool.give_back(connection);
            assert_eq!(receiver.read(&mut [0]).await.unwrap(), 0, "closed from this side");
            assert_eq!(given_back.elapsed(), IDLE);
            assert!(pool.take().is_none());
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_receiver_closed_is_not_used() {
        let pool = Pool::default();
        let (first, _kept_open) = connection().await;
        let (second, receiver) = connection().await;
        pool.give_back(first);
        pool.give_back(second);
        drop(receiver);
        tokio::task::yield_now().await;
        assert!(pool.take().is_some_and(|connection| !connection.is_closed()));
        assert!(pool.take().is_none());
    }

    #[test]
    fn connections_outlive_the_runtime_that_watched_them() {
        let pool = Pool::default();
        let rt = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for _ in 0..2 {
            rt().block_on(async {
                pool.give_back(connection().await.0);
                assert!(lock(&pool.0).is_watched);
            });
            assert!(!lock(&pool.0).is_watched, "or nobody would ever again");
        }
    }
}
