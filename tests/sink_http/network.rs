//! The way to the receiver: proxies, HTTP/2, certificates of ours, addresses that are not meant.

use super::*;
use cdr_simulator::crm::CrmOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::PrivateKeyDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

/// An authority, and the folder that its files lie in.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn issue(&self, host: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a certificate of ours and its key; their settings.
    fn client(&self) -> Value {
        let (certificate, key) = self.issue("gateway");
        std::fs::write(self.path("client.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("client.key"), key.serialize_pem()).unwrap();
        json!({
            "tls": { "ca": self.path("ca.pem"), "certificate": self.path("client.pem"), "key": self.path("client.key") }
        })
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// A CRM by HTTPS at 127.0.0.1 that speaks these protocols.
    async fn crm(&self, protocols: &[&str], asks_for_ours: bool) -> Crm {
        let tls = Some(self.server(protocols, asks_for_ours));
        Crm::start_with("127.0.0.1:0", CrmOptions { tls, ..CrmOptions::default() }).await.unwrap()
    }

    /// How a server at 127.0.0.1 proves itself, and what it speaks.
    pub fn server(&self, protocols: &[&str], asks_for_ours: bool) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue("127.0.0.1");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = || -> Arc<dyn ClientCertVerifier> {
            WebPkiClientVerifier::builder_with_provider(self.roots().into(), Arc::clone(&provider))
                .build()
                .unwrap()
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match asks_for_ours {
            true => builder.with_client_cert_verifier(verifier()),
            false => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut tls = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(tls)
    }
}

#[tokio::test]
async fn a_receiver_that_asks_who_we_are_is_told() {
    let authority = Authority::new();
    let crm = authority.crm(&[], true).await;
    receipt(&attempt(&sink(&crm.url(), authority.client())).await);
    let nobody = sink(&crm.url(), json!({ "tls": { "ca": authority.path("ca.pem") } }));
    let report = attempt(&nobody).await;
    // It says so after our request went out, and hangs up: its words may be lost with the connection.
    match report.why_unavailable() {
        Some(away) => assert!(away.reason.contains("does not let us in (TLS alert CertificateRequired)")),
        None => drop(retry(&report)),
    }
    assert_eq!(crm.kept(), 1);
}

#[tokio::test]
async fn files_of_certificates_are_told_when_they_are_no_good() {
    let authority = Authority::new();
    let crm = authority.crm(&[], false).await;
    let reason = async |settings: Value| {
        let report = attempt(&sink(&crm.url(), settings)).await;
        away(&report).reason.clone()
    };
    let missing = reason(json!({ "tls": { "ca": authority.path("none.pem") } })).await;
    assert!(missing.starts_with("tls.ca: ") && missing.contains("none.pem: No such file"), "{missing}");
    std::fs::write(authority.path("empty.pem"), "").unwrap();
    let empty = reason(json!({ "tls": { "ca": authority.path("empty.pem") } })).await;
    assert!(empty.ends_with("there is no certificate in it; expected PEM"), "{empty}");
}

#[tokio::test]
async fn http_2_is_spoken_where_the_receiver_offers_it() {
    let authority = Authority::new();
    let tls = json!({ "tls": { "ca": authority.path("ca.pem") } });
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], http::Version::HTTP_2),
        (&["http/1.1"], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ] {
        let crm = authority.crm(protocols, false).await;
        let sink = sink(&format!("{}?a=b", crm.url()), tls.clone());
        receipt(&attempt(&sink).await);
        receipt(&attempt(&sink).await);
        let [first, second] = <[_; 2]>::try_from(crm.received()).unwrap();
        assert_eq!((first.version, second.version), (version, version));
        assert_eq!(first.from, second.from, "connections are used again");
        assert_eq!(first.uri.path_and_query().unwrap(), "/calls?a=b");
        assert_eq!((crm.kept(), crm.repeats()), (2, 0));
    }
}

#[tokio::test]
async fn plain_http_goes_to_the_proxy_with_its_whole_address() {
    let proxy = crm().await;
    let through = format!("http://user:pass@{}", proxy.addr());
    let sink = sink("http://crm.example.com/calls?a=b", json!({ "proxy": through }));
    receipt(&attempt(&sink).await);
    let received = &proxy.received()[0];
    assert_eq!(received.uri.to_string(), "http://crm.example.com/calls?a=b");
    assert_eq!(received.header("host"), Some("crm.example.com"));
    // echo -n user:pass | base64
    assert_eq!(received.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
}

#[tokio::test]
async fn https_goes_through_the_proxy_unseen() {
    let authority = Authority::new();
    let crm = authority.crm(&[], false).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let target = crm.addr();
    let tunnel = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        String::from_utf8(head).unwrap()
    });
    let settings = json!({ "proxy": proxy, "tls": { "ca": authority.path("ca.pem") } });
    let sink = sink(&crm.url(), settings);
    receipt(&attempt(&sink).await);
    drop((sink, crm));
    let head = tunnel.await.unwrap();
    assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
}

#[tokio::test]
async fn where_clouds_keep_credentials_nothing_is_sent_unless_it_is_allowed() {
    let reason = async |settings: Value| {
        let report = attempt(&sink("http://169.254.169.254/calls", settings)).await;
        away(&report).reason.clone()
    };
    let refused = reason(json!({ "proxy": "none" })).await;
    assert!(refused.contains("where clouds hand out credentials; set allow_private: true"), "{refused}");
    let allowed = json!({ "allow_private": true, "connect_timeout": "50ms", "proxy": "none" });
    assert!(!reason(allowed).await.contains("credentials"));
}
