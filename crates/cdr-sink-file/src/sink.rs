//! The sink: hands batches to the archive, off the async threads, one after the other.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cdr_archive::{Filing, Object};
use cdr_core::{
    Batch, Batching, Failure, Outcome, Partition, Push, Receipt, Report, Seal, Sink, SinkName, Unavailable,
};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::folder::{Folder, Kept, Trouble};

/// Puts pushes into files: many into one that is sealed, or each into its own.
pub struct FileSink {
    // Held by whoever writes. An attempt that its lane has cancelled goes on until the disk answers; the next
    // one must neither meet it at the same temporary file nor take another thread to a disk that hangs.
    pub(crate) folder: Arc<Mutex<Folder>>,
    pub(crate) path: PathBuf,
    pub(crate) filing: Filing,
}

impl FileSink {
    pub(crate) fn new(path: PathBuf, name: &SinkName, filing: Filing) -> Self {
        Self { folder: Arc::new(Mutex::new(Folder::new(path.clone(), name.as_str()))), path, filing }
    }
}

impl Sink for FileSink {
    /// In the raw layout, pushes that are there at the same time share the fsync of their folders; none waits for
    /// company.
    fn batching(&self) -> Batching {
        let raw = Batching { pushes: 64, bytes: 8 << 20, wait: Duration::ZERO, spacing: Duration::ZERO };
        self.filing.batching().unwrap_or(raw)
    }

    fn partition(&self, push: &Push) -> Partition {
        self.filing.partition(push)
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        self.filing.seal("", batch)
    }

    /// What is sealed goes into its file, whatever the layout of today.
    async fn deliver(&self, batch: &Batch) -> Report {
        let folder = Arc::clone(&self.folder).lock_owned().await;
        let objects = self.filing.objects("", batch);
        match spawn_blocking(move || folder.keep(&objects).map(|kept| (objects, kept))).await {
            Ok(Ok((objects, kept))) => report(batch, &objects, &kept),
            Ok(Err(trouble)) => Report::unavailable(batch, Unavailable::new(trouble.to_string())),
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is stopping.
            Err(_) => Report::untried(batch),
        }
    }

    fn describe(&self) -> String {
        let path = self.path.display();
        match self.filing.batching() {
            Some(Batching { pushes, wait, .. }) => {
                let layout = self.filing.ext();
                format!(
                    "writes .{layout} files of up to {pushes} pushes below {path}, {wait:?} after the first of them at the latest"
                )
            }
            None => format!("writes each push to a file of its own below {path}"),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let folder = Arc::clone(&self.folder).lock_owned().await;
        let probed = spawn_blocking(move || folder.probe()).await;
        probed.unwrap_or(Ok(())).map_err(|trouble: Trouble| trouble.to_string())
    }
}

/// What became of each push: the same for all of an object.
fn report(batch: &Batch, objects: &[Object], kept: &[Kept]) -> Report {
    let mut report = Report::untried(batch);
    let outcomes = objects.iter().zip(kept).flat_map(|(object, kept)| {
        let outcome = outcome(kept);
        object.pushes().iter().map(move |_| outcome.clone())
    });
    outcomes.enumerate().for_each(|(index, outcome)| report.set(index, outcome));
    report
}

fn outcome(kept: &Kept) -> Outcome {
    match kept {
        Kept::There(name) => Outcome::Delivered(Receipt::new(name)),
        Kept::NameTaken(file) => Outcome::Reject(Failure::new(format!(
            "{} holds other bytes, and no file of the archive is overwritten; look at it and move it away",
            file.display()
        ))),
    }
}
