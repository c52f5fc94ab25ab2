//! The commands of `docs/ingress.md`, run as they stand there but for the ports.

use std::{ffi::OsString, process::Command};

use cdr_tests::{Process, binary};

use super::{Block, Page, page};

#[test]
fn the_commands_answer_as_printed() {
    let curl = Command::new("curl").arg("--version").output();
    assert!(curl.is_ok(), "curl is needed for this test: apt-get install curl");
    let page = page("docs/ingress.md");
    let (mut gateway, mut ran, mut preparations) = (None, 0, Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let blocks = page.blocks();
    for (number, block) in blocks.iter().enumerate() {
        match block.info {
            _ if block.is_preparation() => preparations.push(block),
            "yaml" => {
                // The next one starts in a folder of its own, when the one before has let go of its ports.
                drop(gateway.take());
                let own = folder.path().join(number.to_string());
                std::fs::create_dir(&own).unwrap();
                for (name, text) in written(&page) {
                    std::fs::write(own.join(name), text).unwrap();
                }
                preparations.drain(..).for_each(|block: &Block<'_>| block.prepares(&own));
                let text = block
                    .text
                    .replace("127.0.0.1:8080", "127.0.0.1:0")
                    .replace("127.0.0.1:8081", "127.0.0.1:0");
                gateway = Some(Process::start(&own, &text));
            }
            "console" if block.is_run => {
                ran += run(gateway.as_ref().expect("a configuration stands above"), block)
            }
            _ => {}
        }
    }
    assert!(ran >= 40, "only {ran} commands were found");
}

/// The files that the page lets its reader write: `printf 'text' > name`.
fn written(page: &Page) -> Vec<(String, String)> {
    let blocks = page.blocks();
    let lines = blocks.iter().filter(|block| block.info == "sh").flat_map(|block| block.text.lines());
    let files =
        lines.filter_map(|line| line.strip_prefix("printf '")?.split_once("' > ")).map(|(text, rest)| {
            let name = rest.split_whitespace().next().expect("a file is named");
            (name.to_owned(), text.to_owned())
        });
    files.collect()
}

/// Runs each line that begins with `$ ` and compares what it says with the lines below it.
fn run(gateway: &Process, block: &Block<'_>) -> usize {
    let dialogues: Vec<&str> = block.text.split("$ ").skip(1).collect();
    for dialogue in &dialogues {
        let (command, expected) = dialogue.split_once('\n').expect("an answer is printed");
        let command = command.replace("127.0.0.1:8080", &gateway.door.to_string());
        let command = command.replace("127.0.0.1:8081", &gateway.admin.to_string());
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(gateway.folder()).env("PATH", path());
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim_end(), expected.trim_end(), "{command}");
    }
    dialogues.len()
}

/// Where commands are found, the gateway's first.
fn path() -> OsString {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let ours = binary().parent().expect("it lies in a folder").to_owned();
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&folders))).unwrap()
}
