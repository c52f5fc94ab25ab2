//! `basic`: a user name and its password.

use cdr_core::{Secret, SettingFault};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Failure,
    accepted::{Accepted, both},
    authorization,
};

/// A user name and its password.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicProof {
    /// The user name; it cannot hold a colon (RFC 7617 §2).
    pub username: String,
    /// The password.
    pub password: Secret,
    /// A second password that passes too, while the first is being changed on both sides.
    pub previous: Option<Secret>,
}

/// The user names with their passwords that pass.
pub(super) struct Logins(Accepted);

impl Logins {
    pub fn new(basic: &BasicProof) -> Result<Self, Vec<SettingFault>> {
        let BasicProof { username, password, previous } = basic;
        if !is_name(username) {
            let message = "expected a user name without colons and control characters, as in TCCC's console";
            return Err(vec![SettingFault::at("username", message)]);
        }
        let logins = both(password, previous.as_ref()).map(|password| format!("{username}:{password}"));
        Ok(Self(Accepted::new(logins)))
    }

    pub fn look(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let presented = authorization::basic(headers)?;
        self.0.fits(&presented).then_some(()).ok_or(Failure::Wrong)
    }
}

/// Whether it can be told from the password that follows it behind a colon.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_control())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde_json::json;

    use crate::proof::trial::{Trial, proofs};

    fn judged(lines: &[&str]) -> String {
        let proofs = proofs(json!([
            { "basic": { "username": "tccc", "password": "new:er", "previous": "old" } },
            { "basic": { "username": "二", "password": "密码" } },
        ]));
        let trial = lines.iter().fold(Trial::new("/"), |trial, line| trial.header("authorization", line));
        trial.judged(&proofs)
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    #[test]
    fn each_user_passes_with_either_password() {
        for credentials in ["tccc:new:er", "tccc:old", "二:密码"] {
            assert_eq!(judged(&[&basic(credentials)]), "passes", "{credentials}");
        }
        let line = basic("tccc:old").replace("Basic ", "bASIC   ");
        assert_eq!(judged(&[line.trim_end_matches('=')]), "passes");
    }

    #[test]
    fn everything_else_fails() {
        assert_eq!(judged(&[]), "unread: no_proof");
        let digest = basic("tccc:old").replace("Basic", "Digest");
        for line in
            ["", "Basic", "Basic ", "Basic !!!", &digest, &basic("tccc:"), &basic("tccc:new"), &basic(":old")]
        {
            assert_eq!(judged(&[line]), "unread: wrong_proof", "{line}");
        }
        let right = basic("tccc:old");
        assert_eq!(judged(&[&right, &right]), "unread: wrong_proof");
    }
}
