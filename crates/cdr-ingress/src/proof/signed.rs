//! Whether a signature fits: what can be known from the head of a request, and then from its body.

use std::{borrow::Cow, sync::Arc};

use base64::Engine;
use cdr_core::json;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, request::Parts};
use jiff::Timestamp;
use md5::Md5;
use serde_json::value::RawValue;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::{
    Failure,
    authorization::BASE64,
    only,
    signature::{Encoding, Hash},
    template::Piece,
};

/// A way of signing, and the keys.
pub(super) struct Scheme {
    pub at: At,
    pub prefix: String,
    pub encoding: Encoding,
    pub hash: Hash,
    /// Any of them passes.
    pub keys: Vec<Vec<u8>>,
    /// None where the signature bears no time: it fits for ever.
    pub freshness: Option<Freshness>,
    pub signed: Vec<Piece>,
}

/// Where something stands.
pub(super) enum At {
    Header(HeaderName),
    Query(String),
    Body(String),
}

/// Which signatures are of now.
pub(super) struct Freshness {
    pub at: At,
    /// Whether the time is the end of the signature, and not when it was made.
    pub is_end: bool,
    /// In seconds.
    pub tolerance: i64,
}

/// What a request says about its signature; the body must show whether it is true.
pub(super) struct SignatureClaim {
    scheme: Arc<Scheme>,
    now: Timestamp,
    /// None when it stands in the body.
    presented: Option<Presented>,
    /// As it was sent; none when it stands in the body, or the scheme bears no time.
    time: Option<String>,
    /// Those that are signed too, in the order of the scheme.
    headers: Vec<Vec<u8>>,
}

/// The signatures that were sent, as bytes.
struct Presented(Vec<Vec<u8>>);

impl SignatureClaim {
    /// A claim is worth reading a body when all that is outside of it is there, well-formed and fresh.
    pub fn in_head(scheme: &Arc<Scheme>, head: &Parts, now: Timestamp) -> Result<Self, Failure> {
        let presented = match scheme.at.in_head(head)? {
            Some(line) => Some(scheme.presented(&line)?),
            None => None,
        };
        let time = match &scheme.freshness {
            Some(freshness) => freshness.in_head(head, now)?,
            None => None,
        };
        let signed_headers = scheme.signed.iter().filter_map(|piece| match piece {
            Piece::Header(name) => Some(only::header(&head.headers, name).map(<[u8]>::to_vec)),
            _ => None,
        });
        let headers = signed_headers.collect::<Result<_, _>>().map_err(|_| Failure::Wrong)?;
        Ok(Self { scheme: Arc::clone(scheme), now, presented, time, headers })
    }

    pub fn fits(self, body: &[u8]) -> Result<(), Failure> {
        let Self { scheme, now, presented, time, headers } = self;
        let presented = match (presented, &scheme.at) {
            (None, At::Body(name)) => scheme.presented(&field(body, name)?)?,
            (presented, _) => presented.ok_or(Failure::Absent)?,
        };
        let time = match (time, &scheme.freshness) {
            (None, Some(freshness)) => freshness.in_body(body, now)?,
            (time, _) => time.unwrap_or_default(),
        };
        let mut fits = Choice::from(0);
        for key in &scheme.keys {
            let right = scheme.sign(key, &time, &headers, body);
            for presented in &presented.0 {
                fits |= presented[..].ct_eq(&right);
            }
        }
        bool::from(fits).then_some(()).ok_or(Failure::Wrong)
    }
}

impl Scheme {
    /// What is expected, for a sender who brings nothing.
    pub fn expected(&self) -> String {
        match &self.at {
            At::Header(name) => format!("a signature in the header {name}"),
            At::Query(name) => format!("a signature in the query parameter {name}"),
            At::Body(name) => format!("a signature in the field {name} of the body"),
        }
    }

    /// Those with another prefix are of other schemes (Standard Webhooks' `v1a,` is one), and those that cannot be
    /// read fit nothing.
    fn presented(&self, line: &[u8]) -> Result<Presented, Failure> {
        let words =
            line.split(u8::is_ascii_whitespace).filter_map(|word| word.strip_prefix(self.prefix.as_bytes()));
        let signatures: Vec<_> = words
            .filter_map(|word| self.decode(word))
            .filter(|bytes| bytes.len() == self.hash.len())
            .collect();
        if signatures.is_empty() { Err(Failure::Wrong) } else { Ok(Presented(signatures)) }
    }

