//! Who says so? The proofs of `verify`, and the types of what they let through.
//!
//! ```text
//! Request ── Proofs::admit ──▶ Admitted: its body may be read
//!                         └──▶ Claim ─── with the body ──▶ Proven: it may be stored
//! ```
//!
//! # What it promises
//! * The head of a request that gives a proof is proof enough. A signature covers the body, so its head only claims
//!   one: the body of somebody unknown is read when the signature is there, well-formed and fresh, and nothing else
//!   is done with it before the signature fits.
//! * Only [`Claim::prove`] makes a [`Proven`] body, and only such a body is looked at as a push, or stored.
//! * Any one proof passes; all are looked at, in constant time as far as secrets are concerned.
//! * Of secrets only digests and keys are held; none is in any answer or line of the log.
//!
//! Each kind of proof is a file: its settings, what is made of them once, and how it looks at a request.

mod accepted;
mod asking;
mod authorization;
mod basic;
mod mtls;
mod oauth2;
mod only;
mod preset;
mod signature;
mod signed;
mod template;
mod token;
pub(crate) mod token_endpoint;
#[cfg(test)]
mod trial;

use std::{ops::Deref, sync::Arc};

use bytes::Bytes;
use cdr_core::{SettingFault, json::Fault};
use http::{HeaderMap, Request, Uri, request::Parts};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use asking::{Asking, Scheme};
pub use basic::BasicProof;
pub use mtls::MtlsProof;
pub(crate) use mtls::Shown;
pub use oauth2::OAuth2Proof;
pub(crate) use oauth2::Token;
pub use preset::Preset;
pub use signature::{Encoding, Hash, Place, SignatureProof};
pub use token::TokenProof;
pub(crate) use token_endpoint::TokenFault;

use crate::{answer::Rejection, body::Charge, encoding, settings::Limits};
use oauth2::Client;
use signed::{Scheme as SignatureScheme, SignatureClaim};

/// One way to prove who one is.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// User name and password, as typed into TCCC's console under `basicAuth` (product page 679/67256); sent
    /// as `Authorization: Basic` (RFC 7617).
    Basic(BasicProof),
    /// A long random text that the sender bears in a header or in the push URL.
    Token(TokenProof),
    /// OAuth 2.0 client credentials (RFC 6749 §4.4), as typed into TCCC's console (product page 679/67256); the
    /// door gives the tokens itself, at `POST {path}/oauth2/token`.
    #[serde(rename = "oauth2")]
    OAuth2(OAuth2Proof),
    /// A signature, mostly of the body, by a key that both sides know. TCCC has none; other senders do.
    Signature(SignatureProof),
    /// A certificate that the sender shows during TLS; `tls.client_ca` names who vouches for it.
    Mtls(MtlsProof),
}

/// What a proof is made into once.
enum Entry {
    Basic(basic::Logins),
    Token(token::Tokens),
    OAuth2(Arc<Client>),
    Signature(Arc<SignatureScheme>),
    Mtls(MtlsProof),
}

/// What a proof sees in the head of a request.
enum Look {
    Passes,
    Fails(Failure),
    Claims(SignatureClaim),
}

/// Why a proof does not pass; the later ones say more about what the sender meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Failure {
    /// Nothing is where this proof would be.
    Absent,
    /// What is there is of another kind.
    Foreign,
    Wrong,
    /// It was right at another time.
    Stale,
}

impl From<Result<(), Failure>> for Look {
    fn from(result: Result<(), Failure>) -> Self {
        result.map_or_else(Self::Fails, |()| Self::Passes)
    }
}

impl Entry {
    fn new(proof: &Proof) -> Result<Self, Vec<SettingFault>> {
        Ok(match proof {
            Proof::Basic(basic) => Self::Basic(basic::Logins::new(basic)?),
            Proof::Token(token) => Self::Token(token::Tokens::new(token)?),
            Proof::OAuth2(oauth2) => Self::OAuth2(Arc::new(Client::new(oauth2)?)),
            Proof::Signature(signature) => Self::Signature(Arc::new(SignatureScheme::new(signature)?)),
            Proof::Mtls(mtls) => Self::Mtls(mtls.checked()?),
        })
    }

