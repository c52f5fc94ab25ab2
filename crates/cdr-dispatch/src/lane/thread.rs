//! The thread of a lane, with a runtime of its own.
//!
//! A sink that blocks where it should wait blocks its own lane and nobody else: not the door, not the other lanes. And
//! what lane, attempts and connections tell each other stays on one thread, which is what a delivery mostly costs
//! otherwise: waking another thread is dearer than the request that it is woken for.

use std::{future::Future, io, thread, time::Duration};

use cdr_core::SinkName;
use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    sync::oneshot,
    task::JoinHandle,
};
use tracing::error;

/// Storing comes before delivering: where the processor is short, lanes get a third of what the door gets.
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// Idle threads that read from the disk for a lane are kept for this long.
const KEEP_READERS: Duration = Duration::from_secs(1);

/// What still blocks when its lane has ended, such as a disk that hangs, gets so long.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// Runs a lane on a thread of its own. Tells where, and when it ends.
///
/// It stays here where there is but one thread, as in tests that turn the clock, and should the system give no other.
pub fn run(sink: &SinkName, lane: impl Future<Output = ()> + Send + 'static) -> (Handle, JoinHandle<()>) {
    let here = Handle::current();
    if here.runtime_flavor() == RuntimeFlavor::CurrentThread {
        let task = here.spawn(lane);
        return (here, task);
    }
    match own_thread(sink) {
        Ok((runtime, until_here)) => {
            let task = runtime.spawn(async move {
                lane.await;
                drop(until_here);
            });
            (runtime, task)
        }
        Err(error) => {
            error!(%sink, %error, "there is no thread for the lane; it shares those of the door, and a sink that blocks holds up everything");
            let task = here.spawn(lane);
            (here, task)
        }
    }
}

/// A thread that runs what is spawned there until the sender is dropped.
fn own_thread(sink: &SinkName) -> io::Result<(Handle, oneshot::Sender<()>)> {
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
