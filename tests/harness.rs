//! What the end-to-end tests stand on: pushes made by hand, and the gateway's process.
#![forbid(unsafe_code)]
