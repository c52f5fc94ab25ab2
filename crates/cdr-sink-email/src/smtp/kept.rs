//! The connection that is kept between two mails.
//!
//! Mails come in bursts: an alert beside a digest, a digest for each group of recipients, two incidents at once. They share a
//! connection, one TLS handshake and one login. After [`IDLE`] it is closed with a goodbye, before the server does that: with the
//! minutes between two digests it would be gone anyhow.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lettre::transport::smtp::{client::AsyncSmtpConnection, commands::Rset};
use tokio::time::{Instant, timeout};

/// How long a connection is kept without a mail. RFC 5321 §4.5.3.2.7 lets a server wait for 5 minutes; many do not wait for two.
const IDLE: Duration = Duration::from_secs(60);

/// How long a server may take to say that the connection is still good.
const STILL_GOOD: Duration = Duration::from_secs(5);

/// How long a server may take to say goodbye. The mail is in its hands by then.
const GOODBYE: Duration = Duration::from_secs(1);

/// At most one connection that nobody uses at the moment.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Idle>>>);

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Kept {
    /// The kept connection, if the server still takes mails on it: it is asked, since one that has left does not say so.
    pub(super) async fn take(&self) -> Option<AsyncSmtpConnection> {
        let Idle { mut connection, .. } = self.slot().take()?;
        // What is left of the mail before is forgotten with it.
        let still_good = timeout(STILL_GOOD, connection.command(Rset)).await;
        matches!(still_good, Ok(Ok(_))).then_some(connection)
    }

    /// Keeps a connection that is good, unless there is one.
    pub(super) async fn keep(&self, connection: AsyncSmtpConnection) {
        let since = Instant::now();
        let second = match &mut *self.slot() {
            Some(_) => Some(connection),
            free => {
                *free = Some(Idle { connection, since });
                None
            }
        };
        match second {
            Some(second) => leave(second).await,
            None => drop(tokio::spawn(self.clone().close_when_idle(since))),
        }
    }

    async fn close_when_idle(self, since: Instant) {
        tokio::time::sleep(IDLE).await;
        let idle = self.slot().take_if(|idle| idle.since == since);
        if let Some(Idle { connection, .. }) = idle {
            leave(connection).await;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says goodbye. Whether the server does, too, is no matter.
pub(super) async fn leave(mut connection: AsyncSmtpConnection) {
    let _ = timeout(GOODBYE, connection.quit()).await;
}
