//! The door: who may push, and nothing else gets in.
