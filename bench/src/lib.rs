//! What the gateway costs, measured beside two references that do less in the same minute on the same machine.
//!
//! ```text
//!  load (TCCC pushing) ─▶ subject: the gateway, or a reference ─▶ receiver (a CRM)
//! ```
//! Each is a process of its own, on loopback; only the subject is measured. The references are what the gateway
//! is held against:
//! * [`door`]: hyper reads the body, one writer thread appends and syncs for all who wait, then the answer.
//! * [`pipe`]: door, and one POST per push to the receiver, and an archive file. No parsing, no state, no retry.
//!
//! Machines drift, and small ones drift a lot. So the gateway always runs between two runs of the references,
//! is divided by their mean, and every number is the median of some rounds with the smallest and the largest.
//!
//! # Reading order
//! [`command`] (settings, and what each process is), [`schedule`], [`backlog`] and [`crowd`] (what is run, in which order),
//! [`run`] (one run), [`cost`] (what is read of a process), [`report`] (the tables and the targets).

mod backlog;
mod command;
mod cost;
mod crowd;
mod door;
mod gateway;
mod load;
mod machine;
mod pipe;
mod process;
mod receiver;
mod report;
mod run;
mod schedule;
mod spread;

pub use command::main;
pub use load::bodies;
