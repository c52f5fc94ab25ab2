//! What mails say, read back the way a mail program reads them.

use std::sync::Arc;

use cdr_core::{Alert, AlertKind, Batch, Delivery, Facts, Origin, Push, setting};
use cdr_simulator::smtp::{ReceivedMail, SmtpReceiver};
use cdr_tests::{batch, facts, push, push_at, push_of, sample, samples};
use mail_parser::MessageParser;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{delivered, email, no_seat, plain_server, replayed, settings};

/// The mail that this batch becomes.
async fn mail_of(batch: &Batch) -> ReceivedMail {
    let server = plain_server().await;
    mail_by(&server, json!({}), batch).await
}

async fn mail_by(server: &SmtpReceiver, more: Value, batch: &Batch) -> ReceivedMail {
    delivered(&email(settings(server, more)).deliver(batch).await);
    server.mails().pop().unwrap()
}

fn alert(kind: AlertKind, about: &str, subject: &str, resolved: bool) -> Arc<Push> {
    let alert = Alert {
        kind,
        about: about.to_owned(),
        subject: subject.to_owned(),
        text: "It is away since 02:51.\n.\nLook at it with: cdr-gateway sink".to_owned(),
        resolved,
        at: "2026-11-21T18:51:07Z".parse().unwrap(),
    };
    let body = serde_json::to_vec(&alert).unwrap();
    push_of(Facts { origin: Origin::Alert, ..facts(Alert::ACTION, &body) }, body)
}

#[tokio::test]
async fn one_session_is_told_in_full() {
    let batch = batch([no_seat()]);
    let mail = mail_of(&batch).await;
    assert_eq!(
        mail.subject,
        "[CDR] noSeatOnline: no agent was online, 售后, 2024-07-15 08:03 (+08:00), session 99ee14df…"
    );
    for line in [
        "Session:      99ee14df-ab25-55ac-b91b-aaf389fc9e53",
        "Status:       noSeatOnline: no agent was online",
        "Direction:    inbound",
        "Caller:       ***8000 (广东深圳)",
        "Callee:       ***0000",
        "Skill group:  售后",
        "Started:      2024-07-15 08:03:20 +08:00",
        "Ended:        2024-07-15 08:03:45 +08:00",
        "Waited:       13 s",
        "Routes:       a route",
        "Received:     2026-04-01 07:30:00 +08:00",
        "Find it with: cdr-gateway trace 99ee14df-ab25-55ac-b91b-aaf389fc9e53",
    ] {
        assert!(mail.text.lines().any(|found| found == line), "{line:?} is not in\n{}", mail.text);
    }
    let position = format!("Position:     {} of spool c0ffee0000000001", batch.first().push.position());
    assert!(mail.text.contains(&position));
    assert!(!mail.text.contains("1970") && !mail.text.contains("Talked"), "{}", mail.text);
}

#[tokio::test]
async fn an_answered_call_names_its_agent() {
    let mail =
        mail_of(&batch([push("cdr", sample("cdr/cdr-01-inbound-ok-transfer-3-participants.json"))])).await;
    assert!(mail.subject.starts_with("[CDR] ok: ended normally, "), "{}", mail.subject);
    let agent = mail.text.lines().find(|line| line.starts_with("Agent:")).unwrap();
    assert!(agent.contains('@'), "{agent}");
    assert!(mail.text.contains("Talked:"), "{}", mail.text);
}

#[tokio::test]
async fn times_are_told_in_the_zone_that_is_set() {
    let server = plain_server().await;
    let mail = mail_by(&server, json!({ "timezone": "America/New_York" }), &batch([no_seat()])).await;
    assert!(mail.subject.contains("2024-07-14 20:03 (-04:00)"), "{}", mail.subject);
}

#[tokio::test]
async fn a_hundred_sessions_are_one_mail_that_names_each() {
    let status = |i: usize| ["noSeatOnline", "noSeatOnline", "noSeatOnline", "error", "新状态"][i % 5];
    let body = |i| {
        json!({
            "SessionId": format!("会话-{i}-😀"), "EndStatusString": status(i), "QueuedSkillGroupName": "售后",
            "StartTimestamp": 1721001800 + i, "Caller": format!("0086138{:08}", i * 7),
        })
    };
    let batch = batch((0..100).map(|i| push("cdr", body(i).to_string())));
    let mail = mail_of(&batch).await;
    assert_eq!(
        mail.subject,
        "[CDR] 60 × noSeatOnline, 20 × error, 20 × 新状态, 售后, since 2024-07-15 08:03 (+08:00)"
    );
    for i in 0..100 {
        let named = |line: &&str| line.split("  ").next() == Some(&format!("会话-{i}-😀"));
        let rows: Vec<_> = mail.text.lines().filter(named).collect();
        assert_eq!(rows.len(), 1, "{i}: {rows:?}");
        assert!(rows[0].contains(status(i)) && rows[0].contains(&format!("***{:04}", i * 7)), "{rows:?}");
    }
    assert!(mail.text.contains("   60 × noSeatOnline: no agent was online\n"), "{}", mail.text);
}

