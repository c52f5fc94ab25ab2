//! The settings of many pushes in one request.

use std::time::Duration;

use cdr_core::Batching;
use schemars::JsonSchema;
use serde::Deserialize;

use super::HttpSettings;
use crate::{
    bundle::{Bundling, Format},
    place::Place,
};

/// Many pushes in one request.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// Most pushes in a request, 1 to 1000; 100 unless set.
    #[serde(default = "default_batch_pushes")]
    pub pushes: usize,
    /// How long the first push of a request waits for others, at most 1 h; 2 s unless set.
    #[serde(default = "default_batch_age", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub age: Duration,
    /// How they stand in its body.
    #[serde(default)]
    pub format: Format,
}

/// Most bytes of bodies in a request of many.
const BATCH_BYTES: usize = 4 << 20;

fn default_batch_pushes() -> usize {
    100
}

fn default_batch_age() -> Duration {
    Duration::from_secs(2)
}

impl HttpSettings {
    /// How many pushes become one request.
    pub(super) fn bundling(&self, place: &Place<'_>) -> Option<Bundling> {
        let batch = self.batch?;
        if !(1..=1000).contains(&batch.pushes) {
            place.key("pushes").fault("expected 1 to 1000");
        }
        if batch.age > Duration::from_secs(3600) {
            place.key("age").fault("expected at most 1h: pushes wait for it");
        }
        let of_one_push = [
            ("steps", !self.steps.is_empty()),
            ("find", self.find.is_some()),
            ("keep_query", self.keep_query),
            ("path", self.path.as_ref().is_some_and(|path| path.contains("{{"))),
            ("query", self.query.values().any(|value| value.to_string().contains("{{"))),
            (
                "headers",
                self.headers.values().any(|value| value.is_literal() && value.expose().contains("{{")),
            ),
        ];
        for (setting, _) in of_one_push.into_iter().filter(|(_, is_set)| *is_set) {
            place.fault(format!("with many pushes in a request, {setting} cannot be of one of them"));
        }
        let batching =
            Batching { pushes: batch.pushes, bytes: BATCH_BYTES, wait: batch.age, spacing: Duration::ZERO };
        Some(Bundling { format: batch.format, batching })
    }
}
