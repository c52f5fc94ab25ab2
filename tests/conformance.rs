//! Every built-in sink keeps the plugin contract. What each answer of a receiver means is in the tests of that sink.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cdr_conformance::Suite;
use cdr_core::{SinkConfig, registry::AnySink};
use cdr_simulator::{
    crm::{Behaviour, Crm},
    s3::{Keys, S3Receiver},
    smtp::{Mishap, Privacy, SmtpOptions, SmtpReceiver, Step},
};
use cdr_sink_email::EmailSettings;
use cdr_sink_file::FileSettings;
use cdr_sink_http::HttpSettings;
use cdr_sink_s3::S3Settings;
use cdr_tests::build;
use serde_json::{Value, json};

const SECRET: &str = "a-secret-that-no-log-may-hold";

/// Builds a sink from the same settings each time.
fn sink<C: SinkConfig>(settings: Value) -> impl Fn() -> Arc<dyn AnySink> + Send + Sync {
    move || build::<C>(settings.clone()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(next).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in entries {
            match path.is_dir() {
                true => folders.push(path),
                // What a cut off attempt leaves under a temporary name is no part of the archive.
                false if path.extension().is_some_and(|extension| extension == "tmp") => {}
                false => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

#[tokio::test]
async fn the_file_sink_keeps_the_contract() {
    for layout in ["raw", "ndjson", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let mount = folder.path().join("no-mount/archive");
        let settings = |path: &Path| json!({ "path": path, "layout": layout });
        let suite =
            Suite::of(sink::<FileSettings>(settings(&path))).refused(sink::<FileSettings>(settings(&mount)));
        suite.holding(move || files(&path)).run().await;
    }
}

#[tokio::test]
async fn the_s3_sink_keeps_the_contract() {
    for layout in ["raw", "ndjson", "parquet"] {
        let server = Arc::new(S3Receiver::start(0, &["calls"], Keys::new("AKTEST", SECRET)).await.unwrap());
        let settings = |bucket: &str| {
            json!({
                "bucket": bucket, "endpoint": server.endpoint(), "path_style": true, "layout": layout,
                "access_key_id": "AKTEST", "secret_access_key": SECRET,
            })
        };
        let mut wrong = settings("calls");
        wrong["secret_access_key"] = json!("another-secret-that-no-log-may-hold");
        let suite = Suite::of(sink::<S3Settings>(settings("calls")))
            .secrets([SECRET, "another-secret-that-no-log-may-hold"])
            .refused(sink::<S3Settings>(settings("no-such-bucket")))
            .refused(sink::<S3Settings>(wrong));
        let held = move || {
            server.objects("calls").into_iter().map(|object| (object.key, object.bytes.to_vec())).collect()
        };
        suite.holding(held).run().await;
    }
}

#[tokio::test]
async fn the_http_sink_keeps_the_contract() {
    for more in [json!({}), json!({ "body": { "id": "{{SessionId}}", "at": "{{received_at}}" } })] {
        let (good, bad, silent) = (crm().await, crm().await, crm().await);
        bad.behave(Behaviour::status(401).body(format!("no such token: Bearer {SECRET}")));
        silent.behave(Behaviour::hang());
        let settings = |crm: &Crm| {
            let mut settings = more.clone();
            settings["url"] = json!(crm.url());
            settings["auth"] = json!({ "bearer": SECRET });
            settings["timeout"] = json!("300ms");
            settings
        };
        let suite = Suite::of(sink::<HttpSettings>(settings(&good)))
            .secrets([SECRET])
            .refused(sink::<HttpSettings>(settings(&bad)))
            .unanswered(sink::<HttpSettings>(settings(&silent)))
            .patience(Duration::from_secs(20));
        let held = move || {
            let received = good.received().into_iter().enumerate();
            received.map(|(number, request)| (format!("{number:05}"), request.body.to_vec())).collect()
        };
        suite.holding(held).run().await;
    }
}

async fn crm() -> Crm {
    Crm::start("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn the_email_sink_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let login = || Some(("cdr".to_owned(), SECRET.to_owned()));
    let server = async || {
        let options = SmtpOptions { privacy: Privacy::None, login: login(), ..SmtpOptions::default() };
        SmtpReceiver::start(0, options).await.unwrap()
    };
    let (good, bad, silent) = (server().await, server().await, server().await);
    bad.misbehave(Mishap::reply(Step::Auth, format!("535 no such login: {SECRET}")));
    silent.misbehave(Mishap::stall(Step::Mail));
    let addresses = json!({ "from": "CDR gateway <cdr@example.com>", "to": ["on-call@example.com"] });
    let settings = |server: &SmtpReceiver| {
        let mut settings = addresses.clone();
        settings["smtp"] = json!({
            "url": format!("smtp://127.0.0.1:{}", server.port()), "tls": "none", "username": "cdr", "password": SECRET,
        });
        settings["timeout"] = json!("2s");
        settings
    };
    let suite = Suite::of(sink::<EmailSettings>(settings(&good)))
        .secrets([SECRET])
        .refused(sink::<EmailSettings>(settings(&bad)))
        .unanswered(sink::<EmailSettings>(settings(&silent)));
    suite.patience(Duration::from_secs(20)).run().await;

    let mut outbox = addresses.clone();
    outbox["outbox"] = json!(folder.path().join("outbox"));
    Suite::of(sink::<EmailSettings>(outbox)).run().await;
}
