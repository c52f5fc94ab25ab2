//! What the door promises, seen from a socket.

mod answers;
mod certificates;
mod client;
mod http2;
mod life;
mod logs;
mod mtls;
mod proofs;
mod proxied;
mod senders;
mod store;
mod tls;
mod tolerance;
