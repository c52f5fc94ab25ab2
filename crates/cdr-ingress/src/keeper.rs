//! What all connections share: the policy in force, the counters, and what was told already.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use cdr_core::SettingFault;
use http::{Method, Request};
use percent_encoding::percent_decode_str;
use rustls::pki_types::UnixTime;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    answer::Rejection,
    body::InFlight,
    client_certificate::ClientCertificate,
    connection::Open,
    counters::DoorCounters,
    crowd::{Crowd, Place},
    newcomers::{Newcomer, Newcomers},
    proof::{Proofs, token_endpoint},
    rates::Rates,
    refusals::RefusalLog,
    regulars::Regulars,
    settings::{AllowMode, IngressSettings},
    strangers::{Stranger, Strangers},
    summary::Summary,
    tls::Tls,
};

/// So many senders at once hear why they are turned away. They stand beside `limits.connections`.
const TURNED_AWAY_AT_ONCE: usize = 64;

/// Connections from networks that are not allowed, at a time.
const STRANGERS: usize = 64;

/// Of these, those of one client: or one that says nothing could keep all others from being heard.
const STRANGERS_PER_CLIENT: usize = 8;

/// The settings in force, and what was made of them once.
pub(crate) struct Policy {
    pub settings: IngressSettings,
    pub proofs: Proofs,
    pub rates: Rates,
    /// None where plain HTTP is spoken.
    pub tls: Option<Arc<Tls>>,
    path: Vec<u8>,
}

impl Policy {
    pub fn new(mut settings: IngressSettings) -> Result<Self, Vec<SettingFault>> {
        let faults = settings.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let tls = settings.tls.as_ref().map(Tls::read).transpose()?.map(Arc::new);
        // The secrets are held as digests and keys from here on.
        let proofs = Proofs::new(settings.verify.take().as_deref())?;
        let path = meant(&settings.path).into_owned();
        let rates = Rates::new(&settings.limits);
        Ok(Self { settings, proofs, tls, rates, path })
    }

    /// Whether requests of this client are refused whatever they are.
    fn bars(&self, client: IpAddr) -> bool {
        !self.settings.allows(client) && !self.learns()
    }

    /// Whether all requests of a connection are refused. Those of a trusted proxy's may be other people's.
    fn is_stranger(&self, peer: IpAddr) -> bool {
        !self.settings.trusts(peer) && self.bars(peer)
    }

    /// Whether senders from elsewhere pass, so that their addresses are learned.
    pub fn learns(&self) -> bool {
        self.settings.allow.as_ref().is_some_and(|allow| allow.mode == AllowMode::Log)
    }

    /// Whether the authorities in force vouch for a certificate now. A connection may be older than they are, and outlive
    /// its certificate.
    pub fn vouches_for(&self, certificate: &ClientCertificate) -> bool {
        let Some(tls) = &self.tls else { return false };
        let material = tls.material();
        let is_vouched_for = |authorities| certificate.is_vouched_for(authorities, UnixTime::now());
        material.authorities.as_ref().is_some_and(is_vouched_for)
    }

