//! The call centre and the sender, through their public interfaces.
#![forbid(unsafe_code)]

mod calls;
mod proofs;
mod receiver;
mod sender;
