//! Whom a sender's certificate names, and who vouches for it as long as the connection lasts; and the names that settings
//! ask for.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, UnixTime};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use x509_parser::{
    oid_registry::{
        OID_DOMAIN_COMPONENT, OID_PKCS9_EMAIL_ADDRESS, OID_USERID, OID_X509_COMMON_NAME,
        OID_X509_COUNTRY_NAME, OID_X509_LOCALITY_NAME, OID_X509_ORGANIZATION_NAME,
        OID_X509_ORGANIZATIONAL_UNIT, OID_X509_SERIALNUMBER, OID_X509_STATE_OR_PROVINCE_NAME, Oid,
    },
    prelude::{FromDer, GeneralName, X509Certificate},
};

use crate::tls::Authorities;

/// The parts of a subject that have a name here: those of RFC 4514 §3, and what `openssl` prints beside them.
const PARTS: [(&str, Oid<'static>); 10] = [
    ("CN", OID_X509_COMMON_NAME),
    ("O", OID_X509_ORGANIZATION_NAME),
    ("OU", OID_X509_ORGANIZATIONAL_UNIT),
    ("C", OID_X509_COUNTRY_NAME),
    ("ST", OID_X509_STATE_OR_PROVINCE_NAME),
    ("L", OID_X509_LOCALITY_NAME),
    ("DC", OID_DOMAIN_COMPONENT),
    ("UID", OID_USERID),
    ("emailAddress", OID_PKCS9_EMAIL_ADDRESS),
    ("serialNumber", OID_X509_SERIALNUMBER),
];

/// A part of a subject: its name as in [`PARTS`], and its value.
type Part = (&'static str, String);

/// A certificate that was shown with TLS, which verified it then.
///
/// A connection may outlive both the authorities of that moment and the certificate, so all that was shown is kept, and looked
/// at again. To refuse what others vouched for would be simpler; but where authorities are added or replaced one by one, a
/// sender that keeps its connection would lose pushes for nothing.
pub(crate) struct ClientCertificate {
    /// As it was shown: the sender's own first, then those between it and the authorities.
    chain: Vec<CertificateDer<'static>>,
    /// When each of them ends; valid until then, that second included (RFC 5280 §4.1.2.5).
    ends: Vec<UnixTime>,
    vouched: Mutex<Option<Vouched>>,
    subject: Vec<Part>,
    dns: Vec<String>,
}

/// That somebody vouched for a certificate, and until when nothing can have changed that.
struct Vouched {
    by: Authorities,
    until: UnixTime,
}

impl ClientCertificate {
    /// Reads what TLS has just verified by these authorities. None when it cannot be read, which verified ones can.
    pub fn read(chain: &[CertificateDer<'_>], verified_by: Authorities) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
        let named = |oid: &Oid<'_>| PARTS.iter().find(|(_, part)| part == oid).map(|(name, _)| *name);
        let part = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            Some((named(part.attr_type())?, part.as_str().ok()?.to_owned()))
        };
        let subject = certificate.subject().iter_attributes().filter_map(part).collect();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let dns = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let shown = Self {
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            ends: chain.iter().filter_map(end).collect(),
            vouched: Mutex::default(),
            subject,
            dns: dns.collect(),
        };
        *shown.vouched() = shown.vouched_until(UnixTime::now(), verified_by);
        Some(shown)
    }

    /// Whether these authorities vouch for it at this time.
    pub fn is_vouched_for(&self, authorities: &Authorities, now: UnixTime) -> bool {
        let mut vouched = self.vouched();
        let is_known = |vouched: &Vouched| vouched.by.are(authorities) && now <= vouched.until;
        if !vouched.as_ref().is_some_and(is_known) {
            let by = authorities.vouch_for(&self.chain, now).then(|| authorities.clone());
            *vouched = by.and_then(|by| self.vouched_until(now, by));
        }
        vouched.is_some()
    }

    /// Until the next one ends: one between may have ended before, and another way have led to the authorities.
    fn vouched_until(&self, now: UnixTime, by: Authorities) -> Option<Vouched> {
        let until = self.ends.iter().copied().filter(|end| now <= *end).min()?;
        Some(Vouched { by, until })
    }

    /// What it says stays right when somebody panics beside it.
    fn vouched(&self) -> MutexGuard<'_, Option<Vouched>> {
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every part of `subject` is in its own.
    pub fn is(&self, subject: &Subject) -> bool {
        subject.0.iter().all(|part| self.subject.contains(part))
    }

    /// Whether it was made for this host; its case does not matter, and `*` is a character like others.
    pub fn is_for(&self, dns: &str) -> bool {
        self.dns.contains(&dns.to_ascii_lowercase())
    }
}

/// None when it cannot be read, or ended before 1970.
fn end(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(end)))
}

/// Parts that the subject of a certificate must have, as `CN=tccc,O=Example` (RFC 4514 §2); their order does not matter, and
/// the certificate's subject may have others. Values are compared with their case.
#[derive(Clone, PartialEq, Eq, Debug, JsonSchema)]
pub struct Subject(#[schemars(with = "String")] Vec<Part>);

/// A text that names no subject.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is no subject such as CN=tccc,O=Example; its parts: {names}", names = PARTS.map(|(name, _)| name).join(" "))]
pub struct InvalidSubject(String);

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let parts: Option<Vec<Part>> = split(text).iter().map(|part| read_part(part)).collect();
        parts.map(Self).ok_or_else(|| InvalidSubject(text.to_owned()))
    }
}

fn read_part(part: &str) -> Option<Part> {
    let (name, value) = part.split_once('=')?;
    let (name, _) = PARTS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()))?;
    let value = value.trim();
    (!value.is_empty()).then(|| (name, value.to_owned()))
}

/// At commas; `\` takes the meaning from the character after it.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ',' => parts.push(std::mem::take(&mut part)),
            '\\' => part.extend(characters.next()),
            other => part.push(other),
        }
    }
    parts.push(part);
    parts
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{name}={}", value.replace('\\', "\\\\").replace(',', "\\,"))?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
