//! What has a name in the program has it in the docs: settings, metrics, verdicts, statuses; and the other way
//! round: files, functions and metrics of the docs are there.

use std::{collections::BTreeSet, fs};

use cdr_core::{Cdr, end_status};
use cdr_tests::Process;
use serde_json::Value;

use super::{page, pages, root};

/// The names of all settings below `value`; those of sinks are the file's own choice.
fn settings(value: &Value, is_sinks: bool, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(group) => {
            for (name, value) in group {
                if !is_sinks {
                    found.insert(name.clone());
                }
                settings(value, name == "sinks", found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| settings(value, false, found)),
        _ => {}
    }
}

/// The shipped file with the settings that stand in comments.
pub(super) fn shipped() -> Value {
    let text = fs::read_to_string(root().join("gateway.yaml")).unwrap();
    let is_setting = |rest: &str| {
        let name = rest.trim_start().trim_start_matches("- ").split(':').next().unwrap_or_default();
        rest.contains(':') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let uncommented = text.lines().map(|line| match line.split_once("# ") {
        Some((indent, rest)) if !indent.is_empty() && indent.trim().is_empty() && is_setting(rest) => {
            format!("{indent}{rest}\n")
        }
        _ => format!("{line}\n"),
    });
    serde_saphyr::from_str(&uncommented.collect::<String>()).unwrap()
}

#[test]
fn every_setting_of_the_shipped_file_is_explained() {
    let mut found = BTreeSet::new();
    settings(&shipped(), false, &mut found);
    for commented in ["networks", "trusted_proxies", "smtp", "give_up_after", "silence"] {
        assert!(found.contains(commented), "{commented} was not found in {found:?}");
    }
    let explained = [page("docs/configuration.md"), page("docs/sinks.md")];
    for setting in found {
        assert!(explained.iter().any(|page| page.names(&setting)), "{setting} is explained nowhere");
    }
}

#[test]
fn every_metric_and_verdict_is_explained_and_every_explained_metric_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(
        folder.path(),
        r#"{ ingress: { listen: "127.0.0.1:0" }, admin: { listen: "127.0.0.1:0" } }"#,
    );
    let text = gateway.ask("GET", "/metrics").body;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let metrics: BTreeSet<String> = types
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    assert!(metrics.len() > 20, "{metrics:?}");
    let operations = page("docs/operations.md");
    for metric in &metrics {
        assert!(operations.names(metric), "docs/operations.md does not name {metric}");
    }
    for page in pages() {
        for code in page.code() {
            let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("cdr_gateway_")) {
                assert!(metrics.contains(word), "{}: there is no metric {word}", page.name);
            }
        }
    }
    let ingress = page("docs/ingress.md");
    let verdicts = text.split("verdict=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for verdict in verdicts.collect::<BTreeSet<_>>() {
        assert!(ingress.names(verdict), "docs/ingress.md does not name the verdict {verdict}");
    }
}

#[test]
fn every_published_status_stands_with_its_result() {
    let page = page("docs/routes.md");
    for status in end_status::PUBLISHED {
        let result = format!("`{}`", status.result);
        let row = page.rows().into_iter().find(|row| row.len() == 2 && row[0] == result).expect(&result);
        assert!(
            row[1].contains(&format!("`{}`", status.name)),
            "{} is not in the row of {result}",
            status.name
        );
    }
}

#[test]
fn every_field_is_listed() {
    let page = page("docs/protocol.md");
    for field in Cdr::FIELDS {
        assert!(page.names(field), "docs/protocol.md does not list {field}");
    }
}

#[test]
fn every_file_and_function_of_the_architecture_is_there() {
    let page = page("docs/architecture.md");
    // A step begins with its number, a row with its bar; other paragraphs with an empty line.
    let mut steps: Vec<String> = vec![String::new()];
    for line in page.prose() {
        let begins = line.is_empty() || line.starts_with(|c: char| c.is_ascii_digit() || c == '|');
        match begins {
            true => steps.push(line.to_owned()),
            false => *steps.last_mut().expect("there is a first") += &format!(" {line}"),
        }
    }
    let mut functions = 0;
    for step in steps {
        let code: Vec<&str> = step.split('`').skip(1).step_by(2).collect();
        let is_path = |code: &&&str| code.contains('/') && !code.starts_with('/') && !code.contains(' ');
        let mut sources = String::new();
        for path in code.iter().filter(is_path) {
            assert!(root().join(path).exists(), "docs/architecture.md: there is no {path}");
            sources += &fs::read_to_string(root().join(path)).unwrap_or_default();
        }
        for function in code.iter().filter_map(|code| code.strip_suffix("()")) {
            let defined = [format!("fn {function}("), format!("fn {function}<")];
            assert!(
                defined.iter().any(|text| sources.contains(text)),
                "no {function}() in the files of: {step}"
            );
            functions += 1;
        }
    }
    assert!(functions >= 50, "only {functions} functions were found");
}

#[test]
fn every_path_of_ours_that_a_page_names_is_there() {
    for page in pages() {
        for code in
            page.code().into_iter().filter(|code| code.starts_with("crates/") || code.starts_with("tests/"))
        {
            let is_pattern = code.contains('…') || code.contains(' ');
            assert!(is_pattern || root().join(code).exists(), "{}: there is no {code}", page.name);
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let sources: String = ["crates", "tests"].iter().map(|folder| rust_files(&root().join(folder))).collect();
    let page = page("docs/security.md");
    let is_claim = |code: &&str| {
        code.matches('_').count() >= 3
            && code.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
    };
    let tests: BTreeSet<&str> = page.code().into_iter().filter(is_claim).collect();
    assert!(tests.len() >= 15, "{tests:?}");
    for test in tests.into_iter().filter(|test| *test != "requests_per_second_per_client") {
        assert!(sources.contains(&format!("fn {test}(")), "docs/security.md: there is no test {test}");
    }
    for attack in page.code().into_iter().filter(|code| code.ends_with(".http")) {
        let file = root().join("crates/cdr-ingress/tests/attacks").join(attack);
        assert!(file.exists(), "docs/security.md: there is no attack {attack}");
    }
}

/// The text of all Rust files below a folder.
fn rust_files(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            text += &rust_files(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}
