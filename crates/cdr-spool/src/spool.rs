//! The handle (draft: signatures settled, bodies follow).
#![allow(unused_variables, missing_docs, clippy::todo)]
use std::marker::PhantomData;
use std::sync::Arc;
use crate::*;

pub struct Spool<T> { t: Arc<PhantomData<fn(T)>> }
impl<T> Clone for Spool<T> { fn clone(&self) -> Self { Spool { t: self.t.clone() } } }

/// What the writer calls after each commit, on its own thread, before any appender is answered.
pub type OnCommit<T> = Box<dyn FnMut(Vec<(Position, T)>) + Send>;

impl<T: Send + 'static> Spool<T> {
    pub fn open(settings: Settings, lanes: &[NewLane], on_commit: OnCommit<T>) -> Result<(Spool<T>, Recovery), OpenError> { todo!() }
    pub fn identity(&self) -> SpoolId { todo!() }
    pub async fn append(&self, push: NewPush<T>) -> Result<Appended, AppendError> { todo!() }
    pub async fn quarantine(&self, found: NewQuarantine) -> Result<Quarantined, AppendError> { todo!() }
    pub fn end(&self) -> Position { todo!() }
    pub fn lanes(&self) -> Vec<(String, LaneState)> { todo!() }
    pub async fn register_lanes(&self, lanes: &[NewLane]) -> Result<Vec<String>, ControlError> { todo!() }
    pub async fn rename_lane(&self, old: &str, new: &str) -> Result<(), ControlError> { todo!() }
    pub async fn retire_lane(&self, name: &str) -> Result<(), ControlError> { todo!() }
    pub async fn configured(&self, hash: [u8; 32]) -> Result<u64, ControlError> { todo!() }
    pub fn read(&self, from: Position, max: usize, max_bytes: usize) -> Result<Read, ReadError> { todo!() }
    pub fn get(&self, position: Position) -> Result<Option<StoredPush>, ReadError> { todo!() }
    /// Queued when called, not when awaited: a caller may go on and drop the future.
    pub fn record(&self, lane: &str, outcomes: Vec<(Position, Outcome)>) -> impl Future<Output = ()> + Send + 'static { async { todo!() } }
    pub fn dead_letters(&self, lane: &str, after: Position, max: usize) -> Result<Vec<DeadLetter>, ReadError> { todo!() }
    /// How many were dead and are open again.
    pub async fn reopen(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> { todo!() }
    pub async fn discard(&self, lane: &str, positions: &[Position]) -> Result<Vec<Position>, ControlError> { todo!() }
    pub fn quarantined(&self, after: Position, max: usize) -> Result<Vec<StoredQuarantine>, ReadError> { todo!() }
    pub async fn discard_quarantine(&self, positions: &[Position]) -> Result<Vec<Position>, ControlError> { todo!() }
    pub fn stats(&self) -> Stats { todo!() }
    pub fn health(&self) -> Health { todo!() }
    pub async fn close(&self) { todo!() }
}
