//! One connection: what comes before HTTP (the PROXY protocol, TLS), then HTTP/1 or HTTP/2.
//!
//! ```text
//! accepted ──▶ [PROXY header of a trusted proxy] ──▶ [TLS] ──▶ http1 | http2
//! ```
//!
//! A port of plain HTTP serves HTTP/1 alone: HTTP/2 is agreed on within TLS. Where neither a PROXY header nor TLS can
//! come, nothing stands between the socket and hyper.

mod begun;
mod http1;
pub(crate) mod http2;

use std::{io, sync::Arc, time::Duration};

use cdr_core::Intake;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::begun::{BEGINNING, Begun};
use crate::{
    answer::Rejection,
    keeper::{Keeper, Policy},
    proxy_protocol::{self, Malformed},
    tls::{self, Tls},
    visit::Visit,
};

/// How long we listen to a sender whom we have said the last word.
const LINGER: Duration = Duration::from_secs(1);

/// What HTTP is spoken over.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

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
pub(crate) async fn serve<I: Intake>(socket: impl Socket, visit: Visit<I>, stop: Stop) {
    let policy = visit.keeper.policy.load_full();
    let begun = Begun::new(socket);
    if policy.tls.is_none() && !policy.settings.trusts(visit.peer) {
        return http1::serve(begun, visit, &stop).await;
    }
    // On the heap: what most connections do not need would make the task of each of them larger.
    Box::pin(enter(begun, visit, policy, &stop)).await;
}

/// What comes before HTTP, all together within `header_timeout`.
async fn enter<I: Intake>(
    mut begun: Begun<impl Socket>,
    mut visit: Visit<I>,
    policy: Arc<Policy>,
    stop: &Stop,
) {
    let limit = policy.settings.limits.header_timeout;
    let deadline = Instant::now() + limit;
    let looked = tokio::select! {
        biased;
        looked = timeout_at(deadline, look(&mut begun, &mut visit, &policy)) => looked,
        () = stop.finish.cancelled() => return,
    };
    let looked = looked.unwrap_or_else(|_| match begun.first().is_empty() {
        true => Err(NoEntry::Silent),
        false => Err(NoEntry::Refused(Rejection::SlowHead { limit })),
    });
    match (looked, &policy.tls) {
        (Ok(()), None) => http1::serve(begun, visit, stop).await,
        (Ok(()), Some(tls)) => enter_by_tls(begun, visit, tls, deadline, stop).await,
        (Err(NoEntry::Refused(rejection)), _) => {
            visit.keeper.refused(&rejection, visit.peer);
            say(&mut begun, &rejection).await;
            linger(&mut begun, stop).await;
        }
        (Err(NoEntry::TurnedAway(rejection)), _) => {
            visit.keeper.refused(&rejection, visit.peer);
            let turned_away = visit.keeper.turn_away(&policy);
            // Its seat may be what the next one needs.
            drop(visit);
            if let Some(turned_away) = turned_away {
                turn_away(begun, rejection, stop.clone(), turned_away).await;
            }
        }
        (Err(NoEntry::Broke(error)), _) => {
            tracing::debug!(peer = %visit.peer, %error, "a connection ended");
        }
        (Err(NoEntry::Silent), _) => {}
    }
}

/// Why a connection ends before HTTP.
enum NoEntry {
    /// Nothing has come.
    Silent,
    Broke(io::Error),
    /// In words, since nobody speaks TLS yet.
    Refused(Rejection),
    /// There is no room for him.
    TurnedAway(Rejection),
}

/// Looks who comes and what he speaks.
async fn look<I>(
    begun: &mut Begun<impl Socket>,
    visit: &mut Visit<I>,
    policy: &Policy,
) -> Result<(), NoEntry> {
    if policy.settings.trusts(visit.peer) {
        match proxy_protocol::take_header(begun).await.map_err(NoEntry::Broke)? {
            Ok(None) => {}
            Ok(Some(sender)) => {
                visit.peer = sender;
                visit.keeper.reseat(&mut visit.seat, policy, sender).map_err(NoEntry::TurnedAway)?;
            }
            Err(Malformed) => return Err(NoEntry::Refused(Rejection::ProxyHeader { is_trusted: true })),
        }
    }
    if policy.tls.is_none() {
        return Ok(());
    }
    if begun.first().is_empty() && !begun.look_further().await.map_err(NoEntry::Broke)? {
        return Err(NoEntry::Silent);
    }
    match begun.first() {
        first if tls::begins(first) => {
            visit.keeper.admit_handshake(policy, visit.peer).map_err(NoEntry::TurnedAway)
        }
        first if proxy_protocol::begins(first) => {
            Err(NoEntry::Refused(Rejection::ProxyHeader { is_trusted: false }))
        }
        _ => Err(NoEntry::Refused(Rejection::NotTls)),
    }
}

async fn enter_by_tls<I: Intake>(
    begun: Begun<impl Socket>,
    mut visit: Visit<I>,
    tls: &Tls,
    deadline: Instant,
    stop: &Stop,
) {
    let shaken = tokio::select! {
        biased;
        shaken = timeout_at(deadline, tls.accept(begun)) => shaken,
        () = stop.finish.cancelled() => return,
    };
    let entered = match shaken.unwrap_or(Err(tls::NoHandshake::TooSlow)) {
        Ok(entered) => entered,
        Err(why) => return visit.keeper.refused(&Rejection::NoHandshake(why), visit.peer),
    };
    visit.certificate = entered.certificate.map(Arc::new);
    match entered.is_http2 {
        true => http2::serve(entered.stream, visit, stop).await,
        false => http1::serve(entered.stream, visit, stop).await,
    }
}

/// Refuses a connection before any request is read from it.
pub(crate) async fn turn_away(
    mut socket: impl Socket,
    rejection: Rejection,
    stop: Stop,
    turned_away: OwnedSemaphorePermit,
) {
    let _turned_away = turned_away;
    say(&mut socket, &rejection).await;
    linger(&mut socket, &stop).await;
}

/// Nobody is kept waiting by a sender who does not read.
async fn say(socket: &mut impl Socket, rejection: &Rejection) {
    let raw = rejection.raw();
    let said = async {
        socket.write_all(&raw).await?;
        socket.flush().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, said).await {
        tracing::debug!(%error, "a refused sender has gone");
    }
}

/// Closes our side and reads what still comes for a while. Closing at once would let the kernel answer unread
/// bytes with a reset, which makes the sender forget our last words.
async fn linger(socket: &mut impl Socket, stop: &Stop) {
    let until_closed = async {
        let mut ignored = [0; 4096];
        socket.shutdown().await?;
        while socket.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::select! {
        // Whether the sender has gone is no news here.
        _ = tokio::time::timeout(LINGER, until_closed) => {}
        () = stop.finish.cancelled() => {}
    }
}
