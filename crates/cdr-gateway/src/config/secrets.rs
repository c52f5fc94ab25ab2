//! Secrets: fetching them, and knowing them by their name where their type is not known.

use std::{env, fs};

use cdr_core::setting::{SecretPlace, Step};
use serde_json::Value;

/// Fetches a secret from where the configuration says that it lies.
pub(super) fn fetch(place: &SecretPlace) -> Result<String, String> {
    match place {
        SecretPlace::Env(name) => env::var(name).map_err(|error| match error {
            env::VarError::NotPresent => format!("the environment variable {name} is not set"),
            env::VarError::NotUnicode(_) => format!("the environment variable {name} is no UTF-8 text"),
        }),
        SecretPlace::File(path) => {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
    }
}

/// Names that are a secret in their group alone: elsewhere a `key` is a pattern or a file.
const IN_GROUPS: [(&str, &str); 4] =
    [("signature", "key"), ("mask", "key"), ("token", "value"), ("api_key", "value")];

/// Whether a setting of this name holds a secret; `group` is the name of what it stands in.
///
/// By name, since only a sink knows the types of its settings. A plugin's secret of another name is still read and
/// hidden as one; only the warning about a literal is missed.
fn is_secret(group: Option<&Step>, name: &str) -> bool {
    const WORDS: [&str; 7] = ["password", "passphrase", "secret", "token", "bearer", "auth", "api_key"];
    if let Some(Step::Key(group)) = group
        && IN_GROUPS.contains(&(group, name))
    {
        return true;
    }
    let name = name.to_lowercase().replace('-', "_");
    // `token_url` is where tokens come from.
    !name.ends_with("_url") && (name == "previous" || WORDS.iter().any(|word| name.contains(word)))
}

/// The paths of all secrets that stand in the settings themselves.
pub(super) fn literals(settings: &Value) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    walk(settings, &mut Vec::new(), &mut found);
    found
}

fn walk(at: &Value, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    let children: Vec<(Step, &Value)> = match at {
        Value::Object(map) => map.iter().map(|(key, value)| (Step::Key(key.clone()), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, value)| (Step::Index(i), value)).collect(),
        _ => return,
    };
    for (step, value) in children {
        // An expression says where something is found, and nothing else.
        let is_text = value.as_str().is_some_and(|text| !text.contains("{{"));
        let literal = matches!(&step, Step::Key(key) if is_text && is_secret(path.last(), key));
        path.push(step);
        match literal {
            true => found.push(path.clone()),
            false => walk(value, path, found),
        }
        path.pop();
    }
}