    /// What a request is for, if it is for something that is served here. The path may be a secret, so it is compared
    /// in constant time.
    pub fn purpose<B>(&self, request: &Request<B>) -> Result<Purpose, Rejection> {
        if request.method() != Method::POST {
            return Err(Rejection::Method);
        }
        let path = meant(request.uri().path());
        let is_push: bool = path.ct_eq(&*self.path).into();
        let asks_for_token =
            || path.strip_suffix(token_endpoint::PATH).is_some_and(|path| path.ct_eq(&self.path).into());
        match () {
            () if is_push => Ok(Purpose::Push),
            () if self.proofs.give_tokens() && asks_for_token() => Ok(Purpose::Token),
            () => Err(Rejection::Path),
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Push,
    /// An access token of OAuth 2.0.
    Token,
}

/// What a path means: without percent-encoding and without a slash at its end.
fn meant(path: &str) -> Cow<'_, [u8]> {
    percent_decode_str(path.trim_end_matches('/')).into()
}

/// The right to be here, for as long as a connection lasts.
pub(crate) enum Seat {
    Guest { _open: Open, place: Option<Place> },
    Stranger { _standing: OwnedSemaphorePermit, _place: Place },
}

impl Seat {
    /// Whether it is one of the few for networks that are not allowed.
    pub fn is_of_strangers(&self) -> bool {
        matches!(self, Self::Stranger { .. })
    }
}

/// What all connections share.
pub(crate) struct Keeper {
    pub policy: ArcSwap<Policy>,
    pub counters: DoorCounters,
    pub in_flight: Arc<InFlight>,
    /// Bodies of senders who have yet to prove who they are: apart, so that they cannot take the room of the others.
    pub unproven: Arc<InFlight>,
    crowd: Arc<Crowd>,
    /// Room for connections from networks that are not allowed.
    standing: Arc<Semaphore>,
    standing_crowd: Arc<Crowd>,
    /// One for each sender that hears why its connection is refused; others are dropped without a word.
    turned_away: Arc<Semaphore>,
    pub refusals: RefusalLog,
    summary: Summary,
    newcomers: Newcomers,
    strangers: Strangers,
    regulars: Regulars,
}

impl Keeper {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: ArcSwap::from_pointee(policy),
            counters: DoorCounters::default(),
            in_flight: Arc::default(),
            unproven: Arc::default(),
            crowd: Arc::default(),
            standing: Arc::new(Semaphore::new(STRANGERS)),
            standing_crowd: Arc::default(),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)),
            refusals: RefusalLog::default(),
            summary: Summary::default(),
            newcomers: Newcomers::default(),
            strangers: Strangers::default(),
            regulars: Regulars::default(),
        }
    }

    /// Lets a connection in, before anything is read from it. Behind a trusted proxy, whose connections are other
    /// people's, all is left to the requests.
    ///
    /// Those from networks that are not allowed are few at a time, beside the limit of connections: with requests that
    /// never end, strangers could hold all that there are. They are heard nevertheless, since one of them may be
    /// the sender one waits for, at a new address: that is an alert, and a port scan is none.
    pub fn seat(self: &Arc<Self>, policy: &Policy, peer: IpAddr) -> Result<Seat, Rejection> {
        if policy.is_stranger(peer) {
            return self.stand(peer);
        }
        let limit = policy.settings.limits.connections;
        if self.counters.open_connections() >= limit {
            return Err(Rejection::Connections { limit });
        }
        Ok(Seat::Guest { place: self.place(policy, peer)?, _open: Open::new(self) })
    }

    /// Changes the seat of a connection for that of the sender whom a trusted proxy names for all of it: a stranger among
    /// those behind the proxy takes none from the others, who are guests.
    pub fn reseat(&self, seat: &mut Seat, policy: &Policy, sender: IpAddr) -> Result<(), Rejection> {
        match seat {
            _ if policy.is_stranger(sender) => *seat = self.stand(sender)?,
            Seat::Guest { place, .. } => *place = self.place(policy, sender)?,
            // The proxy was a stranger itself until a reload; it comes again.
            Seat::Stranger { .. } => {}
        }
        Ok(())
    }

    fn stand(&self, stranger: IpAddr) -> Result<Seat, Rejection> {
        let place = self.standing_crowd.place(stranger, STRANGERS_PER_CLIENT);
        let standing = Arc::clone(&self.standing).try_acquire_owned().ok();
        let seat = place.zip(standing).map(|(_place, _standing)| Seat::Stranger { _standing, _place });
        seat.ok_or(Rejection::CrowdedNetwork { limit: STRANGERS, per_client: STRANGERS_PER_CLIENT })
    }

    /// None where `connections_per_client` does not count.
    fn place(&self, policy: &Policy, client: IpAddr) -> Result<Option<Place>, Rejection> {
        let is_direct = !policy.settings.trusts(client);
        let limit = policy.settings.limits.connections_per_client.filter(|_| is_direct);
        let place = |limit| self.crowd.place(client, limit).ok_or(Rejection::ClientConnections { limit });
        limit.map(place).transpose()
    }

    /// The right to be told why one's connection is refused. By TLS nothing can be said without shaking hands, which is what
    /// there is too much of.
    pub fn turn_away(&self, policy: &Policy) -> Option<OwnedSemaphorePermit> {
        let turned_away = || Arc::clone(&self.turned_away).try_acquire_owned().ok();
        policy.tls.is_none().then(turned_away).flatten()
    }

    /// Shakes hands by TLS, which costs processor time before anything is known of who asks for it: of strangers so many a
    /// second. Networks that are allowed by name, trusted proxies and who has brought a push never wait for those.
    pub fn admit_handshake(&self, policy: &Policy, peer: IpAddr) -> Result<(), Rejection> {
        let settings = &policy.settings;
        let is_known = settings.trusts(peer) || settings.names(peer) || self.regulars.know(peer);
        if is_known { Ok(()) } else { policy.rates.admit_handshake(peer) }
    }

    /// Lets a sender in whose network is allowed.
    pub fn admit(&self, policy: &Policy, client: IpAddr, is_for_us: bool) -> Result<(), Rejection> {
        if policy.bars(client) {
            return Err(Rejection::Network { is_for_us });
        }
        if !policy.settings.allows(client) {
            self.newcomers.passed(client);
        }
        Ok(())
    }

    /// Notes who brought a push that is kept now.
    pub fn kept_from(&self, client: IpAddr) {
        let policy = self.policy.load();
        if policy.learns() && !policy.settings.allows(client) {
            self.newcomers.brought(client);
        }
        if policy.tls.is_some() && !policy.settings.names(client) {
            self.regulars.brought(client);
        }
        self.strangers.arrived(client);
    }

    /// Tells what was not told one by one; to be called every minute.
    pub fn tell_of_the_minute(&self) {
        self.refusals.tell_untold();
        self.summary.tell(&self.counters);
        self.strangers.forget();
        self.policy.load().rates.forget_the_rested();
        self.tell_learned(false);
    }

    /// Tells what has not been told yet, when the door is closed for good.
    pub fn tell_the_last(&self) {
        self.tell_of_the_minute();
        self.tell_learned(true);
    }

    /// Who passed and is in no network that is allowed now.
    pub fn newcomers(&self) -> Vec<Newcomer> {
        let policy = self.policy.load();
        let mut newcomers = self.newcomers.list();
        newcomers.retain(|newcomer| !policy.settings.allows(newcomer.network.address()));
        newcomers
    }

    /// Who was refused, and may have been whom the operator waits for.
    pub fn strangers(&self) -> Vec<Stranger> {
        self.strangers.list()
    }

    /// The list that has been learned, ready to be written into the file.
    fn tell_learned(&self, is_last: bool) {
        let policy = self.policy.load();
        if !policy.learns() || !self.newcomers.is_to_be_told(is_last) {
            return;
        }
        let allowed = policy.settings.allow.iter().flat_map(|allow| &allow.networks).map(ToString::to_string);
        let brought = self.newcomers().into_iter().filter(|newcomer| newcomer.pushes > 0);
        let networks: Vec<String> =
            allowed.chain(brought.map(|newcomer| newcomer.network.to_string())).collect();
        tracing::info!(
            "ingress.allow.networks as learned so far, for mode: enforce: networks: [{}]",
            networks.join(", ")
        );
    }

    /// Counts a refusal and tells of it.
    pub fn refused(&self, rejection: &Rejection, client: IpAddr) {
        self.counters.count(rejection.verdict());
        if rejection.may_be_ours() {
            self.strangers.refused(rejection.verdict(), client);
        }
        self.refusals.refused(rejection, client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Allow;

    fn expects(path: &str, request: &str) -> bool {
        let settings = IngressSettings { path: path.to_owned(), ..IngressSettings::default() };
        let request = Request::post(request).body(()).unwrap();
        Policy::new(settings).unwrap_or_else(|faults| panic!("{faults:?}")).purpose(&request).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_is_known_waits_for_the_handshakes_of_strangers() {
        let networks = ["192.0.2.0/24"].map(|network| network.parse().unwrap()).to_vec();
        let allow = Some(Allow { networks, mode: AllowMode::Enforce });
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let settings = IngressSettings { allow, trusted_proxies, ..IngressSettings::default() };
        let policy = Policy::new(settings).unwrap_or_else(|faults| panic!("{faults:?}"));
        let keeper = Keeper::new(Policy::new(IngressSettings::default()).ok().unwrap());
        let shakes = |peer: [u8; 4]| keeper.admit_handshake(&policy, peer.into()).is_ok();
        keeper.regulars.brought([203, 0, 113, 7].into());
        let passed = (0..900_u16).filter(|number| shakes([198, 51, 100, number.to_be_bytes()[1]])).count();
        assert!(passed < 900 && !shakes([198, 51, 101, 1]), "{passed} of the strangers pass");
        for known in [[192, 0, 2, 1], [10, 0, 0, 1], [203, 0, 113, 7]] {
            assert!((0..1000).all(|_| shakes(known)), "{known:?}");
        }
    }

    #[test]
    fn a_slash_at_the_end_and_percent_encoding_make_no_difference() {
        for request in ["/push", "/push/", "/push/?action=cdr", "/p%75sh", "http://example.com/push?x"] {
            assert!(expects("/push", request) && expects("/push/", request), "{request}");
        }
        assert!(expects("/", "/?action=cdr") && expects("/", "//") && expects("/", "http://example.com"));
        assert!(expects("/p%75sh", "/push"));
    }

    #[test]
    fn another_path_is_another_path() {
        for request in ["/", "/Push", "/push/x", "/pushx", "/pus", "//push", "/push%2Fx"] {
            assert!(!expects("/push", request), "{request}");
        }
    }
}
