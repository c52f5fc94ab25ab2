//! The suite finds what it is for: a sink with each fault, and one without.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cdr_conformance::Suite;
use cdr_core::{
    Batch, Batching, Failure, Outcome, Partition, Push, Receipt, Report, Seal, Sink, Unavailable,
    registry::AnySink,
};
use serde_json::json;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    TwoLines,
    ProbeHangs,
    NoPushes,
    PartitionOfChance,
    SealOfChance,
    OneKey,
    HalfAReport,
    MixedReport,
    Silent,
    SecretInReceipt,
    NumberInReason,
    OtherBytes,
    Panics,
    StuckAfterACut,
    RefusalIsDelivery,
    Hangs,
}

type Held = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

struct Trial {
    fault: Fault,
    refuses: bool,
    held: Held,
    stuck: Mutex<bool>,
}

fn chance() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Sink for Trial {
    fn batching(&self) -> Batching {
        Batching { pushes: if self.fault == Fault::NoPushes { 0 } else { 3 }, ..Batching::single() }
    }

    fn partition(&self, _push: &Push) -> Partition {
        match self.fault {
            Fault::PartitionOfChance => Partition(chance().to_string().into()),
            _ => Partition::ONE,
        }
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        let key = match self.fault {
            Fault::SealOfChance => chance().to_string(),
            Fault::OneKey => "key".to_owned(),
            _ => batch.first().push.position().to_string(),
        };
        Some(Seal { key, facts: json!({}) })
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        assert_ne!(self.fault, Fault::Panics, "on purpose");
        if self.fault == Fault::Hangs {
            std::future::pending::<()>().await;
        }
        if self.refuses && self.fault != Fault::RefusalIsDelivery {
            let reason = match self.fault {
                Fault::NumberInReason => String::from_utf8_lossy(batch.first().push.body()).into_owned(),
                _ => "refused".to_owned(),
            };
            return Report::all(batch, &Outcome::Reject(Failure::new(reason)));
        }
        let was_stuck = std::mem::replace(&mut *self.stuck.lock().unwrap(), true);
        tokio::task::yield_now().await;
        *self.stuck.lock().unwrap() = false;
        if was_stuck && self.fault == Fault::StuckAfterACut {
            return Report::unavailable(batch, Unavailable::new("another attempt is under way"));
        }
        let repeat = batch.first().attempt > 1 && self.fault == Fault::OtherBytes;
        let key = batch.seal().map(|seal| seal.key.clone()).unwrap_or_default();
        let mut bytes: Vec<u8> = batch.pushes().flat_map(|push| push.body().to_vec()).collect();
        bytes.extend(repeat.then_some(b' '));
        self.held.lock().unwrap().insert(key.clone(), bytes);
        let receipt = if self.fault == Fault::SecretInReceipt { "for hunter2".to_owned() } else { key };
        let mut report = Report::delivered(batch, |_| Receipt::new(receipt.clone()));
        let last = batch.deliveries().len() - 1;
        match self.fault {
            Fault::HalfAReport => {
                let half = Batch::new(batch.deliveries()[..1].to_vec()).unwrap();
                return Report::delivered(&half, |_| Receipt::new("half"));
            }
            Fault::MixedReport if last > 0 => report.set(last, Outcome::Retry(Failure::new("not this one"))),
            Fault::Silent => return Report::untried(batch),
            _ => {}
        }
        report
    }

    fn describe(&self) -> String {
        if self.fault == Fault::TwoLines { "two\nlines".to_owned() } else { "one line".to_owned() }
    }

    async fn probe(&self) -> Result<(), String> {
        if self.fault == Fault::ProbeHangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

async fn breaches(fault: Fault) -> Vec<String> {
    let held = Held::default();
    let trial = |refuses: bool| {
        let held = Arc::clone(&held);
        move || -> Arc<dyn AnySink> {
            Arc::new(Trial { fault, refuses, held: Arc::clone(&held), stuck: Mutex::default() })
        }
    };
    let (sink, refused, unanswered) = (trial(false), trial(true), trial(true));
    let suite = Suite::of(sink).refused(refused).secrets(["hunter2"]).patience(Duration::from_millis(50));
    // What refuses is known by its reject, so only a sink that hangs is asked not to answer.
    let suite = if fault == Fault::Hangs { suite.unanswered(unanswered) } else { suite };
    let held = Arc::clone(&held);
    suite.holding(move || held.lock().unwrap().clone()).breaches().await
}

#[tokio::test(start_paused = true)]
async fn a_sink_without_a_fault_passes() {
    assert_eq!(breaches(Fault::None).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_found() {
    for (fault, expected) in [
        (Fault::TwoLines, "describe is more than one line"),
        (Fault::ProbeHangs, "probe does not end"),
        (Fault::NoPushes, "batching lets no push through"),
        (Fault::PartitionOfChance, "partition is not pure"),
        (Fault::SealOfChance, "seal is not pure"),
        (Fault::OneKey, "two batches share a seal's key"),
        (Fault::HalfAReport, "a report of 1 outcomes for 3 pushes"),
        (Fault::MixedReport, "different outcomes within a sealed batch"),
        (Fault::Silent, "Untried without Unavailable"),
        (Fault::SecretInReceipt, "a receipt holds secret 1"),
        (Fault::NumberInReason, "a reason holds a phone number"),
        (Fault::OtherBytes, "a repeat changes what the receiver held"),
        (Fault::Panics, "deliver panicked"),
        (Fault::StuckAfterACut, "after an attempt that was cut off at its await 1: not delivered"),
        (Fault::RefusalIsDelivery, "a receiver that refuses is reported as delivered"),
        (Fault::Hangs, "deliver did not come back within 0.05 s"),
    ] {
        let found = breaches(fault).await;
        assert!(found.iter().any(|breach| breach.contains(expected)), "{fault:?}: {found:#?}");
        assert!(!found.iter().any(|breach| breach.contains("hunter2")), "{found:?}");
    }
}
