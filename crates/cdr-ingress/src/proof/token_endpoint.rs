//! Where senders get their access tokens: `POST {path}/oauth2/token`, the client credentials grant of RFC 6749 §4.4.
//!
//! How TCCC asks is published nowhere, so both ways are taken in which a client can say who it is (§2.3.1), a form
//! and JSON, and everything else in it (`scope`, `audience`) is ignored.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::Body;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Admitted, Failure, Proofs, authorization, oauth2::Token};
use crate::{
    answer::Rejection,
    body::{self, InFlight},
    settings::Limits,
};

/// What is appended to `path`.
pub(crate) const PATH: &[u8] = b"/oauth2/token";

/// A request for a token is a few hundred bytes.
const LARGEST: bytesize::ByteSize = bytesize::ByteSize::kib(8);

/// Why somebody gets no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenFault {
    NoClient,
    WrongClient,
    GrantType,
    /// What is wrong with the request.
    Request(&'static str),
}

impl TokenFault {
    /// As RFC 6749 §5.2 has it.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoClient | Self::WrongClient => "invalid_client",
            Self::GrantType => "unsupported_grant_type",
            Self::Request(_) => "invalid_request",
        }
    }
}

/// What matters of a request.
#[derive(Default, Deserialize, Debug)]
struct Asked<'a> {
    #[serde(borrow)]
    grant_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client_secret: Option<Cow<'a, str>>,
}

/// Gives a token to who brings the right name and secret; whoever brings wrong ones in the head is not read further.
pub(crate) async fn give(
    proofs: &Proofs,
    request: Request<impl Body<Data = Bytes> + Unpin>,
    limits: &Limits,
    in_flight: &Arc<InFlight>,
) -> Result<Token, Rejection> {
    let now = Timestamp::now();
    let in_head = proofs.client_in_head(request.headers(), now).map_err(Rejection::NoToken)?;
    let limits = Limits { body: limits.body.min(LARGEST), ..limits.clone() };
    let held =
        body::read(Admitted(request), &limits, in_flight).await.map_err(|rejection| match rejection {
            Rejection::TooLarge { .. } => Rejection::NoToken(TokenFault::Request("the request is too large")),
            other => other,
        })?;
    proofs.token(in_head, &held.bytes, now).map_err(Rejection::NoToken)
}

impl Proofs {
    /// `client_secret_basic`: the token for who says in the head who it is; none for who does not.
    pub fn client_in_head(&self, headers: &HeaderMap, now: Timestamp) -> Result<Option<Token>, TokenFault> {
        let presented = match authorization::basic(headers) {
            Ok(presented) => presented,
            Err(Failure::Absent) => return Ok(None),
            Err(_) => return Err(TokenFault::WrongClient),
        };
        // Name and secret are form-encoded first, says the RFC; hardly any client does.
        let token = self.token_for(&presented, now).or_else(|| self.token_for(&decoded(&presented)?, now));
        token.map(Some).ok_or(TokenFault::WrongClient)
    }

    pub fn token(&self, in_head: Option<Token>, body: &[u8], now: Timestamp) -> Result<Token, TokenFault> {
        let asked = Asked::read(body)?;
        let token = match (in_head, &asked.client_secret) {
            (Some(_), Some(_)) => {
                return Err(TokenFault::Request(
                    "the client says twice who it is; either in Authorization or in the body",
                ));
            }
            (Some(token), None) => token,
            (None, Some(secret)) => {
                let id = asked.client_id.as_deref().ok_or(TokenFault::NoClient)?;
                self.token_for(format!("{id}:{secret}").as_bytes(), now).ok_or(TokenFault::WrongClient)?
            }
            (None, None) => return Err(TokenFault::NoClient),
        };
        match asked.grant_type.as_deref() {
            Some("client_credentials") => Ok(token),
            Some(_) => Err(TokenFault::GrantType),
            None => Err(TokenFault::Request("grant_type is missing; expected client_credentials")),
        }
    }

    /// All clients are asked, whichever it is.
    fn token_for(&self, presented: &[u8], now: Timestamp) -> Option<Token> {
        self.clients().fold(None, |found, client| client.token(presented, now).or(found))
    }
}

impl<'a> Asked<'a> {
    /// A form never begins with a brace, and JSON always does: what `Content-Type` says is not needed.
    fn read(body: &'a [u8]) -> Result<Self, TokenFault> {
        match body.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(body)
                .map_err(|_| TokenFault::Request("the body is not JSON with texts")),
            _ => Self::of_form(body),
        }
    }

    fn of_form(body: &'a [u8]) -> Result<Self, TokenFault> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let slot = match &*name {
                "grant_type" => &mut asked.grant_type,
                "client_id" => &mut asked.client_id,
                "client_secret" => &mut asked.client_secret,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(TokenFault::Request("a parameter is there twice"));
            }
        }
        Ok(asked)
    }
}

