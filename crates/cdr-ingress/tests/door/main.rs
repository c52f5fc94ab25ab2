//! What the door promises, seen from a socket.

mod answers;
mod attacks;
mod certificates;
mod client;
mod compressed;
mod http2;
mod life;
mod limits;
mod logs;
mod mtls;
mod proofs;
mod proxied;
mod senders;
mod store;
mod tls;
mod tolerance;
