//! `oauth2`: who may ask for access tokens, and the tokens themselves.
//!
//! A token is its own proof: when it expires, and an HMAC of that by a key made of the client's name and secret. So it
//! survives restarts, every gateway with the same settings takes it, and with its secret it ends. It is not
//! encrypted: there is nothing to hide in it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use cdr_core::{Secret, SettingFault};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{Failure, accepted::both, authorization, basic};

/// The keys of the tokens are made of the secret, so whoever gets hold of a token can try secrets without asking us.
/// 16 random characters are out of reach for that, too.
const SHORTEST: usize = 16;

/// Tells our tokens from everything else that somebody may sign with the same secret.
const PURPOSE: &[u8] = b"cdr-gateway access token\0";

/// A client's name and secret, and how long its tokens last.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2Proof {
    /// ClientID in TCCC's console; it cannot hold a colon.
    pub client_id: String,
    /// ClientSecret in TCCC's console; at least 16 characters.
    pub client_secret: Secret,
    /// A second secret that passes too, and whose tokens do, while the first is being changed on both sides.
    pub previous: Option<Secret>,
    /// How long a token lasts, at least a second. Default 2 h.
    #[serde(default = "two_hours", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lifetime: Duration,
    /// How long after that a token still passes, for senders who notice late. Default 5 min.
    #[serde(default = "five_minutes", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub grace: Duration,
}

fn two_hours() -> Duration {
    Duration::from_secs(2 * 60 * 60)
}

fn five_minutes() -> Duration {
    Duration::from_secs(5 * 60)
}

/// Somebody who may ask for tokens.
pub(super) struct Client {
    /// With its present secret and the previous one.
    forms: Vec<Form>,
    lifetime: Duration,
    grace: Duration,
}

struct Form {
    /// Of the name and the secret, with a colon between them.
    login: [u8; 32],
    key: Key,
}

type Key = [u8; 32];

/// What a client gets.
pub(crate) struct Token {
    pub access_token: String,
    pub lifetime: Duration,
}

impl Client {
    pub fn new(oauth2: &OAuth2Proof) -> Result<Self, Vec<SettingFault>> {
        let faults = oauth2.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let OAuth2Proof { client_id, client_secret, previous, lifetime, grace } = oauth2;
        let forms = both(client_secret, previous.as_ref()).map(|secret| Form::new(client_id, secret));
        Ok(Self { forms: forms.collect(), lifetime: *lifetime, grace: *grace })
    }

    /// A token for who brings the right `client_id:client_secret`.
    ///
    /// It is signed with the secret that was brought, so that it ends when that one is taken out of the settings.
    pub fn token(&self, presented: &[u8], now: Timestamp) -> Option<Token> {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let mut key = None;
        for form in &self.forms {
            if form.login.ct_eq(&presented).into() {
                key = key.or(Some(&form.key));
            }
        }
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires = now.as_second().saturating_add(lifetime).to_be_bytes();
        let bytes = [&expires[..], &tag(key?, &expires)].concat();
        Some(Token { access_token: BASE64_URL_SAFE_NO_PAD.encode(bytes), lifetime: self.lifetime })
    }

    /// Looks for a token of ours (RFC 6750 §2.1).
    pub fn look(&self, headers: &HeaderMap, now: Timestamp) -> Result<(), Failure> {
        let presented = authorization::of_scheme(headers, "bearer")?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(presented).map_err(|_| Failure::Wrong)?;
        let (expires, presented) = bytes.split_first_chunk::<8>().ok_or(Failure::Wrong)?;
        let fits = |form: &Form| tag(&form.key, expires)[..].ct_eq(presented);
        let is_ours = self.forms.iter().fold(Choice::from(0), |ours, form| ours | fits(form));
        if !bool::from(is_ours) {
            return Err(Failure::Wrong);
        }
        let grace = i64::try_from(self.grace.as_secs()).unwrap_or(i64::MAX);
        let last = i64::from_be_bytes(*expires).saturating_add(grace);
        if now.as_second() <= last { Ok(()) } else { Err(Failure::Stale) }
    }
}

impl Form {
    fn new(client_id: &str, secret: &str) -> Self {
        let login = Sha256::digest(format!("{client_id}:{secret}")).into();
        let key = authenticated(secret.as_bytes(), &[PURPOSE, client_id.as_bytes()]);
        Self { login, key }
    }
}

fn tag(key: &Key, expires: &[u8; 8]) -> [u8; 32] {
    authenticated(key, &[expires])
}

fn authenticated(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104 §2)");
    pieces.iter().for_each(|piece| hmac.update(piece));
    hmac.finalize().into_bytes().into()
}

