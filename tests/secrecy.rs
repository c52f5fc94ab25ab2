//! Nothing that the program tells holds a secret of its configuration, and its log no phone number at the default level.
//!
//! The harness looks through all that it sees of every run, so that each end-to-end test is a test of this too.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Shorter ones may be part of anything.
const SHORTEST: usize = 6;

/// The names of settings that hold a secret, and of those that do in one group alone.
const NAMES: [&str; 8] = [
    "password",
    "previous",
    "secret",
    "client_secret",
    "secret_access_key",
    "session_token",
    "refresh_token",
    "bearer",
];
const IN_GROUPS: [(&str, &str); 4] =
    [("signature", "key"), ("token", "value"), ("api_key", "value"), ("admin", "token")];

/// The secrets of a configuration, in all forms in which they travel.
#[derive(Clone, Default)]
pub(crate) struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Those of the `gateway.yaml` in a folder; none when it is not there or cannot be read.
    pub fn of(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let text = fs::read_to_string(folder.join("gateway.yaml")).unwrap_or_default();
        let settings: Value = serde_saphyr::from_str(&text).unwrap_or_default();
        let mut secrets = Self::default();
        let world = World { folder: folder.to_owned(), environment };
        secrets.collect("", "", &settings, &world);
        secrets
    }

    /// Fails when one of them is in this text.
    #[track_caller]
    pub fn are_not_in(&self, what: &str, text: &str) {
        let told = self.0.iter().find(|secret| text.contains(secret.as_str()));
        assert!(told.is_none(), "{what} tells the secret {told:?}: {text}");
    }

    fn collect(&mut self, group: &str, name: &str, value: &Value, world: &World<'_>) {
        match value {
            Value::Object(place)
                if place.len() == 1 && (place.contains_key("env") || place.contains_key("file")) =>
            {
                self.add(&world.fetch(value));
            }
            Value::Object(settings) => {
                settings.iter().for_each(|(inner, value)| self.collect(name, inner, value, world));
                let text = |name: &str| {
                    settings.get(name).and_then(|value| match value {
                        Value::String(text) => Some(text.clone()),
                        place => world.fetch(place),
                    })
                };
                if let (Some(username), Some(password)) = (text("username"), text("password")) {
                    self.0.insert(STANDARD.encode(format!("{username}:{password}")));
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.collect(group, name, value, world)),
            Value::String(text) if NAMES.contains(&name) || IN_GROUPS.contains(&(group, name)) => {
                self.add(&Some(text.clone()));
            }
            _ => {}
        }
    }

    fn add(&mut self, secret: &Option<String>) {
        let Some(secret) = secret.as_deref().filter(|secret| secret.len() >= SHORTEST) else { return };
        let in_json = Value::from(secret).to_string();
        self.0.extend([secret.to_owned(), in_json.trim_matches('"').to_owned(), STANDARD.encode(secret)]);
    }
}

/// Where secrets lie that a configuration names.
struct World<'a> {
    folder: PathBuf,
    environment: &'a [(&'a str, &'a str)],
}

impl World<'_> {
    fn fetch(&self, place: &Value) -> Option<String> {
        if let Some(name) = place["env"].as_str() {
            let given = self.environment.iter().find(|(given, _)| *given == name);
            return given.map(|(_, text)| (*text).to_owned()).or_else(|| env::var(name).ok());
        }
        let path = self.folder.join(place["file"].as_str()?);
        // A pipe would let us wait for who writes to it.
        path.is_file().then(|| fs::read_to_string(path).ok())?.map(|text| text.trim_end().to_owned())
    }
}

/// Fails when a line of the log that is written at the default level holds a phone number.
#[track_caller]
pub(crate) fn no_number_is_in(line: &Value) {
    let is_usual = matches!(line["level"].as_str(), Some("INFO" | "WARN" | "ERROR"));
    for (name, value) in line.as_object().into_iter().flatten().filter(|_| is_usual) {
        // A count of bytes may look like one, and is no text.
        let number = value.as_str().and_then(phone_number);
        assert!(number.is_none(), "{name} of a line of the log holds the phone number {number:?}: {line}");
    }
}

/// A number as the samples and the simulator write it: of the mainland, with or without its prefix.
fn phone_number(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| {
        let local = word.trim_start_matches("00").strip_prefix("86").unwrap_or(word);
        let is_prefixed = local.len() < word.len();
        let is_mobile = local.len() == 11 && local.starts_with('1');
        word.bytes().all(|byte| byte.is_ascii_digit()) && (is_mobile || is_prefixed && local.len() >= 10)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_wherever_a_configuration_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let settings = serde_json::json!({
            "ingress": { "verify": [
                { "basic": { "username": "tccc", "password": { "file": "password" } } },
                { "token": { "query": "token", "value": "of-the-token" } },
                { "signature": { "preset": "trtc", "key": { "env": "PUSH_KEY" } } },
            ] },
            "sinks": { "crm": { "http": { "key": "a-pattern", "headers": { "X-Key": { "env": "X_KEY" } } } } },
        });
        fs::write(folder.path().join("gateway.yaml"), settings.to_string()).unwrap();
        fs::write(folder.path().join("password"), "of-the-file\n").unwrap();
        let secrets = Secrets::of(folder.path(), &[("PUSH_KEY", "of-the-push"), ("X_KEY", "a\"header")]);
        let basic = STANDARD.encode("tccc:of-the-file");
        for told in ["of-the-file", "of-the-token", "of-the-push", "a\"header", r#"a\"header"#, &basic] {
            assert!(secrets.0.contains(told), "{told} in {:?}", secrets.0);
        }
        assert!(!secrets.0.contains("a-pattern"), "{:?}", secrets.0);
    }

    #[test]
    fn a_phone_number_is_told_from_other_digits() {
        for text in ["008613800138000", "from 13800138000.", "8613800138000", "00860755000012"] {
            assert!(phone_number(text).is_some(), "{text}");
        }
        for text in ["2026-11-22T17:44:34.565272Z", "0000000000000016", "97cd917cdb90aa0f", "127.0.0.1:43265"]
        {
            assert_eq!(phone_number(text), None);
        }
    }
}
