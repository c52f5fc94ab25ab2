//! Certificates made for a test, the files of a door that has one, and senders who look at it.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this subject and these hosts, made as `change` wants it.
    pub fn signs(
        &self,
        subject: &[(DnType, &str)],
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (part, value) in subject {
            params.distinguished_name.push(part.clone(), *value);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A door's.
    pub fn door(&self) -> Pair {
        self.signs(&[(DnType::CommonName, "gateway")], &["gateway"], |_| {})
    }

    /// A sender's.
    pub fn sender(&self, name: &str) -> Pair {
        self.signs(
            &[(DnType::CommonName, name), (DnType::OrganizationName, "Example, Ltd.")],
            &[name],
            |_| {},
        )
    }
}

impl Pair {
    /// Puts it where the settings of [`tls`] look.
    pub fn lie_in(&self, folder: &Path) {
        fs::write(folder.join("key.pem"), &self.key).unwrap();
        fs::write(folder.join("cert.pem"), &self.certificate).unwrap();
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// Settings of a door whose files lie in this folder.
pub fn tls(folder: &Path) -> Value {
    json!({ "certificate": folder.join("cert.pem"), "key": folder.join("key.pem") })
}

/// How a sender speaks TLS.
pub struct Speaks {
    pub trusts: CertificateDer<'static>,
    pub shows: Option<Pair>,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub protocols: &'static [&'static str],
}

impl Speaks {
    /// All that there is, and knows this authority.
    pub fn knowing(authority: &Authority) -> Self {
        let trusts = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
        Self { trusts, shows: None, versions: vec![&TLS12, &TLS13], protocols: &[] }
    }

    pub fn offering(self, protocols: &'static [&'static str]) -> Self {
        Self { protocols, ..self }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Shakes hands on a connection.
    pub async fn over(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("gateway").unwrap();
        TlsConnector::from(Arc::new(self.config())).connect(name, socket).await
    }

    /// Connects and shakes hands.
    pub async fn to(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?).await
    }
}

/// The certificate that the door showed.
pub fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}
