//! Signing requests as [Standard Webhooks](https://www.standardwebhooks.com) has it, so that a receiver of one's own can tell
//! them from forged ones.
//!
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`; with two keys it
//! bears both, separated by a blank, so that keys change without a moment in which a receiver refuses. Each attempt is signed
//! anew: receivers refuse old timestamps.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, Request};
use sha2::Sha256;

use crate::request::IDEMPOTENCY_KEY;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Keys to sign with.
pub(crate) struct Signature {
    keys: Vec<Hmac<Sha256>>,
}

impl Signature {
    /// The new key first.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        // HMAC takes keys of any length.
        Self { keys: keys.into_iter().filter_map(|key| Hmac::new_from_slice(key).ok()).collect() }
    }

    /// Signs a request as sent at this moment, in Unix seconds. Its id is the `Idempotency-Key`: the same for every attempt.
    pub fn sign(&self, request: &mut Request<Bytes>, now: i64) {
        let Some(id) = request.headers().get(IDEMPOTENCY_KEY).cloned() else { return };
        let timestamp = now.to_string();
        let signed = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", request.body()] {
                mac.update(part);
            }
            format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
        };
        let signatures: Vec<String> = self.keys.iter().map(signed).collect();
        let values = [HeaderValue::try_from(timestamp), HeaderValue::try_from(signatures.join(" "))];
        request.headers_mut().insert(ID, id);
        for (name, value) in [TIMESTAMP, SIGNATURE].into_iter().zip(values) {
            request.headers_mut().extend(value.map(|value| (name, value)));
        }
    }
}

/// A key as Standard Webhooks writes it: base64 of 24 to 64 bytes, maybe with `whsec_` in front.
pub(crate) fn key(text: &str) -> Option<Vec<u8>> {
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    BASE64_STANDARD.decode(encoded).ok().filter(|key| (24..=64).contains(&key.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(keys: &[&str], now: i64) -> String {
        let keys: Vec<Vec<u8>> = keys.iter().map(|text| key(text).unwrap()).collect();
        let mut request = Request::new(Bytes::from_static(br#"{"test": 2432232314}"#));
        let id = HeaderValue::from_static("msg_p5jXN8AQM9LWM0D4loKWxJek");
        request.headers_mut().insert(IDEMPOTENCY_KEY, id);
        Signature::new(keys.iter().map(Vec::as_slice)).sign(&mut request, now);
        assert_eq!(request.headers()["webhook-timestamp"], now.to_string());
        assert_eq!(request.headers()["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        request.headers()["webhook-signature"].to_str().unwrap().to_owned()
    }

    /// The vector of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_vector_comes_out() {
        let signature = signed(&[SECRET], 1_614_265_330);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_keys_give_two_signatures() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = signed(&[other, SECRET], 1_614_265_330);
        let both: Vec<&str> = both.split(' ').collect();
        assert_eq!(both[1], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(both.len() == 2 && both[0] != both[1]);
    }

    #[test]
    fn a_key_is_base64_of_24_to_64_bytes() {
        assert_eq!(key("whsec_c2hvcnQ="), None);
        assert_eq!(key("my password"), None);
        assert!(key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_some());
    }
}
