//! Secrets that pass, held as digests.

use cdr_core::Secret;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The texts that pass, none of which is held itself.
///
/// Only the SHA-256 of each is: digests have one length, so comparing them in constant time tells neither the length
/// of a secret nor how much of a guess was right.
pub(super) struct Accepted(Vec<[u8; 32]>);

impl Accepted {
    pub fn new<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self(texts.into_iter().map(|text| Sha256::digest(text).into()).collect())
    }

    /// Whether a presented text is one of them. All are compared, whichever fits: how long it takes must not tell
    /// which.
    pub fn fits(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.0.iter().fold(Choice::from(0), |fits, digest| fits | digest.ct_eq(&presented)).into()
    }
}

/// A secret and the one that it takes the place of.
pub(super) fn both<'a>(now: &'a Secret, previous: Option<&'a Secret>) -> impl Iterator<Item = &'a str> {
    [Some(now), previous].into_iter().flatten().map(Secret::expose)
}
