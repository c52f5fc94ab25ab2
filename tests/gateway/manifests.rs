//! The manifests that the running gateway writes: each day's once, when all of it is there, after `kill -9` too.
//!
//! No test waits for a midnight: the spools are made with pushes of the days before today.

use std::{fs, path::Path};

use bytes::Bytes;
use cdr_archive::Manifest;
use cdr_core::{Facts, Incoming};
use cdr_gateway::{
    config,
    manifests::due::{self, Faulty, Looked},
};
use cdr_simulator::s3::{Keys, S3Receiver};
use cdr_spool::{NewLane, Outcome, Position, Settings, Spool, Start};
use cdr_tests::{Process, cli, facts, until};
use futures_util::future::join_all;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde_json::{Value, json};

use super::{archive::verified, ask, call, configuration, paths};

/// Who archives in these tests gets everything, from the oldest push on, in days of UTC.
fn archiving(sink: Value) -> Value {
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["timezone"] = json!("UTC");
    settings["sinks"]["archive"] = sink;
    settings["sinks"]["archive"]["start_at"] = json!("beginning");
    settings["routes"] = json!([{ "name": "every push is archived", "to": ["archive"] }]);
    settings
}

fn in_files(layout: &str) -> Value {
    archiving(json!({ "file": { "path": "data/archive", "layout": layout } }))
}

fn day(days_ago: i64) -> Date {
    (Timestamp::now() - (24 * days_ago).hours()).to_zoned(TimeZone::UTC).date()
}

/// A spool with ten pushes of each of the days before today, positions 1 to 10 of the oldest. These were given up.
async fn days_ago(folder: &Path, days: i64, given_up: &[u64]) {
    let settings = Settings { max_size: 256 << 20, ..Settings::new(folder.join("data/spool")) };
    let lane = NewLane { name: "archive".to_owned(), start: Start::Beginning };
    let (spool, _) = Spool::open(settings, &[lane], Box::new(|_| {})).unwrap();
    for days in (1..=days).rev() {
        let received_at = Timestamp::now() - (24 * days).hours();
        let pushes = (0..10).map(|number| {
            let body = Bytes::from(call(&format!("s-{days}-{number}"), "ok"));
            let push = Incoming::read(Facts { received_at, ..facts("cdr", &body) }, body).unwrap();
            spool.append(cdr_dispatch::stored::to_spool(Box::new(push)))
        });
        join_all(pushes).await.into_iter().for_each(|kept| assert!(kept.is_ok()));
    }
    for &position in given_up {
        let dead = Outcome::Dead { reason: "refused".to_owned(), excerpt: String::new(), attempts: 1 };
        spool.record("archive", vec![(Position(position), dead)]).await;
    }
    spool.close().await;
}

/// The manifests in a folder, oldest day first, with their bytes.
fn manifests(folder: &Path) -> Vec<(Manifest, Vec<u8>)> {
    let mut paths = paths(&folder.join("data/archive/_manifest"), ".json");
    paths.sort();
    let read = |path| {
        let bytes: Vec<u8> = fs::read(path).unwrap();
        (serde_json::from_slice(&bytes).unwrap(), bytes)
    };
    paths.into_iter().map(read).collect()
}

fn days(manifests: &[(Manifest, Vec<u8>)]) -> Vec<Date> {
    manifests.iter().map(|(manifest, _)| manifest.day).collect()
}

