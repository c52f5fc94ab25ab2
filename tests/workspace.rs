//! The crates depend one way only, as the architecture draws it.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate of ours may use of ours.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("cdr-core", &[]),
    ("cdr-ingress", &["cdr-core"]),
    ("cdr-spool", &[]),
    ("cdr-expression", &["cdr-core"]),
    ("cdr-archive", &["cdr-core"]),
    ("cdr-dispatch", &["cdr-core", "cdr-expression", "cdr-spool"]),
    ("cdr-sink-s3", &["cdr-core", "cdr-archive"]),
    ("cdr-sink-email", &["cdr-core"]),
    ("cdr-sink-http", &["cdr-core", "cdr-expression"]),
    ("cdr-sink-file", &["cdr-core", "cdr-archive"]),
    ("cdr-simulator", &["cdr-core"]),
    ("cdr-conformance", &["cdr-core"]),
    ("cdr-example-sink", &["cdr-core"]),
];

#[test]
fn the_arrows_between_the_crates_go_one_way() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let ours: BTreeSet<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    for (name, may_use) in MAY_USE {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == name).expect(name);
        let normal =
            package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        let uses: BTreeSet<&str> =
            normal.map(|dependency| dependency.name.as_str()).filter(|name| ours.contains(*name)).collect();
        let may_use: BTreeSet<&str> = may_use.iter().copied().collect();
        assert!(uses.is_subset(&may_use), "{name} uses {uses:?}, it may use {may_use:?}");
    }
}

#[test]
fn no_heavy_crate_is_there_twice() {
    // Not from the metadata: that lists what could be switched on, too.
    let arguments =
        ["tree", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"];
    let tree = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    for name in ["hyper", "hyper-util", "http", "rustls", "tokio", "tokio-rustls", "aws-lc-rs", "serde_json"]
    {
        assert_eq!(versions[name].len(), 1, "{name}: {:?}", versions[name]);
    }
    for name in ["ring", "openssl-sys", "native-tls", "serde_yaml"] {
        assert!(!versions.contains_key(name), "{name} came in");
    }
}

#[test]
fn a_sink_is_built_without_server_spool_and_configuration() {
    for sink in ["cdr-sink-s3", "cdr-sink-email", "cdr-sink-http", "cdr-sink-file", "cdr-example-sink"] {
        // Not from the metadata: that has the features that other crates switch on.
        let arguments =
            ["tree", "--package", sink, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
        let tree = Command::new(env!("CARGO")).args(arguments).output().unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains("cdr-core"), "{sink}: {tree}");
        for foreign in ["cdr-spool", "cdr-dispatch", "cdr-ingress", "figment", "clap", "cel"] {
            // Mappings are written in the language of routes.
            let is_meant = (sink, foreign) == ("cdr-sink-http", "cel");
            assert!(is_meant || !names.contains(foreign), "{sink} brings {foreign}");
        }
    }
}