    fn look(&self, head: &Parts, now: Timestamp) -> Look {
        match self {
            Self::Basic(logins) => logins.look(&head.headers).into(),
            Self::Token(tokens) => tokens.look(head).into(),
            Self::OAuth2(client) => client.look(&head.headers, now).into(),
            Self::Signature(scheme) => {
                SignatureClaim::in_head(scheme, head, now).map_or_else(Look::Fails, Look::Claims)
            }
            Self::Mtls(mtls) => mtls.look(&head.extensions).into(),
        }
    }

    fn scheme(&self) -> Scheme {
        match self {
            Self::Basic(_) => Scheme::Basic,
            Self::Token(_) => Scheme::Token,
            Self::OAuth2(_) => Scheme::OAuth2,
            Self::Signature(_) => Scheme::Signature,
            Self::Mtls(_) => Scheme::Certificate,
        }
    }

    /// What is expected, for a sender who brings nothing.
    fn expected(&self) -> String {
        match self {
            Self::Basic(_) => "basicAuth".to_owned(),
            Self::Token(tokens) => tokens.expected(),
            Self::OAuth2(_) => "OAuth 2.0".to_owned(),
            Self::Signature(scheme) => scheme.expected(),
            Self::Mtls(_) => "a client certificate".to_owned(),
        }
    }
}

/// The proofs that pass.
pub(crate) struct Proofs {
    /// None lets everybody pass.
    entries: Option<Vec<Entry>>,
    asking: Arc<Asking>,
}

impl Proofs {
    /// No list of proofs lets everybody pass.
    ///
    /// # Errors
    /// Every fault of the list, which may not be empty; paths begin below `ingress`.
    pub fn new(verify: Option<&[Proof]>) -> Result<Self, Vec<SettingFault>> {
        let Some(proofs) = verify else { return Ok(Self { entries: None, asking: Arc::default() }) };
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        if proofs.is_empty() {
            let message = "names no proof, so nobody could pass; add one, such as basic, or remove verify";
            faults.push(SettingFault::at("verify", message));
        }
        for (index, proof) in proofs.iter().enumerate() {
            let here = SettingFault::at(&format!("verify.{index}.{}", proof.kind()), "").path;
            match Entry::new(proof) {
                Ok(entry) => entries.push(entry),
                Err(own) => faults.extend(own.into_iter().map(|fault| fault.below(&here))),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let expected = entries.iter().map(|entry| (entry.scheme(), entry.expected()));
        let asking = Arc::new(Asking::new(expected.collect()));
        Ok(Self { entries: Some(entries), asking })
    }

    /// Lets a request further whose head gives a proof, or claims one that lies in its body.
    pub fn admit<B>(&self, request: Request<B>, now: Timestamp) -> Result<(Admitted<B>, Claim), Rejection> {
        let Some(entries) = &self.entries else { return Ok((Admitted(request), Claim(State::Proven))) };
        let (head, body) = request.into_parts();
        let (mut passes, mut claims) = (false, Vec::new());
        let mut failed = Failed::default();
        for entry in entries {
            match entry.look(&head, now) {
                Look::Passes => passes = true,
                Look::Claims(claim) => claims.push(claim),
                Look::Fails(failure) => failed.note(failure, entry.scheme()),
            }
        }
        let state = match passes {
            true => State::Proven,
            false if claims.is_empty() => return Err(failed.rejection(&self.asking)),
            false => State::Claimed { claims, failed, asking: Arc::clone(&self.asking) },
        };
        Ok((Admitted(Request::from_parts(head, body)), Claim(state)))
    }

    /// Those who may ask for tokens.
    fn clients(&self) -> impl Iterator<Item = &Client> {
        self.entries.iter().flatten().filter_map(|entry| match entry {
            Entry::OAuth2(client) => Some(&**client),
            _ => None,
        })
    }

    /// Whether there is somebody to give tokens to.
    pub fn give_tokens(&self) -> bool {
        self.clients().next().is_some()
    }
}

impl Proof {
    /// As in the settings.
    fn kind(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Token(_) => "token",
            Self::OAuth2(_) => "oauth2",
            Self::Signature(_) => "signature",
            Self::Mtls(_) => "mtls",
        }
    }
}

/// The failure that says most, and whose it is.
#[derive(Default)]
struct Failed(Option<(Failure, Scheme)>);

impl Failed {
    fn note(&mut self, failure: Failure, scheme: Scheme) {
        if self.0.is_none_or(|(worst, _)| failure > worst) {
            self.0 = Some((failure, scheme));
        }
    }

