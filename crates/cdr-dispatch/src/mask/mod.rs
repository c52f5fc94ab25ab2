//! `mask`: what of numbers, names and free text a sink gets to see. The gateway masks, not the sink, so that every sink and
//! every plugin is bound by it, and no sink can forget.
//!
//! A push's body is edited in place: the values of the fields that [`Kind`] names are replaced by byte range, and every other
//! byte stays as it came. Fields are known by their name at any depth and in any case, repeated ones each, so that an
//! unpublished object around a published field hides nothing. Whatever lies below such a field is masked with it. The push
//! that a sink gets has the typed view and the SHA-256 of the edited body: a sink's checksum is that of what it holds.
//!
//! What is kept in the spool, what routes decide on and what operators see is never masked. Nor are the gateway's own
//! alerts, which hold no numbers.
//!
//! * `scan`: where the values are. * [`sink`]: a sink behind a mask. * `fields`: which field is what.

mod fields;
mod scan;
pub mod sink;

use std::fmt;

use cdr_core::{Facts, Origin, Push, Secret, SettingFault};
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::{fields::Kind, sink::Masked};

/// Fewer bytes of a key could be tried one after the other.
const SHORTEST_KEY: usize = 16;

/// Digits of a number that `last4` leaves, but never more than half of them.
const LEFT: usize = 4;

/// `mask` of a sink, as written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaskSettings {
    /// Phone numbers: `last4` leaves their last four digits, `hash` a token that is the same for the same number, `remove`
    /// null, `keep` all; last4.
    pub numbers: NumberRule,
    /// Names, mail addresses and staff numbers: `keep`, `hash` or `remove`; keep.
    pub names: NameRule,
    /// Whether each digit of remarks, `Uui`, client data and pressed keys becomes a `*`; false.
    pub free_text: bool,
    /// What `hash` is keyed with, at least 16 bytes.
    pub key: Option<Secret>,
    /// Whether an archive may hold something else than what came; false.
    pub archive: bool,
}

/// What becomes of a phone number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NumberRule {
    /// Its last four digits stay, of a short one at most half.
    #[default]
    Last4,
    /// A token that tells whether two numbers are the same.
    Hash,
    /// Null.
    Remove,
    /// It stays.
    Keep,
}

/// What becomes of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NameRule {
    /// It stays.
    #[default]
    Keep,
    /// A token that tells whether two names are the same.
    Hash,
    /// Null.
    Remove,
}

/// What is masked; the part of a mask that is no secret, and that a seal remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Rules {
    numbers: NumberRule,
    names: NameRule,
    free_text: bool,
}

impl Rules {
    fn need_a_key(self) -> bool {
        self.numbers == NumberRule::Hash || self.names == NameRule::Hash
    }

    fn govern(self, kind: Kind) -> bool {
        let (numbers, names) = (self.numbers != NumberRule::Keep, self.names != NameRule::Keep);
        match kind {
            Kind::Number => numbers,
            Kind::Name => names,
            Kind::NumberOrName => numbers || names,
            Kind::FreeText => self.free_text,
            // What is none of these ends what was inherited.
            Kind::Plain => true,
        }
    }
}

/// What one sink does not get to see.
#[derive(Clone)]
pub struct Mask {
    rules: Rules,
    key: Option<Hmac<Sha256>>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

impl Mask {
    /// The mask of these settings.
    ///
    /// # Errors
    /// It masks nothing; `hash` without a key of [`SHORTEST_KEY`] bytes, or a key without `hash`.
    pub fn build(settings: &MaskSettings) -> Result<Self, Vec<SettingFault>> {
        let &MaskSettings { numbers, names, free_text, ref key, archive: _ } = settings;
        let rules = Rules { numbers, names, free_text };
        let fault = |setting, message: &str| Err(vec![SettingFault::at(setting, message)]);
        if numbers == NumberRule::Keep && names == NameRule::Keep && !free_text {
            return fault("", "masks nothing; set numbers, names or free_text, or remove it");
        }
        match key {
            // There are so few phone numbers that all of them can be tried in minutes.
            None if rules.need_a_key() => fault(
                "key",
                "hash needs a key, or every number could be found by trying: key: { env: MASK_KEY }, as of openssl rand -hex 32",
            ),
            Some(key) if rules.need_a_key() && key.expose().len() < SHORTEST_KEY => {
                fault("key", "must have at least 16 bytes, such as those of openssl rand -hex 32")
            }
            Some(_) if !rules.need_a_key() => fault("key", "is for hash alone; remove it"),
            key => {
                let keyed = key.as_ref().and_then(|key| Hmac::new_from_slice(key.expose().as_bytes()).ok());
                Ok(Self { rules, key: keyed })
            }
        }
    }

