//! `token`: a long random text in a header or in the query of the push URL.

use cdr_core::{Secret, SettingFault};
use http::{HeaderName, header, request::Parts};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Failure,
    accepted::{Accepted, both},
    authorization, only,
};

/// Nobody but us chooses a token, and nobody types it: a short one has no excuse. 16 random characters are out of
/// reach of anybody who can only ask.
const SHORTEST: usize = 16;

/// A long random text, and where it stands; without `header` and `query` it comes as `Authorization: Bearer`.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenProof {
    /// The header that it is the value of; `Authorization` (as `Bearer …`) if there is no `query` either.
    pub header: Option<String>,
    /// The parameter in the query of the push URL that it is the value of.
    pub query: Option<String>,
    /// The token: at least 16 visible ASCII characters; in a query letters, digits, `-`, `.`, `_` and `~` only.
    pub value: Secret,
    /// A second token that passes too, while the first is being changed on both sides.
    pub previous: Option<Secret>,
}

/// The tokens that pass, and where they stand.
pub(super) struct Tokens {
    place: TokenPlace,
    accepted: Accepted,
}

enum TokenPlace {
    Bearer,
    Header(HeaderName),
    Query(String),
}

impl Tokens {
    pub fn new(token: &TokenProof) -> Result<Self, Vec<SettingFault>> {
        let place = TokenPlace::of(token).map_err(|fault| vec![fault])?;
        let secrets = [("value", Some(&token.value)), ("previous", token.previous.as_ref())];
        let fault = |(name, secret): (&str, Option<&Secret>)| {
            let message = place.fault_of(secret?.expose())?;
            Some(SettingFault::at(name, message))
        };
        let faults: Vec<_> = secrets.into_iter().filter_map(fault).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let accepted = Accepted::new(both(&token.value, token.previous.as_ref()));
        Ok(Self { place, accepted })
    }

    pub fn look(&self, head: &Parts) -> Result<(), Failure> {
        let fits = match &self.place {
            TokenPlace::Bearer => self.accepted.fits(authorization::of_scheme(&head.headers, "bearer")?),
            TokenPlace::Header(name) => self.accepted.fits(only::header(&head.headers, name)?),
            TokenPlace::Query(name) => self.accepted.fits(only::query(&head.uri, name)?.as_bytes()),
        };
        fits.then_some(()).ok_or(Failure::Wrong)
    }

    pub fn expected(&self) -> String {
        match &self.place {
            TokenPlace::Bearer => "a token as Authorization: Bearer".to_owned(),
            TokenPlace::Header(name) => format!("a token in the header {name}"),
            TokenPlace::Query(name) => format!("a token in the query parameter {name}"),
        }
    }
}

impl TokenPlace {
    fn of(token: &TokenProof) -> Result<Self, SettingFault> {
        match (&token.header, &token.query) {
            (None, None) => Ok(Self::Bearer),
            (Some(_), Some(_)) => {
                Err(SettingFault::at("query", "stands beside header; a token is in one place"))
            }
            (Some(name), None) => match name.parse::<HeaderName>() {
                Ok(header::AUTHORIZATION) => Ok(Self::Bearer),
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(SettingFault::at("header", "expected the name of a header, such as X-Token")),
            },
            (None, Some(name)) if name.is_empty() || is_ours(name) => {
                let message = "expected the name of a parameter in the push URL, such as token; action and version are TCCC's";
                Err(SettingFault::at("query", message))
            }
            (None, Some(name)) => Ok(Self::Query(name.clone())),
        }
    }

    /// What is wrong with a token that is to stand here.
    fn fault_of(&self, token: &str) -> Option<&'static str> {
        let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        match self {
            _ if token.len() < SHORTEST => Some(
                "is shorter than 16 characters and could be guessed; `openssl rand -hex 24` makes a good one",
            ),
            Self::Query(_) if !token.bytes().all(is_unreserved) => Some(
                "a token in a query is of letters, digits, -, ., _ and ~, so that nothing has to be escaped",
            ),
            _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Some("a token in a header is of visible ASCII characters without blanks")
            }
            _ => None,
        }
    }
}

