//! `signature`: the settings of a way of signing.

use std::time::Duration;

use base64::Engine;
use cdr_core::{Secret, SettingFault};
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    authorization::BASE64,
    preset::Preset,
    signed::{At, Freshness, Scheme},
    template::{self, Piece},
};

/// A key, and how it signs: a `preset`, or settings of one's own.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureProof {
    /// A published way of signing; then only the keys and `tolerance` are set.
    pub preset: Option<Preset>,
    /// The key that both sides know.
    pub key: Secret,
    /// A second key that passes too, while the first is being changed on both sides.
    pub previous: Option<Secret>,
    /// The header that the signature is in; several may stand there with blanks between them.
    pub header: Option<String>,
    /// The parameter in the query that the signature is in.
    pub query: Option<String>,
    /// The field of the body that the signature is in.
    pub body: Option<String>,
    /// Default `sha256`.
    pub hash: Option<Hash>,
    /// How the signature is written. Default `hex`, in either case.
    pub encoding: Option<Encoding>,
    /// What stands before the signature, such as `sha256=`. Default nothing.
    pub prefix: Option<String>,
    /// Where the time stands at which it was signed, in Unix seconds or milliseconds.
    pub timestamp: Option<Place>,
    /// Where the time stands until which the signature is good; instead of `timestamp`.
    pub expires: Option<Place>,
    /// How far that may be from now. Default 5 min around `timestamp`, and nothing after `expires`.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub tolerance: Option<Duration>,
    /// What is signed, of `{body}`, `{timestamp}` (or what `expires` says), `{header:NAME}`, other text, and `{key}`: with
    /// the key in it the hash is taken of it all, without it it is an HMAC. Default `{body}`.
    pub signed: Option<String>,
}

/// What is counted as a hash. MD5 and SHA-1 are here because senders use them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-1.
    Sha1,
    /// MD5; fit for nothing new.
    Md5,
    /// SHA-512.
    Sha512,
}

/// How bytes are written as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Two digits a byte, in either case.
    #[default]
    Hex,
    /// With or without padding.
    Base64,
}

/// Where something stands in a request.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// In this header.
    Header(String),
    /// In this parameter of the query.
    Query(String),
    /// In this field of the JSON object that the body is.
    Body(String),
}

/// A time that was signed long ago may be a request that somebody has overheard.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

impl Scheme {
    /// Checks the settings, and makes of them what looks at requests.
    ///
    /// # Errors
    /// Every fault; paths begin at the settings of this proof.
    pub fn new(proof: &SignatureProof) -> Result<Self, Vec<SettingFault>> {
        let beside = beside_preset(proof);
        if !beside.is_empty() {
            return Err(beside);
        }
        let preset = proof.preset;
        let proof = preset.map_or_else(|| proof.clone(), |preset| preset.over(proof));
        let key = key_of(preset, "key", &proof.key);
        let previous =
            proof.previous.as_ref().map(|previous| key_of(preset, "previous", previous)).transpose();
        match (proof.at(), proof.freshness(), proof.pieces(), key, previous) {
            (Ok(at), Ok(freshness), Ok(signed), Ok(key), Ok(previous)) => Ok(Self {
                at,
                prefix: proof.prefix.unwrap_or_default(),
                encoding: proof.encoding.unwrap_or_default(),
                hash: proof.hash.unwrap_or_default(),
                keys: [key].into_iter().chain(previous).collect(),
                freshness,
                signed,
            }),
            (at, freshness, signed, key, previous) => {
                let faults = [at.err(), freshness.err(), signed.err(), key.err(), previous.err()];
                Err(faults.into_iter().flatten().collect())
            }
        }
    }
}

impl SignatureProof {
    fn at(&self) -> Result<At, SettingFault> {
        match (&self.header, &self.query, &self.body) {
            (Some(name), None, None) => {
                header_name(name).map(At::Header).map_err(|why| SettingFault::at("header", why))
            }
            (None, Some(name), None) => Ok(At::Query(name.clone())),
            (None, None, Some(name)) => Ok(At::Body(name.clone())),
            _ => {
                let message = "name the one place of the signature: header, query or body; or set a preset";
                Err(SettingFault::at("", message))
            }
        }
    }

