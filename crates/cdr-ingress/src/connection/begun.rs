//! A connection of which the beginning was looked at, and is read again by whoever speaks on it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// So much of a beginning can be looked at: the longest header of the PROXY protocol that anybody sends, with the client's
/// certificate in it, is far shorter.
pub(crate) const BEGINNING: usize = 4096;

/// A connection whose first bytes may have been read already. Where nobody looked, it costs a comparison for each read.
pub(crate) struct Begun<S> {
    first: BytesMut,
    socket: S,
}

impl<S: AsyncRead + Unpin> Begun<S> {
    pub fn new(socket: S) -> Self {
        Self { first: BytesMut::new(), socket }
    }

    /// What has been looked at and not been taken.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// Waits for more of the beginning; false at its end, or when it has grown to [`BEGINNING`].
    ///
    /// Nothing is lost when this is dropped before its end.
    pub async fn look_further(&mut self) -> io::Result<bool> {
        let room = BEGINNING - self.first.len().min(BEGINNING);
        self.first.reserve(room);
        Ok((&mut self.socket).take(room as u64).read_buf(&mut self.first).await? > 0)
    }

    /// Takes bytes off the beginning: whoever speaks on the connection does not see them.
    pub fn take(&mut self, bytes: usize) {
        self.first.advance(bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        let bytes = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..bytes]);
        self.first.advance(bytes);
        if self.first.is_empty() {
            // Connections live long, and this is not needed again.
            self.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
