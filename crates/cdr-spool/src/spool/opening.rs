//! Opening a spool: what it stands on, what recovery found, and its writer.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Handle, OnCommit, Spool};
use crate::clock::{Clock, SystemClock};
use crate::disk::{Directory, Lock, RealDirectory};
use crate::inbox::Inbox;
use crate::log::segment;
use crate::recovery::{self, Recovered};
use crate::store::Store;
use crate::writer::{self, Shared, Writer};
use crate::{NewLane, OpenError, Recovery, Settings, Start};

/// An hour: how far the wall clock may be from the newest entry before it is doubted.
const CLOCK_DOUBT: Duration = Duration::from_secs(3600);

/// What a spool stands on. The tests put another disk and another clock below it.
pub struct Ground {
    /// The directory of the spool.
    pub directory: Arc<dyn Directory>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The size of a segment, if not the one that follows from the settings.
    pub segment_size: Option<u64>,
}

impl<T: Send + 'static> Spool<T> {
    /// Opens a spool, or makes one, and starts its writer. Lanes that it does not know are registered durably before this
    /// returns; lanes that it knows and that are not named are left as they are.
    ///
    /// Blocks: reads the log from the newest checkpoint on, and the indexes of the segments before it.
    ///
    /// # Errors
    /// If the settings contradict each other, another process has the spool, a newer gateway wrote it, or the disk fails.
    pub fn open(
        settings: Settings,
        lanes: &[NewLane],
        on_commit: OnCommit<T>,
    ) -> Result<(Spool<T>, Recovery), OpenError> {
        let directory = RealDirectory::create(&settings.path).map_err(|source| OpenError::Io {
            doing: "make the directory",
            path: settings.path.clone(),
            source,
        })?;
        let clock = Arc::new(SystemClock::start());
        Spool::open_on(
            Ground { directory: Arc::new(directory), clock, segment_size: None },
            settings,
            lanes,
            on_commit,
        )
    }

    /// [`open`](Self::open) on another disk and another clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        ground: Ground,
        settings: Settings,
        lanes: &[NewLane],
        on_commit: OnCommit<T>,
    ) -> Result<(Spool<T>, Recovery), OpenError> {
        let began = Instant::now();
        let segment_size = ground.segment_size.unwrap_or_else(|| settings.segment_size());
        settings.check(segment_size)?;
        let lock = lock(&ground, &settings)?;
        let mut recovered = recovery::recover(&*ground.directory, &settings.path)?;
        let now = ground.clock.wall_ms();
        let start = writer::Start::of(&mut recovered, &*ground.directory, now, settings.dedupe_window);
        let state = std::mem::take(&mut recovered.state);
        let store =
            Store::new(ground.directory, ground.clock, settings, segment_size, recovered.identity, state);
        let shared = Arc::new(Shared { store, inbox: Inbox::new() });
        let (closed, when_closed) = watch::channel(false);
        let lanes = starting_safely(lanes, &recovered);
        let (writer, registered) = Writer::start(shared.clone(), on_commit, start, &lanes, lock, closed)?;
        tidy(&shared.store, &recovered);
        let recovery = report(&shared.store, recovered, registered, now, began.elapsed());
        std::thread::Builder::new().name("spool-writer".into()).spawn(move || writer.run()).map_err(
            |source| OpenError::Io {
                doing: "start the writer",
                path: shared.store.settings.path.clone(),
                source,
            },
        )?;
        Ok((
            Spool { handle: Arc::new(Handle { shared, closed: when_closed, catalog: OnceLock::new() }) },
            recovery,
        ))
    }
}

fn lock(ground: &Ground, settings: &Settings) -> Result<Lock, OpenError> {
    let path = settings.path.clone();
    ground.directory.lock().map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked { path, holder: source.to_string() },
        _ => OpenError::Io { doing: "take the lock", path, source },
    })
}

/// When damage hides what lanes had done, a lane that seems new may be an old one: it starts at the beginning, whatever it
/// was to do. Repeats are said and harmless, gaps are neither.
fn starting_safely(lanes: &[NewLane], recovered: &Recovered) -> Vec<NewLane> {
    let start = |lane: &NewLane| if recovered.lanes_unknown { Start::Beginning } else { lane.start };
    lanes.iter().map(|lane| NewLane { name: lane.name.clone(), start: start(lane) }).collect()
}

/// Removes what the log no longer names, keeps aside what cannot be read, and writes indexes that are missing. All of it
/// may fail: the next start does it again.
fn tidy(store: &Store, recovered: &Recovered) {
    for name in &recovered.leftovers {
        if store.directory.remove(name).is_ok() {
            tracing::info!(file = name, "removed a file that the log no longer needs");
        }
    }
    for number in &recovered.unreadable {
        store.directory.rename(&segment::file_name(*number), &segment::damaged_name(*number)).ok();
    }
    for index in recovered.indexes.iter().filter(|i| recovered.scanned.contains(&i.stamp.segment)) {
        index.save(&*store.directory).ok();
    }
}

fn report(
    store: &Store,
    recovered: Recovered,
    registered: Vec<String>,
    now_ms: i64,
    took: Duration,
) -> Recovery {
    let off = recovered.newest_ms.map(|newest| Duration::from_millis(now_ms.abs_diff(newest)));
    let state = store.state();
    let recovery = Recovery {
        identity: recovered.identity,
        is_new: recovered.is_new,
        end: state.end,
        segments: state.segments.len(),
        bytes_read: recovered.bytes_read,
        torn_bytes: recovered.torn_bytes,
        damage: recovered.damage,
        registered,
        clock_off: off.filter(|off| *off > CLOCK_DOUBT),
        took,
    };
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovery.torn_bytes,
            "cut an unfinished last write; no sender was told that it was stored, unless the disk broke it after the stop"
        );
    }
    for damage in &recovery.damage {
        let lost = damage.lost.map_or(0, |(first, last)| last.0 - first.0 + 1);
        tracing::error!(
            file = damage.file,
            offset = damage.offset,
            lost,
            "the spool is damaged on disk; lost pushes become dead letters, lost outcomes and seals fall back to repeats, the file is kept"
        );
    }
    recovery
}
