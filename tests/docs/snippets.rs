//! Configurations, expressions and commands that the docs show are taken by the program.

use std::fs;

use cdr_tests::cli;

use super::{page, pages};

/// The names of `{ env: NAME }` or `{ file: NAME }`.
fn secrets<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let opening = format!("{{ {kind}: ");
    let names = text.split(&opening).skip(1).map(|rest| rest.split(" }").next().unwrap());
    names.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))).collect()
}

/// Long enough for a token, and base64 for a webhook's key.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn every_configuration_is_good() {
    let mut seen = 0;
    for page in pages() {
        let (blocks, mut preparations) = (page.blocks(), Vec::new());
        for block in &blocks {
            match block.info {
                _ if block.is_preparation() => {
                    preparations.push(block);
                    continue;
                }
                other if !other.starts_with("yaml") => continue,
                "yaml" => seen += 1,
                "yaml partial" => continue,
                other => panic!("{}: write yaml or yaml partial, not {other}", page.name),
            }
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("gateway.yaml"), &block.text).unwrap();
            preparations.drain(..).for_each(|block| block.prepares(folder.path()));
            for file in secrets(&block.text, "file") {
                fs::write(folder.path().join(file), SECRET).unwrap();
            }
            let environment: Vec<_> =
                secrets(&block.text, "env").into_iter().map(|name| (name, SECRET)).collect();
            let check = cli(folder.path(), &["check"], &environment);
            assert_eq!(check.code, Some(0), "{}: {}\n{}", page.name, check.stdout, block.text);
            let unnamed = "no route names this sink";
            assert!(!check.stdout.contains(unnamed), "{}: {}", page.name, check.stdout);
        }
    }
    assert!(seen >= 8, "only {seen} configurations were found");
}

#[test]
fn what_check_is_said_to_find_it_finds() {
    let page = page("docs/routes.md").section("What `check` finds");
    let unquoted = |cell: &str| cell.trim_matches('`').to_owned();
    let rows = page.rows().into_iter().filter(|row| row.len() == 2 && row[1].starts_with('`'));
    let told: Vec<(String, String)> = rows.map(|row| (unquoted(row[0]), unquoted(row[1]))).collect();
    assert!(told.len() >= 6, "{told:?}");
    let routes = told.iter().enumerate().map(|(number, (written, _))| {
        serde_json::json!({ "name": format!("{number}"), "when": written, "to": ["archive"] })
    });
    let configuration = serde_json::json!({
        "sinks": { "archive": { "file": { "path": "data" } } },
        "routes": routes.collect::<Vec<_>>(),
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.yaml"), configuration.to_string()).unwrap();
    let check = cli(folder.path(), &["check"], &[]);
    assert_eq!(check.code, Some(1));
    for (written, told) in told {
        assert!(check.stdout.contains(&told), "{written}: {told}\n{}", check.stdout);
    }
}

#[test]
fn every_command_that_is_shown_is_there() {
    let help = cli(std::env::temp_dir().as_path(), &["--help"], &[]).stdout;
    let listed =
        help.lines().filter(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    let commands: Vec<&str> = listed.collect();
    let mut seen = 0;
    for page in pages() {
        let blocks: Vec<String> = page.blocks().into_iter().map(|block| block.text).collect();
        let code = page.code().into_iter().chain(blocks.iter().flat_map(|text| text.lines()));
        for line in code.filter(|line| !line.starts_with("//")) {
            let line = line.replace("-u cdr-gateway ", "");
            let words = line.split("cdr-gateway ").skip(1).filter_map(|rest| rest.split([' ', '\n']).next());
            for word in words.filter(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase())) {
                assert!(commands.contains(&word), "{}: there is no command {word}: {line}", page.name);
                seen += 1;
            }
        }
    }
    assert!(seen >= 20, "only {seen} commands were found");
}
