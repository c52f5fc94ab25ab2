//! What a process has cost so far, as Linux counts it for that process alone.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// What a process has used since its start.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Processor time, user and system; to 10 ms.
    pub cpu: Duration,
    /// Bytes that it caused to be written to the device: pages, so more than it wrote.
    pub written: u64,
}

impl Cost {
    /// Of the process with this id.
    ///
    /// # Errors
    /// It has ended, or belongs to somebody else.
    pub fn of(id: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        let ticks = ticks(&stat).with_context(|| format!("/proc/{id}/stat reads {stat:?}"))?;
        let io = fs::read_to_string(format!("/proc/{id}/io"))?;
        Ok(Self {
            cpu: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            written: number_after(&io, "write_bytes:")
                .with_context(|| format!("/proc/{id}/io reads {io:?}"))?,
        })
    }

    /// What was used since an earlier reading.
    pub fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, written: self.written - before.written }
    }
}

/// The most memory that a process ever had in RAM, in bytes.
///
/// # Errors
/// It has ended.
pub fn peak_rss(id: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kib = number_after(&status, "VmHWM:").with_context(|| format!("/proc/{id}/status has no VmHWM"))?;
    Ok(kib * 1024)
}

/// Fields 14 and 15 of proc(5)'s stat. The second one is the program's name in brackets, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "1234 (a b) 7 (c) S 1 1 1 0 -1 4194304 1 0 0 0 250 130 9 9 20 0 1 0 5 0";
        assert_eq!(ticks(stat), Some(380));
        assert_eq!(ticks("1234 (short) S 1"), None);
    }

    #[test]
    fn what_was_cancelled_is_not_taken_for_what_was_written() {
        let io = "rchar: 5\nread_bytes: 7\nwrite_bytes: 4096\ncancelled_write_bytes: 12\n";
        assert_eq!(number_after(io, "write_bytes:"), Some(4096));
    }

    #[test]
    fn this_process_costs_something() {
        let id = std::process::id();
        assert!(peak_rss(id).unwrap() > 100_000);
        let before = Cost::of(id).unwrap();
        assert!(Cost::of(id).unwrap().since(before).cpu < Duration::from_secs(60));
    }
}
