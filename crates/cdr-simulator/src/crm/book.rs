//! The book of a CRM that knows contacts and their calls, as most do: a call needs the id of a contact, and nobody keeps two
//! contacts with one number from being made.
//!
//! | request | answer |
//! |---|---|
//! | `GET /contacts?phone=…`, repeated for more numbers | 200, `{"items":[{"id":1,"phone":"+86138…"}]}` |
//! | `POST /contacts` with a `phone` | 201, `{"id":1,"phone":"…"}` |
//! | `GET /calls?session=…` | 200, `{"items":[…]}` |
//! | `POST /calls` with a `contact` and a `session` | 201; 422 when there is no such contact |

use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};

/// Contacts and calls, each with its `id`.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// In the order in which they were made.
    pub contacts: Vec<Value>,
    /// In the order in which they were made.
    pub calls: Vec<Value>,
}

impl Book {
    /// Does what a request asks for.
    pub(super) fn answer(&mut self, method: &Method, uri: &Uri, body: &[u8]) -> (StatusCode, Value) {
        let asked = |name: &str| -> Vec<String> {
            let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
            query.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
        };
        match (method.as_str(), uri.path()) {
            ("GET", "/contacts") => (StatusCode::OK, found(&self.contacts, "phone", &asked("phone"))),
            ("GET", "/calls") => (StatusCode::OK, found(&self.calls, "session", &asked("session"))),
            ("POST", "/contacts") => make(&mut self.contacts, body),
            ("POST", "/calls") => {
                let call: Value = serde_json::from_slice(body).unwrap_or_default();
                match self.contacts.iter().any(|contact| contact["id"] == call["contact"]) {
                    true => make(&mut self.calls, body),
                    false => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "code": "NO_SUCH_CONTACT" })),
                }
            }
            _ => (StatusCode::NOT_FOUND, json!({ "code": "NOT_FOUND" })),
        }
    }
}

fn found(entries: &[Value], member: &str, wanted: &[String]) -> Value {
    let is_wanted = |entry: &&Value| wanted.iter().any(|wanted| entry[member] == **wanted);
    json!({ "items": entries.iter().filter(is_wanted).collect::<Vec<_>>() })
}

fn make(entries: &mut Vec<Value>, body: &[u8]) -> (StatusCode, Value) {
    let Ok(mut entry @ Value::Object(_)) = serde_json::from_slice(body) else {
        return (StatusCode::BAD_REQUEST, json!({ "code": "NO_OBJECT" }));
    };
    entry["id"] = json!(entries.len() + 1);
    entries.push(entry.clone());
    (StatusCode::CREATED, entry)
}
