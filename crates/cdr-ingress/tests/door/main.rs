//! What the door promises, seen from a socket.

mod answers;
mod attacks;
mod client;
mod compressed;
mod life;
mod limits;
mod logs;
mod proofs;
mod senders;
mod store;
mod tolerance;
