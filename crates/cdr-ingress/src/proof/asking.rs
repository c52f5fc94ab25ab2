//! What a sender without a good proof is told.

/// A kind of proof, as far as senders are told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Basic,
    Token,
    OAuth2,
    Signature,
    Certificate,
}

impl Scheme {
    /// For the sender, who is not told which part of it was wrong.
    pub fn wrong(self) -> &'static str {
        match self {
            Self::Basic => "wrong user name or password",
            Self::Token => "wrong token",
            Self::OAuth2 => "wrong access token; ask for a new one",
            Self::Signature => "wrong signature",
            Self::Certificate => "the client certificate names somebody else",
        }
    }

    /// For the log.
    pub fn wrong_here(self) -> &'static str {
        match self {
            Self::Basic => "its user name or password is not one of ingress.verify",
            Self::Token => "its token is not one of ingress.verify",
            Self::OAuth2 => {
                "its access token is none of ours, or was given for a client_secret that ingress.verify has no more"
            }
            Self::Signature => {
                "its signature does not fit ingress.verify: another key, another way of signing, or the body was changed on its way"
            }
            Self::Certificate => "its certificate names nobody of mtls in ingress.verify",
        }
    }

    /// For the sender.
    pub fn stale(self) -> &'static str {
        match self {
            Self::OAuth2 => "the access token has expired; ask for a new one",
            Self::Certificate => {
                "the certificate of this connection is not accepted any more; connect anew with a valid one"
            }
            _ => "the signature is of another time; check the clock and sign anew",
        }
    }

    /// For the log.
    pub fn stale_here(self) -> &'static str {
        match self {
            Self::OAuth2 => "its access token has expired; ingress.verify sets lifetime and grace",
            Self::Certificate => {
                "the certificate that it showed when it connected has ended, or ingress.tls.client_ca has changed and vouches for it no more"
            }
            _ => {
                "the time of its signature is too far from now; check both clocks, or set tolerance in ingress.verify"
            }
        }
    }

    /// For `WWW-Authenticate`.
    pub fn challenge(self) -> &'static str {
        match self {
            Self::Basic => r#"Basic realm="cdr-gateway", charset="UTF-8""#,
            Self::Token | Self::OAuth2 => r#"Bearer realm="cdr-gateway""#,
            // Nobody has registered a word for it, and RFC 9110 §15.5.2 wants one in every 401.
            Self::Signature => r#"Signature realm="cdr-gateway""#,
            Self::Certificate => r#"Certificate realm="cdr-gateway""#,
        }
    }
}

/// What is asked of senders.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// Each kind once.
    schemes: Vec<Scheme>,
    said: String,
}

impl Asking {
    /// Of the proofs in the settings, in their order, each with what it expects.
    pub fn new(expected: Vec<(Scheme, String)>) -> Self {
        let advice = match expected.as_slice() {
            [(Scheme::Basic, _)] => ": set user name and password at the push URL",
            [(Scheme::OAuth2, _)] => ": set token URL, ClientID and ClientSecret at the push URL",
            _ => "",
        };
        let (mut schemes, mut all): (Vec<Scheme>, Vec<String>) = Default::default();
        for (scheme, what) in expected {
            if !schemes.contains(&scheme) {
                schemes.push(scheme);
            }
            if !all.contains(&what) {
                all.push(what);
            }
        }
        Self { schemes, said: format!("{} is expected{advice}", all.join(" or ")) }
    }

    /// For a sender who brings nothing.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// For `WWW-Authenticate`, one of each kind. A bad access token is called so (RFC 6750 §3.1).
    pub fn challenges(&self, wrong: Option<Scheme>) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for scheme in &self.schemes {
            let error = match wrong {
                Some(Scheme::OAuth2) if *scheme == Scheme::OAuth2 => r#", error="invalid_token""#,
                _ => "",
            };
            let challenge = format!("{}{error}", scheme.challenge());
            if !all.contains(&challenge) {
                all.push(challenge);
            }
        }
        all
    }
}
