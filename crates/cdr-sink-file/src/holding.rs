//! The folder, seen by who checks the archive or reads it back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cdr_archive::{Filing, Holding, holding::Asked};
use tokio::task::spawn_blocking;

use crate::FileSink;

impl Holding for FileSink {
    fn filing(&self) -> &Filing {
        &self.filing
    }

    fn keys(&self) -> Asked<'_, Vec<String>> {
        let path = self.path.clone();
        Box::pin(async move {
            let told = path.display().to_string();
            blocking(move || keys(&path)).await.map_err(|error| format!("cannot look into {told}: {error}"))
        })
    }

    fn read<'a>(&'a self, key: &'a str) -> Asked<'a, Bytes> {
        let path = self.path.join(key);
        Box::pin(async move {
            let told = path.display().to_string();
            let read = blocking(move || fs::read(path)).await;
            read.map(Bytes::from).map_err(|error| format!("cannot read {told}: {error}"))
        })
    }

    fn add<'a>(&'a self, key: &'a str, bytes: Bytes) -> Asked<'a, bool> {
        Box::pin(async move {
            let folder = Arc::clone(&self.folder).lock_owned().await;
            let key = key.to_owned();
            let added = blocking(move || folder.add(&key, &bytes).map_err(io::Error::other)).await;
            added.map_err(|error| error.to_string())
        })
    }
}

async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(ask).await.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

/// Every file below a folder but those under temporary names, which are none yet.
fn keys(path: &Path) -> io::Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut folders: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let is_temporary = entry.file_name().to_string_lossy().starts_with('.');
            match (entry.file_type()?.is_dir(), entry.path().strip_prefix(path)) {
                (true, _) => folders.push(entry.path()),
                (false, Ok(name)) if !is_temporary => keys.push(name.to_string_lossy().into_owned()),
                _ => {}
            }
        }
    }
    keys.sort_unstable();
    Ok(keys)
}
