//! TLS at the door, by rustls: which files it takes, what becomes of them when they change, and the handshake.
//!
//! The files are read again every few seconds and taken when they have changed and fit together: connections that are open
//! stay as they are, new ones get the new certificate. What is half written is left alone, and the door goes on with what it
//! has. The contents are compared, not times or inodes: they are small, and so renewed certificates are seen however they
//! come, as files written in place, as new files, or as links that point elsewhere. What senders have shown is looked at
//! again when those who vouch for it have changed: see `client_certificate`.

mod material;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use cdr_core::{SettingFault, setting::SettingPath};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub(crate) use self::material::{Authorities, HTTP2};
use self::material::{Files, Material};
use crate::{
    client_certificate::ClientCertificate,
    connection::{Begun, Socket},
};

/// How often the files are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// A certificate that ends sooner is worth a warning. Let's Encrypt's are renewed 30 days before their end, so that
/// something has failed by then.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The certificate of the door, and whose certificates senders may show. PEM files; they are read again when they
/// change.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate of the door, and after it those of the authorities between it and one that senders know.
    pub certificate: SettingPath,
    /// Its private key, not encrypted.
    pub key: SettingPath,
    /// The authorities whose certificates senders may show, for `verify: [{ mtls: … }]`. Default: none is asked for.
    pub client_ca: Option<SettingPath>,
    /// The oldest version of TLS that is spoken: `"1.2"` or `"1.3"`. Default `"1.2"`.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246, with the ciphers of today alone.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

impl<'de> Deserialize<'de> for TlsVersion {
    /// YAML takes `1.2` without quotes for a number; it is understood all the same.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = serde_json::Value::deserialize(deserializer)?;
        match written.to_string().trim_matches('"') {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            _ => Err(D::Error::custom("expected \"1.2\" or \"1.3\"; nothing older is spoken")),
        }
    }
}

impl TlsSettings {
    /// What is wrong with the files; paths begin below `ingress`. Reads them.
    pub(crate) fn faults(&self) -> Vec<SettingFault> {
        Tls::read(self).err().unwrap_or_default()
    }

    /// What works and probably not for long; paths begin below `ingress`. Reads the files.
    pub(crate) fn warnings(&self) -> Vec<SettingFault> {
        let worry = Tls::read(self).ok().and_then(|tls| tls.material().worry(Timestamp::now()));
        worry.map(|worry| SettingFault::at("tls.certificate", worry.text)).into_iter().collect()
    }
}

/// TLS as it is spoken now.
pub(crate) struct Tls {
    settings: TlsSettings,
    material: ArcSwap<Material>,
    told: Mutex<Told>,
}

/// What was said about the files, so that it is said once.
#[derive(Default)]
struct Told {
    trouble: Option<String>,
    worry: Option<material::Lifetime>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read, or do not fit together.
    pub fn read(settings: &TlsSettings) -> Result<Self, Vec<SettingFault>> {
        let material = Material::make(Files::read(settings)?, settings)?;
        // Whoever starts or reloads was told of it with the warnings of the configuration.
        let worry = material.worry(Timestamp::now()).map(|worry| worry.lifetime);
        let told = Mutex::new(Told { worry, ..Told::default() });
        Ok(Self { settings: settings.clone(), material: ArcSwap::from_pointee(material), told })
    }

    /// What is made of the files.
    pub fn material(&self) -> Arc<Material> {
        self.material.load_full()
    }

    /// Takes what has changed in the files, if it fits together. To be called every [`LOOK`]; it waits for the disk.
    pub fn look(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match self.changed() {
            Ok(None) => told.trouble = None,
            Ok(Some(material)) => {
                tracing::info!(
                    valid_until = %material.expires_at,
                    "the files of ingress.tls have changed; new connections get the new certificate"
                );
                self.material.store(Arc::new(material));
                told.trouble = None;
            }
            Err(faults) => {
                let trouble =
                    faults.iter().map(|fault| format!("ingress.{fault}")).collect::<Vec<_>>().join("; ");
                if told.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(
                        "the files of ingress.tls have changed and cannot be taken; the door goes on with the \
                         certificate that it has, and looks again every {LOOK:?}: {trouble}"
                    );
                    told.trouble = Some(trouble);
                }
            }
        }
        let worry = self.material().worry(Timestamp::now());
        let lifetime = worry.as_ref().map(|worry| worry.lifetime);
        if std::mem::replace(&mut told.worry, lifetime) != lifetime
            && let Some(worry) = worry
        {
            tracing::warn!("ingress.tls.certificate: {}", worry.text);
        }
    }

    fn changed(&self) -> Result<Option<Material>, Vec<SettingFault>> {
        let files = Files::read(&self.settings)?;
        if files.fingerprint() == self.material.load().fingerprint {
            return Ok(None);
        }
        Material::make(files, &self.settings).map(Some)
    }

    /// Shakes hands with a sender whose first bytes are those of TLS.
    ///
    /// # Errors
    /// The sender went away, speaks otherwise, does not accept our certificate, or shows one that we do not accept.
    pub async fn accept<S: Socket>(&self, begun: Begun<S>) -> Result<Entered<S>, NoHandshake> {
        let material = self.material();
        let accepted = TlsAcceptor::from(Arc::clone(&material.config)).accept(begun).await;
        let stream = accepted.map_err(NoHandshake::of)?;
        let session = stream.get_ref().1;
        let is_http2 = session.alpn_protocol() == Some(HTTP2);
        let shown = session.peer_certificates().zip(material.authorities.clone());
        let certificate = shown.and_then(|(chain, by)| ClientCertificate::read(chain, by));
        Ok(Entered { stream, is_http2, certificate })
    }
}

/// A sender with whom TLS is spoken from here on.
pub(crate) struct Entered<S> {
    pub stream: TlsStream<Begun<S>>,
    pub is_http2: bool,
    /// Verified; none when none was shown.
    pub certificate: Option<ClientCertificate>,
}

/// Why no TLS came about. The sender has had an alert that says so, as far as TLS can.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NoHandshake {
    TooSlow,
    /// It showed a certificate that does not pass.
    BadCertificate(String),
    /// It does not accept ours.
    OursRefused(String),
    Other(String),
}

impl NoHandshake {
    fn of(error: io::Error) -> Self {
        use rustls::Error::{AlertReceived, InvalidCertificate};
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(InvalidCertificate(why)) => Self::BadCertificate(why.to_string()),
            Some(AlertReceived(alert)) => Self::OursRefused(format!("{alert:?}")),
            Some(why) => Self::Other(why.to_string()),
            None => Self::Other(error.to_string()),
        }
    }
}

/// Whether bytes are the beginning of TLS: a record of the handshake, RFC 8446 §5.1.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x16)
}
