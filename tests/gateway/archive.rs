//! `cdr-gateway archive`: checked, noted day by day, and sent again, in every layout and after `kill -9`.

use std::{fs, path::Path};

use bytes::Bytes;
use cdr_core::{Facts, Incoming};
use cdr_simulator::{
    crm::Crm,
    s3::{Keys, Mishap, S3Receiver},
};
use cdr_spool::{Settings, Spool};
use cdr_tests::{Process, cli, facts, until};
use futures_util::future::join_all;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use super::{call, configuration, crash, paths};

/// A configuration whose archive is of this layout, gets everything, from the oldest push on, and no manifests by itself.
fn archiving(crm: &str, layout: &str) -> Value {
    let mut settings = configuration(crm);
    settings["timezone"] = json!("UTC");
    settings["sinks"]["archive"] = json!({ "file": { "path": "data/archive", "layout": layout, "manifest": false }, "start_at": "beginning" });
    if layout != "raw" {
        settings["sinks"]["archive"]["file"]["batch"] = json!({ "pushes": 7, "age": "20ms" });
    }
    settings["routes"] = json!([{ "name": "every push is archived", "to": ["archive"] }]);
    settings
}

/// A spool with ten pushes of each of the three days before today.
async fn three_days_ago(folder: &Path) {
    let settings = Settings { max_size: 256 << 20, ..Settings::new(folder.join("data/spool")) };
    let (spool, _) = Spool::open(settings, &[], Box::new(|_| {})).unwrap();
    for days in (1..=3).rev() {
        let arrival = Timestamp::now() - (24 * days).hours();
        let pushes = (0..10).map(|number| {
            let body = Bytes::from(call(&format!("s-{days}-{number}"), "ok"));
            let facts = Facts { received_at: arrival, ..facts("cdr", &body) };
            let push = Incoming::read(facts, body).unwrap();
            spool.append(cdr_dispatch::stored::to_spool(Box::new(push)))
        });
        join_all(pushes).await.into_iter().for_each(|kept| assert!(kept.is_ok()));
    }
    spool.close().await;
}

/// What `archive verify` says.
pub fn verified(folder: &Path) -> (Option<i32>, Value) {
    let told = cli(folder, &["archive", "verify", "--format", "json"], &[]);
    let findings =
        serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{} {}", told.stdout, told.stderr));
    (told.code, findings)
}

