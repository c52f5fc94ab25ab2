//! What rustls needs, made of files; and what is wrong with the files when it cannot be made.

use std::{fs, path::Path, sync::Arc};

use cdr_core::{SettingFault, setting::SettingPath};
use jiff::Timestamp;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{SOON, TlsSettings, TlsVersion};

/// How HTTP/2 is called when it is agreed on (RFC 7301, RFC 9113 §3.1).
pub(crate) const HTTP2: &[u8] = b"h2";

/// The files as they are on disk.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Those of `client_ca`, as they were when its file was read.
#[derive(Clone)]
pub(crate) struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// Whether they vouch for a certificate, by way of those that were shown behind it.
    pub fn vouch_for(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        chain.split_first().is_some_and(|(own, between)| self.0.verify_client_cert(own, between, now).is_ok())
    }

    /// Whether they are these, read at the same time.
    pub fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }
}

/// What is made of the files.
pub(crate) struct Material {
    pub config: Arc<ServerConfig>,
    /// None when no certificate is asked for.
    pub authorities: Option<Authorities>,
    pub expires_at: Timestamp,
    begins_at: Timestamp,
    /// Of all files.
    pub(super) fingerprint: [u8; 32],
}

impl Files {
    /// Reads them; all that cannot be read is told at once.
    pub fn read(settings: &TlsSettings) -> Result<Self, Vec<SettingFault>> {
        let mut faults = Vec::new();
        let mut read = |setting: &str, SettingPath(path): &SettingPath| {
            fs::read(path).unwrap_or_else(|error| {
                faults.push(SettingFault::at(setting, format!("{} cannot be read: {error}", path.display())));
                Vec::new()
            })
        };
        let files = Self {
            certificate: read("tls.certificate", &settings.certificate),
            key: read("tls.key", &settings.key),
            client_ca: settings.client_ca.as_ref().map(|path| read("tls.client_ca", path)),
        };
        if faults.is_empty() { Ok(files) } else { Err(faults) }
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        let parts = [&self.certificate, &self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())]
            .map(Sha256::digest);
        Sha256::digest(parts.concat()).into()
    }
}

impl Material {
    /// Makes it; the key is compared with the certificate.
    pub(super) fn make(files: Files, settings: &TlsSettings) -> Result<Self, Vec<SettingFault>> {
        let chain = certificates(&files.certificate, "tls.certificate", &settings.certificate.0);
        let key = private_key(&files.key, &settings.key.0);
        let authorities = files.client_ca.as_deref().zip(settings.client_ca.as_ref());
        let authorities = authorities.map(|(pem, path)| client_authorities(pem, &path.0)).transpose();
        let (chain, key, authorities) = match (chain, key, authorities) {
            (Ok(chain), Ok(key), Ok(authorities)) => (chain, key, authorities),
            (chain, key, authorities) => {
                let faults = [chain.err(), key.err(), authorities.err()];
                return Err(faults.into_iter().flatten().collect());
            }
        };
        let (begins_at, expires_at) =
            validity(&chain[0], &settings.certificate.0).map_err(|fault| vec![fault])?;
        let config =
            server_config(chain, key, authorities.as_ref(), settings).map_err(|fault| vec![fault])?;
        Ok(Self {
            config: Arc::new(config),
            authorities,
            expires_at,
            begins_at,
            fingerprint: files.fingerprint(),
        })
    }

    /// What there is to say about its time.
    pub(super) fn worry(&self, now: Timestamp) -> Option<Worry> {
        let worry = |lifetime, text| Some(Worry { lifetime, text });
        if now < self.begins_at {
            return worry(
                Lifetime::NotYet,
                format!("is not valid before {}; senders refuse it until then", self.begins_at),
            );
        }
        if now >= self.expires_at {
            return worry(
                Lifetime::Over,
                format!("expired at {}; senders refuse it: renew it", self.expires_at),
            );
        }
        let left = now.duration_until(self.expires_at).unsigned_abs();
        match left < SOON {
            true => {
                let days = left.as_secs() / 86_400;
                worry(Lifetime::Soon, format!("expires at {}, in {days} day(s): renew it", self.expires_at))
            }
            false => None,
        }
    }
}

