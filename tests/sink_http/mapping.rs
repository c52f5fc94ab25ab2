//! Bodies, paths, parameters and headers that are made of a push.

use super::*;
use proptest::prelude::*;

const CALL: &str = r#"{"SessionId":"s/1 ?#","Direction":0,"Caller":"008613800138000","Callee":"0085223456789",
    "StartTimestamp":1772353800,"AcceptTimestamp":0,"Duration":42,"EndStatusString":"ok","IVRKeyPressed":["1","2"],
    "SeatUser":{"Name":"李 \"娜\"\r\nX-Evil: 1"},"CampaignId":"spring"}"#;

fn received(crm: &Crm) -> cdr_simulator::crm::Received {
    crm.received().pop().expect("a request")
}

#[tokio::test]
async fn a_body_is_made_of_fields_and_keeps_their_types() {
    let crm = crm().await;
    let body = json!({
        "subject": "Call of {{e164(customer)}} ({{words(EndStatusString)}})",
        "seconds": "{{Duration}}",
        "agent": "{{SeatUser.Name}}",
        "keys": "{{IVRKeyPressed}}",
        "answered": "{{time(AcceptTimestamp)}}",
        "note": "mail: {{SeatUser.Mail}}.",
        "started": { "at": "{{time(StartTimestamp, timezone)}}" },
        "is_inbound": "{{Direction == 0}}",
        "tags": ["phone", "{{cdr.CampaignId}}"],
        "braces": "{{ {'a': {'b': '}}'}} }}",
        "fixed": 7, "nothing": null,
    });
    let sink = sink(&crm.url(), json!({ "body": body, "timezone": "Asia/Shanghai" }));
    assert_eq!(receipt(&send(&sink, &push("cdr", CALL)).await), "HTTP 200");
    let sent: Value = serde_json::from_slice(&received(&crm).body).unwrap();
    let expected = json!({
        "subject": "Call of +8613800138000 (ended normally)",
        "seconds": 42,
        "agent": "李 \"娜\"\r\nX-Evil: 1",
        "keys": ["1", "2"],
        "answered": null,
        "note": "mail: .",
        "started": { "at": "2026-03-01T16:30:00+08:00" },
        "is_inbound": true,
        "tags": ["phone", "spring"],
        "braces": { "a": { "b": "}}" } },
        "fixed": 7, "nothing": null,
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn path_query_and_headers_are_encoded_whatever_a_field_holds() {
    let crm = crm().await;
    let settings = json!({
        "path": "/sessions/{{SessionId}}/calls",
        "query": { "phone": "{{phones(customer)}}", "agent": "{{SeatUser.Name}}", "mail": "{{SeatUser.Mail}}", "limit": 1 },
        "headers": { "X-Agent": "{{SeatUser.Name}}", "X-Mail": "{{SeatUser.Mail}}" },
    });
    let sink = sink(&format!("{}/?key=a%20b", crm.url()), settings);
    receipt(&send(&sink, &push("cdr", CALL)).await);
    let received = received(&crm);
    let expected = "/calls/sessions/s%2F1%20%3F%23/calls?key=a%20b&agent=%E6%9D%8E+%22%E5%A8%9C%22%0D%0AX-Evil%3A+1&limit=1\
        &phone=%2B8613800138000&phone=008613800138000&phone=13800138000";
    assert_eq!(received.uri.to_string(), expected);
    assert_eq!(received.header("x-agent"), Some("%E6%9D%8E \"%E5%A8%9C\"%0D%0AX-Evil: 1"));
    assert_eq!((received.header("x-mail"), received.header("x-evil")), (None, None));
    assert_eq!(received.body, *CALL.as_bytes(), "raw unless set");
}

#[tokio::test]
async fn what_cannot_be_made_of_a_push_is_rejected_with_its_place_and_without_values() {
    let crm = crm().await;
    let refused = async |settings: Value, body: &str| {
        let report = send(&sink(&crm.url(), settings), &push("cdr", body.to_owned())).await;
        reject(&report).reason.clone()
    };
    let sum = json!({ "body": { "deep": { "seconds": "{{Duration + 1}}" } } });
    assert_eq!(
        refused(sum, r#"{"SessionId":"s"}"#).await,
        "body: deep: seconds: {{Duration + 1}} has no value: + has no meaning for null and a number; null in this push: Duration"
    );
    let path = || json!({ "path": "/{{UserRemark}}" });
    assert_eq!(refused(path(), r#"{"SessionId":"s"}"#).await, "path: a part of it is null or empty");
    let up = refused(path(), r#"{"SessionId":"s","UserRemark":".."}"#).await;
    assert_eq!(up, "path: a part of it is . or .., which would lead elsewhere");
    assert_eq!(crm.received().len(), 0);
}

#[tokio::test]
async fn a_get_carries_nothing() {
    let crm = crm().await;
    let settings = json!({ "method": "GET", "query": { "session": "{{SessionId}}" } });
    receipt(&attempt(&sink(&crm.url(), settings)).await);
    let received = received(&crm);
    assert_eq!((received.method.as_str(), &received.body[..]), ("GET", &b""[..]));
    assert_eq!(received.header("content-type"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_of_a_push_makes_another_request_of_it(text in "\\PC{0,12}|[./?#%&=\"\\\\{}]{0,8}|[\\x00-\\x1f]{1,4}") {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let crm = crm().await;
            let settings = json!({
                "path": "/a/{{UserRemark}}/b", "query": { "q": "{{UserRemark}}" },
                "headers": { "X-Remark": "{{UserRemark}}" }, "body": { "remark": "{{UserRemark}}" },
            });
            let sink = sink(&crm.url(), settings);
            let push = push("cdr", json!({ "SessionId": "s", "UserRemark": text }).to_string());
            let report = send(&sink, &push).await;
            if text.is_empty() || text == "." || text == ".." {
                reject(&report);
                return;
            }
            receipt(&report);
            let received = received(&crm);
            let parts: Vec<&str> = received.uri.path().split('/').collect();
            assert_eq!((parts.len(), parts[2], parts[4]), (5, "a", "b"));
            assert_eq!(received.uri.query().unwrap().split(['&', '=']).count(), 2);
            assert_eq!(serde_json::from_slice::<Value>(&received.body).unwrap(), json!({ "remark": text }));
        });
    }
}
