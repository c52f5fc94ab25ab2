//! The schema for editors knows what the docs explain, and takes what ships.

use std::collections::BTreeSet;

use cdr_tests::cli;
use serde_json::{Value, json};

use super::{Page, names::shipped, page};

fn schema() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let said = cli(folder.path(), &["schema"], &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

/// What the schema of a group of settings says of one of them.
fn below<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let here = schema["properties"].get(name);
    let forms =
        ["anyOf", "oneOf"].into_iter().flat_map(|forms| schema[forms].as_array().into_iter().flatten());
    here.or_else(|| forms.into_iter().find_map(|form| below(form, name)))
}

/// Where a value does not fit; as much of JSON Schema as ours uses.
fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if schema == &Value::Bool(true) {
        return Vec::new();
    }
    for (forms, is_exact) in [("anyOf", false), ("oneOf", true)] {
        let Some(forms) = schema[forms].as_array() else { continue };
        let fitting = forms.iter().filter(|form| misfits(form, value, path).is_empty()).count();
        if fitting == 0 || (is_exact && fitting > 1) {
            return vec![format!("{path}: {fitting} forms fit {value}")];
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let is = |wanted: &&str| match *wanted {
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        other => other == "object" && value.is_object(),
    };
    if !types.is_empty() && !types.iter().any(is) {
        return vec![format!("{path}: {value} is no {types:?}")];
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return vec![format!("{path}: {value} is none of {}", schema["enum"])];
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return vec![format!("{path}: {value} is not {}", schema["const"])];
    }
    let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut found: Vec<String> = (missing.filter(|name| value.is_object() && value.get(name).is_none()))
        .map(|name| format!("{path}: no {name}"))
        .collect();
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(own), _) => found.extend(misfits(own, value, &path)),
            (None, Some(Value::Bool(false))) => found.push(format!("{path}: unknown")),
            (None, Some(others)) => found.extend(misfits(others, value, &path)),
            (None, None) => {}
        }
    }
    for value in value.as_array().into_iter().flatten() {
        found.extend(misfits(&schema["items"], value, &format!("{path}[]")));
    }
    found
}

/// The settings of a page's tables, each with its way from the section's heading.
fn explained(page: &Page) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for section in page.text.split("\n## `").skip(1) {
        let heading = section.split('`').next().unwrap();
        let section = Page { name: page.name.clone(), text: section.to_owned() };
        for row in section.rows().iter().filter(|row| row.len() == 3 && row[0].starts_with('`')) {
            for name in row[0].split('`').skip(1).step_by(2) {
                found.push([heading].into_iter().chain(name.split('.')).map(str::to_owned).collect());
            }
        }
    }
    assert!(found.len() > 20, "{}: {found:?}", page.name);
    found
}

/// The names of all settings in a schema.
fn all(schema: &Value, found: &mut BTreeSet<String>) {
    for (name, own) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(name.clone());
        all(own, found);
    }
    for part in
        ["anyOf", "oneOf"].into_iter().flat_map(|forms| schema[forms].as_array().into_iter().flatten())
    {
        all(part, found);
    }
    for part in ["items", "additionalProperties"].into_iter().filter_map(|part| schema.get(part)) {
        all(part, found);
    }
}

#[test]
fn the_shipped_file_and_all_that_stands_in_its_comments_fit_the_schema() {
    let schema = schema();
    let shipped = shipped();
    assert_eq!(misfits(&schema, &shipped, ""), Vec::<String>::new());
    for (path, wrong) in [
        ("/ingress/paht", json!("x")),
        ("/ingress/limits/connections", json!("many")),
        ("/sinks/archive/fiel", json!({})),
        ("/sinks/archive/file/layout", json!("zip")),
        ("/sinks/crm/rate_limit", json!(5)),
        ("/retry/give_up_after", json!("1d")),
        ("/log", json!({ "level": "loud" })),
        ("/sinks/crm/http/auth", json!({ "bearer": { "evn": "X" } })),
        ("/spool", json!([])),
    ] {
        let mut file = shipped.clone();
        let (group, name) = path.rsplit_once('/').unwrap();
        file.pointer_mut(group).unwrap()[name] = wrong;
        assert!(!misfits(&schema, &file, "").is_empty(), "{path}");
    }
}

#[test]
fn the_schema_has_every_setting_that_is_explained_and_no_other() {
    let schema = schema();
    let sink = &schema["properties"]["sinks"]["additionalProperties"];
    let pages = [page("docs/configuration.md"), page("docs/sinks.md")];
    for (page, top) in pages.iter().zip([&schema["properties"], &sink["properties"]]) {
        for path in explained(page) {
            let section = if path[0] == "sinks" { sink } else { &top[&path[0]] };
            let found = path[1..].iter().try_fold(section, |group, name| below(group, name));
            assert!(found.is_some(), "{}: {} is not in the schema", page.name, path.join("."));
        }
    }
    let mut names = BTreeSet::new();
    all(&schema, &mut names);
    for name in names {
        assert!(pages.iter().any(|page| page.names(&name)), "{name} is explained nowhere");
    }
}
