//! `mtls`: the sender shows a certificate during TLS that `ingress.tls.client_ca` vouches for, and that names whom we expect.

use std::sync::Arc;

use cdr_core::SettingFault;
use http::Extensions;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::Failure;
use crate::client_certificate::{ClientCertificate, Subject};

/// Whom the sender's certificate must name; one of these is enough, so that a new name can be added before the old one goes.
///
/// The authorities of `tls.client_ca` vouch for many others maybe, so that a certificate alone is no proof.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MtlsProof {
    /// Parts that its subject has, all of them: `CN=tccc,O=Example`; one text or several.
    #[serde(deserialize_with = "one_or_more")]
    #[schemars(with = "OneOrMore")]
    pub subject: Vec<Subject>,
    /// The name of a host for which it was made (subjectAltName); one or several.
    #[serde(deserialize_with = "one_or_more")]
    #[schemars(with = "OneOrMore")]
    pub dns: Vec<String>,
}

impl MtlsProof {
    /// The same, if a certificate could pass; paths of faults begin below `mtls`.
    pub(super) fn checked(&self) -> Result<Self, Vec<SettingFault>> {
        if self.subject.is_empty() && self.dns.is_empty() {
            let message =
                "names nobody, so no certificate could pass; set subject or dns, such as subject: CN=tccc";
            return Err(vec![SettingFault::at("", message)]);
        }
        let is_name = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        match self.dns.iter().all(is_name) {
            true => Ok(self.clone()),
            false => Err(vec![SettingFault::at("dns", "expected names of hosts such as tccc.example.com")]),
        }
    }

    /// Whether the certificate that came with a request names one of them.
    pub(super) fn look(&self, request: &Extensions) -> Result<(), Failure> {
        let certificate = match request.get().ok_or(Failure::Absent)? {
            Shown::Valid(certificate) => certificate,
            Shown::Outdated => return Err(Failure::Stale),
        };
        let is_named = self.subject.iter().any(|subject| certificate.is(subject));
        let is_host = self.dns.iter().any(|dns| certificate.is_for(dns));
        (is_named || is_host).then_some(()).ok_or(Failure::Wrong)
    }
}

/// The certificate of the connection that a request came by.
#[derive(Clone)]
pub(crate) enum Shown {
    /// The authorities in force vouch for it now.
    Valid(Arc<ClientCertificate>),
    /// Others did, or at another time.
    Outdated,
}

/// How one or several are written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is asked for")]
enum OneOrMore {
    /// One of them.
    One(String),
    /// Any of these.
    More(Vec<String>),
}

fn one_or_more<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let written = match Value::deserialize(deserializer)? {
        Value::Array(several) => several,
        one => vec![one],
    };
    let read = |value| serde_json::from_value(value).map_err(serde::de::Error::custom);
    written.into_iter().map(read).collect()
}
