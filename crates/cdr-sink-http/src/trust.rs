//! Whom to trust, and who we are: certificates, read from files.

use std::{fmt, fs::File, io, path::Path, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::settings::Tls;

type WantsRoots = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;
type HasRoots = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A configuration that trusts nobody: no certificate is looked at by plain HTTP.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, String> {
    tls(|builder| Ok(builder.with_root_certificates(RootCertStore::empty())), None)
        .map_err(|error| error.to_string())
}

/// Reads whom to trust and who we are. The error is in words for the operator.
pub(crate) fn trusting(settings: &Tls) -> Result<ClientConfig, String> {
    let identity = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(&key.0)
                .map_err(|error| format!("tls.key: {}: {error}", key.0.display()))?;
            Some((certificates(&certificate.0, "tls.certificate")?, key))
        }
        _ => None,
    };
    let Some(ca) = &settings.ca else {
        return tls(ConfigBuilderExt::with_native_roots, identity).map_err(|error| {
            format!("{error}: install the system's ca-certificates or name a file of them in SSL_CERT_FILE")
        });
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&ca.0, "tls.ca")? {
        roots.add(certificate).map_err(|error| format!("tls.ca: {}: {error}", ca.0.display()))?;
    }
    tls(|builder| Ok(builder.with_root_certificates(roots)), identity)
        .map_err(|error| format!("tls: {error}"))
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |error: &dyn fmt::Display| format!("{setting}: {}: {error}", path.display());
    let file = File::open(path).map_err(|error| told(&error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(file).collect();
    match read {
        Ok(none) if none.is_empty() => Err(told(&"there is no certificate in it; expected PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(told(&error)),
    }
}

/// Names the provider instead of relying on the process's default: a library must not depend on what `main` does.
fn tls(
    roots: impl FnOnce(WantsRoots) -> io::Result<HasRoots>,
    identity: Option<Identity>,
) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = roots(builder)?;
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(io::Error::other),
    }
}
