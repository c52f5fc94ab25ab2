//! What is put into one place of an archive.

use std::{
    io::{self, Write},
    sync::Arc,
};

use cdr_core::Push;

use crate::{Encoding, record};

/// One object of an archive: its key, and the pushes that it holds, at least one, in the order of their positions.
#[derive(Clone, Debug)]
pub struct Object {
    key: String,
    pushes: Vec<Arc<Push>>,
    encoding: Option<Encoding>,
}

impl Object {
    pub(crate) fn of_many(key: String, encoding: Encoding, pushes: Vec<Arc<Push>>) -> Self {
        Self { key, pushes, encoding: Some(encoding) }
    }

    pub(crate) fn of_one(key: String, push: Arc<Push>) -> Self {
        Self { key, pushes: vec![push], encoding: None }
    }

    /// Where it lies: parts between `/`, none of them empty or beginning with a dot.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The pushes that it holds.
    pub fn pushes(&self) -> &[Arc<Push>] {
        &self.pushes
    }

    /// Its one push, when it holds the very bytes of that and nothing else.
    pub fn raw(&self) -> Option<&Arc<Push>> {
        if self.encoding.is_some() { None } else { self.pushes.first() }
    }

    /// What it is, for who fetches it.
    pub fn content_type(&self) -> &'static str {
        self.encoding.map_or("application/json", Encoding::content_type)
    }

    /// Writes its bytes, the same whenever this version is asked.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        match (self.encoding, self.raw()) {
            (Some(encoding), _) => encoding.write(&self.pushes, out),
            (None, Some(push)) => out.write_all(push.body()),
            (None, None) => Ok(()),
        }
    }

    /// Whether `bytes`, which lie at its key already and are not what [`write`](Self::write) makes, hold the same records: another
    /// version of the gateway may have compressed them otherwise.
    pub fn has_same_records(&self, bytes: &[u8]) -> bool {
        let Some(encoding) = self.encoding else { return false };
        let Ok(found) = encoding.read(bytes) else { return false };
        found.len() == self.pushes.len()
            && found.iter().zip(&self.pushes).all(|(found, push)| record::is_of(found, push))
    }
}