impl OAuth2Proof {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Vec::new();
        if !basic::is_name(&self.client_id) {
            let message =
                "expected a name without colons and control characters, as ClientID in TCCC's console";
            faults.push(SettingFault::at("client_id", message));
        }
        for (name, secret) in
            [("client_secret", Some(&self.client_secret)), ("previous", self.previous.as_ref())]
        {
            if secret.is_some_and(|secret| secret.expose().len() < SHORTEST) {
                let message = "is shorter than 16 characters and could be guessed from a token; `openssl rand -hex 24` makes a good one";
                faults.push(SettingFault::at(name, message));
            }
        }
        if self.lifetime < Duration::from_secs(1) {
            faults.push(SettingFault::at("lifetime", "is less than a second, so no token could be used"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn client(id: &str, secret: &str, previous: Option<&str>) -> Client {
        Client::new(&OAuth2Proof {
            client_id: id.to_owned(),
            client_secret: Secret::new(secret),
            previous: previous.map(Secret::new),
            lifetime: two_hours(),
            grace: five_minutes(),
        })
        .unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(NOW.as_second() + seconds, 0).unwrap()
    }

    fn look(client: &Client, token: &str, now: Timestamp) -> Result<(), Failure> {
        let line = format!("Bearer {token}").parse().unwrap();
        client.look(&HeaderMap::from_iter([(http::header::AUTHORIZATION, line)]), now)
    }

    const FIRST: &str = "first-secret-of-ours";
    const SECOND: &str = "second-secret-of-ours";

    fn token(client: &Client, secret: &str) -> String {
        client.token(format!("tccc:{secret}").as_bytes(), NOW).unwrap().access_token
    }

    #[test]
    fn a_token_lasts_for_its_lifetime_and_the_grace_and_no_longer() {
        let client = client("tccc", FIRST, None);
        let token = token(&client, FIRST);
        for seconds in [0, 7200, 7500] {
            assert_eq!(look(&client, &token, at(seconds)), Ok(()), "{seconds}");
        }
        assert_eq!(look(&client, &token, at(7501)), Err(Failure::Stale));
    }

    #[test]
    fn a_token_ends_with_its_secret() {
        let (old, both, new) =
            (client("tccc", FIRST, None), client("tccc", SECOND, Some(FIRST)), client("tccc", SECOND, None));
        let of_the_old = token(&old, FIRST);
        assert_eq!(look(&both, &of_the_old, NOW), Ok(()));
        assert_eq!(look(&new, &of_the_old, NOW), Err(Failure::Wrong));
        assert_eq!(look(&new, &token(&both, FIRST), NOW), Err(Failure::Wrong));
        assert_eq!(look(&new, &token(&both, SECOND), NOW), Ok(()));
        assert!(new.token(format!("tccc:{FIRST}").as_bytes(), NOW).is_none());
    }

    #[test]
    fn another_gateway_with_the_same_client_takes_its_tokens() {
        let token = token(&client("tccc", FIRST, None), FIRST);
        assert_eq!(look(&client("tccc", FIRST, None), &token, NOW), Ok(()));
        assert_eq!(look(&client("tccd", FIRST, None), &token, NOW), Err(Failure::Wrong));
    }

    #[test]
    fn a_secret_that_a_token_would_give_away_is_a_fault() {
        let short = OAuth2Proof {
            client_id: "a:b".to_owned(),
            client_secret: Secret::new("short"),
            previous: Some(Secret::new("shorter")),
            lifetime: Duration::from_millis(1),
            grace: Duration::ZERO,
        };
        let faults = Client::new(&short).err().unwrap();
        let paths: Vec<_> = faults.iter().map(SettingFault::dotted).collect();
        assert_eq!(paths, ["client_id", "client_secret", "previous", "lifetime"]);
    }

    proptest! {
        #[test]
        fn no_changed_token_passes(at in 0..40_usize, bit in 0..8_u8) {
            let client = client("tccc", FIRST, Some(SECOND));
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(token(&client, FIRST)).unwrap();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(look(&client, &BASE64_URL_SAFE_NO_PAD.encode(bytes), NOW), Err(Failure::Wrong));
        }

        #[test]
        fn no_invented_token_passes(bytes in prop::collection::vec(any::<u8>(), 1..64)) {
            let client = client("tccc", FIRST, Some(SECOND));
            prop_assert_eq!(look(&client, &BASE64_URL_SAFE_NO_PAD.encode(bytes), NOW), Err(Failure::Wrong));
        }
    }
}