    fn rejection(self, asking: &Arc<Asking>) -> Rejection {
        let asking = Arc::clone(asking);
        match self.0 {
            None | Some((Failure::Absent, _)) => Rejection::NoProof { asking },
            Some((Failure::Foreign | Failure::Wrong, scheme)) => Rejection::WrongProof { scheme, asking },
            Some((Failure::Stale, scheme)) => Rejection::StaleProof { scheme, asking },
        }
    }
}

/// A request whose body may be read.
pub(crate) struct Admitted<B>(Request<B>);

impl<B> Admitted<B> {
    pub fn uri(&self) -> &Uri {
        self.0.uri()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    pub fn into_body(self) -> B {
        self.0.into_body()
    }
}

/// What the head of a request says about who sent its body.
pub(crate) struct Claim(State);

enum State {
    Proven,
    Claimed { claims: Vec<SignatureClaim>, failed: Failed, asking: Arc<Asking> },
}

impl Claim {
    /// Whether the head was proof enough.
    pub fn is_proven(&self) -> bool {
        matches!(self.0, State::Proven)
    }

    /// Looks at the body, just as it was sent, if the head was not proof enough.
    pub fn prove(self, body: Bytes) -> Result<Proven, Rejection> {
        let State::Claimed { claims, mut failed, asking } = self.0 else { return Ok(Proven(body)) };
        let mut passes = false;
        for claim in claims {
            match claim.fits(&body) {
                Ok(()) => passes = true,
                Err(failure) => failed.note(failure, Scheme::Signature),
            }
        }
        match passes {
            true => Ok(Proven(body)),
            false => Err(failed.rejection(&asking)),
        }
    }
}

/// A body that was sent by somebody who gave the proof that the settings ask for.
#[derive(Debug)]
pub(crate) struct Proven(Bytes);

impl Proven {
    /// What was meant by what was sent: see [`Encoding::decode`](encoding::Encoding::decode).
    pub fn decode(
        self,
        encoding: encoding::Encoding,
        charge: &mut Charge,
        limits: &Limits,
    ) -> Result<(Self, Option<Fault>), Rejection> {
        let (body, fault) = encoding.decode(self.0, charge, limits)?;
        Ok((Self(body), fault))
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Proven {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        trial::{Trial, faults, proofs},
        *,
    };

    const TOKEN: &str = "0123456789abcdef";

    fn all() -> Proofs {
        proofs(json!([
            { "basic": { "username": "tccc", "password": "secret" } },
            { "token": { "header": "X-Token", "value": TOKEN } },
            { "oauth2": { "client_id": "tccc", "client_secret": "a-secret-of-ours" } },
            { "signature": { "preset": "trtc", "key": "123654" } },
        ]))
    }

    #[test]
    fn without_a_list_everybody_passes_and_an_empty_one_is_a_fault() {
        assert_eq!(Trial::new("/").judged(&Proofs::new(None).ok().unwrap()), "passes");
        assert_eq!(faults(json!([])).len(), 1);
    }

    #[test]
    fn one_proof_is_enough_whatever_the_others_say() {
        let token = Trial::new("/").header("x-token", TOKEN);
        assert_eq!(token.clone().judged(&all()), "passes");
        let beside_wrong_ones = token.header("authorization", "Basic d3Jvbmc=").header("sign", "wrong");
        assert_eq!(beside_wrong_ones.judged(&all()), "passes");
    }

    #[test]
    fn a_body_is_read_for_a_well_formed_signature_only() {
        let sign = |value: &str| Trial::new("/").header("sign", value).judged(&all());
        assert_eq!(sign("kkoFeO3Oh2ZHnjtg8tEAQhtXK16/KI05W3BQff8IvGA="), "wrong_proof");
        for malformed in ["", "kkoF", "%%%", "kkoFeO3Oh2ZHnjtg8tEAQhtXK16/KI05W3BQff8IvGAA"] {
            assert_eq!(sign(malformed), "unread: wrong_proof", "{malformed}");
        }
        assert_eq!(Trial::new("/").judged(&all()), "unread: no_proof");
    }

    #[test]
    fn who_fails_hears_of_the_proof_that_was_tried() {
        let said = |trial: Trial| all().admit(trial.request, Timestamp::UNIX_EPOCH).err().unwrap();
        let scheme = |rejection| match rejection {
            Rejection::WrongProof { scheme, .. } => scheme,
            other => panic!("{other:?}"),
        };
        let authorization = |line| said(Trial::new("/").header("authorization", line));
        assert_eq!(scheme(authorization("Basic d3Jvbmc=")), Scheme::Basic);
        assert_eq!(scheme(authorization("Bearer wrong")), Scheme::OAuth2);
        assert_eq!(scheme(said(Trial::new("/").header("x-token", "wrong"))), Scheme::Token);
        assert_eq!(scheme(said(Trial::new("/").header("sign", "wrong"))), Scheme::Signature);
        let Rejection::NoProof { asking } = said(Trial::new("/")) else { panic!("it brought nothing") };
        assert_eq!(
            asking.said(),
            "basicAuth or a token in the header x-token or OAuth 2.0 or a signature in the header sign is expected"
        );
    }

    #[test]
    fn faults_stand_where_they_are() {
        let of_all = faults(json!([
            { "basic": { "username": "a:b", "password": "x" } },
            { "token": { "value": "short" } },
            { "oauth2": { "client_id": "x", "client_secret": "short" } },
            { "signature": { "key": "x" } },
        ]));
        let paths: Vec<_> = of_all.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        let expected = [
            "verify.0.basic.username",
            "verify.1.token.value",
            "verify.2.oauth2.client_secret",
            "verify.3.signature",
        ];
        assert_eq!(paths, expected);
        assert!(!of_all.concat().contains("short\""), "{of_all:?}");
    }

    proptest! {
        #[test]
        fn no_garbage_passes_or_panics(
            line in "[ -~\u{80}-\u{ff}]{0,60}", query in "[ -~&&[^ \"<>\\\\^`{|}#]]{0,40}", body in "[ -~]{0,40}", name in 0..4_usize,
        ) {
            let name = ["authorization", "x-token", "sign", "content-type"][name];
            let trial = Trial::new(&format!("/?{query}")).header(name, &line).body(body);
            prop_assert!(trial.judged(&all()).ends_with("_proof"));
        }

        #[test]
        fn no_other_login_or_token_passes(basic in "[a-z:]{0,12}", token in "[0-9a-f]{0,20}") {
            prop_assume!(basic != "tccc:secret" && token != TOKEN);
            let login = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &basic);
            let trial = Trial::new("/").header("authorization", &format!("Basic {login}")).header("x-token", &token);
            prop_assert_eq!(trial.judged(&all()), "unread: wrong_proof");
        }
    }
}
