//! The folder, seen by who checks the archive or reads it back.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use cdr_archive::{
    Below, Filing, Holding,
    holding::{Asked, Wanted},
};
use tokio::task::spawn_blocking;

use crate::{FileSink, folder::above};

impl Holding for FileSink {
    fn filing(&self) -> &Filing {
        &self.filing
    }

    fn keys_in<'a>(&'a self, folder: &'a str, wanted: Wanted<'a>) -> Asked<'a, Vec<String>> {
        Box::pin(async move {
            let mut keys = Vec::new();
            let mut folders = vec![(folder.to_owned(), wanted(folder))];
            while let Some((folder, below)) = folders.pop() {
                if below == Below::Nothing {
                    continue;
                }
                let path = self.path.join(&folder);
                let told = path.display().to_string();
                let is_mounted = above(&self.path).is_dir();
                let listed = blocking(move || list(&path, is_mounted)).await;
                let listed = listed.map_err(|error| format!("cannot look into {told}: {error}"))?;
                keys.extend(listed.files.into_iter().map(|name| format!("{folder}{name}")));
                folders.extend(listed.folders.into_iter().map(|name| {
                    let inner = format!("{folder}{name}/");
                    let below = if below == Below::All { Below::All } else { wanted(&inner) };
                    (inner, below)
                }));
            }
            keys.sort_unstable();
            Ok(keys)
        })
    }

    fn key_of<'r>(&self, receipt: &'r str) -> Option<&'r str> {
        Some(receipt)
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

/// What lies in a folder.
#[derive(Default)]
struct Listed {
    files: Vec<String>,
    folders: Vec<String>,
}

/// Nothing for a folder that is not there: it is made with its first file. When the one above the archive is missing, so is a
/// mount.
fn list(path: &Path, is_mounted: bool) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && is_mounted => return Ok(listed),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type()?.is_dir() {
            true => listed.folders.push(name),
            // A temporary name: no file yet.
            false if name.starts_with('.') => {}
            false => listed.files.push(name),
        }
    }
    Ok(listed)
}
