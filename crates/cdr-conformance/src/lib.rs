//! Does a sink keep the plugin contract? One suite that every built-in sink runs, and any other can.
//!
//! It drives a sink as a lane does, against a receiver of yours, and tells every breach at once:
//!
//! ```no_run
//! # use std::{collections::BTreeMap, sync::Arc};
//! # use cdr_core::registry::AnySink;
//! # fn my_sink() -> Arc<dyn AnySink> { todo!() }
//! # fn my_sink_of_a_receiver_that_refuses() -> Arc<dyn AnySink> { todo!() }
//! # fn my_sink_of_a_receiver_that_never_answers() -> Arc<dyn AnySink> { todo!() }
//! # fn what_my_receiver_holds() -> BTreeMap<String, Vec<u8>> { todo!() }
//! # async fn test() {
//! cdr_conformance::Suite::of(my_sink)
//!     .secrets(["the password in the settings"])
//!     .holding(what_my_receiver_holds)
//!     .refused(my_sink_of_a_receiver_that_refuses)
//!     .unanswered(my_sink_of_a_receiver_that_never_answers)
//!     .run()
//!     .await;
//! # }
//! ```
//!
//! # What it checks
//! * `describe` is one line, `probe` ends, `batching` lets a push through and stays as it is.
//! * `partition` and `seal` are pure: the same push or batch gives the same, also from a sink that is built anew, whatever the
//!   attempt. No two batches share a seal's key.
//! * A report has one outcome for each push, of batches of one and of many; those of a sealed batch are of one kind.
//! * What may come is taken: emoji, null characters, lone surrogates, a byte order mark, nulls, repeated keys, unpublished
//!   actions, a body of 1 MiB, the gateway's own alerts.
//! * A repeat makes the same bytes again, or nothing; the attempt's number and the replay flag change none of them. Needs
//!   [`holding`](Suite::holding).
//! * Cut off at any await, the next attempt delivers.
//! * A receiver that refuses, or never answers, is a retry, a reject or unavailable, and in time.
//! * No text that a sink gives holds a secret, and no reason or receipt a phone number.
//!
//! What each answer of a receiver means is for a sink's own tests: only they know its protocol.
#![forbid(unsafe_code)]

mod checks;
mod pushes;
mod run;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cdr_core::registry::AnySink;

use self::run::Run;

/// Builds a sink, a new one each time.
type Build = Box<dyn Fn() -> Arc<dyn AnySink> + Send + Sync>;

/// What a receiver holds, each piece by a name that stays: a path, a key, the number of a request.
type Holding = Box<dyn Fn() -> BTreeMap<String, Vec<u8>> + Send + Sync>;

/// The suite for one sink.
pub struct Suite {
    sink: Build,
    holding: Option<Holding>,
    refused: Vec<Build>,
    unanswered: Option<Build>,
    secrets: Vec<String>,
    patience: Duration,
}

impl Suite {
    /// For the sink that `build` makes, whose receiver takes what it gets. It is built several times, with the same settings.
    pub fn of(build: impl Fn() -> Arc<dyn AnySink> + Send + Sync + 'static) -> Self {
        Self {
            sink: Box::new(build),
            holding: None,
            refused: Vec::new(),
            unanswered: None,
            secrets: Vec::new(),
            patience: Duration::from_secs(60),
        }
    }

    /// What the receiver holds at present, so that repeats can be compared. Leave out what a repeat may tell otherwise, such as
    /// the header `Date`.
    #[must_use]
    pub fn holding(
        mut self,
        holding: impl Fn() -> BTreeMap<String, Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.holding = Some(Box::new(holding));
        self
    }

    /// A sink whose receiver refuses everything, for one more way of refusing. Best is one that repeats in its answer what it
    /// was sent.
    #[must_use]
    pub fn refused(mut self, build: impl Fn() -> Arc<dyn AnySink> + Send + Sync + 'static) -> Self {
        self.refused.push(Box::new(build));
        self
    }

    /// A sink whose receiver takes the connection and never answers.
    #[must_use]
    pub fn unanswered(mut self, build: impl Fn() -> Arc<dyn AnySink> + Send + Sync + 'static) -> Self {
        self.unanswered = Some(Box::new(build));
        self
    }

    /// What must not appear in any text that the sink gives.
    #[must_use]
    pub fn secrets<'a>(mut self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        self.secrets.extend(secrets.into_iter().map(str::to_owned));
        self
    }

    /// How long an attempt or a probe may take: more than the sink's own timeout. 60 s; a lane cuts off after 120 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Every breach of the contract, in words; none is good.
    pub async fn breaches(&self) -> Vec<String> {
        let mut run = Run::new(self);
        run.words().await;
        run.pure();
        run.batches().await;
        run.contents().await;
        run.repeats().await;
        run.cut_off().await;
        run.refused().await;
        run.unanswered().await;
        run.breaches
    }

    /// Runs it, for a test.
    ///
    /// # Panics
    /// With every breach.
    pub async fn run(&self) {
        let breaches = self.breaches().await;
        assert!(breaches.is_empty(), "the sink breaks its contract:\n  {}", breaches.join("\n  "));
    }
}