fn faults(findings: &Value) -> Vec<&str> {
    findings["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn days_get_their_manifests_once_and_what_is_taken_away_is_found() {
    for layout in ["ndjson", "parquet", "raw"] {
        let folder = tempfile::tempdir().unwrap();
        three_days_ago(folder.path()).await;
        let gateway = Process::start(folder.path(), &archiving("http://127.0.0.1:1/", layout).to_string());
        gateway.push("cdr", call("today", "ok").as_bytes(), None);
        gateway.until_delivered();

        let run = |arguments: &[&str]| cli(folder.path(), arguments, &[]);
        let noted = run(&["archive", "manifest"]);
        assert_eq!(
            (noted.code, noted.stdout.lines().count()),
            (Some(0), 3),
            "{} {}",
            noted.stdout,
            noted.stderr
        );
        assert!(noted.stdout.lines().all(|line| line.contains(": 10 pushes in ")), "{}", noted.stdout);
        assert_eq!(run(&["archive", "manifest"]).stdout, "no manifest is due\n");

        let (code, findings) = verified(folder.path());
        assert_eq!(code, Some(0), "{findings}");
        assert_eq!(
            (&findings["pushes"], &findings["expected"], &findings["manifests"]),
            (&json!(31), &json!(31), &json!(3))
        );
        let words = run(&["archive", "verify"]).stdout;
        assert!(
            words.ends_with("3 manifests: nothing missing, nothing twice, every body as it arrived\n"),
            "{words}"
        );

        let object = paths(&folder.path().join("data/archive/cdr"), "").remove(0);
        fs::remove_file(&object).unwrap();
        let (code, findings) = verified(folder.path());
        let faults = faults(&findings);
        assert_eq!((code, faults.len()), (Some(1), 2), "{faults:?}");
        assert!(faults[0].contains(" is gone (positions "), "{faults:?}");
        assert!(faults[1].contains("were delivered and are not there"), "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_which_something_is_open_waits_for_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    three_days_ago(folder.path()).await;
    let mut settings = archiving("http://127.0.0.1:1/", "ndjson");
    // The folder above it is not there: a missing mount.
    settings["sinks"]["archive"]["file"]["path"] = json!("mount/archive");
    let gateway = Process::start(folder.path(), &settings.to_string());
    cdr_tests::until("the lane pauses", || (!gateway.lane("archive")["paused"].is_null()).then_some(()));
    fs::create_dir_all(folder.path().join("mount/archive")).unwrap();
    gateway.kill();
    let told = cli(folder.path(), &["archive", "manifest"], &[]);
    assert!(told.stdout.contains("is still open"), "{} {}", told.stdout, told.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_sent_to_a_sink_although_the_spool_is_gone() {
    for layout in ["ndjson", "parquet", "raw"] {
        let folder = tempfile::tempdir().unwrap();
        three_days_ago(folder.path()).await;
        let crm = Crm::start("127.0.0.1:0").await.unwrap();
        let gateway = Process::start(folder.path(), &archiving(&crm.url(), layout).to_string());
        gateway.until_delivered();
        gateway.kill();
        fs::remove_dir_all(folder.path().join("data/spool")).unwrap();
        let alone = cli(folder.path(), &["archive", "verify"], &[]);
        assert_eq!(alone.code, Some(0), "{} {}", alone.stdout, alone.stderr);
        assert!(alone.stderr.contains("checked by itself alone"), "{}", alone.stderr);
        assert!(
            alone.stdout.contains("30 pushes in ") && alone.stdout.contains(", 0 of them known"),
            "{}",
            alone.stdout
        );

        let day = (Timestamp::now() - 48.hours()).strftime("%Y-%m-%d").to_string();
        let replay = ["archive", "replay", "--sink", "crm", "--from", &day, "--to", &day];
        let counted = cli(folder.path(), &[&replay[..], &["--dry-run"]].concat(), &[]);
        assert_eq!(counted.stdout, "10 pushes would be sent to crm\n", "{}", counted.stderr);
        assert_eq!(crm.received().len(), 0);
        let sent = cli(folder.path(), &replay, &[]);
        assert_eq!(sent.stdout, "10 pushes were sent to crm\n", "{layout} {}", sent.stderr);
        let received = crm.received();
        assert_eq!(received.len(), 10);
        assert!(received.iter().all(|received| received.header("x-cdr-gateway-replay") == Some("true")));
        let sessions: std::collections::BTreeSet<String> = received
            .iter()
            .map(|received| serde_json::from_slice::<Value>(&received.body).unwrap()["SessionId"].to_string())
            .collect();
        assert!(
            sessions.len() == 10 && sessions.iter().all(|session| session.starts_with("\"s-2-")),
            "{sessions:?}"
        );

        let into_itself = cli(folder.path(), &["archive", "replay", "--sink", "archive"], &[]);
        assert_eq!(into_itself.code == Some(0), layout == "raw", "{}", into_itself.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn which_archive_is_meant_must_be_clear() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = archiving("http://127.0.0.1:1/", "raw");
    settings["sinks"]["second"] = json!({ "file": { "path": "data/second" } });
    let _gateway = Process::start(folder.path(), &settings.to_string());
    let told = |arguments: &[&str]| cli(folder.path(), arguments, &[]).stderr;
    let vague = told(&["archive", "verify"]);
    assert!(vague.contains("say --archive SINK; there are: archive, second"), "{vague}");
    let wrong = told(&["archive", "verify", "--archive", "crm"]);
    assert!(wrong.contains("there is no archive \"crm\"; there are: archive, second"), "{wrong}");
}

/// Twenty rounds, of which each ends in the middle of uploads.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_each_push_once_after_twenty_kills_during_uploads() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3Receiver::start(0, &["cdr"], Keys::new("KEY", "secret-of-tests")).await.unwrap();
    let mut settings = archiving("http://127.0.0.1:1/", "ndjson");
    settings["sinks"]["archive"] = json!({ "s3": {
        "bucket": "cdr", "endpoint": s3.endpoint(), "path_style": true, "prefix": "calls/",
        "access_key_id": "KEY", "secret_access_key": "secret-of-tests",
        "layout": "ndjson", "compression": "zstd", "batch": { "pushes": 20, "age": "15ms" },
    } });
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let acknowledged = crash::killed_under_load(folder.path(), 20, 4);
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();

    let (code, findings) = verified(folder.path());
    assert_eq!(code, Some(0), "{findings}");
    let objects = s3.objects("cdr");
    assert!(objects.iter().all(|object| object.puts == 1 && !object.overwritten));
    let (mut positions, mut bodies) = (Vec::new(), std::collections::HashSet::new());
    for object in &objects {
        for record in cdr_archive::record::read(&object.key, &object.bytes).unwrap().unwrap() {
            positions.push(record.position.0);
            bodies.insert(record.digest());
        }
    }
    let all = positions.len();
    positions.sort_unstable();
    positions.dedup();
    println!("20 kills: {} acknowledged, {all} archived in {} objects", acknowledged.len(), objects.len());
    assert_eq!(positions.len(), all, "no position is there twice");
    assert!(acknowledged.iter().all(|sha| bodies.contains(sha)), "something was lost");
    assert_eq!(findings["pushes"], all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_got_raw_without_saying_so_is_there_once_although_the_layout_changes() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3Receiver::start(0, &["cdr"], Keys::new("KEY", "secret-of-tests")).await.unwrap();
    let mut settings = archiving("http://127.0.0.1:1/", "raw");
    settings["sinks"]["archive"] = json!({
        "s3": {
            "bucket": "cdr", "endpoint": s3.endpoint(), "path_style": true, "prefix": "calls/",
            "access_key_id": "KEY", "secret_access_key": "secret-of-tests", "layout": "raw",
        },
        "retry": { "initial": "500ms", "max": "500ms" },
    });
    let gateway = Process::start(folder.path(), &settings.to_string());
    s3.next(1000, Mishap::LoseAnswer);
    let push = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let body = call(&format!("s-{number}"), "ok");
            assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
        }
    };
    push(0..20);
    until("some are there, and nobody says so", || (s3.objects("cdr").len() >= 5).then_some(()));
    settings["sinks"]["archive"]["s3"]["layout"] = json!("ndjson");
    settings["sinks"]["archive"]["s3"]["batch"] = json!({ "pushes": 5, "age": "15ms" });
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    assert_eq!(gateway.ask("POST", "/api/v1/reload").status, 200);
    s3.behave();
    push(20..40);
    gateway.until_delivered();

    let (code, findings) = verified(folder.path());
    assert_eq!(code, Some(0), "{findings}");
    assert_eq!((&findings["pushes"], faults(&findings).len()), (&json!(40), 0), "{findings}");
    let is_raw = |key: &str| key.ends_with(".json");
    let raw = s3.objects("cdr").iter().filter(|object| is_raw(&object.key)).count();
    assert!((5..30).contains(&raw) && raw < s3.objects("cdr").len(), "{raw} raw, the others sealed");
}