    fn decode(&self, word: &[u8]) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Hex => hex::decode(word).ok(),
            Encoding::Base64 => BASE64.decode(word).ok(),
        }
    }

    fn sign(&self, key: &[u8], time: &str, headers: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
        let mut headers = headers.iter();
        let pieces = self.signed.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_bytes(),
            Piece::Key => key,
            Piece::Timestamp => time.as_bytes(),
            Piece::Body => body,
            Piece::Header(_) => headers.next().map_or(&[][..], Vec::as_slice),
        });
        match (self.hash, self.signed.contains(&Piece::Key)) {
            (Hash::Sha256, false) => authenticated::<Hmac<Sha256>>(key, pieces),
            (Hash::Sha1, false) => authenticated::<Hmac<Sha1>>(key, pieces),
            (Hash::Md5, false) => authenticated::<Hmac<Md5>>(key, pieces),
            (Hash::Sha512, false) => authenticated::<Hmac<Sha512>>(key, pieces),
            (Hash::Sha256, true) => hashed::<Sha256>(pieces),
            (Hash::Sha1, true) => hashed::<Sha1>(pieces),
            (Hash::Md5, true) => hashed::<Md5>(pieces),
            (Hash::Sha512, true) => hashed::<Sha512>(pieces),
        }
    }
}

fn authenticated<'a, M: Mac + KeyInit>(key: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104 §2)");
    pieces.for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().to_vec()
}

fn hashed<'a, D: Digest>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut digest = D::new();
    pieces.for_each(|piece| digest.update(piece));
    digest.finalize().to_vec()
}

impl Hash {
    /// In bytes.
    fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
            Self::Md5 => 16,
            Self::Sha512 => 64,
        }
    }
}

impl At {
    /// None when it stands in the body.
    fn in_head<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, [u8]>>, Failure> {
        match self {
            Self::Header(name) => only::header(&head.headers, name).map(|line| Some(Cow::Borrowed(line))),
            Self::Query(name) => {
                only::query(&head.uri, name).map(|value| Some(value.into_owned().into_bytes().into()))
            }
            Self::Body(_) => Ok(None),
        }
    }
}

impl Freshness {
    fn in_head(&self, head: &Parts, now: Timestamp) -> Result<Option<String>, Failure> {
        // A signature without its time is not right, rather than not there.
        let Some(time) = self.at.in_head(head).map_err(|_| Failure::Wrong)? else { return Ok(None) };
        self.checked(&time, now).map(Some)
    }

    fn in_body(&self, body: &[u8], now: Timestamp) -> Result<String, Failure> {
        let At::Body(name) = &self.at else { return Err(Failure::Wrong) };
        self.checked(&field(body, name).map_err(|_| Failure::Wrong)?, now)
    }

    /// The time as it was sent, if it is of now.
    fn checked(&self, sent: &[u8], now: Timestamp) -> Result<String, Failure> {
        let sent = std::str::from_utf8(sent).map_err(|_| Failure::Wrong)?;
        let time = seconds(sent.parse().map_err(|_| Failure::Wrong)?);
        let late = now.as_second().saturating_sub(time);
        let is_fresh = late <= self.tolerance && (self.is_end || late >= -self.tolerance);
        is_fresh.then(|| sent.to_owned()).ok_or(Failure::Stale)
    }
}

/// Seconds will have so many digits in 3,000 years; until then they are milliseconds.
fn seconds(time: i64) -> i64 {
    if time >= 100_000_000_000 { time / 1000 } else { time }
}

