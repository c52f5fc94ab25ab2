//! The spool through its public interface: on the real disk, and on one that loses, tears and fails.

mod disk;
mod harness;

mod appending;
mod catalog;
mod damage;
mod errands;
mod failing;
mod following;
mod gone;
mod lanes;
mod model;
mod real;
mod recovering;
mod repeats;
mod room;
mod seals;
