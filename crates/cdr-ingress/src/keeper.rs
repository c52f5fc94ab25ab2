//! What all connections share: the policy in force, the counters, and what was told already.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use cdr_core::SettingFault;
use http::{Method, Request};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::{
    answer::Rejection,
    body::InFlight,
    counters::DoorCounters,
    newcomers::{Newcomer, Newcomers},
    proof::Proofs,
    refusals::RefusalLog,
    settings::{AllowMode, IngressSettings},
    strangers::{Stranger, Strangers},
    summary::Summary,
};

/// The settings in force, and what was made of them once.
pub(crate) struct Policy {
    pub settings: IngressSettings,
    pub proofs: Proofs,
    path: Vec<u8>,
}

impl Policy {
    pub fn new(settings: IngressSettings) -> Result<Self, Vec<SettingFault>> {
        let faults = settings.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let proofs = Proofs::new(settings.verify.as_deref());
        let path = meant(&settings.path).into_owned();
        Ok(Self { settings, proofs, path })
    }

    /// Whether senders from elsewhere pass, so that their addresses are learned.
    pub fn learns(&self) -> bool {
        self.settings.allow.as_ref().is_some_and(|allow| allow.mode == AllowMode::Log)
    }

    /// Whether this is a request for what is served here. The path may be a secret, so it is compared in
    /// constant time.
    pub fn expects<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        if request.method() != Method::POST {
            return Err(Rejection::Method);
        }
        let is_here: bool = meant(request.uri().path()).ct_eq(&*self.path).into();
        is_here.then_some(()).ok_or(Rejection::Path)
    }
}

/// What a path means: without percent-encoding and without a slash at its end.
fn meant(path: &str) -> Cow<'_, [u8]> {
    percent_decode_str(path.trim_end_matches('/')).into()
}

/// What all connections share.
pub(crate) struct Keeper {
    pub policy: ArcSwap<Policy>,
    pub counters: DoorCounters,
    pub in_flight: Arc<InFlight>,
    pub refusals: RefusalLog,
    summary: Summary,
    newcomers: Newcomers,
    strangers: Strangers,
}

impl Keeper {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: ArcSwap::from_pointee(policy),
            counters: DoorCounters::default(),
            in_flight: Arc::default(),
            refusals: RefusalLog::default(),
            summary: Summary::default(),
            newcomers: Newcomers::default(),
            strangers: Strangers::default(),
        }
    }

    /// Lets a sender in whose network is allowed.
    pub fn admit<B>(&self, policy: &Policy, client: IpAddr, request: &Request<B>) -> Result<(), Rejection> {
        if policy.settings.allows(client) {
            return Ok(());
        }
        if !policy.learns() {
            return Err(Rejection::Network { is_for_us: policy.expects(request).is_ok() });
        }
        self.newcomers.passed(client);
        Ok(())
    }

    /// Notes who brought a push that is kept now.
    pub fn kept_from(&self, client: IpAddr) {
        let policy = self.policy.load();
        if policy.learns() && !policy.settings.allows(client) {
            self.newcomers.brought(client);
        }
        self.strangers.arrived(client);
    }

    /// Tells what was not told one by one; to be called every minute.
    pub fn tell_of_the_minute(&self) {
        self.refusals.tell_untold();
        self.summary.tell(&self.counters);
        self.strangers.forget();
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

    fn expects(path: &str, request: &str) -> bool {
        let settings = IngressSettings { path: path.to_owned(), ..IngressSettings::default() };
        let request = Request::post(request).body(()).unwrap();
        Policy::new(settings).unwrap_or_else(|faults| panic!("{faults:?}")).expects(&request).is_ok()
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
