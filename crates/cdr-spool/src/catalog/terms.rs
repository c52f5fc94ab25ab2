//! What a push is found by.

use sha2::{Digest, Sha256};

use crate::{SpoolId, StoredPush};

/// Tells every term of a push, from the push alone: the same for the same push, whoever asks and whenever.
///
/// The spool knows no CDRs, so whoever opens it says what is in them.
pub type TermsOf = fn(&StoredPush, &mut Terms<'_>);

/// Takes the terms of a push: what kind of thing each is, and the thing itself in the one form in which it is looked for.
pub struct Terms<'a>(Purpose<'a>);

enum Purpose<'a> {
    Digest { spool: SpoolId, digests: &'a mut Vec<i64> },
    Compare { kind: &'a str, text: &'a str, found: &'a mut bool },
}

impl Terms<'_> {
    /// Adds a term. Empty ones are none.
    pub fn add(&mut self, kind: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        match &mut self.0 {
            Purpose::Digest { spool, digests } => digests.push(digest(*spool, kind, text)),
            Purpose::Compare { kind: wanted, text: sought, found } => {
                **found |= *wanted == kind && *sought == text;
            }
        }
    }
}

/// Gathers the digests of a push's terms, each once.
pub(crate) fn digests(terms: TermsOf, spool: SpoolId, push: &StoredPush, digests: &mut Vec<i64>) {
    digests.clear();
    terms(push, &mut Terms(Purpose::Digest { spool, digests }));
    digests.sort_unstable();
    digests.dedup();
}

/// Whether a push has this very term: a digest only says maybe.
pub(crate) fn has(terms: TermsOf, push: &StoredPush, kind: &str, text: &str) -> bool {
    let mut found = false;
    terms(push, &mut Terms(Purpose::Compare { kind, text, found: &mut found }));
    found
}

/// 47 bits of a hash under the spool's identity: in six bytes SQLite keeps no more, and eight were measured 20 bytes a push
/// dearer. Among ten million terms one search in ten million meets a wrong push, which is then read in vain.
pub(crate) fn digest(spool: SpoolId, kind: &str, text: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(spool.as_bytes());
    hash.update(kind.as_bytes());
    hash.update([0]);
    hash.update(text.as_bytes());
    let hash = hash.finalize();
    hash[..6].iter().fold(0, |digest, byte| digest << 8 | i64::from(*byte)) >> 1
}