/// A field at the top of a JSON object, a text or a number as it is written, in one strict pass that keeps nothing
/// else.
fn field<'a>(body: &'a [u8], name: &str) -> Result<Cow<'a, [u8]>, Failure> {
    let mut found: Vec<&RawValue> = Vec::new();
    let read = json::read_object(body, |key, value| {
        if key == name {
            found.push(value);
        }
    });
    read.map_err(|_| Failure::Absent)?;
    let value = only::only(found.into_iter())?.get();
    match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str(value)
            .map(|text: String| text.into_bytes().into())
            .map_err(|_| Failure::Wrong),
        Some(b'0'..=b'9' | b'-') => Ok(value.as_bytes().into()),
        _ => Err(Failure::Wrong),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::proof::{
        Proofs,
        trial::{Trial, faults, proofs},
    };

    fn own(settings: Value) -> Proofs {
        proofs(json!([{ "signature": settings }]))
    }

    /// The second test case of RFC 2202 and RFC 4231.
    #[test]
    fn each_hash_passes_with_its_published_vector() {
        for (hash, signature) in [
            ("md5", "750c783e6ab0b503eaa86e310a5db738"),
            ("sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            ("sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                "sha512",
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let proofs = own(json!({ "header": "X-Sig", "hash": hash, "key": "Jefe" }));
            let trial = Trial::new("/").body("what do ya want for nothing?");
            for spelling in [signature.to_owned(), signature.to_uppercase()] {
                assert_eq!(trial.clone().header("x-sig", &spelling).judged(&proofs), "passes", "{spelling}");
            }
            let cut = trial.clone().header("x-sig", &signature[..30]);
            assert_eq!(cut.judged(&proofs), "unread: wrong_proof");
            let two = trial.header("x-sig", signature).header("x-sig", signature);
            assert_eq!(two.judged(&proofs), "unread: wrong_proof");
        }
    }

    #[test]
    fn while_keys_change_both_pass() {
        // printf x | openssl dgst -md5 -hmac …
        let proofs = own(json!({ "header": "X-Sig", "hash": "md5", "key": "new", "previous": "old" }));
        for (signature, verdict) in [
            ("f60d65af122e2c2cf48d246f7da0bcee", "passes"),
            ("f4e326457a6851c3511c48eadac36f15", "passes"),
            ("00000000000000000000000000000000", "wrong_proof"),
        ] {
            let trial = Trial::new("/").body("x").header("x-sig", signature);
            assert_eq!(trial.judged(&proofs), verdict, "{signature}");
        }
    }

    #[test]
    fn a_time_may_be_of_milliseconds_and_its_tolerance_is_settable() {
        let settings = json!({ "query": "sig", "timestamp": { "header": "X-Time" }, "signed": "{key}{timestamp}",
                               "hash": "md5", "key": "k", "tolerance": "10s" });
        // printf k1700000000123 | md5sum
        let trial = Trial::new("/?sig=449bc560f4701558c123fd2e414534c7").header("x-time", "1700000000123");
        let proofs = own(settings);
        assert_eq!(trial.clone().at(1_700_000_010).judged(&proofs), "passes");
        assert_eq!(trial.clone().at(1_700_000_011).judged(&proofs), "unread: stale_proof");
        assert_eq!(trial.at(1_699_999_989).judged(&proofs), "unread: stale_proof");
    }

    #[test]
    fn what_stands_in_the_body_stands_there_once_and_in_one_json_object() {
        let settings = json!({ "body": "sign", "expires": { "body": "t" }, "signed": "{key}{timestamp}",
                               "hash": "md5", "key": "examplekey" });
        let proofs = own(settings);
        let sign = r#""sign":"602f3d211b2c12d2ff8673b90d581708""#;
        let judged = |body: &str| Trial::new("/").body(body).judged(&proofs);
        assert_eq!(judged(&format!(r#"{{{sign},"t":1700000600}}"#)), "passes");
        for (body, verdict) in [
            (format!(r#"{{{sign},{sign},"t":1700000600}}"#), "wrong_proof"),
            (format!(r#"{{{sign},"t":1700000600,"t":1700000600}}"#), "wrong_proof"),
            (format!("{{{sign}}}"), "wrong_proof"),
            (format!(r#"{{{sign},"t":[1700000600]}}"#), "wrong_proof"),
            (format!(r#"{{"in":{{{sign},"t":1700000600}}}}"#), "no_proof"),
            (format!(r#"{{{sign},"t":1700000600}} x"#), "no_proof"),
            (String::new(), "no_proof"),
        ] {
            assert_eq!(judged(&body), verdict, "{body}");
        }
    }

    #[test]
    fn a_way_of_signing_that_proves_nothing_is_a_fault() {
        for (mut settings, words) in [
            (json!({}), "signature: name the one place"),
            (json!({ "header": "a", "query": "b" }), "signature: name the one place"),
            (json!({ "header": "a b" }), "header: expected the name"),
            (json!({ "header": "a", "signed": "{key}" }), "signed: covers neither"),
            (json!({ "header": "a", "signed": "{bdy}" }), "signed: unknown"),
            (json!({ "header": "a", "signed": "{timestamp}{body}" }), "signed: has a {timestamp}"),
            (json!({ "header": "a", "timestamp": { "header": "t" } }), "signed: leaves out the {timestamp}"),
            (json!({ "header": "a", "tolerance": "1m" }), "tolerance: this way of signing bears no time"),
            (
                json!({ "header": "a", "signed": "{timestamp}", "timestamp": { "header": "t" }, "expires": { "body": "t" } }),
                "expires: stands beside timestamp",
            ),
        ] {
            settings["key"] = "x".into();
            let faults = faults(json!([{ "signature": settings }]));
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].contains(words), "{words}: {faults:?}");
        }
    }

    proptest! {
        #[test]
        fn no_other_signature_passes(signature in prop::collection::vec(any::<u8>(), 16), body in "[ -~]{0,40}") {
            let proofs = own(json!({ "header": "X-Sig", "hash": "md5", "key": "k", "previous": "l" }));
            let trial = Trial::new("/").body(body).header("x-sig", &hex::encode(signature));
            prop_assert_eq!(trial.judged(&proofs), "wrong_proof");
        }

        #[test]
        fn no_body_makes_it_panic_or_passes(body in prop::collection::vec(any::<u8>(), 0..60), inside in "[ -~]{0,40}") {
            let settings = json!({ "body": "s", "expires": { "body": "t" }, "signed": "{key}{timestamp}", "key": "k" });
            let proofs = own(settings);
            for body in [body, format!(r#"{{"s":"{inside}","t":{inside}}}"#).into_bytes()] {
                prop_assert!(Trial::new("/").body(body).judged(&proofs).ends_with("_proof"));
            }
        }
    }
}
