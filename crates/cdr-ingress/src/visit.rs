//! The way of a request: one function, a line for each check, cheap and safe ones first.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::{
    EndStatus, Facts, Incoming as Push, Intake, NotStored, Origin, Stored, Suspect, cdr, json::Fault, push,
};
use http::{HeaderMap, HeaderName, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use crate::{
    answer::{self, Rejection, Verdict},
    asked::Asked,
    body::{self, Charge, Held},
    keeper::{Keeper, Policy},
};

/// Identifies one push; the sender's retries repeat it (product page 679/67256).
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// How long a commit may take before the sender is told to come again. TCCC publishes no timeout for pushes;
/// 5 s is what it publishes for a call-back of the same product (1229/70684).
const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Somebody who came to the door, for as long as the connection lasts.
pub(crate) struct Visit<I> {
    pub keeper: Arc<Keeper>,
    pub intake: Arc<I>,
    /// What is being stored; it goes on when the sender hangs up.
    pub stores: TaskTracker,
    pub peer: IpAddr,
}

impl<I: Intake> Visit<I> {
    /// Answers a request, whatever it is.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let policy = self.keeper.policy.load_full();
        let client = policy.settings.client_address(self.peer, request.headers());
        match self.take(&policy, client, request).await {
            Ok(()) => answer::stored(),
            Err(rejection) => {
                self.keeper.refused(&rejection, client);
                rejection.response()
            }
        }
    }

    async fn take(
        &self,
        policy: &Policy,
        client: IpAddr,
        request: Request<Incoming>,
    ) -> Result<(), Rejection> {
        self.keeper.admit(policy, client)?;
        policy.expects(&request)?;
        let request = policy.proofs.prove(request)?;
        let Asked { action, version } = Asked::of(request.uri())?;
        plain(request.headers())?;
        let uuid = self.push_uuid(request.headers());
        let Held { bytes, charge } =
            body::read(request, &policy.settings.limits, &self.keeper.in_flight).await?;

        let sha256 = Sha256::digest(&bytes).into();
        let received_at = Timestamp::now();
        let sender = Some(client);
        let facts = Facts { action, version, uuid, received_at, sender, origin: Origin::Push, sha256 };
        match cdr::read(&facts.action, &bytes) {
            Ok(cdr) => self.store(Push { facts, body: bytes, cdr }, charge).await,
            Err(fault) => Err(self.quarantine(facts, bytes, fault, charge).await),
        }
    }

    /// What the sender calls this push. A strange name is no reason to refuse it.
    fn push_uuid(&self, headers: &HeaderMap) -> Option<String> {
        let mut lines = headers.get_all(PUSH_UUID).iter();
        let line = lines.next()?.as_bytes();
        let is_fit = |line: &&[u8]| (1..=128).contains(&line.len()) && line.iter().all(u8::is_ascii_graphic);
        let uuid = Some(line).filter(is_fit).filter(|_| lines.next().is_none());
        if uuid.is_none() && self.keeper.counters.odd_uuid() {
            tracing::warn!(
                "a push came with an X-TCCC-PUSH-UUID that is not one text of 1 to 128 visible characters; \
                 it counts as absent, and so will others like it without a word"
            );
        }
        uuid.map(|uuid| String::from_utf8_lossy(uuid).into_owned())
    }

    /// Hands the push over and waits for its fsync.
    ///
    /// In a task of its own: hyper drops us when the sender hangs up, and a commit that takes too long must go
    /// on. Either way it is counted and logged when it is kept.
    async fn store(&self, push: Push, charge: Charge) -> Result<(), Rejection> {
        let (keeper, intake) = (Arc::clone(&self.keeper), Arc::clone(&self.intake));
        let stored = self.stores.spawn(async move {
            let notes = Notes::of(&push);
            let stored = intake.store(push).await;
            drop(charge);
            stored.map(|stored| notes.tell(&keeper, stored))
        });
        within_commit_timeout(stored).await.map_err(Rejection::NotStored)
    }

    /// Keeps what an authentic sender sent and what is no push.
    async fn quarantine(&self, facts: Facts, body: Bytes, fault: Fault, charge: Charge) -> Rejection {
        let intake = Arc::clone(&self.intake);
        let suspect = Suspect { facts, body, reason: fault.without_excerpt() };
        let kept = self.stores.spawn(async move {
            let kept = intake.quarantine(suspect).await;
            drop(charge);
            kept
        });
        match within_commit_timeout(kept).await {
            Ok(kept) => Rejection::Quarantined { fault, number: kept.number },
            Err(NotStored::QuarantineFull) => Rejection::QuarantineFull { fault },
            Err(why) => Rejection::NotStored(why),
        }
    }
}

