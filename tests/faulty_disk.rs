//! A disk that fails when it is told, below the real binary: `faulty_disk.c`, compiled here and preloaded.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A call that the disk can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reading from a file.
    Read,
    /// Writing into a file that is open.
    Write,
    /// Making what was written durable, of files and folders.
    Sync,
    /// Making a file.
    Create,
}

/// Tells a running gateway's disk what to do.
pub struct FaultyDisk {
    told: PathBuf,
}

impl FaultyDisk {
    /// A disk without faults; what it is told lies in `folder`.
    pub fn new(folder: &Path) -> Self {
        let disk = Self { told: folder.join("faults") };
        disk.mend();
        disk
    }

    /// From now on these calls fail with this error number on all files whose path contains `path`. It replaces what was told before.
    pub fn fail(&self, calls: &[Call], errno: i32, path: &str) {
        self.tell(calls, errno, path, &(0..i64::MAX));
    }

    /// The same, where a call touches these bytes of a file.
    pub fn fail_at(&self, call: Call, errno: i32, path: &str, bytes: Range<i64>) {
        self.tell(&[call], errno, path, &bytes);
    }

    /// From now on these calls do not come back.
    pub fn hang(&self, calls: &[Call], path: &str) {
        self.tell(calls, 0, path, &(0..i64::MAX));
    }

    /// From now on everything works.
    pub fn mend(&self) {
        self.tell(&[], 0, "", &(0..0));
    }

    fn tell(&self, calls: &[Call], errno: i32, path: &str, bytes: &Range<i64>) {
        let name = |call: &Call| format!("{call:?}").to_lowercase();
        let line = |call| format!("{} {errno} {path} {} {}\n", name(call), bytes.start, bytes.end);
        // Whole or not at all: it is read at any moment.
        let new = self.told.with_extension("new");
        fs::write(&new, calls.iter().map(line).collect::<String>()).expect("the folder is writable");
        fs::rename(&new, &self.told).expect("the folder is writable");
    }

    /// What the environment of the gateway must hold.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", library()), ("CDR_FAULTS", &self.told)]
    }
}

/// The compiled library. The linker of every Rust build is a C compiler, so there is one.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/faulty_disk.c");
        let tests = std::env::current_exe().expect("this test runs");
        // Each test process has its own, so that none replaces what another one has loaded.
        let library = tests.with_file_name(format!("faulty_disk-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        let compiled = cc.status().is_ok_and(|status| status.success());
        assert!(
            compiled,
            "this test puts a library below the gateway: it needs `cc`, as cargo's linker does"
        );
        library
    })
}
