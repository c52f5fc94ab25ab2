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
    client_certificate::ClientCertificate,
    counters::DoorCounters,
    proof::{Proofs, token_endpoint},
    refusals::{Newcomers, RefusalLog},
    settings::{AllowMode, IngressSettings},
    summary::Summary,
    tls::Tls,
};

/// The settings in force, and what was made of them once.
pub(crate) struct Policy {
    pub settings: IngressSettings,
    pub proofs: Proofs,
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
        Ok(Self { settings, proofs, tls, path })
    }

    /// Whether the authorities that verified a certificate are those in force. A connection may be older than they are.
    pub fn vouches_for(&self, certificate: &ClientCertificate) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.material().authorities == Some(certificate.verified_by))
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

/// What all connections share.
pub(crate) struct Keeper {
    pub policy: ArcSwap<Policy>,
    pub counters: DoorCounters,
    pub in_flight: Arc<InFlight>,
    pub refusals: RefusalLog,
    summary: Summary,
    newcomers: Newcomers,
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
        }
    }

    /// Lets a sender in whose network is allowed.
    pub fn admit(&self, policy: &Policy, client: IpAddr) -> Result<(), Rejection> {
        if policy.settings.allows(client) {
            return Ok(());
        }
        match policy.settings.allow.as_ref().map(|allow| allow.mode) {
            Some(AllowMode::Log) => self.newcomers.passed(client),
            _ => return Err(Rejection::Network),
        }
        Ok(())
    }

    /// Tells what was not told one by one; to be called every minute.
    pub fn tell_of_the_minute(&self) {
        self.refusals.tell_untold();
        self.summary.tell(&self.counters);
    }

    /// Counts a refusal and tells of it.
    pub fn refused(&self, rejection: &Rejection, client: IpAddr) {
        self.counters.count(rejection.verdict());
        self.refusals.refused(rejection, client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expects(path: &str, request: &str) -> bool {
        let settings = IngressSettings { path: path.to_owned(), ..IngressSettings::default() };
        let request = Request::post(request).body(()).unwrap();
        Policy::new(settings).unwrap_or_else(|faults| panic!("{faults:?}")).purpose(&request).is_ok()
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
