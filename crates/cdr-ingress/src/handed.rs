//! A push that was handed over: what has to happen when it is kept, whether or not its sender still waits.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use cdr_core::{NotStored, Stored};
use tokio_util::task::TaskTracker;

use crate::{body::Charge, keeper::Keeper, notes::Notes};

/// Waits until a push is kept; then it is counted and told, and its room given back.
pub(crate) struct Handed<S> {
    pub storing: S,
    pub notes: Notes,
    pub keeper: Arc<Keeper>,
    pub _charge: Charge,
}

impl<S> Future for Handed<S>
where
    S: Future<Output = Result<Stored, NotStored>> + Unpin,
{
    type Output = Result<(), NotStored>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let stored = ready!(Pin::new(&mut self.storing).poll(context));
        Poll::Ready(stored.map(|stored| self.notes.tell(&self.keeper, stored)))
    }
}

/// A future that comes to its end whoever waits for it: dropped before that, it goes on as a task.
pub(crate) struct ToTheEnd<'t, F: Future + Send + Unpin + 'static> {
    /// None when it has ended.
    pub future: Option<F>,
    pub tasks: &'t TaskTracker,
}

impl<F: Future<Output: Send> + Send + Unpin> Future for ToTheEnd<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Nobody polls a future that was ready; should somebody, it never is again.
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = ready!(Pin::new(future).poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future + Send + Unpin> Drop for ToTheEnd<'_, F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.tasks.spawn(async move { drop(future.await) });
        }
    }
}
