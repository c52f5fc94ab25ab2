//! Reading a body: within its size, its time, and the room that all bodies share.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cdr_core::NotStored;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::{answer::Rejection, proof::Admitted, settings::Limits};

/// How many bytes of bodies are here without being fsynced.
#[derive(Default)]
pub(crate) struct InFlight(AtomicU64);

/// What one body takes of that; given back when dropped.
pub(crate) struct Charge {
    in_flight: Arc<InFlight>,
    bytes: u64,
}

impl Charge {
    pub fn new(in_flight: &Arc<InFlight>) -> Self {
        Self { in_flight: Arc::clone(in_flight), bytes: 0 }
    }

    pub fn grow(&mut self, bytes: u64, limit: u64) -> Result<(), Rejection> {
        self.bytes += bytes;
        let all = self.in_flight.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > limit { Err(Rejection::NotStored(NotStored::Busy)) } else { Ok(()) }
    }

    /// Grows to what a body has become by decoding.
    ///
    /// Not to what was sent beside it: both are held for the moment of decoding alone, by one body for each thread,
    /// and a body that just fits into the room would never come in.
    pub fn cover(&mut self, bytes: u64, limit: u64) -> Result<(), Rejection> {
        self.grow(bytes.saturating_sub(self.bytes), limit)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.in_flight.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A whole body as it was sent, and what it takes of the room until it is fsynced.
pub(crate) struct Held {
    pub bytes: Bytes,
    pub charge: Charge,
}

/// Reads the body of a sender who has proven who he is, or whose proof lies in it.
pub(crate) async fn read(
    request: Admitted<impl Body<Data = Bytes> + Unpin>,
    limits: &Limits,
    in_flight: &Arc<InFlight>,
) -> Result<Held, Rejection> {
    if !is_framed_plainly(request.headers()) {
        return Err(Rejection::BrokenBody);
    }
    let body = request.into_body();
    if body.size_hint().lower() > limits.body.as_u64() {
        return Err(Rejection::TooLarge { limit: limits.body });
    }
    let collected = collect(body, limits, Charge::new(in_flight));
    let slow = |_| Rejection::SlowBody { limit: limits.body_timeout };
    tokio::time::timeout(limits.body_timeout, collected).await.map_err(slow)?
}

/// hyper takes `identity, chunked` and `chunked` twice for `chunked`. Whoever stands in front of us may see the body
/// end elsewhere, and take what follows for another request than we do (RFC 9112 §6.3, §7.1).
fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    is_plain && codings.next().is_none()
}

/// Bytes are charged as they arrive, not as they are announced: room must not be had for nothing. So nothing is reserved for
/// an announcement either; a body in many pieces takes at most twice what it is charged, one in a single piece just that.
///
/// They are copied out of hyper's buffer, which is larger than most pushes and would live as long as they do.
async fn collect(
    mut body: impl Body<Data = Bytes> + Unpin,
    limits: &Limits,
    mut charge: Charge,
) -> Result<Held, Rejection> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Rejection::BrokenBody)?.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limits.body.as_u64() {
            return Err(Rejection::TooLarge { limit: limits.body });
        }
        charge.grow(data.len() as u64, limits.in_flight.as_u64())?;
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes: bytes.into(), charge })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// Announces the largest body that is taken, and comes in these pieces.
    struct Announcing(VecDeque<Bytes>);

    impl Body for Announcing {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(Limits::default().body.as_u64())
        }
    }

    #[tokio::test]
    async fn what_is_announced_takes_no_room_before_it_is_there() {
        for (pieces, most) in [(1, 1000), (100, 200_000)] {
            let pieces = vec![Bytes::from(vec![b'x'; 1000]); pieces];
            let (all, in_flight) = (pieces.concat(), Arc::default());
            let body = Announcing(pieces.into());
            let held = collect(body, &Limits::default(), Charge::new(&in_flight)).await;
            let Ok(Held { bytes, charge }) = held else { panic!("it is refused") };
            assert!(bytes == all && charge.bytes == all.len() as u64);
            let taken = bytes.try_into_mut().expect("nobody else has it").capacity();
            assert!(taken <= most, "{taken}");
        }
    }
}
