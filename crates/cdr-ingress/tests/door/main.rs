//! What the door promises, seen from a socket.

mod answers;
mod client;
mod life;
mod logs;
mod proofs;
mod senders;
mod store;
mod tolerance;