#[tokio::test]
async fn a_replay_says_so_and_is_no_repeat() {
    let server = plain_server().await;
    for pushes in [vec![no_seat()], vec![no_seat(), no_seat()]] {
        let batch = batch(pushes);
        let first = mail_by(&server, json!({}), &batch).await;
        let again = mail_by(&server, json!({}), &replayed(&batch)).await;
        assert!(again.subject.starts_with("[CDR] replay: ") && !first.subject.contains("replay"));
        assert!(again.text.contains("replay") || again.text.contains("Replay"));
        assert_ne!(first.message_id, again.message_id);
    }
}

#[tokio::test]
async fn mails_about_pushes_that_no_spool_holds_are_told_apart_by_what_they_say() {
    let server = plain_server().await;
    let mut ids = Vec::new();
    for body in [r#"{"SessionId":"a"}"#, r#"{"SessionId":"b"}"#, r#"{"SessionId":"a"}"#] {
        let batch = batch([push_at(0, facts("cdr", body.as_bytes()), body)]);
        ids.push(mail_by(&server, json!({}), &batch).await.message_id);
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2], "a repeat bears the same id");
}

#[tokio::test]
async fn every_kind_of_push_reads_sensibly() {
    for (action, file, subject, line) in [
        (
            "record",
            "record-01-agent-side",
            "[CDR] record: a recording is ready, 2024-07-15",
            "Of:           agent1@example.com",
        ),
        (
            "voicemail",
            "voicemail-01-numeric-endpoint-user",
            "[CDR] voicemail: a caller left a message, 2024-07-15",
            "Caller:       ***8000",
        ),
        ("imcdr", "imcdr-01-ok", "[CDR] autoFinished: ended by itself", "Satisfaction: 满意"),
        ("videoCdr", "videocdr-01-error", "[CDR] error: system error", "Status:       error: system error"),
    ] {
        let mail = mail_of(&batch([push(action, sample(&format!("other-actions/{file}.json")))])).await;
        assert!(mail.subject.starts_with(subject), "{}", mail.subject);
        assert!(mail.text.contains(line), "{}", mail.text);
    }
    let several = ["record-02-user-side-custom-cos", "record-01-agent-side"];
    let record = |file| push("record", sample(&format!("other-actions/{file}.json")));
    let voicemail = push("voicemail", sample("other-actions/voicemail-01-numeric-endpoint-user.json"));
    let mail = mail_of(&batch(several.map(record).into_iter().chain([voicemail]))).await;
    assert!(
        mail.subject.starts_with("[CDR] 2 × record, 1 × voicemail, since 2024-07-15"),
        "{}",
        mail.subject
    );
    assert!(mail.text.contains("    2 × record: a recording is ready\n"), "{}", mail.text);
    assert!(mail.text.lines().any(|row| row.contains("voicemail  2024-") && row.contains("***8000")));
    let unknown = mail_of(&batch([push("somethingNew", r#"{"SessionId":"x"}"#)])).await;
    assert_eq!(unknown.subject, "[CDR] somethingNew, 07:30 (+08:00)");
    assert!(unknown.text.contains("Position:") && !unknown.text.contains("trace"), "{}", unknown.text);
}

#[tokio::test]
async fn every_sample_becomes_a_mail_that_names_its_session() {
    let server = plain_server().await;
    let mut pushes = Vec::new();
    for entry in std::fs::read_dir(samples().join("cdr")).unwrap() {
        let push = push("cdr", std::fs::read(entry.unwrap().path()).unwrap());
        let session = push.session_id().unwrap().to_owned();
        let mail = mail_by(&server, json!({}), &batch([Arc::clone(&push)])).await;
        assert!(mail.text.contains(&session), "{session}");
        pushes.push(push);
    }
    let all = mail_by(&server, json!({}), &batch(pushes.clone())).await;
    assert!(pushes.len() > 20);
    assert!(pushes.iter().all(|push| all.text.contains(push.session_id().unwrap())));
}

#[tokio::test]
async fn alerts_speak_for_themselves_and_say_when_they_are_over() {
    let server = plain_server().await;
    let away = alert(AlertKind::Paused, "crm", "crm is away: nobody listens at 127.0.0.1:9000", false);
    let mail = mail_by(&server, json!({}), &batch([Arc::clone(&away)])).await;
    assert_eq!(mail.subject, "[cdr-gateway] crm is away: nobody listens at 127.0.0.1:9000");
    assert!(
        mail.text.contains("It is away since 02:51.\n.\nLook at it with: cdr-gateway sink\n"),
        "{}",
        mail.text
    );
    assert!(
        mail.text
            .contains("When:         2026-11-22 02:51:07 +08:00\nKind:         paused\nAbout:        crm\n")
    );

    let over = alert(AlertKind::Paused, "crm", "crm is back", true);
    let mail = mail_by(&server, json!({}), &batch([away, over])).await;
    assert_eq!(mail.subject, "[cdr-gateway] over: crm is back (and 1 more)");
    assert!(mail.text.contains("crm is away: nobody listens") && mail.text.contains("over: crm is back"));

    let body = r#"{"kind":"of a later version","subject":"x"}"#;
    let unreadable = push_of(Facts { origin: Origin::Alert, ..facts("alert", body.as_bytes()) }, body);
    let mail = mail_by(&server, json!({}), &batch([unreadable])).await;
    assert!(mail.subject.starts_with("[cdr-gateway] ") && mail.text.contains("of a later version"));
}

#[tokio::test]
async fn alerts_gather_by_kind_and_sessions_by_status() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    let of = |push: Arc<Push>| sink.partition(&push);
    let paused = of(alert(AlertKind::Paused, "crm", "x", false));
    assert_eq!(paused, of(alert(AlertKind::Paused, "archive", "y", true)));
    assert_ne!(paused, of(alert(AlertKind::Disk, "spool", "x", false)));
    assert_ne!(paused, of(no_seat()));
    // A first system error is told at once, although missing agents were told a minute ago.
    assert_ne!(of(no_seat()), of(push("cdr", r#"{"SessionId":"x","EndStatusString":"error"}"#)));
    let invented = |status| of(push("cdr", format!(r#"{{"SessionId":"x","EndStatusString":"{status}"}}"#)));
    assert_eq!(invented("new1"), invented("new2"));
    // A voicemail does not wait for the mail about recordings.
    let voicemail = of(push("voicemail", "{}"));
    assert_ne!(voicemail, of(push("record", "{}")));
    assert_ne!(voicemail, invented("new1"));
}

#[tokio::test]
async fn headers_are_those_of_a_robot_and_all_is_ascii_in_short_lines() {
    let mail = mail_of(&batch([push("cdr", sample("cdr/cdr-11-emoji-4-byte-utf8.json")), no_seat()])).await;
    let parsed = MessageParser::default().parse(&mail.raw).unwrap();
    assert_eq!(parsed.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
    assert!(parsed.date().is_some());
    assert!(mail.raw.is_ascii());
    assert!(
        mail.raw
            .split(|&b| b == b'\n')
            .all(|line| line.len() <= 998 && line.ends_with(b"\r") || line.is_empty())
    );
}

#[tokio::test]
async fn what_a_caller_chooses_cannot_add_a_header_or_a_line() {
    let evil = "x\r\nBcc: evil@example.com\r\n\r\nSession: forged\u{2028}\u{202e}gnp.exe\r\n.\r\nMAIL FROM:<evil@example.com>";
    let body = json!({
        "SessionId": evil, "EndStatusString": evil, "QueuedSkillGroupName": evil, "Caller": evil, "Callee": evil,
        "UserRemark": evil, "SeatUser": { "Nick": evil, "Mail": evil }, "HungUpSide": evil, "CallerLocation": evil,
    });
    let server = plain_server().await;
    let hostile = || push("cdr", body.to_string());
    for batch in [batch([hostile()]), batch([hostile(), hostile()])] {
        let mail = mail_by(&server, json!({}), &batch).await;
        assert_eq!(mail.to, ["on-call@example.com"]);
        assert_unharmed(&mail);
        assert!(!mail.text.contains("trace x"), "no command that would not find it");
    }
    assert_eq!(server.mails().len(), 2);
}

/// The headers are ours alone, and no line of the text begins with words from outside.
fn assert_unharmed(mail: &ReceivedMail) {
    let parsed = MessageParser::default().parse(&mail.raw).unwrap();
    let mut names: Vec<_> = parsed.headers().iter().map(|header| header.name().to_lowercase()).collect();
    names.sort();
    let ours = [
        "auto-submitted",
        "content-type",
        "date",
        "from",
        "list-id",
        "message-id",
        "mime-version",
        "subject",
        "to",
    ];
    assert_eq!(names, ours);
    let forged = |line: &&str| {
        ["Bcc", "Session: forged", "MAIL FROM", "."].iter().any(|start| line.starts_with(start))
    };
    assert_eq!(mail.text.lines().find(forged), None, "{}", mail.text);
    assert!(
        !mail.text.contains(['\u{2028}', '\u{202e}']) && !mail.subject.contains(['\u{2028}', '\u{202e}'])
    );
}

/// The page of a mail.
fn html(mail: &ReceivedMail) -> String {
    let parsed = MessageParser::default().parse(&mail.raw).unwrap();
    parsed.body_html(0).unwrap().replace("\r\n", "\n").replace("&#x2f;", "/")
}

#[tokio::test]
async fn the_page_says_what_the_text_says() {
    let mail = mail_of(&batch([no_seat()])).await;
    for part in [
        "99ee14df-ab25-55ac-b91b-aaf389fc9e53",
        "no agent was online",
        "***8000 (广东深圳)",
        "cdr-gateway trace 99ee14df",
    ] {
        assert!(html(&mail).contains(part), "{part}: {}", html(&mail));
    }
    let server = plain_server().await;
    let linked = json!({ "link": "https://ops.example.com/trace/{session}" });
    let mail = mail_by(&server, linked, &batch([no_seat(), no_seat()])).await;
    let link = "<a href=\"https://ops.example.com/trace/99ee14df-ab25-55ac-b91b-aaf389fc9e53\">";
    assert_eq!(html(&mail).matches(link).count(), 2, "{}", html(&mail));
}

#[tokio::test]
async fn a_mail_in_chinese_has_no_english_but_names() {
    let server = plain_server().await;
    let mail = mail_by(&server, json!({ "language": "zh" }), &batch([no_seat()])).await;
    assert!(mail.subject.starts_with("[CDR] noSeatOnline: 无座席在线, 售后, "), "{}", mail.subject);
    for line in ["状态:         noSeatOnline: 无座席在线", "方向:         呼入", "等待时长:     13 秒"]
    {
        assert!(mail.text.lines().any(|found| found == line), "{line:?} is not in\n{}", mail.text);
    }
    let page = html(&mail);
    assert!(
        page.contains("lang=\"zh-CN\"") && page.contains("无座席在线") && !page.contains("no agent"),
        "{page}"
    );
    let table = mail_by(&server, json!({ "language": "zh" }), &batch([no_seat(), no_seat()])).await;
    assert!(table.subject.contains("2 × noSeatOnline, 售后, 自 2024-07-15"), "{}", table.subject);
}

#[tokio::test]
async fn numbers_are_shown_as_far_as_the_settings_allow() {
    let remark = json!({
        "SessionId": "x", "Direction": 0, "Caller": "008613800138000", "Callee": "075512345678", "UserRemark": "call 13911112222",
        "UserId": "13933334444", "SeatUser": { "UserId": "13955556666" }, "IVRKeyPressed": ["13977778888"],
    });
    let call = batch([push("cdr", remark.to_string())]);
    let server = plain_server().await;
    for (numbers, shown) in [("full", 6), ("last4", 0), ("hidden", 0)] {
        let mail = mail_by(&server, json!({ "numbers": numbers }), &call).await;
        for said in [mail.text.clone(), html(&mail)] {
            let whole = [
                "008613800138000",
                "075512345678",
                "13911112222",
                "13933334444",
                "13955556666",
                "13977778888",
            ];
            assert_eq!(whole.iter().filter(|number| said.contains(**number)).count(), shown, "{said}");
            assert_eq!(said.contains("***8000"), numbers == "last4", "{said}");
        }
    }
}

#[tokio::test]
async fn each_route_tells_its_own_recipients() {
    let server = plain_server().await;
    let own = json!({ "to_by_route": { "sales": ["sales@example.com"], "both": ["on-call@example.com", "boss@example.com"] } });
    let sink = email(settings(&server, own));
    let by = |route: &str| Delivery {
        routes: Arc::from([route.to_owned()]),
        ..batch([no_seat()]).first().clone()
    };
    let batch = Batch::new(vec![by("sales"), by("both"), by("sales"), by("another")]).unwrap();
    delivered(&sink.deliver(&batch).await);
    let told: Vec<_> = server.mails().iter().map(|mail| mail.to.join(" ")).collect();
    assert_eq!(told, ["sales@example.com", "on-call@example.com boss@example.com", "on-call@example.com"]);
    assert!(server.mails()[0].subject.starts_with("[CDR] 2 × "), "{}", server.mails()[0].subject);
}

#[tokio::test]
async fn templates_of_ones_own_write_the_mail_and_ours_when_they_fail() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("subject.txt"), "{{ calls|length }} calls {{ [1, 2][calls|length - 1] }}")
        .unwrap();
    std::fs::write(dir.path().join("mail.html"), "<p>{{ calls[0].group }}</p>").unwrap();
    let server = plain_server().await;
    let own = json!({ "templates": { "subject": "subject.txt", "html": "mail.html" } });
    let sink = setting::with_surroundings(around(dir.path()), || email(settings(&server, own)));
    let hostile = || push("cdr", r#"{"SessionId":"x","QueuedSkillGroupName":"<b>&"}"#);
    delivered(&sink.deliver(&batch([hostile()])).await);
    let mail = server.mails().pop().unwrap();
    assert_eq!((mail.subject.as_str(), html(&mail).trim()), ("1 calls 1", "<p>&lt;b&gt;&amp;</p>"));
    assert!(mail.text.contains("Session:      x"));
    delivered(&sink.deliver(&batch([hostile(), hostile(), hostile()])).await);
    let mail = server.mails().pop().unwrap();
    assert!(mail.subject.starts_with("[CDR] 3 × cdr"), "a template that fails on a push: {}", mail.subject);
}

/// Surroundings whose files lie in this folder.
pub(super) fn around(base: &std::path::Path) -> setting::Surroundings {
    setting::Surroundings {
        base: base.to_owned(),
        timezone: "Asia/Shanghai".to_owned(),
        secret: |place| match place {
            setting::SecretPlace::File(path) => {
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
            }
            setting::SecretPlace::Env(_) => Err("no environment".to_owned()),
        },
    }
}

#[tokio::test]
async fn a_preview_is_what_would_be_sent() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    let batch = batch([no_seat()]);
    let parts = sink.preview(&batch).0;
    assert!(server.mails().is_empty());
    delivered(&sink.deliver(&batch).await);
    let mail = server.mails().pop().unwrap();
    assert_eq!(parts[0].text, mail.subject);
    assert_eq!(parts[1].text.trim_end(), mail.text.trim_end());
    assert_eq!(parts[2].text.trim_end(), html(&mail).trim_end());
    assert!(parts[1].is_plain && !parts[2].is_plain);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_text_breaks_a_mail(session in "\\PC{1,40}|(.|\r|\n){1,40}", group in "(.|\r|\n){0,300}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = json!({ "SessionId": session, "QueuedSkillGroupName": group, "EndStatusString": group });
        let mail = runtime.block_on(mail_of(&batch([push("cdr", body.to_string())])));
        prop_assert!(mail.raw.is_ascii());
        prop_assert!(mail.subject.starts_with("[CDR] ") && mail.subject.chars().count() <= 250);
        let sessions = mail.text.lines().filter(|line| line.starts_with("Session:")).count();
        prop_assert_eq!(sessions, 1);
        let known = |line: &str| line.is_empty() || line.as_bytes().get(13) == Some(&b' ') && line.contains(':');
        prop_assert!(mail.text.lines().all(known), "{}", mail.text);
    }

    #[test]
    fn no_text_becomes_html(text in "(<|>|\"|'|&|/|javascript:|script|img|onerror=|\\PC){1,60}", link: bool) {
        let body = json!({
            "SessionId": text, "QueuedSkillGroupName": text, "EndStatusString": text, "Caller": text, "Callee": text,
            "UserRemark": text, "UserNickName": text, "HungUpSide": text, "SeatUser": { "Nick": text, "Mail": text },
        });
        let settings = json!({
            "outbox": "unused", "from": "a@example.com", "to": ["b@example.com"], "numbers": "full",
            "link": link.then_some("https://ops.example.com/trace/{session}"),
        });
        let sink = email(settings);
        let elements = |html: &str| html.matches('<').count();
        for count in [1, 2] {
            let with = |body: String| batch((0..count).map(|_| push("cdr", body.clone())));
            let hostile = sink.preview(&with(body.to_string())).0[2].text.replace("&#x2f;", "/");
            let harmless = body.to_string().replace(&serde_json::to_string(&text).unwrap(), "\"x\"");
            let harmless = sink.preview(&with(harmless)).0[2].text.clone();
            // A session that no shell takes names no command, and a text of blanks is not told at all.
            prop_assert!(elements(&hostile) <= elements(&harmless), "{hostile}");
            prop_assert_eq!(hostile.matches("href=").count(), hostile.matches("href=\"https://ops.example.com/trace/").count());
        }
    }
}
