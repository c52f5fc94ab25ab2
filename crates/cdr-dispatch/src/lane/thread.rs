//! The thread of a lane, with a runtime of its own.
//!
//! A sink that blocks where it should wait blocks its own lane and nobody else: not the door, not the other lanes. And
//! what lane, attempts and connections tell each other stays on one thread, which is what a delivery mostly costs
//! otherwise: waking another thread is dearer than the request that it is woken for. A sink's errands run there, too: its
//! connections belong to the runtime that opened them.

use std::{
    future::Future,
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    sync::oneshot,
    task::JoinHandle,
};
use tracing::error;

use super::status::LaneStatus;

/// Storing comes before delivering, since senders try three times and sinks have days: where the processor is short, a lane
/// gets a tenth of what the door gets.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Idle threads that read from the disk for a lane are kept for this long.
const KEEP_READERS: Duration = Duration::from_secs(1);

/// What still blocks when its lane has ended, such as a disk that hangs, gets so long.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// Where a lane runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The lane's own, unless the system gave it none.
    pub runtime: Handle,
    /// What the sink's own lane tells.
    pub status: Arc<LaneStatus>,
    /// Whoever holds it keeps the thread.
    thread: Weak<oneshot::Sender<()>>,
}

impl Place {
    /// Runs another lane of the same sink here. The thread then outlives both.
    pub fn run_beside(&self, lane: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let until_here = self.thread.upgrade();
        self.runtime.spawn(async move {
            lane.await;
            drop(until_here);
        })
    }
}

/// Runs a lane on a thread of its own. Tells where, and when it ends.
///
/// It stays here where there is but one thread, as in tests that turn the clock, and should the system give no other.
pub fn run(
    sink: &str,
    status: Arc<LaneStatus>,
    lane: impl Future<Output = ()> + Send + 'static,
) -> (Place, JoinHandle<()>) {
    let here = Place { runtime: Handle::current(), status: Arc::clone(&status), thread: Weak::new() };
    if here.runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        let task = here.run_beside(lane);
        return (here, task);
    }
    match own_thread(sink) {
        Ok((runtime, until_here)) => {
            let until_here = Arc::new(until_here);
            let place = Place { runtime, status, thread: Arc::downgrade(&until_here) };
            let task = place.run_beside(lane);
            (place, task)
        }
        Err(error) => {
            error!(%sink, %error, "there is no thread for the lane; it shares those of the door, and a sink that blocks holds up everything");
            let task = here.run_beside(lane);
            (here, task)
        }
    }
}

/// A thread that runs what is spawned there until the sender is dropped.
fn own_thread(sink: &str) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_name(format!("disk {sink}"))
        .thread_keep_alive(KEEP_READERS)
        .build()?;
    let handle = runtime.handle().clone();
    let (until_here, ended) = oneshot::channel();
    thread::Builder::new().name(format!("lane {sink}")).spawn(move || drive(runtime, ended))?;
    Ok((handle, until_here))
}

fn drive(runtime: Runtime, ended: oneshot::Receiver<()>) {
    // For Linux this is about the calling thread, and those that it starts.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICER);
    let _ = runtime.block_on(ended);
    runtime.shutdown_timeout(STRAGGLERS);
}