    /// The push as the sink gets to see it; none when nothing of it is masked.
    pub fn apply(&self, push: &Push) -> Option<Push> {
        if push.facts().origin == Origin::Alert {
            return None;
        }
        let body = self.edited(push.body())?;
        let facts = Facts { sha256: Sha256::digest(&body).into(), ..push.facts().clone() };
        Some(Push::from_spool(push.spool(), push.position(), facts, body.into()))
    }

    /// The edited body; none when nothing of it is masked.
    fn edited(&self, body: &[u8]) -> Option<Vec<u8>> {
        // The door lets only UTF-8 in. What is none cannot be read, and must not pass as if it had been.
        let Ok(json) = std::str::from_utf8(body) else { return Some(b"{}".to_vec()) };
        let mut edited = String::with_capacity(json.len());
        let mut copied = 0;
        scan::values(
            json,
            |name| fields::kind(name).filter(|&kind| self.rules.govern(kind)),
            |kind, place| {
                let Some(masked) = self.masked(kind, &json[place.clone()]) else { return };
                edited.push_str(&json[copied..place.start]);
                edited.push_str(&masked);
                copied = place.end;
            },
        );
        if copied == 0 {
            return None;
        }
        edited.push_str(&json[copied..]);
        Some(edited.into_bytes())
    }

    /// What stands in a JSON value's place; none where it stays.
    fn masked(&self, kind: Kind, raw: &str) -> Option<String> {
        let text = scan::text(raw)?;
        // Nothing, which is also said with a 0.
        if text.chars().all(|c| c == '0' || c.is_whitespace()) {
            return None;
        }
        let masked = match kind {
            Kind::Plain => return None,
            Kind::FreeText => without_digits(&text, 0),
            Kind::Name => return self.name(&text),
            Kind::NumberOrName if !is_number(&text) => return self.name(&text),
            Kind::Number | Kind::NumberOrName => match self.rules.numbers {
                NumberRule::Keep => return None,
                NumberRule::Remove => return Some("null".to_owned()),
                NumberRule::Hash => self.token("number", &cdr_expression::functions::e164(text.trim()))?,
                NumberRule::Last4 => without_digits(&text, LEFT),
            },
        };
        (masked != text).then(|| quoted(&masked))
    }

    fn name(&self, text: &str) -> Option<String> {
        match self.rules.names {
            NameRule::Keep => None,
            NameRule::Remove => Some("null".to_owned()),
            NameRule::Hash => self.token("name", text.trim()).map(|token| quoted(&token)),
        }
    }

    /// 64 bits of an HMAC in the letters `a` to `p`: no digits, so that nobody takes it for a number.
    fn token(&self, what: &str, text: &str) -> Option<String> {
        let mut code = self.key.clone()?;
        code.update(what.as_bytes());
        code.update(b":");
        code.update(text.as_bytes());
        let code = code.finalize().into_bytes();
        let letter = |half: u8| char::from(b'a' + half);
        Some(code[..8].iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect())
    }
}

/// Each digit but the last `left` becomes a `*`. Of a text with few digits at most half are left: of an extension,
/// the last four would be all.
fn without_digits(text: &str, left: usize) -> String {
    let digits = text.chars().filter(|c| c.is_numeric()).count();
    let mut hidden = digits - left.min(digits / 2);
    let mut mask = |c: char| match c.is_numeric() && hidden > 0 {
        true => {
            hidden -= 1;
            '*'
        }
        false => c,
    };
    text.chars().map(&mut mask).collect()
}

/// Whether a text that may be a number or an address is a number.
fn is_number(text: &str) -> bool {
    text.contains(char::is_numeric) && !text.contains(|c: char| c.is_alphabetic() || c == '@')
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
