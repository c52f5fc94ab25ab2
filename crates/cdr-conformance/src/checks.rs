//! The checks, one after the other.

use std::{collections::BTreeSet, sync::Arc};

use cdr_core::{Batch, Outcome, Push};

use crate::{
    pushes,
    run::{As, FIRST, Run},
};

/// Enough to fill batches and to see how outcomes are told apart.
const MANY: usize = 7;

/// No attempt waits more often on its way; one that does is cut off so often at least.
const MOST_WAITS: usize = 40;

impl Run<'_> {
    /// What it says of itself, and how it wants its pushes.
    pub async fn words(&mut self) {
        let described = self.sink.describe();
        if described.contains(['\n', '\r']) {
            self.breach("describe is more than one line");
        }
        self.text("describe", &described, true);
        let batching = self.sink.batching();
        if batching.pushes == 0 || batching.bytes == 0 {
            self.breach("batching lets no push through: pushes and bytes are at least 1");
        }
        if batching != self.sink.batching() {
            self.breach("batching changes between two calls");
        }
        let sink = Arc::clone(&self.sink);
        match tokio::time::timeout(self.suite.patience, sink.probe()).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                self.text("probe", &reason, true);
                self.breach(format!("probe finds nobody, though the receiver is there: {reason}"));
            }
            Err(_) => self.breach("probe does not end; give it a timeout"),
        }
    }

    /// Partition and seal follow from the pushes alone.
    pub fn pure(&mut self) {
        let pushes: Vec<_> = (0..MANY).map(|_| pushes::call()).collect();
        let again = (self.suite.sink)();
        let same = |push: &Arc<Push>| {
            let partition = self.sink.partition(push);
            partition == self.sink.partition(push) && partition == again.partition(push)
        };
        if !pushes.iter().all(same) {
            self.breach("partition is not pure: the same push gives another one");
        }
        let (batches, later) =
            (self.gathered(&pushes, FIRST), self.gathered(&pushes, As { attempt: 3, replay: false }));
        let mut keys = BTreeSet::new();
        for (batch, later) in batches.iter().zip(&later) {
            let Some(seal) = batch.seal() else { continue };
            let unsealed = Batch::new(batch.deliveries().to_vec());
            let anew = unsealed.and_then(|batch| again.seal(&batch));
            if anew.as_ref() != Some(seal) || later.seal() != Some(seal) {
                self.breach("seal is not pure: the same batch gives another one");
            }
            if seal.key.is_empty() || !keys.insert(seal.key.clone()) {
                self.breach("two batches share a seal's key, or it is empty");
            }
            self.text("a seal", &format!("{} {}", seal.key, seal.facts), true);
        }
    }

    /// One, and many.
    pub async fn batches(&mut self) {
        for (count, what) in [(1, "a batch of one"), (MANY, "a batch of many")] {
            let pushes: Vec<_> = (0..count).map(|_| pushes::call()).collect();
            for batch in self.gathered(&pushes, FIRST) {
                self.deliver(&batch, what).await;
            }
        }
    }

    /// What may come.
    pub async fn contents(&mut self) {
        for (what, push) in pushes::odd() {
            for batch in self.gathered(&[push], FIRST) {
                self.deliver(&batch, what).await;
            }
        }
    }

    /// The same again makes the same bytes, or nothing new.
    pub async fn repeats(&mut self) {
        let later = As { attempt: 2, replay: false };
        let replay = As { attempt: 1, replay: true };
        let pushes: Vec<_> = (0..MANY).map(|_| pushes::call()).collect();
        let before = self.held();
        let batches = self.gathered(&pushes, FIRST);
        let seals = batches.iter().any(|batch| batch.seal().is_some());
        for batch in &batches {
            self.deliver(batch, "a first attempt").await;
        }
        let after = self.held();
        let made: Vec<_> = after.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
        if self.suite.holding.is_some() && made.is_empty() {
            self.breach("what was delivered is not at the receiver");
        }
        // No lane replays into a sink that seals.
        let ways: &[_] =
            if seals { &[("a repeat", later)] } else { &[("a repeat", later), ("a replay", replay)] };
        for &(what, how) in ways {
            let earlier = self.held();
            for batch in self.gathered(&pushes, how) {
                self.deliver(&batch, what).await;
            }
            let now = self.held();
            let is_kept = |(name, bytes): (&String, &Vec<u8>)| now.get(name) == Some(bytes);
            if !earlier.iter().all(is_kept) {
                self.breach(format!("{what} changes what the receiver held"));
            }
            let anew: Vec<_> = now.iter().filter(|(name, _)| !earlier.contains_key(*name)).collect();
            let mut known: Vec<_> = made.iter().map(|(_, bytes)| *bytes).collect();
            let mut bytes: Vec<_> = anew.iter().map(|(_, bytes)| *bytes).collect();
            known.sort();
            bytes.sort();
            if !anew.is_empty() && bytes != known {
                self.breach(format!("{what} makes other bytes than the first attempt"));
            }
        }
    }

    /// Whatever an attempt left behind when it was cut off, the next one delivers.
    pub async fn cut_off(&mut self) {
        for wait in 1..=MOST_WAITS {
            let pushes: Vec<_> = (0..MANY).map(|_| pushes::call()).collect();
            let Some(batch) = self.gathered(&pushes, FIRST).into_iter().next() else { return };
            let was_cut = self.cut_off_at(&batch, wait).await;
            self.deliver(&batch, &format!("after an attempt that was cut off at its await {wait}")).await;
            if !was_cut {
                return;
            }
        }
    }

    /// A receiver that says no.
    pub async fn refused(&mut self) {
        for build in &self.suite.refused {
            let sink = build();
            let batches = self.gathered(&[pushes::call()], FIRST);
            for batch in batches {
                if let Some(report) = self.attempt(sink.as_ref(), &batch, "a receiver that refuses").await
                    && report.outcomes().iter().any(|outcome| matches!(outcome, Outcome::Delivered(_)))
                {
                    self.breach("a receiver that refuses is reported as delivered");
                }
            }
            if let Ok(Err(reason)) = tokio::time::timeout(self.suite.patience, sink.probe()).await {
                self.text("probe", &reason, true);
            }
            self.text("describe", &sink.describe(), true);
        }
    }

    /// A receiver that says nothing.
    pub async fn unanswered(&mut self) {
        let Some(build) = &self.suite.unanswered else { return };
        let sink = build();
        let what = "a receiver that never answers";
        for batch in self.gathered(&[pushes::call()], FIRST) {
            let Some(report) = self.attempt(sink.as_ref(), &batch, what).await else { continue };
            let is_open = |outcome: &Outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Untried);
            if !report.outcomes().iter().all(is_open) {
                self.breach(format!("{what}: is delivered or rejected, though nobody knows"));
            }
        }
        if tokio::time::timeout(self.suite.patience, sink.probe()).await.is_err() {
            self.breach("probe does not end when nobody answers; give it a timeout");
        }
    }
}
