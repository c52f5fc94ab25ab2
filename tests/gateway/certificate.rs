//! A certificate that is replaced while pushes come: by senders who keep their connection and senders who open one for each
//! push, as they really are.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cdr_tests::{Process, until};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::configuration;

/// A self-signed certificate and its key, as PEM.
pub(super) fn pair(name: &str) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(super) fn write(folder: &Path, (certificate, key): &(String, String)) {
    fs::write(folder.join("cert.pem"), certificate).unwrap();
    fs::write(folder.join("key.pem"), key).unwrap();
}

/// A sender who trusts these certificates.
fn connector(trusted: &[&(String, String)]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for (certificate, _) in trusted {
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

async fn connect(connector: &TlsConnector, door: SocketAddr) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(door).await.expect("it listens");
    let localhost = ServerName::try_from("localhost").unwrap();
    connector.connect(localhost, socket).await.expect("a certificate that is trusted")
}

async fn push(stream: &mut TlsStream<TcpStream>, session: &str) {
    let body = json!({ "SessionId": session }).to_string();
    let length = body.len();
    let head = format!("POST /?action=cdr HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(br#"{"ErrCode":0,"ErrMsg":"ok"}"#) {
        let read = stream.read_buf(&mut answer).await.expect("it answers");
        assert!(read > 0, "an answer of {:?}", String::from_utf8_lossy(&answer));
    }
}

/// The subject that a new connection is shown, as `openssl` sees it.
fn subject(door: SocketAddr) -> String {
    let ask = format!(
        "openssl s_client -connect {door} -servername localhost </dev/null 2>/dev/null | openssl x509 -noout -subject"
    );
    let asked = Command::new("sh").args(["-c", &ask]).output().unwrap();
    String::from_utf8_lossy(&asked.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_twice_under_load_fails_no_push() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = ["first", "second", "third"].map(pair);
    write(folder.path(), &pairs[0]);
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["tls"] = json!({ "certificate": "cert.pem", "key": "key.pem" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let door = gateway.door;
    assert_eq!(subject(door), "subject=CN = first");

    let connector = connector(&pairs.each_ref());
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sender = |name: usize, keeps: bool| {
        let (connector, over, sent) = (connector.clone(), Arc::clone(&over), Arc::clone(&sent));
        tokio::spawn(async move {
            let mut stream = connect(&connector, door).await;
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if !keeps {
                    stream = connect(&connector, door).await;
                }
                push(&mut stream, &format!("{name}-{number}")).await;
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let senders: Vec<_> = (0..6).map(|name| sender(name, name % 2 == 0)).collect();
    let some_more = || {
        let before = sent.load(Ordering::Relaxed);
        until("pushes come", || (sent.load(Ordering::Relaxed) > before + 100).then_some(()));
    };
    some_more();
    // By itself, and by a reload, which does not wait for the next look.
    write(folder.path(), &pairs[1]);
    until("the second is shown", || (subject(door) == "subject=CN = second").then_some(()));
    some_more();
    write(folder.path(), &pairs[2]);
    gateway.hang_up();
    until("the third is shown", || (subject(door) == "subject=CN = third").then_some(()));
    some_more();
    over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.expect("no push failed");
    }
    let metrics = gateway.ask("GET", "/metrics").body;
    let stored =
        format!(r#"cdr_gateway_requests_total{{verdict="stored"}} {}.0"#, sent.load(Ordering::Relaxed));
    assert!(metrics.contains(&stored), "{stored} in\n{metrics}");
    assert!(metrics.contains("\ncdr_gateway_certificate_expiry_timestamp_seconds "), "{metrics}");
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn half_a_certificate_is_said_once_and_the_other_half_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (pair("first"), pair("second"));
    write(folder.path(), &first);
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["tls"] = json!({ "certificate": "cert.pem", "key": "key.pem" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    fs::write(folder.path().join("cert.pem"), &second.0).unwrap();
    let told = gateway.until_logged("the files of ingress.tls have changed and cannot be taken");
    assert!(
        told["message"].as_str().unwrap().contains("does not belong to the first certificate in"),
        "{told}"
    );
    assert_eq!(subject(gateway.door), "subject=CN = first");
    fs::write(folder.path().join("key.pem"), &second.1).unwrap();
    gateway.until_logged("the files of ingress.tls have changed; new connections");
    assert_eq!(subject(gateway.door), "subject=CN = second");
    let said = |line: &&serde_json::Value| {
        line["message"].as_str().is_some_and(|text| text.contains("cannot be taken"))
    };
    assert_eq!(gateway.log().iter().filter(said).count(), 1);
}
