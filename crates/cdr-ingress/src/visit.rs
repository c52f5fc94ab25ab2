//! The way of a request: one function, a line for each check, cheap and safe ones first.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::{Facts, Incoming as Push, Intake, NotStored, Origin, Suspect, cdr, json::Fault};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use crate::{
    answer::{self, Rejection, Verdict},
    asked::Asked,
    body::{self, Charge, Held},
    client_certificate::ClientCertificate,
    encoding::Encoding,
    handed::{Handed, ToTheEnd},
    keeper::{Keeper, Policy, Purpose, Seat},
    notes::Notes,
    proof::{Proven, Shown, token_endpoint},
};

/// Identifies one push; the sender's retries repeat it (product page 679/67256).
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// How long a commit may take before the sender is told to come again. TCCC publishes no timeout for pushes;
/// 5 s is what it publishes for a call-back of the same product (1229/70684).
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Somebody who came to the door, for as long as the connection lasts.
pub(crate) struct Visit<I> {
    pub keeper: Arc<Keeper>,
    pub intake: Arc<I>,
    /// What is being stored; it goes on when the sender hangs up.
    pub stores: TaskTracker,
    /// Who connected, or whom a trusted proxy named with the PROXY protocol.
    pub peer: IpAddr,
    pub seat: Seat,
    /// The certificate that was shown with TLS.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl<I: Intake> Visit<I> {
    /// Answers a request, whatever it is.
    pub async fn answer<B>(&self, mut request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let policy = self.keeper.policy.load_full();
        let shown = self.certificate.as_ref().map(|certificate| match policy.vouches_for(certificate) {
            true => Shown::Valid(Arc::clone(certificate)),
            false => Shown::Outdated,
        });
        let is_outdated = matches!(shown, Some(Shown::Outdated));
        if let Some(shown) = shown {
            request.extensions_mut().insert(shown);
        }
        let client = policy.settings.client_address(self.peer, request.headers());
        let mut response = match self.serve(&policy, client, request).await {
            Ok(response) => response,
            Err(rejection) => {
                self.keeper.refused(&rejection, client);
                rejection.response()
            }
        };
        // On a new connection the sender can show another certificate; and strangers' seats are few.
        if is_outdated || self.seat.is_of_strangers() {
            answer::take_leave(&mut response);
        }
        response
    }

    async fn serve(
        &self,
        policy: &Policy,
        client: IpAddr,
        request: Request<impl Body<Data = Bytes> + Unpin>,
    ) -> Result<Response<Full<Bytes>>, Rejection> {
        let purpose = policy.purpose(&request);
        self.keeper.admit(policy, client, purpose.is_ok())?;
        policy.rates.admit_client(client, purpose.is_ok())?;
        match purpose? {
            Purpose::Push => self.take(policy, client, request).await.map(|()| answer::stored()),
            Purpose::Token => self.give_token(policy, request).await,
        }
    }

    async fn take(
        &self,
        policy: &Policy,
        client: IpAddr,
        request: Request<impl Body<Data = Bytes> + Unpin>,
    ) -> Result<(), Rejection> {
        let (request, claim) = policy.proofs.admit(request, Timestamp::now())?;
        let Asked { action, version } = Asked::of(request.uri())?;
        let encoding = Encoding::of(request.headers())?;
        let uuid = self.push_uuid(request.headers());
        let limits = &policy.settings.limits;
        let (limits, in_flight) = match claim.is_proven() {
            true => (limits, &self.keeper.in_flight),
            false => (&limits.of_unproven(), &self.keeper.unproven),
        };
        let Held { bytes, mut charge } = body::read(request, limits, in_flight).await?;
        let sent = claim.prove(bytes)?;
        policy.rates.admit()?;
        let (body, fault) = sent.decode(encoding, &mut charge, limits)?;
        let read = fault.map_or_else(|| cdr::read(&action, &body), Err);

        let sha256 = Sha256::digest(&*body).into();
        let received_at = Timestamp::now();
        let sender = Some(client);
        let facts = Facts { action, version, uuid, received_at, sender, origin: Origin::Push, sha256 };
        match read {
            Ok(cdr) => self.store(Push { facts, body: body.into_bytes(), cdr }, charge).await,
            Err(fault) => Err(self.quarantine(facts, body, fault, charge).await),
        }
    }

    /// Gives an access token to who brings a client's name and secret.
    async fn give_token(
        &self,
        policy: &Policy,
        request: Request<impl Body<Data = Bytes> + Unpin>,
    ) -> Result<Response<Full<Bytes>>, Rejection> {
        let token = token_endpoint::give(
            &policy.proofs,
            request,
            &policy.settings.limits.of_unproven(),
            &self.keeper.unproven,
        )
        .await?;
        self.keeper.counters.count(Verdict::Token);
        Ok(answer::token(&token))
    }

    /// What the sender calls this push. A strange name is no reason to refuse it.
    fn push_uuid(&self, headers: &HeaderMap) -> Option<String> {
        let mut lines = headers.get_all(PUSH_UUID).iter();
        let line = lines.next()?.to_str().unwrap_or_default();
        let is_fit =
            |line: &&str| (1..=128).contains(&line.len()) && line.bytes().all(|b| b.is_ascii_graphic());
        let uuid = Some(line).filter(is_fit).filter(|_| lines.next().is_none());
        if uuid.is_none() && self.keeper.counters.odd_uuid() {
            tracing::warn!(
                "a push came with an X-TCCC-PUSH-UUID that is not one text of 1 to 128 visible characters; \
                 it counts as absent, and so will others like it without a word"
            );
        }
        uuid.map(str::to_owned)
    }

    /// Hands the push over and waits for its fsync.
    ///
    /// hyper drops us when the sender hangs up, and a commit that takes too long must go on: either way it is
    /// counted and told when it is kept.
    async fn store(&self, push: Push, charge: Charge) -> Result<(), Rejection> {
        let notes = Notes::of(&push);
        let storing = self.intake.store(push);
        let handed = Handed { storing, notes, keeper: Arc::clone(&self.keeper), _charge: charge };
        let stored = ToTheEnd { future: Some(handed), tasks: &self.stores };
        match tokio::time::timeout(COMMIT_TIMEOUT, stored).await {
            Ok(stored) => stored.map_err(Rejection::NotStored),
            Err(_) => Err(Rejection::NotStored(NotStored::Slow(COMMIT_TIMEOUT))),
        }
    }

    /// Keeps what an authentic sender sent and what is no push.
    async fn quarantine(&self, facts: Facts, body: Proven, fault: Fault, charge: Charge) -> Rejection {
        let intake = Arc::clone(&self.intake);
        let suspect = Suspect { facts, body: body.into_bytes(), reason: fault.without_excerpt() };
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

async fn within_commit_timeout<T>(
    task: tokio::task::JoinHandle<Result<T, NotStored>>,
) -> Result<T, NotStored> {
    match tokio::time::timeout(COMMIT_TIMEOUT, task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(NotStored::Failing(format!("storing was broken off: {panicked}"))),
        Err(_) => Err(NotStored::Slow(COMMIT_TIMEOUT)),
    }
}
