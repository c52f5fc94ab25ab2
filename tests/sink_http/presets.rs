//! The ready steps for CRMs, against answers that their vendors document. **Not run against the live services**, but BottleCRM:
//! its answers were taken from it, and `just crm` asks a real one.

use super::*;
use cdr_core::{Batch, Delivery};
use cdr_simulator::crm::Behaviour;

const CALL: &str = r#"{"SessionId":"d69d8132-aec3","Direction":0,"Caller":"008613800138000","Callee":"008675586013388",
    "StartTimestamp":1772353800,"RingTimestamp":1772353805,"AcceptTimestamp":1772353810,"EndedTimestamp":1772353875,
    "EndStatusString":"ok","SeatUser":{"Mail":"li.na@example.com"},"UserRemark":"call back \"soon\""}"#;

const SEARCH: &str = "POST /crm/v3/objects/contacts/search";

fn preset(name: &str, crm: &Crm) -> Arc<dyn AnySink> {
    sink(&crm.origin(), json!({ "preset": name, "timezone": "Asia/Shanghai", "timeout": "2s" }))
}

/// A CRM that gives these answers, each at its place.
async fn answering(answers: &[(&'static str, u16, &str)]) -> Crm {
    let crm = crm().await;
    for (place, status, body) in answers {
        crm.behave(Behaviour::status(*status).body((*body).to_owned()).only_at(place));
    }
    crm
}

/// A call that nobody can have sent before.
fn call() -> Arc<Push> {
    let received_at = jiff::Timestamp::now() + std::time::Duration::from_secs(60);
    let facts = cdr_core::Facts { received_at, ..cdr_tests::facts("cdr", CALL.as_bytes()) };
    cdr_tests::push_of(facts, CALL)
}

async fn again(sink: &Arc<dyn AnySink>) -> Report {
    let delivery = Delivery { attempt: 2, may_be_there: true, ..batch([call()]).first().clone() };
    sink.deliver(&Batch::new(vec![delivery]).unwrap()).await
}

fn bodies(crm: &Crm) -> Vec<Value> {
    crm.received().iter().map(|asked| serde_json::from_slice(&asked.body).unwrap_or_default()).collect()
}

fn asked(crm: &Crm) -> Vec<String> {
    crm.received().iter().map(|asked| format!("{} {}", asked.method, asked.uri.path())).collect()
}

/// What becomes of a call when `crm` answers so at this place, all else as before.
async fn outcome(name: &str, crm: &Crm, place: &'static str, status: u16, body: &str) -> &'static str {
    crm.behave(Behaviour::status(status).body(body.to_owned()).only_at(place).times(1));
    let report = send(&preset(name, crm), &call()).await;
    match (&report.outcomes()[0], report.why_unavailable()) {
        (Outcome::Delivered(_), _) => "delivered",
        (Outcome::Retry(_), _) => "retry",
        (Outcome::Reject(_), _) => "reject",
        (Outcome::Untried, Some(_)) => "away",
        (Outcome::Untried, None) => "untried",
    }
}

#[tokio::test]
async fn generic_is_one_flat_object() {
    let crm = crm().await;
    let sink = preset("generic", &crm);
    assert_eq!(receipt(&send(&sink, &call()).await), "call: HTTP 200");
    let expected = json!({
        "session_id": "d69d8132-aec3", "direction": "inbound", "customer": "+8613800138000", "caller": "+8613800138000",
        "callee": "+8675586013388", "started_at": "2026-03-01T08:30:00Z", "answered_at": "2026-03-01T08:30:10Z",
        "ended_at": "2026-03-01T08:31:15Z", "talk_seconds": 65, "wait_seconds": null, "result": "answered", "status": "ok",
        "status_in_words": "ended normally", "skill_group": null, "agent": "li.na@example.com",
        "remark": "call back \"soon\"",
    });
    assert_eq!(bodies(&crm), [expected]);
}

#[tokio::test]
async fn hubspot_finds_or_makes_the_contact_and_logs_the_call() {
    let crm = answering(&[
        (SEARCH, 200, r#"{"total":0,"results":[]}"#),
        ("POST /crm/v3/objects/contacts", 201, r#"{"id":"512","properties":{}}"#),
        ("POST /crm/v3/objects/calls", 201, r#"{"id":"9001"}"#),
        ("POST /crm/v3/objects/calls/search", 200, r#"{"total":1,"results":[{"id":"9001"}]}"#),
    ])
    .await;
    let sink = preset("hubspot", &crm);
    assert_eq!(receipt(&send(&sink, &call()).await), "call: HTTP 201");
    let [search, contact, logged] = <[_; 3]>::try_from(bodies(&crm)).unwrap();
    let forms = json!(["+8613800138000", "008613800138000", "13800138000"]);
    assert_eq!(search["filterGroups"][1]["filters"][0]["values"], forms);
    assert_eq!(contact["properties"]["phone"], "+8613800138000");
    assert_eq!(logged["associations"][0]["to"]["id"], "512");
    let properties = &logged["properties"];
    assert_eq!(properties["hs_call_duration"], 65_000);
    assert_eq!(
        (&properties["hs_call_direction"], &properties["hs_call_status"]),
        (&json!("INBOUND"), &json!("COMPLETED"))
    );
    assert_eq!(receipt(&again(&sink).await), "call: stored by an earlier attempt");
    // The number of another country, and the one that is meant as somebody typed it.
    let found = json!({ "total": 2, "results": [
        { "id": "66", "properties": { "phone": "+1 380 013 8000", "mobilephone": "+1 13800138000" } },
        { "id": "77", "properties": { "phone": null, "mobilephone": "138 0013-8000" } },
    ] });
    crm.behave(Behaviour::status(200).body(found.to_string()).only_at(SEARCH));
    receipt(&send(&sink, &call()).await);
    assert_eq!(bodies(&crm).last().unwrap()["associations"][0]["to"]["id"], "77");
    // https://developers.hubspot.com/docs/api/error-handling
    let errors = [
        (429, r#"{"status":"error","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}"#, "away"),
        (401, r#"{"status":"error","category":"INVALID_AUTHENTICATION"}"#, "away"),
        (403, r#"{"status":"error","category":"MISSING_SCOPES"}"#, "away"),
        (
            400,
            r#"{"status":"error","category":"VALIDATION_ERROR","message":"Property values were not valid"}"#,
            "reject",
        ),
        (423, r#"{"status":"error","message":"locked"}"#, "retry"),
        (477, r#"{"status":"error","message":"migration in progress"}"#, "retry"),
        (502, "<html>", "retry"),
        (200, "<html>please log in</html>", "retry"),
    ];
    for (status, body, expected) in errors {
        let became = outcome("hubspot", &crm, "POST /crm/v3/objects/calls", status, body).await;
        assert_eq!(became, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn salesforce_upserts_the_call_by_its_session() {
    const QUERY: &str = "GET /services/data/v62.0/query";
    const CONTACT: &str = "POST /services/data/v62.0/sobjects/Contact";
    const TASK: &str = "PATCH /services/data/v62.0/sobjects/Task/TcccSessionId__c/d69d8132-aec3";
    let crm = answering(&[
        (QUERY, 200, r#"{"totalSize":0,"done":true,"records":[]}"#),
        (CONTACT, 201, r#"{"id":"003A","success":true,"errors":[]}"#),
        (TASK, 201, r#"{"id":"00TA","success":true,"errors":[],"created":true}"#),
    ])
    .await;
    let sink = preset("salesforce", &crm);
    assert_eq!(receipt(&send(&sink, &call()).await), "call: HTTP 201");
    assert_eq!(asked(&crm), [QUERY, CONTACT, TASK]);
    let query = crm.received()[0].uri.query().unwrap().to_owned();
    let forms = "%28%27%2B8613800138000%27%2C%27008613800138000%27%2C%2713800138000%27%29";
    assert!(query.contains(&format!("Phone+IN+{forms}+OR+MobilePhone+IN+{forms}")), "{query}");
    let logged = &bodies(&crm)[2];
    assert_eq!((&logged["WhoId"], &logged["ActivityDate"]), (&json!("003A"), &json!("2026-03-01")));
    assert_eq!(logged["CallDurationInSeconds"], 65);
    let duplicate = r#"[{"errorCode":"DUPLICATES_DETECTED","message":"Use one of these records?","duplicateResult":
        {"matchResults":[{"matchRecords":[{"record":{"Id":"003B"}}]}]}}]"#;
    assert_eq!(outcome("salesforce", &crm, CONTACT, 400, duplicate).await, "delivered");
    assert_eq!(bodies(&crm).last().unwrap()["WhoId"], "003B");
    // https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
    let errors = [
        (400, r#"[{"errorCode":"UNABLE_TO_LOCK_ROW","message":"…"}]"#, "retry"),
        (400, r#"[{"errorCode":"DUPLICATE_VALUE","message":"…"}]"#, "retry"),
        (400, r#"[{"errorCode":"INVALID_FIELD","message":"No such column"}]"#, "reject"),
        (401, r#"[{"errorCode":"INVALID_SESSION_ID","message":"Session expired or invalid"}]"#, "away"),
        (403, r#"[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"…"}]"#, "away"),
        (404, r#"[{"errorCode":"NOT_FOUND"}]"#, "retry"),
        (500, r#"[{"errorCode":"UNKNOWN_EXCEPTION"}]"#, "retry"),
        (200, "<html>down for maintenance</html>", "retry"),
        (300, r#"["/services/data/v62.0/sobjects/Task/00TA"]"#, "delivered"),
        (204, "", "delivered"),
    ];
    for (status, body, expected) in errors {
        assert_eq!(outcome("salesforce", &crm, TASK, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn zoho_finds_none_with_a_204_and_duplicates_by_code() {
    const SEARCH: &str = "GET /crm/v8/Contacts/search";
    const CONTACT: &str = "POST /crm/v8/Contacts";
    const CALLS: &str = "POST /crm/v8/Calls";
    const CALLED: &str = "GET /crm/v8/Calls/search";
    let made = r#"{"data":[{"code":"SUCCESS","details":{"id":"4150868"},"status":"success"}]}"#;
    let crm = answering(&[
        (SEARCH, 204, ""),
        (CONTACT, 201, made),
        (CALLS, 201, made),
        (CALLED, 200, r#"{"data":[{"id":"1","TCCC_Session_ID":"d69d8132-aec3-2"}]}"#),
    ])
    .await;
    let sink = preset("zoho", &crm);
    assert_eq!(receipt(&send(&sink, &call()).await), "call: HTTP 201");
    // The session of another call begins like this one's, and the number of another contact ends so.
    assert_eq!(receipt(&again(&sink).await), "call: HTTP 201");
    let told = r#"{"data":[{"id":"1","TCCC_Session_ID":"d69d8132-aec3"}]}"#;
    crm.behave(Behaviour::status(200).body(told).only_at(CALLED));
    let others = r#"{"data":[{"id":"5","Phone":"0113800138000","Mobile":null}]}"#;
    crm.behave(Behaviour::status(200).body(others).only_at(SEARCH).times(1));
    receipt(&send(&sink, &call()).await);
    assert_eq!(bodies(&crm).last().unwrap()["data"][0]["Who_Id"]["id"], "4150868");
    let spelled = r#"{"data":[{"id":"6","Phone":null,"Mobile":"+86 138 0013 8000"}]}"#;
    crm.behave(Behaviour::status(200).body(spelled).only_at(SEARCH).times(1));
    receipt(&send(&sink, &call()).await);
    assert_eq!(bodies(&crm).last().unwrap()["data"][0]["Who_Id"]["id"], "6");
    assert_eq!(receipt(&again(&sink).await), "call: stored by an earlier attempt");
    let logged = &bodies(&crm)[2]["data"][0];
    assert_eq!((&logged["Call_Duration"], &logged["Who_Id"]["id"]), (&json!("01:05"), &json!("4150868")));
    assert_eq!(
        (&logged["Call_Type"], &logged["Call_Start_Time"]),
        (&json!("Inbound"), &json!("2026-03-01T16:30:00+08:00"))
    );
    let duplicate =
        r#"{"data":[{"code":"DUPLICATE_DATA","details":{"api_name":"Phone","id":"77"},"status":"error"}]}"#;
    assert_eq!(outcome("zoho", &crm, CONTACT, 400, duplicate).await, "delivered");
    assert_eq!(bodies(&crm).last().unwrap()["data"][0]["Who_Id"]["id"], "77");
    // https://www.zoho.com/crm/developer/docs/api/v8/status-codes.html
    let errors = [
        (400, duplicate, "delivered"),
        (
            400,
            r#"{"data":[{"code":"INVALID_DATA","details":{"api_name":"Call_Duration"},"status":"error"}]}"#,
            "reject",
        ),
        (202, r#"{"data":[{"code":"MANDATORY_NOT_FOUND","status":"error"}]}"#, "retry"),
        (401, r#"{"code":"INVALID_TOKEN","status":"error"}"#, "away"),
        (429, r#"{"code":"TOO_MANY_REQUESTS"}"#, "away"),
        (500, r#"{"code":"INTERNAL_ERROR","status":"error"}"#, "away"),
    ];
    for (status, body, expected) in errors {
        assert_eq!(outcome("zoho", &crm, CALLS, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn odoo_notes_the_call_on_the_partner() {
    const SEARCH: &str = "POST /json/2/res.partner/search_read";
    const CREATE: &str = "POST /json/2/res.partner/create";
    const NOTE: &str = "POST /json/2/res.partner/message_post";
    let crm = answering(&[
        (SEARCH, 200, "[]"),
        (CREATE, 200, "[25]"),
        (NOTE, 200, "[731]"),
        ("POST /json/2/mail.message/search_read", 200, r#"[{"id":731}]"#),
    ])
    .await;
    let sink = preset("odoo", &crm);
    assert_eq!(receipt(&send(&sink, &call()).await), "call: HTTP 200");
    assert_eq!(receipt(&again(&sink).await), "call: stored by an earlier attempt");
    let bodies = bodies(&crm);
    assert_eq!(bodies[0]["domain"][0][2], json!(["+8613800138000", "008613800138000", "13800138000"]));
    let note = "Call from +8613800138000, 2026-03-01 16:30:00, 65 s: ended normally. Agent: li.na@example.com. \
        Remark: call back \"soon\". Session d69d8132-aec3.";
    assert_eq!(bodies.last().unwrap()["domain"][2], json!(["body", "ilike", "Session d69d8132-aec3."]));
    assert_eq!(bodies[2], json!({ "ids": [25], "body": note }));
    // https://www.odoo.com/documentation/19.0/developer/reference/external_api.html
    let errors = [
        (401, r#"{"name":"werkzeug.exceptions.Unauthorized","message":"Invalid apikey"}"#, "away"),
        (403, r#"{"name":"odoo.exceptions.AccessError","message":"…"}"#, "away"),
        (404, r#"{"name":"werkzeug.exceptions.NotFound","message":"…"}"#, "retry"),
        (422, r#"{"name":"odoo.exceptions.ValidationError","message":"…"}"#, "reject"),
        (500, r#"{"name":"psycopg2.errors.SerializationFailure","message":"…"}"#, "retry"),
        (200, "<html>Database selector</html>", "retry"),
    ];
    for (status, body, expected) in errors {
        assert_eq!(outcome("odoo", &crm, NOTE, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn bottlecrm_finds_the_contact_in_any_spelling_and_the_call_in_its_text() {
    const LOOK: &str = "POST /api/contacts/duplicates/";
    const CONTACT: &str = "POST /api/contacts/";
    const CALL: &str = "POST /api/interactions/";
    const CALLS: &str = "GET /api/interactions/";
    let of_another = r#"{"duplicates":[{"id":"b7","name":"Shen Zhen","phone":"(+1) 380-013-8000","matched_on":["phone"]}]}"#;
    let found = r#"{"duplicates":[{"id":"b7","name":"Shen Zhen","phone":"+1 380-013-8000","matched_on":["phone"]},
        {"id":"87","name":"Li Na","phone":"138-0013-8000","matched_on":["phone"]}]}"#;
    let crm = answering(&[
        (LOOK, 200, of_another),
        (CONTACT, 200, r#"{"error":false,"message":"Contact created Successfuly","id":"a7"}"#),
        (CALL, 201, r#"{"id":"d9","kind":"call","contact":"a7"}"#),
        (
            CALLS,
            200,
            r#"{"interactions":[{"id":"d9","body":"ended normally.\nSession d69d8132-aec3-2"}],"count":1}"#,
        ),
    ])
    .await;
    let sink = preset("bottlecrm", &crm);
    assert_eq!(receipt(&send(&sink, &call()).await), "call: HTTP 201");
    assert_eq!(asked(&crm), [LOOK, CONTACT, CALL]);
    let text = "ended normally. Agent: li.na@example.com. Remark: call back \"soon\"\nSession d69d8132-aec3";
    assert_eq!(
        bodies(&crm)[1..],
        [
            json!({ "first_name": "Caller", "last_name": "+8613800138000", "phone": "+8613800138000" }),
            json!({
                "kind": "call", "contact": "a7", "direction": "inbound", "occurred_at": "2026-03-01T08:30:00Z",
                "duration_seconds": 65, "outcome": "connected", "subject": "Call from +8613800138000", "body": text,
            }),
        ]
    );
    // The session of another call begins like this one's.
    assert_eq!(receipt(&again(&sink).await), "call: HTTP 201");
    let told = json!({ "interactions": [{ "body": "by hand" }, { "body": text }], "count": 2 }).to_string();
    crm.behave(Behaviour::status(200).body(told).only_at(CALLS));
    assert_eq!(receipt(&again(&sink).await), "call: stored by an earlier attempt");
    crm.behave(Behaviour::status(200).body(found.to_owned()).only_at(LOOK));
    receipt(&send(&sink, &call()).await);
    assert_eq!(bodies(&crm).last().unwrap()["contact"], "87");
    let errors = [
        (
            400,
            r#"{"error":true,"errors":{"occurred_at":["This is more than five minutes in the future."]}}"#,
            "reject",
        ),
        (403, r#"{"detail":"Organization context is required. Please login again."}"#, "away"),
        (404, r#"{"detail":"No such record."}"#, "retry"),
        (500, "<h1>Server Error (500)</h1>", "retry"),
    ];
    for (status, body, expected) in errors {
        assert_eq!(outcome("bottlecrm", &crm, CALL, status, body).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_caller_without_a_number_is_nobody_that_a_crm_can_find() {
    let crm = crm().await;
    for caller in ["anonymous", "unknown", "user_a7c2", "li.na@example.com"] {
        let body = json!({ "SessionId": "s", "Direction": 0, "Caller": caller, "EndStatusString": "ok" });
        for name in ["hubspot", "salesforce", "zoho", "odoo"] {
            let report = send(&preset(name, &crm), &push("cdr", body.to_string())).await;
            assert_eq!(receipt(&report), "call: not sent, its when does not hold", "{name} {caller}");
        }
    }
    assert_eq!(asked(&crm), [] as [String; 0]);
}

#[tokio::test]
async fn bottlecrm_knows_a_short_number_by_its_name() {
    let crm = answering(&[
        ("POST /api/contacts/duplicates/", 200, r#"{"duplicates":[]}"#),
        ("POST /api/contacts/", 200, r#"{"error":false,"id":"a7"}"#),
        ("POST /api/interactions/", 201, r#"{"id":"d9"}"#),
    ])
    .await;
    let short = push("cdr", r#"{"SessionId":"s","Direction":0,"Caller":"95588","EndStatusString":"busy"}"#);
    let sink = preset("bottlecrm", &crm);
    receipt(&send(&sink, &short).await);
    assert_eq!(bodies(&crm)[1], json!({ "first_name": "Caller", "last_name": "95588", "phone": null }));
    let logged = bodies(&crm).pop().unwrap();
    assert_eq!(
        (&logged["outcome"], &logged["occurred_at"]),
        (&json!("busy"), &json!("2026-03-31T23:30:00Z"))
    );
    let known = r#"{"duplicates":[{"id":"95","name":"Caller 95588","phone":"","matched_on":["name"]}]}"#;
    crm.behave(Behaviour::status(200).body(known.to_owned()).only_at("POST /api/contacts/duplicates/"));
    receipt(&send(&sink, &short).await);
    assert_eq!(bodies(&crm).last().unwrap()["contact"], "95");
}

/// These want a time; a 400 would be a dead letter.
#[tokio::test]
async fn a_call_without_a_start_is_told_of_with_the_time_at_which_it_came() {
    let contact = r#"{"id":"a7","success":true,"results":[],"records":[],"data":[{"code":"SUCCESS","details":{"id":"a7"}}]}"#;
    for (name, member) in [
        ("hubspot", "/properties/hs_timestamp"),
        ("salesforce", "/ActivityDate"),
        ("zoho", "/data/0/Call_Start_Time"),
        ("odoo", "/body"),
    ] {
        let crm = crm().await;
        crm.behave(Behaviour::status(200).body(if name == "odoo" { r#"[{"id":7}]"# } else { contact }));
        let body = r#"{"SessionId":"s","Direction":0,"Caller":"13800138000","StartTimestamp":0,"EndStatusString":"busy"}"#;
        let received_at = "2099-01-01T12:00:00Z".parse().unwrap();
        let facts = cdr_core::Facts { received_at, ..cdr_tests::facts("cdr", body.as_bytes()) };
        let report = send(&preset(name, &crm), &cdr_tests::push_of(facts, body)).await;
        let told = bodies(&crm);
        let moment = told.iter().find_map(|body| body.pointer(member));
        assert!(
            moment.is_some_and(|moment| moment.to_string().contains("2099-01-01")),
            "{name}: {report:?} {told:?}"
        );
    }
}

#[tokio::test]
async fn what_has_no_customer_is_not_sent_to_a_book_of_contacts() {
    let crm = crm().await;
    for name in ["hubspot", "salesforce", "zoho", "odoo", "bottlecrm"] {
        let report = send(&preset(name, &crm), &push("record", r#"{"SessionId":"s"}"#)).await;
        assert_eq!(receipt(&report), "call: not sent, its when does not hold", "{name}");
    }
    assert_eq!(crm.received().len(), 0);
}