/// Something to say about a certificate's time, and as what it is remembered to have been said.
pub(super) struct Worry {
    pub lifetime: Lifetime,
    pub text: String,
}

/// Where in its time a certificate is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lifetime {
    NotYet,
    Soon,
    Over,
}

/// At least one.
fn certificates(
    pem: &[u8],
    setting: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SettingFault> {
    let path = path.display();
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| SettingFault::at(setting, format!("{path} is no good PEM: {error}")))?;
    if all.is_empty() {
        let message = format!("there is no certificate in {path}; expected PEM, -----BEGIN CERTIFICATE-----");
        return Err(SettingFault::at(setting, message));
    }
    Ok(all)
}

/// Nothing of the file appears in the fault.
fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, SettingFault> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let path = path.display();
        let is_encrypted = pem.windows(9).any(|part| part == b"ENCRYPTED");
        let message = match is_encrypted {
            true => format!("the key in {path} is encrypted, and nobody could be asked for its passphrase; decrypt it: openssl pkey -in {path} -out plain.pem"),
            false => format!("there is no private key in {path}; expected PEM, -----BEGIN PRIVATE KEY-----"),
        };
        SettingFault::at("tls.key", message)
    })
}

/// A sender may show no certificate: whether it must is the decision of `verify`, where another proof may do, and where
/// the answer can say what is missing.
fn client_authorities(pem: &[u8], path: &Path) -> Result<Authorities, SettingFault> {
    let fault = |message: String| SettingFault::at("tls.client_ca", format!("{}: {message}", path.display()));
    let mut roots = RootCertStore::empty();
    for (index, authority) in certificates(pem, "tls.client_ca", path)?.into_iter().enumerate() {
        let number = index + 1;
        roots
            .add(authority)
            .map_err(|error| fault(format!("certificate {number} is no authority: {error}")))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.allow_unauthenticated().build().map_err(|error| fault(error.to_string()))?;
    Ok(Authorities(verifier))
}

fn validity(certificate: &CertificateDer<'_>, path: &Path) -> Result<(Timestamp, Timestamp), SettingFault> {
    let fault = || {
        let message = format!("the first certificate in {} is none that can be read", path.display());
        SettingFault::at("tls.certificate", message)
    };
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| fault())?;
    let validity = certificate.validity();
    let [begins_at, expires_at] =
        [validity.not_before, validity.not_after].map(|time| Timestamp::from_second(time.timestamp()));
    begins_at.and_then(|begins_at| Ok((begins_at, expires_at?))).map_err(|_| fault())
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Option<&Authorities>,
    settings: &TlsSettings,
) -> Result<ServerConfig, SettingFault> {
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|error| SettingFault::at("tls.min_version", error.to_string()))?;
    let builder = match authorities {
        Some(Authorities(verifier)) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unfit(&error, settings))?;
    // A sender that names protocols and none of these gets no connection, so all that are spoken are here (IANA, TLS ALPN
    // Protocol IDs).
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    if authorities.is_some() {
        // A resumed session would count as proven by a certificate that has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn unfit(error: &rustls::Error, settings: &TlsSettings) -> SettingFault {
    let (key, certificate) = (settings.key.0.display(), settings.certificate.0.display());
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let message =
                format!("the key in {key} does not belong to the first certificate in {certificate}");
            SettingFault::at("tls.key", message)
        }
        rustls::Error::InvalidCertificate(why) => SettingFault::at(
            "tls.certificate",
            format!("the first certificate in {certificate} cannot be used: {why}"),
        ),
        _ => SettingFault::at("tls.key", format!("the key in {key} cannot be used: {error}")),
    }
}
