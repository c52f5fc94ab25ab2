//! The docs are true: links lead somewhere, snippets are accepted, names are there, and the commands of
//! `docs/ingress.md` answer as printed.
//!
//! How a page tells the tests what it is: ```` ```yaml ```` is a whole configuration, ```` ```yaml partial ```` is
//! not; a console after `<!-- run -->` is run against the gateway of the last whole configuration above it, and ```` ```sh ````
//! after it in the folder of the next one, before its gateway starts.

mod ingress;
mod names;
mod schema;
mod snippets;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A page of documentation.
struct Page {
    /// As seen from the top of the repository.
    name: String,
    text: String,
}

/// What stands between two fences.
struct Block<'a> {
    /// What follows the opening fence.
    info: &'a str,
    text: String,
    /// Whether `<!-- run -->` stands above it.
    is_run: bool,
}

impl Block<'_> {
    /// Runs it in this folder; what it says is not looked at.
    fn prepares(&self, folder: &Path) {
        let ran = Command::new("sh").args(["-ec", &self.text]).current_dir(folder).output().unwrap();
        assert!(ran.status.success(), "{}\n{}", self.text, String::from_utf8_lossy(&ran.stderr));
    }

    fn is_preparation(&self) -> bool {
        self.info == "sh" && self.is_run
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn page(name: &str) -> Page {
    let path = root().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Page { name: name.to_owned(), text }
}

/// All pages: those at the top and those in `docs`.
fn pages() -> Vec<Page> {
    let mut names = Vec::new();
    for folder in ["", "docs/"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let files = entries.map(|name| format!("{folder}{}", name.into_string().unwrap()));
        names.extend(files.filter(|name| name.ends_with(".md")));
    }
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    names.iter().map(|name| page(name)).collect()
}

impl Page {
    /// Its fenced blocks, also those in lists.
    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let (mut open, mut above) = (false, "");
        for line in self.text.lines() {
            match line.trim_start().strip_prefix("```") {
                Some(_) if open => open = false,
                Some(info) => {
                    open = true;
                    blocks.push(Block { info, text: String::new(), is_run: above == "<!-- run -->" });
                }
                None if open => {
                    let block = blocks.last_mut().expect("it was opened");
                    block.text += line;
                    block.text.push('\n');
                }
                None if line.trim().is_empty() => {}
                None => above = line.trim(),
            }
        }
        assert!(!open, "{}: a fence is not closed", self.name);
        blocks
    }

    /// What stands under a heading of the second level.
    fn section(&self, heading: &str) -> Self {
        let heading = format!("\n## {heading}\n");
        let (_, below) =
            self.text.split_once(&heading).unwrap_or_else(|| panic!("{}: no{heading}", self.name));
        let text = below.split("\n## ").next().unwrap_or_default().to_owned();
        Self { name: self.name.clone(), text }
    }

    /// The lines outside of fences.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut open = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            open ^= is_fence;
            !open && !is_fence
        })
    }

    /// What stands between backticks.
    fn code(&self) -> Vec<&str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
    }

    /// The words that stand between backticks, on their own or in an expression.
    fn names(&self, name: &str) -> bool {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.code().iter().any(|code| code.split(|c| !is_part(c)).any(|word| word == name))
    }

    /// The cells of its table rows.
    fn rows(&self) -> Vec<Vec<&str>> {
        let rows = self.prose().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
        rows.map(|row| row.split(" | ").map(str::trim).collect()).collect()
    }
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let folder = PathBuf::from(&page.name).parent().unwrap().to_owned();
        for link in page.prose().flat_map(|line| line.split("](").skip(1)) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { PathBuf::from(&page.name) } else { folder.join(file) };
            assert!(root().join(&path).exists(), "{}: {target} leads nowhere", page.name);
            if !anchor.is_empty() {
                let text = fs::read_to_string(root().join(&path)).unwrap();
                let named = text.contains(&format!("<a name=\"{anchor}\">"));
                assert!(named, "{}: {target}: no such place; give it an <a name>", page.name);
            }
        }
    }
}
