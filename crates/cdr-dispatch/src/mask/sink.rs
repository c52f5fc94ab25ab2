//! A sink behind a mask: whatever it is asked, it sees masked pushes alone.
//!
//! A seal promises the same bytes again, and so remembers how its batch was masked: a batch that was sealed before `mask` was
//! changed goes out as it was sealed. A key is a secret and not remembered; with another one, or none, the batch waits for it
//! beside the others, and is never given up: its bytes are in the spool, and a person may find the key.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use cdr_core::{
    Batch, Batching, Outcome, Partition, Preview, Push, Report, Seal, Unavailable, registry::AnySink,
};
use serde::{Deserialize, Serialize};

use super::{Mask, Rules};

/// A sink, and what it does not get to see.
pub struct Masked {
    sink: Arc<dyn AnySink>,
    mask: Option<Mask>,
}

/// The facts of a seal whose batch is masked, around the sink's own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskedFacts {
    masked: Rules,
    /// Tells one key from another.
    key: Option<String>,
    facts: serde_json::Value,
}

/// How a batch goes to the sink.
enum Seen {
    AsItIs,
    As(Batch),
    NotWithout(String),
}

impl Masked {
    /// The sink behind this mask; without one it gets what came.
    pub fn new(sink: Arc<dyn AnySink>, mask: Option<Mask>) -> Self {
        Self { sink, mask }
    }

    fn seen(&self, batch: &Batch) -> Seen {
        let Some(seal) = batch.seal() else {
            return self.mask.as_ref().map_or(Seen::AsItIs, |mask| Seen::As(mask.apply_all(batch)));
        };
        // Sealed without a mask, so sent without: what lies under its key may be there already.
        let Ok(sealed) = serde_json::from_value::<MaskedFacts>(seal.facts.clone()) else {
            return Seen::AsItIs;
        };
        let key = self.mask.as_ref().and_then(|mask| mask.key.clone());
        let mask = Mask { rules: sealed.masked, key };
        if sealed.key != mask.key_name() {
            return Seen::NotWithout(seal.key.clone());
        }
        let own = Seal { key: seal.key.clone(), facts: sealed.facts };
        Seen::As(mask.apply_all(batch).sealed(own))
    }
}

impl Mask {
    fn apply_all(&self, batch: &Batch) -> Batch {
        batch.seen_as(|push| self.apply(push).map_or_else(|| Arc::clone(push), Arc::new))
    }

    /// A name for the key, from which it cannot be found; none where none is needed.
    fn key_name(&self) -> Option<String> {
        if self.rules.need_a_key() { self.token("key", "") } else { None }
    }
}

impl AnySink for Masked {
    fn batching(&self) -> Batching {
        self.sink.batching()
    }

    fn partition(&self, push: &Push) -> Partition {
        let masked = self.mask.as_ref().and_then(|mask| mask.apply(push));
        self.sink.partition(masked.as_ref().unwrap_or(push))
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        let Some(mask) = &self.mask else { return self.sink.seal(batch) };
        let Seal { key, facts } = self.sink.seal(&mask.apply_all(batch))?;
        let masked = MaskedFacts { masked: mask.rules, key: mask.key_name(), facts };
        // Rules, a name and a value that is JSON already.
        Some(Seal { key, facts: serde_json::json!(masked) })
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> Pin<Box<dyn Future<Output = Report> + Send + 'a>> {
        match self.seen(batch) {
            Seen::AsItIs => self.sink.deliver(batch),
            Seen::As(masked) => Box::pin(async move { self.sink.deliver(&masked).await }),
            Seen::NotWithout(key) => Box::pin(async move {
                let why = format!(
                    "{key} was sealed under another mask.key: set that key again until it is delivered"
                );
                Report::unavailable(batch, Unavailable::new(why).until_mended())
            }),
        }
    }

    fn quiet(&self) -> Option<Duration> {
        self.sink.quiet()
    }

    fn most_an_hour(&self, partition: &Partition) -> Option<usize> {
        self.sink.most_an_hour(partition)
    }

    fn close<'a>(
        &'a self,
        partition: &'a Partition,
        memo: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        self.sink.close(partition, memo)
    }

    fn preview(&self, batch: &Batch) -> Preview {
        match &self.mask {
            Some(mask) => self.sink.preview(&mask.apply_all(batch)),
            None => self.sink.preview(batch),
        }
    }

    fn describe(&self) -> String {
        self.sink.describe()
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        self.sink.probe()
    }
}
