//! Every target over every file that fuzzing begins with: the attacks, the samples, and the seeds of `fuzz/`, among them
//! all that ever failed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::TARGETS;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn below(folder: &str) -> PathBuf {
    Path::new(CRATE).join(folder)
}

#[test]
fn no_target_fails_on_any_seed_or_its_beginning() {
    let folders = ["tests/attacks", "../../examples/samples", "../../fuzz/seeds"];
    let files: Vec<_> = folders.into_iter().flat_map(|folder| files(&below(folder))).collect();
    assert!(files.len() > 150, "{}", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for (name, target) in TARGETS {
            for eighths in [4, 7, 8] {
                let beginning = bytes[..bytes.len() * eighths / 8].to_vec();
                let failed = std::panic::catch_unwind(|| target(&beginning)).is_err();
                assert!(!failed, "{name} fails on {eighths}/8 of {}", file.display());
            }
        }
    }
}

#[test]
fn each_target_is_one_of_fuzz_and_has_seeds() {
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort_unstable();
    for (folder, suffix) in [("../../fuzz/fuzz_targets", ".rs"), ("../../fuzz/seeds", "")] {
        let entries = fs::read_dir(below(folder)).unwrap();
        let mut there: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.trim_end_matches(suffix).to_owned())
            .collect();
        there.sort_unstable();
        assert_eq!(there, names, "{folder}");
    }
    let manifest = fs::read_to_string(below("../../fuzz/Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
