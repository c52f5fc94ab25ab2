//! The machine, described: numbers without it mean nothing.

use std::{fs, path::Path, process::Command, thread};

use jiff::Zoned;

/// What runs were made on, name and value.
pub type Machine = Vec<(&'static str, String)>;

/// Describes this machine, and the file system of a folder.
pub fn describe(folder: &Path) -> anyhow::Result<Machine> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = thread::available_parallelism()?.get();
    let memory: u64 =
        value(&read("/proc/meminfo"), "MemTotal").trim_end_matches("kB").trim().parse().unwrap_or(0);
    Ok(vec![
        ("Processor", format!("{cores} × {}", value(&read("/proc/cpuinfo"), "model name"))),
        ("Memory", format!("{} GiB", (memory + (1 << 19)) >> 20)),
        ("Kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("File system", file_system(&read("/proc/self/mounts"), folder)),
        ("Load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("Revision", revision()),
        ("Date", Zoned::now().date().to_string()),
    ])
}

/// Of the first line `name : value`.
fn value(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.unwrap_or("unknown").trim().to_owned()
}

/// Kind and device of the mount that a folder lies in: the longest one that it begins with, and of these the last.
fn file_system(mounts: &str, folder: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let around = mounts.filter(|(_, point, _)| folder.starts_with(point));
    let nearest = around.max_by_key(|(_, point, _)| point.len());
    nearest.map_or("unknown".to_owned(), |(device, _, kind)| format!("{kind} on {device}"))
}

fn revision() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let described = git.output().ok().filter(|output| output.status.success());
    described.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/disk/spool")), "xfs on /dev/b");
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), "tmpfs on tmpfs");
        assert_eq!(file_system(mounts, Path::new("/home")), "ext4 on /dev/a");
    }

    #[test]
    fn a_value_stands_behind_its_colon() {
        assert_eq!(value("model\t: 2\nmodel name\t: Fast One\n", "model name"), "Fast One");
        assert_eq!(value("", "model name"), "unknown");
    }
}
