//! The kinds of sinks that a program knows: a list, a line each. No linker magic.
//!
//! ```
//! # use cdr_core::*;
//! # #[derive(serde::Deserialize)] struct MySettings {}
//! # struct MySink;
//! # impl SinkConfig for MySettings {
//! #     const KIND: &'static str = "mine";
//! #     type Sink = MySink;
//! #     fn build(self, _: &SinkName) -> Result<MySink, BuildError> { Ok(MySink) }
//! # }
//! # impl Sink for MySink {
//! #     async fn deliver(&self, batch: &Batch) -> Report { Report::untried(batch) }
//! # }
//! let sinks = Sinks::default().with::<MySettings>();
//! assert_eq!(sinks.kinds().collect::<Vec<_>>(), ["mine"]);
//! ```

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    Batch, Batching, Outcome, Partition, Preview, Push, Report, Seal, SettingFault, Sink, SinkConfig,
    SinkName, setting,
};

/// The object-safe twin of [`Sink`]: boxes the future, once per batch.
pub trait AnySink: Send + Sync + 'static {
    /// See [`Sink::batching`].
    fn batching(&self) -> Batching;
    /// See [`Sink::partition`].
    fn partition(&self, push: &Push) -> Partition;
    /// See [`Sink::seal`].
    fn seal(&self, batch: &Batch) -> Option<Seal>;
    /// See [`Sink::deliver`].
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Pin<Box<dyn Future<Output = Report> + Send + 'a>>;
    /// See [`Sink::quiet`].
    fn quiet(&self) -> Option<Duration>;
    /// See [`Sink::most_an_hour`].
    fn most_an_hour(&self, partition: &Partition) -> Option<usize>;
    /// See [`Sink::close`].
    fn close<'a>(
        &'a self,
        partition: &'a Partition,
        memo: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
    /// See [`Sink::preview`].
    fn preview(&self, batch: &Batch) -> Preview;
    /// See [`Sink::describe`].
    fn describe(&self) -> String;
    /// See [`Sink::probe`].
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;
}

impl<S: Sink> AnySink for S {
    fn batching(&self) -> Batching {
        Sink::batching(self)
    }

    fn partition(&self, push: &Push) -> Partition {
        Sink::partition(self, push)
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        Sink::seal(self, batch)
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> Pin<Box<dyn Future<Output = Report> + Send + 'a>> {
        Box::pin(Sink::deliver(self, batch))
    }

    fn quiet(&self) -> Option<Duration> {
        Sink::quiet(self)
    }

    fn most_an_hour(&self, partition: &Partition) -> Option<usize> {
        Sink::most_an_hour(self, partition)
    }

    fn close<'a>(
        &'a self,
        partition: &'a Partition,
        memo: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(Sink::close(self, partition, memo))
    }

    fn preview(&self, batch: &Batch) -> Preview {
        Sink::preview(self, batch)
    }

    fn describe(&self) -> String {
        Sink::describe(self)
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(Sink::probe(self))
    }
}

type Build = fn(&SinkName, Value) -> Result<Arc<dyn AnySink>, Vec<SettingFault>>;

/// The kinds of sinks that a program knows.
#[derive(Clone, Default)]
pub struct Sinks(Vec<Kind>);

#[derive(Clone)]
struct Kind {
    name: &'static str,
    build: Build,
    schema: fn() -> Option<Value>,
}

impl Sinks {
    /// The same with one kind more; a kind of the same name is replaced.
    #[must_use]
    pub fn with<C: SinkConfig>(mut self) -> Self {
        self.0.retain(|kind| kind.name != C::KIND);
        self.0.push(Kind { name: C::KIND, build: build::<C>, schema: C::schema });
        self
    }

    /// Their names, in the order in which they were added.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|kind| kind.name)
    }

    /// The JSON schema of a kind's settings, if it has one.
    pub fn schema(&self, kind: &str) -> Option<Value> {
        self.0.iter().find(|known| known.name == kind).and_then(|kind| (kind.schema)())
    }

    /// Builds a sink of this kind from its settings; none when there is no such kind.
    pub fn build(
        &self,
        kind: &str,
        name: &SinkName,
        settings: Value,
    ) -> Option<Result<Arc<dyn AnySink>, Vec<SettingFault>>> {
        let kind = self.0.iter().find(|known| known.name == kind)?;
        Some((kind.build)(name, settings))
    }
}

fn build<C: SinkConfig>(name: &SinkName, settings: Value) -> Result<Arc<dyn AnySink>, Vec<SettingFault>> {
    let config: C = setting::read(settings)?;
    let sink = config.build(name).map_err(|error| error.0)?;
    Ok(Arc::new(sink))
}