/// `id:secret` without form-encoding; none when it was not encoded.
fn decoded(login: &[u8]) -> Option<Vec<u8>> {
    if !login.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return None;
    }
    let plain: Vec<u8> = login.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Some(percent_encoding::percent_decode(&plain).collect())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use cdr_core::Secret;
    use http::header;
    use proptest::prelude::*;

    use super::*;
    use crate::proof::{OAuth2Proof, Proof};

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn proofs() -> Proofs {
        let client = |id: &str, secret: &str, previous: Option<&str>, lifetime: u64| {
            Proof::OAuth2(OAuth2Proof {
                client_id: id.to_owned(),
                client_secret: Secret::new(secret),
                previous: previous.map(Secret::new),
                lifetime: std::time::Duration::from_secs(lifetime),
                grace: std::time::Duration::ZERO,
            })
        };
        let clients = [
            client("tccc", "a secret of+ours%", Some("previous-secret-of-ours"), 7200),
            client("other", "other-secret-of-ours", None, 60),
        ];
        Proofs::new(Some(&clients)).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    /// The lifetime of the token, in seconds.
    fn ask(login: Option<&str>, body: &str) -> Result<u64, TokenFault> {
        let mut headers = HeaderMap::new();
        if let Some(login) = login {
            let line = format!("Basic {}", BASE64_STANDARD.encode(login));
            headers.insert(header::AUTHORIZATION, line.parse().unwrap());
        }
        let proofs = proofs();
        let in_head = proofs.client_in_head(&headers, NOW)?;
        proofs.token(in_head, body.as_bytes(), NOW).map(|token| token.lifetime.as_secs())
    }

    #[test]
    fn a_client_may_say_who_it_is_in_the_head_or_in_the_body_as_a_form_or_as_json() {
        for (login, body) in [
            (Some("tccc:a secret of+ours%"), "grant_type=client_credentials"),
            (Some("tccc:a+secret%20of%2Bours%25"), "grant_type=client_credentials&scope=x&client_id=tccc"),
            (Some("tccc:previous-secret-of-ours"), r#" {"grant_type":"client_credentials","scope":null}"#),
            (None, "client_id=tccc&client_secret=a+secret%20of%2bours%25&grant_type=client_credentials"),
            (
                None,
                r#"{"grant_type":"client_credentials","client_id":"tccc","client_secret":"a secret of\u002bours%","audience":["x"]}"#,
            ),
        ] {
            assert_eq!(ask(login, body), Ok(7200), "{login:?} {body}");
        }
        assert_eq!(ask(Some("other:other-secret-of-ours"), "grant_type=client_credentials"), Ok(60));
    }

    #[test]
    fn everybody_else_hears_the_errors_of_the_rfc() {
        use TokenFault::{GrantType, NoClient, WrongClient};
        let right = Some("tccc:previous-secret-of-ours");
        for (login, body, fault) in [
            (None, "grant_type=client_credentials", NoClient),
            (None, "", NoClient),
            (None, "grant_type=client_credentials&client_secret=previous-secret-of-ours", NoClient),
            (Some("tccc:wrong"), "grant_type=client_credentials", WrongClient),
            (Some("other:previous-secret-of-ours"), "grant_type=client_credentials", WrongClient),
            (None, "grant_type=password&client_id=tccc&client_secret=x", WrongClient),
            (right, "grant_type=password", GrantType),
        ] {
            assert_eq!(ask(login, body), Err(fault), "{login:?} {body}");
        }
        for (login, body) in [
            (right, ""),
            (right, "grant_type=client_credentials&client_secret=previous-secret-of-ours"),
            (right, "grant_type=client_credentials&grant_type=client_credentials"),
            (right, "{"),
            (right, r#"{"grant_type":"client_credentials","grant_type":"client_credentials"}"#),
            (right, r#"{"grant_type":["client_credentials"]}"#),
        ] {
            assert_eq!(ask(login, body).unwrap_err().code(), "invalid_request", "{login:?} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_other_secret_gets_a_token(secret in "[ -~]{0,30}", in_head: bool) {
            prop_assume!(!["a secret of+ours%", "previous-secret-of-ours"].contains(&secret.as_str()));
            let form: String = form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "client_credentials")
                .append_pair("client_id", "tccc")
                .append_pair("client_secret", &secret)
                .finish();
            let login = format!("tccc:{secret}");
            let answer = if in_head { ask(Some(&login), "") } else { ask(None, &form) };
            prop_assert_eq!(answer, Err(TokenFault::WrongClient));
        }

        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = proofs().token(None, &body, NOW);
        }
    }
}
