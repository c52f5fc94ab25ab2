//! The live window: what was committed a moment ago, still in memory, routed once for all lanes.
//!
//! Lanes that keep up read here and touch no disk. A lane that falls behind finds its position gone and reads
//! the spool instead; so the window is bounded, and a slow sink costs no memory.

use std::{collections::VecDeque, sync::Arc, sync::Mutex, sync::PoisonError};

use cdr_core::{Position, Push};

use crate::routing::Destinations;

/// A push and where it goes.
#[derive(Debug)]
pub struct Routed {
    /// The push.
    pub push: Arc<Push>,
    /// What the routes said when it was committed, or when a lane read it from disk.
    pub destinations: Destinations,
}

impl Routed {
    /// What a push takes of memory beside its body, measured with CDRs of 1.4 KB: the typed view (1.2 KB and its texts) and
    /// bookkeeping.
    pub const OVERHEAD: usize = 5 << 9;

    /// What a push takes of memory, roughly, in bytes.
    pub fn weight(push: &Push) -> usize {
        push.body().len() + Self::OVERHEAD
    }
}

/// Pushes in the order of their positions, the newest [`Window::BYTES`] of them.
#[derive(Default)]
pub struct Window(Mutex<Held>);

#[derive(Default)]
struct Held {
    pushes: VecDeque<Arc<Routed>>,
    bytes: usize,
    /// Everything from here on, up to the end of the spool, is held.
    since: Option<Position>,
}

impl Window {
    /// Bytes of pushes held for all lanes together, as [`Routed::weight`] counts them: 1,500 CDRs.
    pub const BYTES: usize = 6 << 20;

    /// Adds what a commit brought, in order.
    pub fn extend(&self, committed: impl IntoIterator<Item = Routed>) {
        let mut held = self.lock();
        for routed in committed {
            held.since.get_or_insert(routed.push.position());
            held.bytes += Routed::weight(&routed.push);
            held.pushes.push_back(Arc::new(routed));
        }
        while held.bytes > Self::BYTES {
            let Some(oldest) = held.pushes.pop_front() else { break };
            held.bytes -= Routed::weight(&oldest.push);
            held.since = Some(Position(oldest.push.position().0 + 1));
        }
    }

    /// Up to `most` pushes from `from` on; none when the window begins later and the spool must be read.
    pub fn read(&self, from: Position, most: usize) -> Option<Vec<Arc<Routed>>> {
        let held = self.lock();
        if held.since.is_none_or(|since| from < since) {
            return None;
        }
        let start = held.pushes.partition_point(|routed| routed.push.position() < from);
        Some(held.pushes.range(start..).take(most).cloned().collect())
    }

    /// Whether everything from here on, up to the end of the spool, is in memory.
    pub fn holds(&self, from: Position) -> bool {
        self.lock().since.is_some_and(|since| since <= from)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        // Nothing in here panics half-way; a poisoned window is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
