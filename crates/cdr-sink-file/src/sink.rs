//! The sink: hands batches to the archive, off the async threads, one after the other.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cdr_core::{Batch, Batching, Failure, Outcome, Receipt, Report, Sink, SinkName, Unavailable};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::archive::{Archive, Kept, Trouble};

/// Puts each push into a file of its own.
pub struct FileSink {
    // Held by whoever writes. An attempt that its lane has cancelled goes on until the disk answers; the next
    // one must neither meet it at the same temporary file nor take another thread to a disk that hangs.
    archive: Arc<Mutex<Archive>>,
    path: PathBuf,
}

impl FileSink {
    pub(crate) fn new(path: PathBuf, name: &SinkName) -> Self {
        Self { archive: Arc::new(Mutex::new(Archive::new(path.clone(), name.as_str()))), path }
    }
}

impl Sink for FileSink {
    /// Pushes that are there at the same time share the fsync of their folders; none waits for company.
    fn batching(&self) -> Batching {
        Batching { pushes: 64, bytes: 8 << 20, wait: Duration::ZERO, spacing: Duration::ZERO }
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let archive = Arc::clone(&self.archive).lock_owned().await;
        let pushes = batch.pushes().cloned().collect::<Vec<_>>();
        match spawn_blocking(move || archive.keep(&pushes)).await {
            Ok(Ok(kept)) => report(batch, kept),
            Ok(Err(trouble)) => Report::unavailable(batch, Unavailable::new(trouble.to_string())),
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is stopping.
            Err(_) => Report::untried(batch),
        }
    }

    fn describe(&self) -> String {
        format!("writes each push to a file of its own below {}", self.path.display())
    }

    async fn probe(&self) -> Result<(), String> {
        let archive = Arc::clone(&self.archive).lock_owned().await;
        let probed = spawn_blocking(move || archive.probe()).await;
        probed.unwrap_or(Ok(())).map_err(|trouble: Trouble| trouble.to_string())
    }
}

fn report(batch: &Batch, kept: Vec<Kept>) -> Report {
    let mut report = Report::untried(batch);
    for (index, kept) in kept.into_iter().enumerate() {
        let outcome = match kept {
            Kept::There(name) => Outcome::Delivered(Receipt::new(name)),
            Kept::NameTaken(file) => Outcome::Reject(Failure::new(format!(
                "{} holds other bytes, and no file of the archive is overwritten; look at it and move it away",
                file.display()
            ))),
        };
        report.set(index, outcome);
    }
    report
}