/// Waits until the gateway says that everything before this day has its manifest.
fn until_noted(gateway: &Process, next: Date) {
    let begin = next.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second();
    let name = "cdr_gateway_archive_manifests_until_timestamp_seconds{sink=\"archive\"} ";
    until("the days are noted", || {
        let metrics = gateway.ask("GET", "/metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name))?.parse::<f64>().ok()?;
        (value as i64 == begin).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_day_that_is_over_gets_its_manifest_by_itself_and_once() {
    for layout in ["ndjson", "raw"] {
        let folder = tempfile::tempdir().unwrap();
        days_ago(folder.path(), 3, &[]).await;
        let gateway = Process::start(folder.path(), &in_files(layout).to_string());
        gateway.push("cdr", call("today", "ok").as_bytes(), None);
        until_noted(&gateway, day(0));
        let first = manifests(folder.path());
        assert_eq!(days(&first), [day(3), day(2), day(1)]);
        assert!(first.iter().all(|(manifest, _)| manifest.pushes == 10 && manifest.absent.is_empty()));
        gateway.until_delivered();
        gateway.kill();

        let gateway = Process::start_again(folder.path());
        until_noted(&gateway, day(0));
        assert_eq!(manifests(folder.path()), first, "none is written again");
        let by_hand = cli(folder.path(), &["archive", "manifest"], &[]);
        assert_eq!(by_hand.stdout, "no manifest is due\n", "{}", by_hand.stderr);
        let (code, findings) = verified(folder.path());
        assert_eq!((code, &findings["manifests"]), (Some(0), &json!(3)), "{findings}");

        let of_a_day = day(2).to_string();
        fs::remove_dir_all(folder.path().join(format!("data/archive/cdr/dt={of_a_day}"))).unwrap();
        paths(&folder.path().join("data/archive/_manifest"), &format!("{of_a_day}.json"))
            .into_iter()
            .for_each(|path| fs::remove_file(path).unwrap());
        let (code, findings) = verified(folder.path());
        assert_eq!(code, Some(1), "{findings}");
        assert!(findings["faults"][0].as_str().unwrap().contains("which it names, is gone"), "{findings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_does_not_hold_what_was_delivered_gets_none_and_those_before_do() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 3, &[]).await;
    let mut settings = in_files("ndjson");
    settings["sinks"]["archive"]["file"]["manifest"] = json!(false);
    let gateway = Process::start(folder.path(), &settings.to_string());
    gateway.until_delivered();
    gateway.kill();
    fs::remove_dir_all(folder.path().join(format!("data/archive/cdr/dt={}", day(2)))).unwrap();
    let gateway = Process::start(folder.path(), &in_files("ndjson").to_string());
    let told = gateway.until_logged("a day of the archive is over and gets no manifest");
    let why = told["why"].as_str().unwrap();
    let parts = [
        &*format!("{} gets no manifest", day(2)),
        "are not there: 11-20",
        "archive verify --archive archive",
    ];
    assert!(parts.iter().all(|part| why.contains(part)), "{why}");
    assert_eq!(days(&manifests(folder.path())), [day(3)]);
    until_noted(&gateway, day(2));
    let by_hand = cli(folder.path(), &["archive", "manifest"], &[]);
    assert_eq!((by_hand.code, by_hand.stdout.as_str()), (Some(1), ""), "{}", by_hand.stderr);

    let decided = cli(folder.path(), &["archive", "manifest", "--with-faults"], &[]);
    assert_eq!(decided.code, Some(0), "{}", decided.stderr);
    let noted = manifests(folder.path());
    assert_eq!(days(&noted), [day(3), day(2), day(1)]);
    assert_eq!((noted[1].0.pushes, noted[1].0.absent.as_str()), (0, "11-20"));
    assert!(noted[1].0.faults[0].contains("were delivered and are not there"), "{:?}", noted[1].0.faults);
    assert!(noted[2].0.faults.is_empty() && noted[2].0.absent.is_empty());
}

/// Its name tells no day, and so it is of the day of its first push.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_holds_several_days_stands_in_the_manifest_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 3, &[]).await;
    let mut settings = in_files("ndjson");
    settings["sinks"]["archive"]["file"]["key"] = json!("{spool}-{first}-{last}-{sha}.{ext}");
    let gateway = Process::start(folder.path(), &settings.to_string());
    until_noted(&gateway, day(0));
    let told: Vec<_> =
        manifests(folder.path()).into_iter().map(|(noted, _)| (noted.day, noted.pushes)).collect();
    assert_eq!(told, [(day(3), 30)]);
    let (code, findings) = verified(folder.path());
    assert_eq!((code, &findings["pushes"]), (Some(0), &json!(30)), "{findings}");
}

/// Each round ends as soon as the bucket has one more manifest, in the middle of the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_manifests_are_written_leaves_none_or_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 8, &[]).await;
    let s3 = S3Receiver::start(0, &["cdr"], Keys::new("KEY", "secret-of-tests")).await.unwrap();
    let settings = archiving(json!({ "s3": {
        "bucket": "cdr", "endpoint": s3.endpoint(), "path_style": true, "prefix": "calls/",
        "access_key_id": "KEY", "secret_access_key": "secret-of-tests", "batch": { "age": "10ms" },
    } }));
    fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
    let written = || {
        let objects = s3.objects("cdr").into_iter();
        objects.filter(|object| object.key.starts_with("calls/_manifest/")).collect::<Vec<_>>()
    };
    let mut rounds = 0;
    while written().len() < 8 {
        let before = written().len();
        let gateway = Process::start_again(folder.path());
        until("one more manifest", || (written().len() > before).then_some(()));
        gateway.kill();
        rounds += 1;
    }
    println!("8 manifests in {rounds} rounds");
    let gateway = Process::start_again(folder.path());
    until_noted(&gateway, day(0));
    assert!(written().iter().all(|object| object.puts == 1 && !object.overwritten));
    let (code, findings) = verified(folder.path());
    assert_eq!(code, Some(0), "{findings}");
    assert_eq!((&findings["manifests"], &findings["pushes"]), (&json!(8), &json!(80)));

    // A start that finds everything done asks for the list of manifests, and looks whether the bucket is there.
    gateway.kill();
    let before = s3.requests();
    let gateway = Process::start_again(folder.path());
    until_noted(&gateway, day(0));
    assert!(s3.requests() - before <= 2, "{} requests", s3.requests() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_waits_for_a_decision_about_its_dead_letters_and_names_those_that_never_came() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 3, &[13, 15]).await;
    let gateway = Process::start(folder.path(), &in_files("ndjson").to_string());
    let told = gateway.until_logged("the manifest of a day waits for a decision about its dead letters");
    assert_eq!((&told["day"], &told["dead_letters"]), (&json!(day(2).to_string()), &json!(2)), "{told}");
    assert_eq!(days(&manifests(folder.path())), [day(3)]);
    let by_hand = cli(folder.path(), &["archive", "manifest"], &[]).stdout;
    assert!(by_hand.contains("waits for a decision about 2 dead letters until "), "{by_hand}");

    let decided = |what: &str, position: &str| {
        let said = ask(&gateway, &["dead", what, position, "--sink", "archive"], &[]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    };
    decided("retry", "13");
    decided("discard", "15");
    until_noted(&gateway, day(0));
    let noted = manifests(folder.path());
    assert_eq!(days(&noted), [day(3), day(2), day(1)]);
    assert_eq!((noted[1].0.pushes, noted[1].0.absent.as_str()), (9, "15"));

    let verify = cli(folder.path(), &["archive", "verify"], &[]);
    assert_eq!(verify.code, Some(0), "{} {}", verify.stdout, verify.stderr);
    assert!(verify.stderr.contains("1 pushes of ") && verify.stderr.contains("not there by now: 15 "));
}

/// One look, as the gateway makes it, at this moment.
async fn look_at(folder: &Path, now: Timestamp) -> Looked {
    let source = config::Source::File(folder.join("gateway.yaml"));
    let archive = config::archives(&source, []).unwrap().remove(0);
    due::look(&archive, &folder.join("data/spool"), Faulty::Waits, None, now).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_for_a_day_and_what_comes_later_stands_in_a_later_manifest() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 2, &[3]).await;
    let gateway = Process::start(folder.path(), &in_files("ndjson").to_string());
    gateway.until_delivered();
    gateway.kill();
    let tomorrow = Timestamp::now() + 25.hours();
    let looked = look_at(folder.path(), tomorrow).await;
    let told: Vec<_> =
        looked.written.iter().map(|manifest| (manifest.day, manifest.absent.as_str())).collect();
    assert_eq!(told, [(day(2), "3"), (day(1), "")]);
    assert_eq!(look_at(folder.path(), tomorrow).await.written, [], "nothing is written twice");

    let gateway = Process::start_again(folder.path());
    let retried = ask(&gateway, &["dead", "retry", "3", "--sink", "archive"], &[]);
    assert_eq!(retried.code, Some(0), "{}", retried.stderr);
    gateway.push("cdr", call("today", "ok").as_bytes(), None);
    gateway.until_delivered();
    until("the retried push is archived", || {
        (paths(&folder.path().join("data/archive/cdr"), ".ndjson").len() == 4).then_some(())
    });
    gateway.kill();
    let looked = look_at(folder.path(), tomorrow).await;
    assert_eq!(looked.written.len(), 1, "{looked:?}");
    let keys: Vec<&str> = looked.written[0].objects.iter().map(|object| object.key.as_str()).collect();
    assert!(keys.len() == 2 && keys[0].contains(&format!("dt={}", day(2))), "{keys:?}");
    let verify = cli(folder.path(), &["archive", "verify"], &[]);
    assert_eq!((verify.code, verify.stderr.as_str()), (Some(0), ""), "{}", verify.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_written_is_said_once_tried_again_and_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 1, &[]).await;
    let in_the_way = folder.path().join("data/archive/_manifest");
    fs::create_dir_all(folder.path().join("data/archive")).unwrap();
    fs::write(&in_the_way, "no folder").unwrap();
    let gateway = Process::start(folder.path(), &in_files("ndjson").to_string());
    let told = "a day of the archive is over and gets no manifest";
    let why = gateway.until_logged(told);
    assert!(why["why"].as_str().unwrap().contains("_manifest"), "{why}");
    until_noted(&gateway, Date::constant(1970, 1, 1));
    gateway.push("cdr", call("today", "ok").as_bytes(), None);
    gateway.until_delivered();
    fs::remove_file(&in_the_way).unwrap();
    until_noted(&gateway, day(0));
    let is_told = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with(told));
    assert_eq!(gateway.log().iter().filter(|line| is_told(line)).count(), 1);
}

/// A name that leads nowhere fails whoever reads it.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_keep_beside_an_archive_is_never_read() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 2, &[]).await;
    let put = |key: &str| {
        let path = folder.path().join("data/archive").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
        path
    };
    for key in ["dump.tar", "logs/2026/dump.ndjson.gz", "logs/2026/calls.json"] {
        put(key);
    }
    let of_another_spool =
        format!("cdr/dt={}/c0ffee0000000001-{:020}-{:020}-c0ffee0000000002.ndjson", day(2), 1, 9);
    let of_another_spool = put(&of_another_spool);
    let gateway = Process::start(folder.path(), &in_files("ndjson").to_string());
    until_noted(&gateway, day(0));
    assert_eq!(days(&manifests(folder.path())), [day(2), day(1)]);
    gateway.kill();

    fs::remove_file(of_another_spool).unwrap();
    let (code, findings) = verified(folder.path());
    assert_eq!((code, &findings["pushes"]), (Some(0), &json!(20)), "{findings}");
    assert_eq!(findings["foreign"], json!(["dump.tar", "logs/2026/calls.json", "logs/2026/dump.ndjson.gz"]));
}

/// In `raw` each push is a file by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_archive_waits_for_what_it_was_owed_before_and_knows_what_it_got() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 2, &[]).await;
    let mut settings = in_files("raw");
    settings["sinks"]["archive"]["start_at"] = json!("now");
    let vault = settings["sinks"].as_object_mut().unwrap().remove("archive");
    settings["sinks"]["vault"] = vault.into();
    settings["routes"][0]["to"] = json!(["vault"]);
    let gateway = Process::start(folder.path(), &settings.to_string());
    let told = gateway.until_logged("the manifest of a day waits for a decision about a parked sink");
    assert_eq!((&told["day"], &told["owing"]), (&json!(day(2).to_string()), &json!("archive")), "{told}");
    let by_hand = cli(folder.path(), &["archive", "manifest"], &[]).stdout;
    assert!(by_hand.contains("cdr-gateway sink rename archive vault"), "{by_hand}");
    assert_eq!(days(&manifests(folder.path())), []);

    let renamed = ask(&gateway, &["sink", "rename", "archive", "vault"], &[]);
    assert_eq!(renamed.code, Some(0), "{}", renamed.stderr);
    until("the days are noted", || (manifests(folder.path()).len() == 2).then_some(()));
    assert!(manifests(folder.path()).iter().all(|(manifest, _)| manifest.pushes == 10));
    gateway.kill();
    let (code, findings) = verified(folder.path());
    assert_eq!((code, &findings["expected"]), (Some(0), &json!(20)), "{findings}");

    fs::remove_dir_all(folder.path().join("data/archive/_manifest")).unwrap();
    let file = paths(&folder.path().join("data/archive/cdr"), &format!("{:020}.json", 3)).remove(0);
    fs::remove_file(file).unwrap();
    let (code, findings) = verified(folder.path());
    assert_eq!(code, Some(1), "{findings}");
    assert!(findings["faults"][0].as_str().unwrap().ends_with("are not there: 3"), "{findings}");
}

/// Half a day east of those under which they were filed, and half a day west.
#[tokio::test(flavor = "multi_thread")]
async fn another_time_zone_makes_nothing_missing() {
    for timezone in ["Etc/GMT+12", "Etc/GMT-12"] {
        let folder = tempfile::tempdir().unwrap();
        days_ago(folder.path(), 3, &[]).await;
        let mut settings = in_files("ndjson");
        settings["sinks"]["archive"]["file"]["manifest"] = json!(false);
        let gateway = Process::start(folder.path(), &settings.to_string());
        gateway.until_delivered();
        gateway.kill();
        settings["timezone"] = json!(timezone);
        fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();

        let zone = TimeZone::get(timezone).unwrap();
        let of = (Timestamp::now() - 48.hours()).to_zoned(zone).date().to_string();
        let verify = cli(folder.path(), &["archive", "verify", "--from", &of, "--to", &of], &[]);
        assert_eq!(verify.code, Some(0), "{timezone}: {} {}", verify.stdout, verify.stderr);
        assert!(verify.stdout.contains("10 of them known to the spool"), "{}", verify.stdout);
        let noted = look_at(folder.path(), Timestamp::now() + 48.hours()).await.written;
        assert_eq!(noted.iter().map(|manifest| manifest.pushes).sum::<u64>(), 30, "{timezone}: {noted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_another_place_begins_with_what_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    days_ago(folder.path(), 2, &[]).await;
    let mut settings = in_files("ndjson");
    settings["sinks"]["archive"]["file"]["manifest"] = json!(false);
    let gateway = Process::start(folder.path(), &settings.to_string());
    gateway.until_delivered();
    gateway.kill();
    settings["sinks"]["archive"]["file"]["path"] = json!("data/vault");
    let gateway = Process::start(folder.path(), &settings.to_string());
    gateway.push("cdr", call("today", "ok").as_bytes(), None);
    gateway.until_delivered();
    gateway.kill();
    let verify = cli(folder.path(), &["archive", "verify"], &[]);
    assert_eq!(verify.code, Some(0), "{} {}", verify.stdout, verify.stderr);
    assert!(
        verify.stderr.contains("20 pushes up to 20 were delivered before all that lies here"),
        "{}",
        verify.stderr
    );
    let looked = look_at(folder.path(), Timestamp::now() + 48.hours()).await;
    let told: Vec<_> = looked.written.iter().map(|manifest| (manifest.day, manifest.pushes)).collect();
    assert_eq!((told, looked.elsewhere), (vec![(day(0), 1)], 20));

    fs::remove_dir_all(folder.path().join("data/vault/cdr")).unwrap();
    let (code, findings) = verified(folder.path());
    assert_eq!(code, Some(1), "{findings}");
}
