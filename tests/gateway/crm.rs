//! A CRM with contacts: each call is there once and with the right one, whatever happens on the way.

use cdr_simulator::crm::{Behaviour, Crm, CrmOptions};
use cdr_tests::{Process, until};
use serde_json::{Value, json};

use super::configuration;

fn steps(crm: &Crm) -> Value {
    json!({
        "url": crm.origin(),
        "steps": [
            {
                "name": "look", "path": "/contacts", "query": { "phone": "{{phones(customer)}}" },
                "take": { "contact": "body.items[0].id" },
            },
            {
                "name": "contact", "when": "contact == null", "path": "/contacts",
                "body": { "phone": "{{e164(customer)}}" }, "take": { "contact": "body.id" },
            },
            {
                "name": "call", "path": "/calls", "needs": ["contact"],
                "body": { "contact": "{{contact}}", "session": "{{SessionId}}" },
                "find": { "path": "/calls", "query": { "session": "{{SessionId}}" }, "found": "size(body.items) > 0" },
            },
        ],
    })
}

fn push(gateway: &Process, session: &str, caller: &str) {
    let call = json!({ "SessionId": session, "Direction": 0, "Caller": caller, "EndStatusString": "ok" });
    assert_eq!(gateway.push("cdr", call.to_string().as_bytes(), None).err_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_and_a_cut_off_answer_make_neither_a_second_contact_nor_a_second_call() {
    let folder = tempfile::tempdir().unwrap();
    let options = CrmOptions { has_book: true, ..CrmOptions::default() };
    let crm = Crm::start_with("127.0.0.1:0", options).await.unwrap();
    let mut configuration = configuration(&crm.url());
    configuration["sinks"]["crm"]["http"] = steps(&crm);
    configuration["routes"] = json!([{ "name": "all", "to": ["crm"] }]);
    // Both are stored: one answer never comes, the other is cut off.
    crm.behave(Behaviour::cut_after_reading().only_at("POST /calls").times(1));
    crm.behave(Behaviour::hang().keeping().only_at("POST /calls").times(1));
    let gateway = Process::start(folder.path(), &configuration.to_string());
    push(&gateway, "s1", "008613800138000");
    push(&gateway, "s2", "+8613800138000");
    push(&gateway, "s3", "008613900139000");
    until("two calls are stored and not confirmed", || (crm.book()?.calls.len() >= 2).then_some(()));
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();
    let book = crm.book().unwrap();
    assert_eq!((book.contacts.len(), book.calls.len()), (2, 3), "{book:?}");
    let number_of = |session: &str| {
        let call = book.calls.iter().find(|call| call["session"] == session).expect(session);
        let contact = book.contacts.iter().find(|contact| contact["id"] == call["contact"]);
        contact.expect("a contact")["phone"].clone()
    };
    assert_eq!(["s1", "s2"].map(number_of), ["+8613800138000"; 2]);
    assert_eq!(number_of("s3"), "+8613900139000");
}