/// Compressed bodies are refused before they are read: we would check and hash something else than was sent.
fn plain(headers: &HeaderMap) -> Result<(), Rejection> {
    let is_plain = |encoding: &http::HeaderValue| {
        encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    };
    let all_plain = headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain);
    all_plain.then_some(()).ok_or(Rejection::Encoding)
}

async fn within_commit_timeout<T>(
    task: tokio::task::JoinHandle<Result<T, NotStored>>,
) -> Result<T, NotStored> {
    match tokio::time::timeout(COMMIT_TIMEOUT, task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(NotStored::Failing(format!("storing was broken off: {panicked}"))),
        Err(_) => Err(NotStored::Slow(COMMIT_TIMEOUT)),
    }
}

/// What will be told of a push when it is kept.
struct Notes {
    action: String,
    session_id: Option<String>,
    bytes: usize,
    odd_fields: Vec<&'static str>,
    unpublished_statuses: Vec<String>,
}

impl Notes {
    fn of(push: &Push) -> Self {
        let cdr = push.cdr.as_deref();
        let participants = cdr.into_iter().flat_map(|cdr| cdr.participants());
        let statuses = cdr
            .and_then(|cdr| cdr.end_status.as_ref())
            .into_iter()
            .chain(participants.filter_map(|participant| participant.end_status.as_ref()));
        let unpublished = statuses.filter_map(|status| match status {
            EndStatus::Known(_) => None,
            EndStatus::Unpublished(value) => Some(value.to_string()),
        });
        Self {
            action: push.facts.action.as_str().to_owned(),
            session_id: cdr.and_then(|cdr| cdr.session_id.as_deref()).map(|id| push::short(id).to_owned()),
            bytes: push.body.len(),
            odd_fields: cdr.into_iter().flat_map(|cdr| cdr.odd_fields()).collect(),
            unpublished_statuses: unpublished.collect(),
        }
    }

    fn tell(self, keeper: &Keeper, stored: Stored) {
        let Self { action, session_id, bytes, .. } = &self;
        let (position, repeat) = (stored.position.0, stored.repeat);
        tracing::info!(position, session_id, action, bytes, repeat, "stored");
        keeper.counters.kept(*bytes);
        keeper.counters.count(verdict(stored));
        if stored.uuid_reused {
            tracing::warn!(
                position,
                session_id,
                "its X-TCCC-PUSH-UUID came before with other bytes; both are kept"
            );
        }
        if !stored.repeat {
            self.tell_oddities(keeper, position);
        }
    }

    fn tell_oddities(&self, keeper: &Keeper, position: u64) {
        for &field in &self.odd_fields {
            if keeper.counters.odd_field(field) {
                tracing::warn!(position, field, "a field has a value of a wrong type and counts as missing");
            }
        }
        for status in &self.unpublished_statuses {
            if let Some(status) = keeper.counters.unpublished_status(status) {
                tracing::warn!(
                    position,
                    status,
                    "an EndStatusString that is not published; its result is other"
                );
            }
        }
    }
}

fn verdict(stored: Stored) -> Verdict {
    match stored {
        Stored { repeat: true, .. } => Verdict::Repeat,
        Stored { uuid_reused: true, .. } => Verdict::UuidReused,
        _ => Verdict::Stored,
    }
}
