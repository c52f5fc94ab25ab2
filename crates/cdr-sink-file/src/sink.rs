//! The sink: hands batches to the archive, off the async threads, one after the other.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cdr_core::{
    Batch, Batching, Failure, Outcome, Partition, Push, Receipt, Report, Seal, Sink, SinkName, Unavailable,
};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::{
    archive::{Archive, Content, Kept, Trouble},
    layout,
};

/// Puts pushes into files: many into one that is sealed, or each into its own.
pub struct FileSink {
    // Held by whoever writes. An attempt that its lane has cancelled goes on until the disk answers; the next
    // one must neither meet it at the same temporary file nor take another thread to a disk that hangs.
    archive: Arc<Mutex<Archive>>,
    path: PathBuf,
    /// How many share a file; none in the raw layout.
    batching: Option<Batching>,
}

impl FileSink {
    pub(crate) fn new(path: PathBuf, name: &SinkName, batching: Option<Batching>) -> Self {
        Self { archive: Arc::new(Mutex::new(Archive::new(path.clone(), name.as_str()))), path, batching }
    }
}

impl Sink for FileSink {
    /// In the raw layout, pushes that are there at the same time share the fsync of their folders; none waits for
    /// company.
    fn batching(&self) -> Batching {
        let raw = Batching { pushes: 64, bytes: 8 << 20, wait: Duration::ZERO, spacing: Duration::ZERO };
        self.batching.unwrap_or(raw)
    }

    fn partition(&self, push: &Push) -> Partition {
        match self.batching {
            Some(_) => layout::partition(push),
            None => Partition::ONE,
        }
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        self.batching.and_then(|_| layout::seal(batch))
    }

    /// What is sealed goes into its file, whatever the layout of today.
    async fn deliver(&self, batch: &Batch) -> Report {
        let archive = Arc::clone(&self.archive).lock_owned().await;
        let pushes = batch.pushes().cloned().collect::<Vec<_>>();
        let sealed = batch.seal().and_then(layout::sealed_name).map(str::to_owned);
        let kept = spawn_blocking(move || match sealed {
            Some(name) => keep_together(&archive, name, &pushes),
            None => keep_each(&archive, &pushes),
        });
        match kept.await {
            Ok(Ok(kept)) => report(batch, &kept),
            Ok(Err(trouble)) => Report::unavailable(batch, Unavailable::new(trouble.to_string())),
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is stopping.
            Err(_) => Report::untried(batch),
        }
    }

    fn describe(&self) -> String {
        let path = self.path.display();
        match self.batching {
            Some(Batching { pushes, wait, .. }) => {
                format!(
                    "writes files of up to {pushes} pushes, a line each, below {path}, {wait:?} after the first of them at the latest"
                )
            }
            None => format!("writes each push to a file of its own below {path}"),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let archive = Arc::clone(&self.archive).lock_owned().await;
        let probed = spawn_blocking(move || archive.probe()).await;
        probed.unwrap_or(Ok(())).map_err(|trouble: Trouble| trouble.to_string())
    }
}

fn keep_each(archive: &Archive, pushes: &[Arc<Push>]) -> Result<Vec<Kept>, Trouble> {
    let content = |push: &Arc<Push>| -> Content<'_> {
        let body = push.body().clone();
        Box::new(move |file| file.write_all(&body))
    };
    let files: Vec<_> = pushes.iter().map(|push| (layout::raw_name(push), content(push))).collect();
    archive.keep(&files)
}

/// One file, which is what became of each.
fn keep_together(archive: &Archive, name: String, pushes: &[Arc<Push>]) -> Result<Vec<Kept>, Trouble> {
    if !pushes.iter().all(|push| layout::is_text(push)) {
        return keep_each(archive, pushes);
    }
    archive.keep(&[(name, Box::new(|file| layout::write_lines(pushes, file)))])
}

/// What became of each push, or of all of them together.
fn report(batch: &Batch, kept: &[Kept]) -> Report {
    if let [kept] = kept {
        return Report::all(batch, &outcome(kept));
    }
    let mut report = Report::untried(batch);
    for (index, kept) in kept.iter().enumerate() {
        report.set(index, outcome(kept));
    }
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
