//! Mails as files, while no mail server is set: one `.eml` a mail, which any mail program opens.
//!
//! A file is there whole or not at all: it is written under another name, synced, renamed, and its folder synced.
//! Its name begins with the time of its first push and its message id, so a repeat replaces itself. Folder and
//! files are for the gateway's user alone, since mails hold phone numbers.

use std::{
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::mail::Mail;

/// A folder of mails.
pub(crate) struct Outbox(pub(crate) PathBuf);

impl Outbox {
    /// Writes a mail and says under which name; an error is in words for the operator.
    pub(crate) async fn keep(&self, mail: &Mail) -> Result<String, String> {
        let time = mail.first.strftime("%Y%m%dT%H%M%SZ");
        let id = mail.id.trim_matches(['<', '>']);
        let name = format!("{time}-{}.eml", id.split('@').next().unwrap_or(id));
        let (folder, path, bytes) = (self.0.clone(), self.0.join(&name), mail.bytes.clone());
        self.blocking(move || write_whole(&folder, &path, &bytes)).await?;
        Ok(name)
    }

    /// Whether a mail could be written now.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let folder = self.0.clone();
        self.blocking(move || temporary(&folder).map(drop)).await
    }

    pub(crate) fn place(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    async fn blocking(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), String> {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.into()));
        done.map_err(|error| format!("no mail can be written to {}: {error}", self.place()))
    }
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// A file that only its owner may read, and that goes away unless it gets its name.
fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)
}
