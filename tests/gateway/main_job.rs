//! Pushes come in, are stored, and reach archive, CRM and mailbox by the routes.

use std::{collections::HashSet, time::Duration};

use cdr_core::CallResult;
use cdr_simulator::{
    crm::{Behaviour, Crm},
    s3::{Keys, S3Receiver},
};
use cdr_tests::{Process, cli, until};
use serde_json::json;

use super::{configuration, files, outbox, result, sample_cdrs, session, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_reach_archive_crm_and_outbox_by_their_routes() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    let samples = sample_cdrs();
    for (name, body) in &samples {
        let answer = gateway.push("cdr", body, None);
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ErrCode":0,"ErrMsg":"ok"}"#), "{name}");
    }
    gateway.until_delivered();
    gateway.until_logged("delivered since the last such line");

    let sent: HashSet<_> = samples.iter().map(|(_, body)| sha256(body)).collect();
    let archived = files(&folder.path().join("data/archive"), ".json");
    assert_eq!(archived.len(), samples.len());
    assert_eq!(archived.iter().map(|body| sha256(body)).collect::<HashSet<_>>(), sent);

    let answered = samples.iter().filter(|(_, body)| result(body) == CallResult::Answered);
    let answered: HashSet<_> = answered.map(|(_, body)| sha256(body)).collect();
    assert!(answered.len() > 5);
    assert_eq!(crm.digests().into_keys().collect::<HashSet<_>>(), answered);

    let mails = outbox(folder.path()).join("\n");
    for (name, body) in &samples {
        let raises = name.contains("error") || name.contains("no-seat-online") || name.contains("nulls");
        assert_eq!(mails.contains(&session(body)), raises, "{name} in\n{mails}");
    }
    assert_eq!(gateway.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_delivered_once_and_a_correction_too() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    let first = br#"{"SessionId":"s-1","EndStatusString":"ok"}"#;
    let corrected = br#"{"SessionId":"s-1","EndStatusString":"ok","UserRemark":"corrected"}"#;
    for (body, uuid) in [(&first[..], "u-1"), (first, "u-1"), (corrected, "u-2"), (corrected, "u-2")] {
        assert_eq!(gateway.push("cdr", body, Some(uuid)).err_code(), 0);
    }
    // The same UUID with other bytes is a push of its own, and somebody should hear of it.
    let other = br#"{"SessionId":"s-2","EndStatusString":"ok"}"#;
    assert_eq!(gateway.push("cdr", other, Some("u-1")).err_code(), 0);
    gateway.until_delivered();
    assert_eq!(crm.received().len(), 3);
    assert_eq!(files(&folder.path().join("data/archive"), ".json").len(), 3);
    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(metrics.contains(r#"cdr_gateway_requests_total{verdict="repeat"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"cdr_gateway_requests_total{verdict="uuid_reused"} 1"#), "{metrics}");
    assert!(gateway.log().iter().any(|line| line["level"] == "WARN" && line.to_string().contains("UUID")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_failures_are_two_mails_that_name_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    for number in 0..100 {
        let body = format!(r#"{{"SessionId":"failed-{number:03}","EndStatusString":"noSeatOnline"}}"#);
        assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
    }
    until("every session is in a mail", || {
        let mails = outbox(folder.path()).join("\n");
        (0..100).all(|number| mails.contains(&format!("failed-{number:03}"))).then_some(())
    });
    assert!(outbox(folder.path()).len() <= 2, "{} mails", outbox(folder.path()).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crm_that_refuses_is_named_by_readyz_and_leaves_it_ready() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    crm.behave(Behaviour::status(401));
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    gateway.push("cdr", br#"{"SessionId":"s","EndStatusString":"ok"}"#, None);
    let paused =
        until("the lane pauses", || Some(gateway.lane("crm")).filter(|lane| !lane["paused"].is_null()));
    assert!(paused["paused"]["reason"].as_str().unwrap().contains("401"), "{paused}");
    let ready = gateway.ask("GET", "/readyz");
    assert_eq!((ready.status, &ready.json()["sick_sinks"][0]["sink"]), (200, &json!("crm")));
    assert_eq!(gateway.ask("GET", "/healthz").status, 200);
    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(metrics.contains(r#"cdr_gateway_lane_paused{sink="crm"} 1"#), "{metrics}");
    crm.behave_well();
    gateway.until_delivered();
    assert_eq!(crm.kept(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn send_pushes_files_and_made_up_calls_as_tccc_would() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration("http://127.0.0.1:1/").to_string());
    let url = format!("http://{}/", gateway.door);
    std::fs::write(folder.path().join("call.json"), r#"{"SessionId":"from-a-file"}"#).unwrap();
    let sent = cli(folder.path(), &["send", "call.json", "--url", &url], &[]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert!(sent.stdout.contains("call.json"), "{}", sent.stdout);
    let sent =
        cli(folder.path(), &["send", "--count", "50", "--connections", "4", "--url", &url, "--quiet"], &[]);
    assert!(sent.stderr.contains("50 pushes") && sent.stdout.is_empty(), "{}{}", sent.stdout, sent.stderr);
    until("all archived", || (files(&folder.path().join("data/archive"), ".json").len() == 51).then_some(()));
    let nobody = cli(folder.path(), &["send", "--retries", "0", "--url", "http://127.0.0.1:1/"], &[]);
    assert_eq!(nobody.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_spools_archive_side_by_side_in_one_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3Receiver::start(0, &["cdr"], Keys::new("KEY", "secret-of-tests")).await.unwrap();
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["sinks"]["archive"] = json!({ "s3": {
        "bucket": "cdr", "region": "us-east-1", "endpoint": s3.endpoint(), "path_style": true,
        "access_key_id": "KEY", "secret_access_key": "secret-of-tests", "layout": "raw",
    } });
    let push_ten = |name: &str| {
        let gateway = Process::start(folder.path(), &settings.to_string());
        for number in 0..10 {
            let body = format!(r#"{{"SessionId":"{name}-{number}","EndStatusString":"busy"}}"#);
            assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
        }
        gateway.until_delivered();
        assert_eq!(gateway.terminate(), Some(0));
    };
    push_ten("before");
    std::fs::remove_dir_all(folder.path().join("data/spool")).unwrap();
    push_ten("after");
    let objects = s3.objects("cdr");
    let bodies: HashSet<_> = objects.iter().map(|object| object.bytes.clone()).collect();
    assert_eq!((objects.len(), bodies.len()), (20, 20));
    assert!(objects.iter().all(|object| object.puts == 1 && !object.overwritten), "{objects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_with_a_good_summary_and_a_broken_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let good = cli(folder.path(), &["demo", "--calls", "30"], &[]);
    assert_eq!(good.code, Some(0), "{}\n{}", good.stdout, good.stderr);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "the demo leaves nothing behind");
    let broken = cli(folder.path(), &["demo", "--calls", "30", "--break", "crm-loses"], &[]);
    assert_eq!(broken.code, Some(1), "{}\n{}", broken.stdout, broken.stderr);
    assert!(broken.stdout.contains("FAILED"), "{}", broken.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let crm = Crm::start("127.0.0.1:0").await.unwrap();
    let gateway = Process::start(folder.path(), &configuration(&crm.url()).to_string());
    for number in 0..20 {
        let body = format!(r#"{{"SessionId":"s-{number}","EndStatusString":"ok"}}"#);
        gateway.push("cdr", body.as_bytes(), None);
    }
    assert_eq!(gateway.terminate(), Some(0));
    // What was not delivered before the stop is delivered after the start, and nothing twice.
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    tokio::time::timeout(Duration::from_secs(60), crm.until_kept(20)).await.unwrap();
    assert_eq!(crm.repeats(), 0);
}
