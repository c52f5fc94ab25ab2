//! Who says so? The proofs of `verify`, and the type of a request that gave one.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, Request, Uri, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{
    answer::Rejection,
    mtls::MtlsProof,
    settings::{BasicProof, Proof},
};

/// A request whose sender gave the proof that the settings ask for. Only [`Proofs::prove`] makes one, and only
/// the body of one is read.
pub(crate) struct Proven<B>(Request<B>);

impl<B> Proven<B> {
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

/// The proofs that pass.
///
/// Of each user name and password only the SHA-256 is held: digests have one length, so comparing them in
/// constant time tells neither the length of a password nor how much of a guess was right.
pub(crate) struct Proofs(Option<Passing>);

struct Passing {
    logins: Vec<[u8; 32]>,
    certificates: Vec<MtlsProof>,
}

impl Proofs {
    /// No list of proofs lets everybody pass; an empty one nobody.
    pub fn new(verify: Option<&[Proof]>) -> Self {
        let Some(proofs) = verify else { return Self(None) };
        let mut passing = Passing { logins: Vec::new(), certificates: Vec::new() };
        for proof in proofs {
            match proof {
                Proof::Basic(basic) => passing.logins.extend(accepted(basic)),
                Proof::Mtls(mtls) => passing.certificates.push(mtls.clone()),
            }
        }
        Self(Some(passing))
    }

    /// Any one of them passes.
    pub fn prove<B>(&self, request: Request<B>) -> Result<Proven<B>, Rejection> {
        let Some(Passing { logins, certificates }) = &self.0 else { return Ok(Proven(request)) };
        if certificates.iter().any(|mtls| mtls.passes(request.extensions())) {
            return Ok(Proven(request));
        }
        let presented: [u8; 32] = Sha256::digest(credentials(request.headers())?).into();
        // All are compared, whichever fits: how long it takes must not tell which.
        let fits = logins.iter().fold(Choice::from(0), |fits, digest| fits | digest.ct_eq(&presented));
        match fits.into() {
            true => Ok(Proven(request)),
            false => Err(Rejection::WrongProof),
        }
    }
}

fn accepted(basic: &BasicProof) -> impl Iterator<Item = [u8; 32]> {
    let digest = |password: &cdr_core::Secret| {
        Sha256::digest(format!("{}:{}", basic.username, password.expose())).into()
    };
    [Some(&basic.password), basic.previous.as_ref()].into_iter().flatten().map(digest)
}

/// Senders forget the padding now and then.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The `user:password` of the one `Authorization` header. Two such headers prove nothing: which one counts
/// would depend on who reads them.
fn credentials(headers: &HeaderMap) -> Result<Vec<u8>, Rejection> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next().ok_or(Rejection::NoProof)?;
    if lines.next().is_some() {
        return Err(Rejection::WrongProof);
    }
    let line = line.as_bytes().trim_ascii();
    let (scheme, encoded) = line.split_at_checked(6).ok_or(Rejection::WrongProof)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Err(Rejection::WrongProof);
    }
    BASE64.decode(encoded.trim_ascii()).map_err(|_| Rejection::WrongProof)
}

#[cfg(test)]
mod tests {
    use cdr_core::Secret;
    use proptest::prelude::*;

    use super::*;

    fn proofs() -> Proofs {
        let basic = |username: &str, password: &str, previous: Option<&str>| {
            Proof::Basic(BasicProof {
                username: username.into(),
                password: Secret::new(password),
                previous: previous.map(Secret::new),
            })
        };
        Proofs::new(Some(&[basic("tccc", "new:er", Some("old")), basic("二", "密码", None)]))
    }

    fn prove(lines: &[&str]) -> Result<(), Rejection> {
        let mut request = Request::new(());
        for line in lines {
            request.headers_mut().append(header::AUTHORIZATION, line.parse().unwrap());
        }
        proofs().prove(request).map(|_| ())
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials))
    }

    #[test]
    fn any_one_of_the_proofs_passes() {
        for credentials in ["tccc:new:er", "tccc:old", "二:密码"] {
            assert!(prove(&[&basic(credentials)]).is_ok(), "{credentials}");
        }
        let line = basic("tccc:old").replace("Basic ", "bASIC   ");
        assert!(prove(&[line.trim_end_matches('=')]).is_ok());
    }

    #[test]
    fn everything_else_fails() {
        assert!(matches!(prove(&[]), Err(Rejection::NoProof)));
        let digest = basic("tccc:old").replace("Basic", "Digest");
        for line in
            ["", "Basic", "Basic ", "Basic !!!", &digest, &basic("tccc:"), &basic("tccc:new"), &basic(":old")]
        {
            assert!(matches!(prove(&[line]), Err(Rejection::WrongProof)), "{line}");
        }
        let right = basic("tccc:old");
        assert!(matches!(prove(&[&right, &right]), Err(Rejection::WrongProof)));
    }

    #[test]
    fn an_empty_list_lets_nobody_pass() {
        let mut request = Request::new(());
        request.headers_mut().insert(header::AUTHORIZATION, basic("tccc:old").parse().unwrap());
        assert!(Proofs::new(Some(&[])).prove(request).is_err());
        assert!(Proofs::new(None).prove(Request::new(())).is_ok());
    }

    proptest! {
        #[test]
        fn no_other_credentials_pass(credentials in "[a-z:]{0,12}") {
            prop_assume!(!["tccc:new:er", "tccc:old"].contains(&credentials.as_str()));
            prop_assert!(prove(&[&basic(&credentials)]).is_err());
        }
    }
}