/// What TCCC appends to every push URL.
fn is_ours(name: &str) -> bool {
    name.eq_ignore_ascii_case("action") || name.eq_ignore_ascii_case("version")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::proof::trial::{Trial, faults, proofs};

    const NEW: &str = "new-0123456789abcdef";
    const OLD: &str = "old-0123456789abcdef";

    fn judged(place: (&str, &str), trial: Trial) -> String {
        let mut token = json!({ "value": NEW, "previous": OLD });
        token[place.0] = place.1.into();
        trial.judged(&proofs(json!([{ "token": token }])))
    }

    #[test]
    fn a_token_in_a_header_passes() {
        let trial = |token: &str| Trial::new("/").header("x-token", token);
        for right in [NEW, OLD] {
            assert_eq!(judged(("header", "X-Token"), trial(right)), "passes");
        }
        for wrong in ["", "new", "NEW-0123456789ABCDEF"] {
            assert_eq!(judged(("header", "X-Token"), trial(wrong)), "unread: wrong_proof", "{wrong}");
        }
        assert_eq!(judged(("header", "X-Token"), Trial::new("/")), "unread: no_proof");
        assert_eq!(judged(("header", "X-Token"), trial(NEW).header("x-token", NEW)), "unread: wrong_proof");
    }

    #[test]
    fn authorization_bears_it_as_bearer_with_or_without_being_named() {
        for place in [("header", Value::Null), ("header", "authorization".into())] {
            let mut token = json!({ "value": NEW });
            token[place.0] = place.1;
            let proofs = proofs(json!([{ "token": token }]));
            let trial = |line: &str| Trial::new("/").header("authorization", line).judged(&proofs);
            assert_eq!(trial(&format!("bearer {NEW}")), "passes");
            assert_eq!(trial(NEW), "unread: wrong_proof");
            assert_eq!(trial("Basic dGNjYzp4"), "unread: wrong_proof");
        }
    }

    #[test]
    fn a_token_in_the_query_passes_however_tccc_joins_its_own() {
        for joint in ['&', '?'] {
            let target = format!("/?token={NEW}{joint}action=cdr&version=1");
            assert_eq!(judged(("query", "token"), Trial::new(&target)), "passes");
        }
        for (target, verdict) in [
            ("/?token=wrong&action=cdr".to_owned(), "unread: wrong_proof"),
            (format!("/?token={NEW}&token={NEW}"), "unread: wrong_proof"),
            (format!("/?Token={NEW}"), "unread: no_proof"),
            ("/".to_owned(), "unread: no_proof"),
        ] {
            assert_eq!(judged(("query", "token"), Trial::new(&target)), verdict, "{target}");
        }
    }

    #[test]
    fn what_could_be_guessed_or_not_be_sent_is_a_fault() {
        for (token, words) in [
            (json!({ "value": "0123456789abcde" }), "value: is shorter than 16"),
            (json!({ "value": NEW, "previous": "old" }), "previous: is shorter than 16"),
            (json!({ "value": "0123456789 abcdef" }), "value: a token in a header"),
            (json!({ "value": "0123456789+abcdef", "query": "token" }), "value: a token in a query"),
            (json!({ "value": NEW, "query": "token", "header": "X-Token" }), "query: stands beside header"),
            (json!({ "value": NEW, "query": "Action" }), "query: expected the name"),
            (json!({ "value": NEW, "query": "" }), "query: expected the name"),
            (json!({ "value": NEW, "header": "X Token" }), "header: expected the name"),
        ] {
            let faults = faults(json!([{ "token": token }]));
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].contains(words), "{words}: {faults:?}");
        }
    }
}
