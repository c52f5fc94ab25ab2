//! Receivers that speak HTTPS.

use std::{path::Path, process::Command};

use super::*;
use cdr_simulator::crm::CrmOptions;
use rcgen::{CertifiedKey, KeyPair};

/// A CRM with a certificate that it signed itself.
async fn self_signed() -> (Crm, CertifiedKey<KeyPair>) {
    let certified =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let options = CrmOptions { tls: Some(Arc::new(tls)), ..CrmOptions::default() };
    (Crm::start_with("127.0.0.1:0", options).await.unwrap(), certified)
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_refused() {
    let (crm, _) = self_signed().await;
    let sink = sink(&crm.url(), json!({}));
    let reason = format!("the certificate of {} is not trusted", crm.addr());
    let report = attempt(&sink).await;
    assert!(away(&report).reason.starts_with(&reason), "{report:?}");
    assert!(sink.probe().await.unwrap_err().starts_with(&reason));
    assert_eq!(crm.received().len(), 0);
}

#[tokio::test]
async fn a_certificate_named_in_ssl_cert_file_is_trusted() {
    let (crm, certified) = self_signed().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.pem");
    std::fs::write(&file, certified.cert.pem()).unwrap();
    let url = crm.url();
    let child = tokio::task::spawn_blocking(move || in_a_process_of_its_own(&url, &file)).await.unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(crm.kept(), 2);
}

/// The variable belongs to a whole process, so that a test cannot set it beside others.
fn in_a_process_of_its_own(url: &str, certificates: &Path) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sink_http::tls::two_pushes_by_https", "--ignored", "--nocapture"])
        .env("SSL_CERT_FILE", certificates)
        .env_remove("SSL_CERT_DIR")
        .env("CDR_TEST_URL", url)
        .output()
        .unwrap()
}

#[tokio::test]
#[ignore = "a_certificate_named_in_ssl_cert_file_is_trusted runs it in a process of its own"]
async fn two_pushes_by_https() {
    let url = std::env::var("CDR_TEST_URL").expect("the address of a crm");
    let sink = sink(&url, json!({}));
    receipt(&attempt(&sink).await);
    receipt(&attempt(&sink).await);
}

#[tokio::test]
async fn https_to_a_port_that_speaks_http_is_away() {
    let crm = crm().await;
    let report = attempt(&sink(&crm.url().replace("http:", "https:"), json!({}))).await;
    assert!(away(&report).reason.starts_with(&format!("no TLS with {}", crm.addr())), "{report:?}");
}

#[tokio::test]
async fn http_to_a_port_that_speaks_https_is_a_retry() {
    let (crm, _) = self_signed().await;
    retry(&attempt(&sink(&crm.url().replace("https:", "http:"), json!({}))).await);
    assert_eq!(crm.received().len(), 0);
}
