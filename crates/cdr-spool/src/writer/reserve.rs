//! A little room on the disk itself, for the day someone else fills it.
//!
//! `max_size` bounds the spool; nothing bounds its neighbours. When a write meets a full disk the reserve file is removed, and in
//! its room outcomes and checkpoints go on, so that sinks drain and closed segments can go. Pushes are refused until the file
//! is back.

use std::io;
use std::time::SystemTime;

use super::Writer;
use crate::Health;

const NAME: &str = "reserve";
const CHUNK: usize = 64 * 1024;

impl<T> Writer<T> {
    /// A sixteenth of a segment, written and not only promised: file systems may allocate zeros late.
    fn reserve_size(&self) -> u64 {
        self.shared.store.segment_size / 16
    }

    pub(super) fn has_reserve(&self) -> bool {
        self.reserved
    }

    /// Makes the reserve if it is not there; a failure is no fault: it is tried again later.
    pub(super) fn make_reserve(&mut self) {
        let made = self.write_reserve();
        if let Err(error) = &made {
            self.shared.store.directory.remove(NAME).ok();
            let reason = format!("no room for the reserve on the disk: {error}");
            let mut state = self.shared.store.state_mut();
            // Said once, and tried every few seconds.
            if state.health == Health::Ok {
                tracing::error!(%error, "the disk has no room for the spool's reserve; pushes are refused until it has");
                state.health = Health::Failing { reason, since: SystemTime::now() };
            }
        }
        self.reserved = made.is_ok();
    }

    fn write_reserve(&self) -> io::Result<()> {
        let directory = &self.shared.store.directory;
        let size = self.reserve_size();
        if directory.open(NAME).and_then(|file| file.len()).is_ok_and(|len| len == size) {
            return Ok(());
        }
        directory.remove(NAME).ok();
        let file = directory.create(NAME)?;
        // Not zeros: a file system that compresses would keep nothing of them.
        let noise: Vec<u8> = (0..CHUNK).map(|_| rand::random()).collect();
        for offset in (0..size).step_by(CHUNK) {
            let length = CHUNK.min((size - offset) as usize);
            file.write_at(&noise[..length], offset)?;
        }
        file.sync_data()
    }

    /// The disk is full: gives its room to outcomes, and tries again at once.
    pub(super) fn spend_reserve(&mut self) {
        if std::mem::take(&mut self.reserved) && self.give_reserve() {
            self.retry_due = self.running();
        }
    }

    /// Lets the reserve file go; false if there is none.
    pub(super) fn give_reserve(&self) -> bool {
        let given = self.shared.store.directory.remove(NAME).is_ok();
        if given {
            tracing::warn!(
                "the disk is full: the spool's reserve is given to outcomes; pushes are refused until there is room"
            );
        }
        given
    }

    /// With room again, the reserve comes first and pushes after it.
    pub(super) fn restore_reserve(&mut self) {
        if self.reserved || self.tail.is_none() {
            return;
        }
        self.let_go_what_is_closed();
        self.make_reserve();
        if self.reserved {
            tracing::info!("the disk has room again");
            self.shared.store.state_mut().health = Health::Ok;
        }
    }

    /// Lets the oldest segment go that every lane has closed, before its time.
    fn let_go_what_is_closed(&mut self) {
        if let Some(number) = self.next_to_go(i64::MAX) {
            self.let_go(number);
        }
    }
}
