//! The examples work: the sink counts, the configurations are good.

use std::{net::UdpSocket, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::{Batch, Delivery, Facts, Origin, Outcome, Position, Push, Sinks, SpoolId};
use cdr_example_sink::StatsdSettings;
use cdr_gateway::config::{self, Source};
use sha2::{Digest, Sha256};

fn push(body: &'static str) -> Arc<Push> {
    let facts = Facts {
        action: "cdr".parse().unwrap(),
        version: None,
        uuid: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        sender: None,
        origin: Origin::Push,
        sha256: Sha256::digest(body).into(),
    };
    Arc::new(Push::from_spool(SpoolId([0; 8]), Position(1), facts, Bytes::from_static(body.as_bytes())))
}

#[tokio::test]
async fn the_sink_counts_a_call() {
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let settings = serde_json::json!({ "address": statsd.local_addr().unwrap() });
    let sinks = Sinks::default().with::<StatsdSettings>();
    let sink = sinks.build("statsd", &"numbers".parse().unwrap(), settings).unwrap().unwrap();
    let body = r#"{"SessionId":"s","EndStatusString":"ok","AcceptTimestamp":100,"EndedTimestamp":175}"#;
    let delivery =
        Delivery { push: push(body), routes: Arc::from([]), attempt: 1, replay: false, may_be_there: false };
    let report = sink.deliver(&Batch::new(vec![delivery]).unwrap()).await;
    assert!(matches!(report.outcomes(), [Outcome::Delivered(_)]), "{report:?}");
    let mut datagram = [0; 200];
    let length = statsd.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"cdr.calls.answered:1|c\ncdr.talk:75000|ms");
}

#[tokio::test]
async fn the_sink_keeps_the_contract() {
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = serde_json::json!({ "address": statsd.local_addr().unwrap() });
    let sink = move || {
        let sinks = Sinks::default().with::<StatsdSettings>();
        sinks.build("statsd", &"numbers".parse().unwrap(), settings.clone()).unwrap().unwrap()
    };
    cdr_conformance::Suite::of(sink).run().await;
}

#[test]
fn every_configuration_here_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sinks = cdr_gateway::builtin_sinks().with::<StatsdSettings>();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(!files.is_empty());
    let secrets = [("TCCC_PASSWORD", "x"), ("SMTP_PASSWORD", "x"), ("CRM_TOKEN", "x")];
    for path in files {
        let environment = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
        if let Err(faults) = config::load(&Source::File(path.clone()), &sinks, environment) {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            panic!("{}:\n{}", path.display(), faults.join("\n"));
        }
    }
}
