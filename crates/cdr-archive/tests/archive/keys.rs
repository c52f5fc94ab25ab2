//! Keys: where objects lie, whatever a sender sends.

use cdr_archive::{KeyTemplate, Layout};
use proptest::prelude::*;

use super::*;

fn with_key(layout: Layout, key: &str) -> Filing {
    filing(Settings { layout, key: Some(key.to_owned()), ..Settings::default() })
}

/// The key of a push's own object.
fn raw_key(filing: &Filing, push: Arc<Push>) -> String {
    filing.objects("", &batch([push]))[0].key().to_owned()
}

fn faults(layout: Layout, key: &str) -> String {
    KeyTemplate::parse(key, layout).unwrap_err()
}

#[test]
fn the_usual_keys_read_as_documented() {
    let lines = filing(Settings::default());
    let pushes = [7, 9].map(|position| push(position, "cdr", r#"{"SessionId":"s"}"#));
    let key = lines.seal("calls/", &batch(pushes)).unwrap().key;
    let named = "calls/cdr/dt=2026-03-31/c0ffee0000000001-00000000000000000007-00000000000000000009-";
    let digest = key.strip_prefix(named).and_then(|rest| rest.strip_suffix(".ndjson"));
    assert!(digest.is_some_and(|digest| digest.len() == 16), "{key}");

    let raw = filing(Settings { layout: Layout::Raw, ..Settings::default() });
    assert_eq!(
        raw_key(&raw, push(7, "videoCdr", "{}")),
        "videoCdr/dt=2026-03-31/c0ffee0000000001-00000000000000000007.json"
    );
}

#[test]
fn days_and_hours_are_those_of_the_time_zone() {
    let key = "{date}/{year}{month}{day}/{hour}/{spool}-{first}.{ext}";
    let settings = |timezone: &str| Settings {
        layout: Layout::Raw,
        key: Some(key.to_owned()),
        timezone: Some(timezone.to_owned()),
        ..Settings::default()
    };
    let begins = |timezone| {
        let key = raw_key(&filing(settings(timezone)), push(1, "cdr", r#"{"SessionId":"s"}"#));
        key.rsplit_once('/').unwrap().0.to_owned()
    };
    assert_eq!(begins("UTC"), "2026-03-31/20260331/23");
    assert_eq!(begins("Asia/Shanghai"), "2026-04-01/20260401/07");
}

#[test]
fn parts_of_a_call_are_there_or_said_to_be_missing() {
    let filing = with_key(Layout::Raw, "{app}/{result}/{session}/{spool}-{first}-{sha}.{ext}");
    let begins = |action: &str, body: &'static str| {
        raw_key(&filing, push(1, action, body)).rsplit_once('/').unwrap().0.to_owned()
    };
    let whole = r#"{"SessionId":"a-1","SdkAppId":1400000214,"EndStatusString":"noSeatOnline"}"#;
    assert_eq!(begins("cdr", whole), "1400000214/no_seat/a-1");
    assert_eq!(begins("unheard_of", "{}"), "~none/~none/~none");
    assert_eq!(begins("cdr", r#"{"SessionId":"~none"}"#), "~none/other/%7Enone");
}

#[test]
fn what_is_longer_than_any_honest_value_is_cut_and_stays_itself() {
    let filing = with_key(Layout::Raw, "{session}/{spool}-{first}.{ext}");
    let session = |last: char| {
        let body = format!(r#"{{"SessionId":"{}{last}"}}"#, "x".repeat(100_000));
        raw_key(&filing, push(1, "cdr", body)).split_once('/').unwrap().0.to_owned()
    };
    assert_eq!(session('a'), session('a'));
    assert_ne!(session('a'), session('b'));
    assert_eq!((session('a').len(), session('a').matches('~').count()), (64, 1));
}

#[test]
fn a_template_that_could_lose_or_confuse_is_refused_with_the_reason() {
    for (key, why) in [
        ("{action}/{first}-{sha}.{ext}", "needs {spool}"),
        ("{action}/{spool}-{sha}.{ext}", "needs {first}"),
        ("{action}/{spool}-{first}.{ext}", "needs {sha}"),
        ("{spool}-{first}-{sha}.ndjson", "ends with .{ext}"),
        ("{spool}-{first}-{sha}{ext}", "ends with .{ext}"),
        ("/{spool}-{first}-{sha}.{ext}", "does not begin with /"),
        ("a//{spool}-{first}-{sha}.{ext}", "empty"),
        ("../{spool}-{first}-{sha}.{ext}", "begins with a dot"),
        ("a\\b/{spool}-{first}-{sha}.{ext}", "no \\"),
        ("{spool}-{first}-{sha}-{session}-{session}-{session}.{ext}", "may become longer"),
        ("{sesion}/{spool}-{first}-{sha}.{ext}", "did you mean \"session\"?"),
        ("{spool/{first}-{sha}.{ext}", "unknown part"),
        ("spool}/{first}-{sha}.{ext}", "a } without its {"),
        ("{spool}-{first}-{sha}.{ext", "a { without its }"),
    ] {
        assert!(faults(Layout::Ndjson, key).contains(why), "{key}: {}", faults(Layout::Ndjson, key));
    }
    assert!(KeyTemplate::parse("{spool}-{first}.{ext}", Layout::Raw).is_ok());
}

#[test]
fn pushes_that_belong_to_different_places_share_no_object() {
    let filing = with_key(Layout::Ndjson, "{result}/{hour}/{spool}-{first}-{sha}.{ext}");
    let of = |status: &str, at: &str| {
        let body = format!(r#"{{"SessionId":"s","EndStatusString":"{status}"}}"#);
        let facts = Facts { received_at: at.parse().unwrap(), ..facts("cdr", body.as_bytes()) };
        Arc::new(Push::from_spool(SPOOL, Position(1), facts, body.into()))
    };
    let one = of("ok", "2026-03-31T10:00:00Z");
    let same = of("seatForward", "2026-03-31T10:59:59Z");
    let others = [of("busy", "2026-03-31T10:00:00Z"), of("ok", "2026-03-31T11:00:00Z")];
    assert_eq!(filing.partition(&one), filing.partition(&same));
    assert!(filing.seal("", &batch([one.clone(), same])).is_some());
    for other in others {
        assert_ne!(filing.partition(&one), filing.partition(&other));
        // What was gathered under other settings before a reload.
        assert_eq!(filing.seal("", &batch([one.clone(), other])), None);
    }
}

#[test]
fn the_digest_of_a_key_follows_from_every_push() {
    let filing = filing(Settings::default());
    let key = |positions: [u64; 3], last: &'static str| {
        let [a, b, c] = positions;
        let pushes = [
            push(a, "cdr", r#"{"SessionId":"a"}"#),
            push(b, "cdr", r#"{"SessionId":"b"}"#),
            push(c, "cdr", last),
        ];
        filing.seal("", &batch(pushes)).unwrap().key
    };
    let one = key([1, 2, 4], r#"{"SessionId":"c"}"#);
    assert_eq!(one, key([1, 2, 4], r#"{"SessionId":"c"}"#));
    assert_ne!(one, key([1, 3, 4], r#"{"SessionId":"c"}"#));
    assert_ne!(one, key([1, 2, 4], r#"{"SessionId":"d"}"#));
}

proptest! {
    #[test]
    fn no_session_leaves_its_place_or_is_taken_for_another(one in ".{1,90}|[./~%]{1,8}", other in ".{1,90}") {
        let filing = with_key(Layout::Raw, "calls/{session}/{action}/{spool}-{first}.{ext}");
        let of = |session: &str| {
            let body = serde_json::json!({ "SessionId": session }).to_string();
            raw_key(&filing, push(5, "cdr", body))
        };
        let key = of(&one);
        prop_assert_eq!(key.split('/').count(), 4, "{}", key);
        prop_assert!(key.starts_with("calls/") && key.is_ascii(), "{}", key);
        prop_assert!(key.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{}", key);
        prop_assert!(key.len() < 200, "{}", key);
        prop_assert_eq!(one == other, key == of(&other));
    }

    #[test]
    fn a_key_names_its_push_again(position: u64, spool: [u8; 8], action in "[A-Za-z0-9_]{1,32}", session in ".{0,80}") {
        let filing = with_key(Layout::Raw, "{session}-{action}/dt={date}/{spool}-{first}-{sha}.{ext}");
        let body = serde_json::json!({ "SessionId": session }).to_string();
        let facts = facts(&action, body.as_bytes());
        let push = Arc::new(Push::from_spool(SpoolId(spool), Position(position), facts, body.into()));
        let named = filing.key().push_of(&raw_key(&filing, push.clone())).unwrap();
        prop_assert_eq!((named.spool, named.position), (push.spool(), push.position()));
    }
}

#[test]
fn a_key_tells_its_day_in_one_part_or_in_three() {
    for key in ["{date}/{spool}-{first}.{ext}", "y={year}/{month}{day}/{spool}-{first}.{ext}"] {
        let filing = with_key(Layout::Raw, key);
        let key = raw_key(&filing, push(1, "cdr", r#"{"SessionId":"s"}"#));
        assert_eq!(filing.day_of(&key), Some("2026-03-31".parse().unwrap()), "{key}");
    }
    let filing = with_key(Layout::Raw, "{year}/{day}/{spool}-{first}.{ext}");
    assert_eq!(filing.day_of(&raw_key(&filing, push(1, "cdr", r#"{"SessionId":"s"}"#))), None);
}

#[test]
fn a_key_of_another_template_names_no_push() {
    let filing = with_key(Layout::Raw, "{action}/{spool}-{first}.{ext}");
    let named = filing.key().push_of("cdr/c0ffee0000000001-00000000000000000042.json").unwrap();
    assert_eq!((named.position, named.action.unwrap().as_str()), (Position(42), "cdr"));
    for key in
        ["cdr/c0ffee0000000001-42.json", "c0ffee0000000001-00000000000000000042.json", "cdr/readme.txt", ""]
    {
        assert_eq!(filing.key().push_of(key), None, "{key}");
    }
}

#[test]
fn an_object_is_known_by_its_name_whatever_the_settings_of_its_time() {
    let today = filing(Settings::default());
    let push = || push(7, "cdr", r#"{"SessionId":"s"}"#);
    for key in [
        "{spool}-{first}-{sha}.{ext}",
        "a/{sha}{first}{spool}.{ext}",
        "{date}/{first}/{session}_{spool}{sha}.{ext}",
    ] {
        let key = with_key(Layout::Ndjson, key).seal("", &batch([push()])).unwrap().key;
        assert!(today.is_object(&key) && today.is_object_of(SPOOL, &key), "{key}");
        assert!(!today.is_object_of(cdr_core::SpoolId([7; 8]), &key), "{key}");
    }
    let raw = raw_key(&filing(Settings { layout: Layout::Raw, ..Settings::default() }), push());
    assert!(today.is_object_of(SPOOL, &raw) && !today.is_object_of(cdr_core::SpoolId([7; 8]), &raw));
    let others =
        ["dump.tar", "logs/2026-03-31.ndjson.gz", "c0ffee0000000001.json", "20260331/part-00000.parquet"];
    assert_eq!(others.into_iter().find(|key| today.is_object(key)), None);
}
