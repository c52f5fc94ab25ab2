//! `cdr-gateway init`: a configuration to start from.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::Ended;
use crate::config::SHIPPED;

/// Writes a gateway.yaml to start from.
#[derive(Args)]
pub struct Init {
    /// Where to write it.
    #[arg(default_value = "gateway.yaml")]
    path: PathBuf,
    /// Write over a file that is there.
    #[arg(long)]
    force: bool,
}

impl Init {
    /// Writes the file and says what comes next.
    pub fn run(&self) -> Ended {
        let path = self.path.display();
        let mut options = OpenOptions::new();
        // It may come to hold a secret.
        options.write(true).create_new(!self.force).create(true).truncate(true).mode(0o600);
        let mut file = match options.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{path} is there already; name another file, or add --force to write over it")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot write {path}")),
        };
        file.write_all(SHIPPED.as_bytes()).with_context(|| format!("cannot write {path}"))?;
        say!("wrote {path}\n");
        say!("1. Edit it: where the archive, the mails and the CRM are.");
        say!("2. cdr-gateway check --config {path}");
        say!("3. cdr-gateway run --config {path}");
        say!("4. In TCCC's console, under data push, enter the public URL of this gateway.");
        Ok(())
    }
}