    fn freshness(&self) -> Result<Option<Freshness>, SettingFault> {
        let at = |name, place: &Place| At::of(place).map_err(|why| SettingFault::at(name, why));
        let seconds =
            |default| i64::try_from(self.tolerance.unwrap_or(default).as_secs()).unwrap_or(i64::MAX);
        match (&self.timestamp, &self.expires) {
            (Some(_), Some(_)) => {
                Err(SettingFault::at("expires", "stands beside timestamp; a signature bears one time"))
            }
            (Some(place), None) => Ok(Some(Freshness {
                at: at("timestamp", place)?,
                is_end: false,
                tolerance: seconds(TOLERANCE),
            })),
            (None, Some(place)) => Ok(Some(Freshness {
                at: at("expires", place)?,
                is_end: true,
                tolerance: seconds(Duration::ZERO),
            })),
            (None, None) if self.tolerance.is_some() => Err(SettingFault::at(
                "tolerance",
                "this way of signing bears no time that it could count from",
            )),
            (None, None) => Ok(None),
        }
    }

    fn pieces(&self) -> Result<Vec<Piece>, SettingFault> {
        let fault = |message: &str| SettingFault::at("signed", message);
        let pieces =
            template::parse(self.signed.as_deref().unwrap_or("{body}")).map_err(|why| fault(&why))?;
        let bears_time = self.timestamp.is_some() || self.expires.is_some();
        match (pieces.contains(&Piece::Timestamp), bears_time, pieces.contains(&Piece::Body)) {
            (true, false, _) => {
                Err(fault("has a {timestamp}; say where it stands with timestamp or expires"))
            }
            (false, true, _) => Err(fault(
                "leaves out the {timestamp}, so that anybody could write a fresh one over an old one",
            )),
            (false, false, false) => {
                Err(fault("covers neither {body} nor {timestamp}, so one signature would fit everything"))
            }
            _ => Ok(pieces),
        }
    }
}

impl At {
    fn of(place: &Place) -> Result<Self, &'static str> {
        Ok(match place {
            Place::Header(name) => Self::Header(header_name(name)?),
            Place::Query(name) => Self::Query(name.clone()),
            Place::Body(name) => Self::Body(name.clone()),
        })
    }
}

fn header_name(name: &str) -> Result<HeaderName, &'static str> {
    name.parse().map_err(|_| "expected the name of a header, such as X-Signature")
}

/// What a preset has decided already.
fn beside_preset(proof: &SignatureProof) -> Vec<SettingFault> {
    if proof.preset.is_none() {
        return Vec::new();
    }
    let SignatureProof { header, query, body, hash, encoding, prefix, timestamp, expires, signed, .. } =
        proof;
    let own = [
        ("header", header.is_some()),
        ("query", query.is_some()),
        ("body", body.is_some()),
        ("hash", hash.is_some()),
        ("encoding", encoding.is_some()),
        ("prefix", prefix.is_some()),
        ("timestamp", timestamp.is_some()),
        ("expires", expires.is_some()),
        ("signed", signed.is_some()),
    ];
    let is_set = own.into_iter().filter(|(_, is_set)| *is_set);
    is_set
        .map(|(name, _)| SettingFault::at(name, "the preset says this; leave it out, or the preset"))
        .collect()
}

/// The bytes of a key. Standard Webhooks writes them as `whsec_` and base64, everybody else as they are.
fn key_of(preset: Option<Preset>, name: &str, key: &Secret) -> Result<Vec<u8>, SettingFault> {
    if preset != Some(Preset::StandardWebhooks) {
        return Ok(key.expose().as_bytes().to_vec());
    }
    let encoded = key.expose().strip_prefix("whsec_").unwrap_or(key.expose());
    let key = BASE64.decode(encoded).ok().filter(|key| !key.is_empty());
    key.ok_or_else(|| SettingFault::at(name, "expected whsec_ and base64, as Standard Webhooks writes keys"))
}
