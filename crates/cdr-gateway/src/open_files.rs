//! Room for as many open files as the door has connections.
//!
//! Systems start services with a soft limit of 1024, for programs that use `select`, and a hard limit far above it,
//! up to which a program may go by itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Files beside the connections of the door: the spool's segments, those of sinks, the admin listener, senders
/// that are being turned away.
const OTHERS: u64 = 512;

/// Raises the soft limit to what so many connections need, and says so when the system does not let us.
pub fn provide(connections: usize) {
    let needed = needed(connections);
    let now = getrlimit(Resource::Nofile);
    let Some(raised) = raised(now, needed) else { return };
    // Below the hard limit this needs no rights.
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, needed, "cannot raise the limit of open files; raise it for this process (LimitNOFILE, ulimit -n)");
    } else if let Some(limit) = raised.current.filter(|&limit| limit < needed) {
        warn!(
            limit,
            needed,
            "this process may not open as many files as ingress.limits.connections asks for; raise the limit \
             (LimitNOFILE, ulimit -n), or lower ingress.limits.connections"
        );
    } else {
        debug!(limit = needed, "raised the limit of open files");
    }
}

fn needed(connections: usize) -> u64 {
    u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS)
}

/// The limits to set, when there are fewer files than needed; a limit that is none is infinite.
fn raised(now: Rlimit, needed: u64) -> Option<Rlimit> {
    now.current.filter(|&soft| soft < needed)?;
    let current = now.maximum.map_or(needed, |hard| hard.min(needed));
    Some(Rlimit { current: Some(current), maximum: now.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_rises_to_what_is_needed_and_never_above_the_hard_one() {
        let limits = |current, maximum| Rlimit { current, maximum };
        let raised = |current, maximum| raised(limits(current, maximum), 5000).map(|limits| limits.current);
        assert_eq!(raised(Some(1024), Some(1 << 20)), Some(Some(5000)));
        assert_eq!(raised(Some(1024), None), Some(Some(5000)));
        assert_eq!(raised(Some(1024), Some(4096)), Some(Some(4096)));
        assert_eq!(raised(Some(4096), Some(4096)), Some(Some(4096)), "so that it is told");
        assert_eq!(raised(Some(5000), Some(5000)), None);
        assert_eq!(raised(None, None), None);
    }
}
