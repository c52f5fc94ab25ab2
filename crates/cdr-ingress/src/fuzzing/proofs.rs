//! Proofs: nobody passes by bytes of his own. The secrets here stand in no seed, and all that is compared are digests of
//! them, so that nothing leads a fuzzer to them.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Request, Uri};

use super::{NOW, Raw};
use crate::{
    encoding::Encoding,
    proof::{Proof, Proofs},
};

/// Ways to prove oneself in the head of a request. Certificates are not among them: they are no matter of its bytes.
pub(super) const IN_HEAD: &str = r#"[
    {"basic": {"username": "tccc", "password": "tree-lamp-otter-fjord", "previous": "mud-vase-heron-quilt"}},
    {"token": {"value": "pq8Zr4mWxT0vKb71"}},
    {"token": {"header": "X-Token", "value": "bn2Ys6dQeR3uHc58"}},
    {"token": {"query": "token", "value": "kd7Lw9fGzP1tNa46"}},
    {"oauth2": {"client_id": "tccc", "client_secret": "gate-plum-onyx-brisk"}},
    {"signature": {"preset": "trtc", "key": "hz5Cj0sXvM2oEi93"}},
    {"signature": {"preset": "im", "key": "hz5Cj0sXvM2oEi93"}},
    {"signature": {"preset": "moderation", "key": "hz5Cj0sXvM2oEi93"}},
    {"signature": {"preset": "github", "key": "hz5Cj0sXvM2oEi93"}},
    {"signature": {"preset": "standard-webhooks", "key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}
]"#;

/// And in its body. Beside one of these every body is read, so that the guarded door does without.
const IN_BODY: &str = r#"[
    {"signature": {"preset": "css", "key": "hz5Cj0sXvM2oEi93"}},
    {"signature": {"preset": "tiw", "key": "hz5Cj0sXvM2oEi93"}}
]"#;

static PROOFS: LazyLock<Proofs> = LazyLock::new(|| {
    let read = |verify| match serde_json::from_str::<Vec<Proof>>(verify) {
        Ok(verify) => verify,
        Err(error) => panic!("{error}"),
    };
    let verify = [IN_HEAD, IN_BODY].map(read).concat();
    Proofs::new(Some(&verify)).unwrap_or_else(|faults| panic!("{faults:?}"))
});

/// A request that nobody signed: it proves nothing, with its head or with its body.
pub fn proof(bytes: &[u8]) {
    let Raw { uri, headers, body } = Raw::of(bytes);
    let _ = Encoding::of(&headers);
    let mut request = Request::new(());
    *request.uri_mut() = uri.unwrap_or_else(|| Uri::from_static("/"));
    *request.headers_mut() = headers;
    if let Ok((_, claim)) = PROOFS.admit(request, NOW) {
        assert!(claim.prove(Bytes::copy_from_slice(body)).is_err(), "bytes that nobody signed pass");
    }
}

/// A request for an access token by somebody who has no secret: he gets none.
pub fn token(bytes: &[u8]) {
    let Raw { headers, body, .. } = Raw::of(bytes);
    let Ok(in_head) = PROOFS.client_in_head(&headers, NOW) else { return };
    assert!(in_head.is_none() && PROOFS.token(in_head, body, NOW).is_err(), "a token was given away");
}
