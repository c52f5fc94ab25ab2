//! The plugin contract: somewhere pushes go.
//!
//! A sink makes **one attempt** and says how it went. It owns no queue, no clock and no retry: the lane that
//! drives it does, and keeps what must survive in the spool. The life of a sink:
//!
//! 1. Its settings are read into its [`SinkConfig`]; every fault is told with file, line and column.
//! 2. [`SinkConfig::build`] makes the sink: pure, no I/O, so that `check` can do it anywhere.
//! 3. The lane gathers pushes into a [`Batch`], as [`Sink::batching`] and [`Sink::partition`] want them.
//! 4. [`Sink::seal`], when the sink wants one, names what the batch will become; it is stored before the attempt.
//! 5. [`Sink::deliver`] is called, under an [outer deadline](ATTEMPT_DEADLINE), again and again until each push of it is delivered,
//!    rejected or given up. After a crash it is called again: **expect repeats**. Each sink has a thread and a tokio
//!    runtime of its own: a call that blocks holds up its own sink alone, but all of that.
//! 6. A reload builds a new sink beside the old one and drops the old one when its attempts are over.
//!
//! **The sink says what happened to this push; the lane decides about the sink.**
//!
//! | outcome | say it when | the lane |
//! |---|---|---|
//! | [`Outcome::Delivered`] | the receiver confirmed | closes the delivery |
//! | [`Outcome::Retry`] | another time this push may pass: 5xx, 404, a timeout | retries it alone, with back-off |
//! | [`Outcome::Reject`] | this push will never pass: 400, 413, 422 | makes it a dead letter |
//! | [`Outcome::Untried`] | no attempt was made on it | opens it again, counts nothing |
//! | [`Unavailable`], beside these | nothing passes at present: no connection, 401, 429, no such bucket | pauses the lane, probes later |
//!
//! A gateway's own alerts come as pushes too, of [`Origin::Alert`](crate::Origin::Alert), to the sinks that
//! `alerts.to` names. Their body is a JSON object: `kind`, `subject`, `text`, and facts.

use std::{borrow::Cow, fmt, future::Future, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{Push, SettingFault};

/// The outer deadline of an attempt. A sink that wants to say itself what was slow, and to clear up behind it, keeps a shorter
/// time.
pub const ATTEMPT_DEADLINE: Duration = Duration::from_secs(120);

/// The settings of one kind of sink; what a plugin declares.
///
/// Derive `Deserialize` with `#[serde(deny_unknown_fields)]`, so that a misspelled setting is an error.
pub trait SinkConfig: DeserializeOwned + Send + 'static {
    /// The key in `gateway.yaml`: `archive: { s3: … }`.
    const KIND: &'static str;

    /// What these settings build.
    type Sink: Sink;

    /// Builds the sink. Pure: no I/O, no runtime needed.
    ///
    /// # Errors
    /// Every fault of the settings, not just the first.
    fn build(self, name: &SinkName) -> Result<Self::Sink, BuildError>;

    /// A JSON Schema of the settings, for editors; [`setting::schema`](crate::setting::schema) makes it of their type. Without
    /// one, editors take whatever stands there.
    fn schema() -> Option<serde_json::Value> {
        None
    }
}

/// Somewhere pushes go. See the [module](self) for its life.
pub trait Sink: Send + Sync + 'static {
    /// How pushes are gathered for one attempt.
    fn batching(&self) -> Batching {
        Batching::single()
    }

    /// Pushes of different partitions never share a batch.
    fn partition(&self, _push: &Push) -> Partition {
        Partition::ONE
    }

    /// Names what the batch will become, such as an object's key, and all that makes the same bytes again.
    /// Pure; it is stored before the attempt, and the batch stays all or nothing from then on: the same pushes come
    /// again under this seal, after a crash too, and to whatever sink then has this one's name. Their outcomes must be of
    /// one kind; a report that differs within the batch is a retry of all. A receipt that equals the key costs nothing.
    fn seal(&self, _batch: &Batch) -> Option<Seal> {
        None
    }

    /// Makes one attempt. May be cancelled at any await when its deadline is over; that counts as a retry.
    fn deliver(&self, batch: &Batch) -> impl Future<Output = Report> + Send;

    /// How long a partition with a memo (see [`Report::with_memo`]) may be quiet before [`close`](Self::close) is called; never,
    /// where there is none.
    fn quiet(&self) -> Option<Duration> {
        None
    }

    /// Most batches that may leave within an hour, over all partitions for which this is told; without a bound where there is
    /// none. What is held back gathers. 1 to 120.
    fn most_an_hour(&self, _partition: &Partition) -> Option<usize> {
        None
    }

    /// Ends what the memo of a partition is about, since it was quiet for so long: [`Outcome::Delivered`] forgets the memo, and so
    /// does [`Outcome::Reject`]; else it is called again, with back-off, and after a crash too: **expect repeats**.
    fn close(&self, _partition: &Partition, _memo: &[u8]) -> impl Future<Output = Outcome> + Send {
        async { Outcome::Delivered(Receipt::new("")) }
    }

    /// What would leave for these pushes, for `explain`: nothing is sent. Nothing, where there is no more to see than the
    /// pushes themselves.
    fn preview(&self, _batch: &Batch) -> Preview {
        Preview::default()
    }

    /// What it will do, in one line, for the start's log: where to, and what is not real yet.
    fn describe(&self) -> String {
        String::new()
    }

    /// Looks whether the receiver is there, once, at start; nothing depends on it but what the operator reads.
    ///
    /// # Errors
    /// Why it is not, in words for the operator.
    fn probe(&self) -> impl Future<Output = Result<(), String>> + Send {
        async { Ok(()) }
    }
}

/// What a sink would send, in parts such as a mail's subject and its text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Preview(pub Vec<Part>);

/// A part of what a sink would send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is, such as `subject`.
    pub name: &'static str,
    /// The part itself.
    pub text: String,
    /// Whether people read it as it is. HTML is for programs: a terminal is spared it.
    pub is_plain: bool,
}

/// The name of a configured sink: 1 to 64 lower-case letters, digits, `-` or `_`, a letter or digit first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SinkName(Arc<str>);

impl SinkName {
    /// As in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SinkName {
    type Err = InvalidSinkName;

    fn from_str(text: &str) -> Result<Self, InvalidSinkName> {
        let letters = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !starts_well || text.len() > 64 || !text.bytes().all(letters) {
            return Err(InvalidSinkName);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot name a sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidSinkName;

impl fmt::Display for InvalidSinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a sink's name is 1 to 64 lower-case letters, digits, - or _, beginning with a letter or digit",
        )
    }
}

impl std::error::Error for InvalidSinkName {}

/// How a lane gathers pushes for one attempt. A batch is closed by whichever bound is reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batching {
    /// Most pushes in a batch, at least 1.
    pub pushes: usize,
    /// Most bytes of bodies in a batch; a larger push comes alone.
    pub bytes: usize,
    /// Longest time that a batch waits for company, from its first push on.
    pub wait: Duration,
    /// Least time between the delivery of one batch of a partition and the next batch of it; what arrives
    /// in between gathers. Zero for none. This is how alerts are grouped.
    pub spacing: Duration,
}

impl Batching {
    /// One push an attempt, at once.
    pub const fn single() -> Self {
        Self { pushes: 1, bytes: usize::MAX, wait: Duration::ZERO, spacing: Duration::ZERO }
    }
}

/// What keeps pushes apart: those of different partitions never share a batch.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition(pub Cow<'static, str>);

impl Partition {
    /// The one partition of sinks that know none.
    pub const ONE: Self = Self(Cow::Borrowed(""));
}

/// What a batch will become: stored before its delivery, so that a repeat makes the same thing again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// Where it goes, such as an object's key.
    pub key: String,
    /// All that makes the same bytes again.
    pub facts: serde_json::Value,
}

/// One push on its way to one sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The push, shared with other sinks.
    pub push: Arc<Push>,
    /// The routes that named this sink for it.
    pub routes: Arc<[String]>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether an operator sends it again.
    pub replay: bool,
    /// Whether the receiver may have it already: an earlier attempt ended without a clear no, also one that ended with
    /// [`Unavailable`], which no `attempt` counts; nobody knows how one ended; or it is a replay.
    pub may_be_there: bool,
}

/// The deliveries of one attempt: at least one, in the order of their positions.
#[derive(Clone, Debug)]
pub struct Batch {
    deliveries: Vec<Delivery>,
    seal: Option<Seal>,
    memo: Option<Bytes>,
    was_held: bool,
}

impl Batch {
    /// A batch of at least one delivery; none of an empty list.
    pub fn new(deliveries: Vec<Delivery>) -> Option<Self> {
        (!deliveries.is_empty()).then_some(Self { deliveries, seal: None, memo: None, was_held: false })
    }

    /// The same batch with each push as `see` has it, such as masked.
    #[must_use]
    pub fn seen_as(&self, see: impl Fn(&Arc<Push>) -> Arc<Push>) -> Self {
        let mut seen = self.clone();
        for delivery in &mut seen.deliveries {
            delivery.push = see(&delivery.push);
        }
        seen
    }

    /// The same batch under a seal that is stored.
    #[must_use]
    pub fn sealed(self, seal: Seal) -> Self {
        Self { seal: Some(seal), ..self }
    }

    /// The same batch with what the sink noted last about its partition.
    #[must_use]
    pub fn remembering(self, memo: Option<Bytes>) -> Self {
        Self { memo, ..self }
    }

    /// The same batch, which the most that may leave in an hour held back.
    #[must_use]
    pub fn held_back(self, was_held: bool) -> Self {
        Self { was_held, ..self }
    }

    /// What the sink noted with its last batch of this partition that left; see [`Report::with_memo`].
    pub fn memo(&self) -> Option<&[u8]> {
        self.memo.as_deref()
    }

    /// Whether [`Sink::most_an_hour`] held it back.
    pub fn was_held(&self) -> bool {
        self.was_held
    }

    /// Its deliveries, in order.
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// The first of them; a batch is never empty.
    pub fn first(&self) -> &Delivery {
        &self.deliveries[0]
    }

    /// Its pushes, in order.
    pub fn pushes(&self) -> impl ExactSizeIterator<Item = &Arc<Push>> {
        self.deliveries.iter().map(|delivery| &delivery.push)
    }

    /// What it was sealed as, for sinks that seal.
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }
}

/// How one attempt went for one push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The receiver confirmed it.
    Delivered(Receipt),
    /// Not this time; another time it may pass.
    Retry(Failure),
    /// It will never pass as it is.
    Reject(Failure),
    /// No attempt was made on it.
    Untried,
}

/// Where a delivered push went: an object's key, a message id, an HTTP status. Short, no secrets, no numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt(pub String);

impl Receipt {
    /// A receipt of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Why one attempt failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What happened, in lower case, without secrets or numbers: it goes to logs.
    pub reason: String,
    /// The beginning of the receiver's answer, at most [`Failure::EXCERPT`] bytes; goes to the operator only.
    pub excerpt: String,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
    /// Whether the sink was there and would have taken others: then a retry says nothing about the sink.
    pub is_alone: bool,
}

impl Failure {
    /// Most bytes of an excerpt that are kept.
    pub const EXCERPT: usize = 512;

    /// A failure without an answer to quote.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), excerpt: String::new(), retry_after: None, is_alone: false }
    }

    /// The same, while the sink is there and would have taken others: however many fail so, its lane does not pause.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// The same with the beginning of the receiver's answer.
    #[must_use]
    pub fn quoting(mut self, answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&answer[..answer.len().min(Self::EXCERPT)]);
        self.excerpt = text.trim().to_owned();
        self
    }

    /// The same with the time after which the receiver wants to be asked again.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// Why nothing passes at present, whatever the push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable {
    /// What happened and what to do about it, in lower case, without secrets.
    pub reason: String,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
    /// Whether no time heals it; see [`until_mended`](Self::until_mended).
    pub is_until_mended: bool,
}

impl Unavailable {
    /// Unavailable for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_after: None, is_until_mended: false }
    }

    /// The same, and only a person can mend it. A push that meets this again while others pass waits for as long as it takes: it
    /// does not count as tried, and is never given up for it.
    #[must_use]
    pub fn until_mended(mut self) -> Self {
        self.is_until_mended = true;
        self
    }

    /// The same with the time after which the receiver wants to be asked again.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// How one attempt went: an outcome for every push of the batch, and maybe word that the sink is away.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "what an attempt reports decides whether its pushes are sent again"]
pub struct Report {
    outcomes: Vec<Outcome>,
    unavailable: Option<Unavailable>,
    memo: Option<Bytes>,
}

impl Report {
    /// The same outcome for every push.
    pub fn all(batch: &Batch, outcome: &Outcome) -> Self {
        Self { outcomes: vec![outcome.clone(); batch.deliveries.len()], unavailable: None, memo: None }
    }

    /// Nothing was tried yet; fill in what is known with [`set`](Self::set).
    pub fn untried(batch: &Batch) -> Self {
        Self::all(batch, &Outcome::Untried)
    }

    /// The sink takes nothing at present; no attempt is counted.
    pub fn unavailable(batch: &Batch, why: Unavailable) -> Self {
        Self::untried(batch).and_unavailable(why)
    }

    /// Every push was delivered, with a receipt each.
    pub fn delivered(batch: &Batch, mut receipt: impl FnMut(&Delivery) -> Receipt) -> Self {
        let outcomes =
            batch.deliveries.iter().map(|delivery| Outcome::Delivered(receipt(delivery))).collect();
        Self { outcomes, unavailable: None, memo: None }
    }

    /// Sets the outcome of the delivery at this index of [`Batch::deliveries`]; beyond the end it does nothing.
    pub fn set(&mut self, index: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = outcome;
        }
    }

    /// The same, and the sink is away.
    pub fn and_unavailable(mut self, why: Unavailable) -> Self {
        self.unavailable = Some(why);
        self
    }

    /// The same, and a note about the batch's partition: the next batch of it brings it back, after a restart too. At most 1,000
    /// bytes of 200 partitions are kept, in the same commit as the outcomes. To be given with a batch that left, be it in part:
    /// the next one waits for the [spacing](Batching::spacing) and this one counts for the hour, though all of it be tried again.
    pub fn with_memo(mut self, memo: impl Into<Bytes>) -> Self {
        self.memo = Some(memo.into());
        self
    }

    /// The note about the batch's partition.
    pub fn memo(&self) -> Option<&Bytes> {
        self.memo.as_ref()
    }

    /// The outcomes, one for each delivery of the batch, in order.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Why the sink is away, if it is.
    pub fn why_unavailable(&self) -> Option<&Unavailable> {
        self.unavailable.as_ref()
    }

    /// Both parts, for the lane.
    pub fn into_parts(self) -> (Vec<Outcome>, Option<Unavailable>) {
        (self.outcomes, self.unavailable)
    }
}

/// Why settings that could be read build no sink: every fault of them.
#[derive(Debug, Default)]
pub struct BuildError(pub Vec<SettingFault>);

impl BuildError {
    /// A fault at a setting, such as `smtp.url`; an empty path means the sink as a whole.
    pub fn at(setting: &str, message: impl Into<String>) -> Self {
        Self(vec![SettingFault::at(setting, message)])
    }

    /// Adds a fault.
    pub fn push(&mut self, setting: &str, message: impl Into<String>) {
        self.0.push(SettingFault::at(setting, message));
    }

    /// `value` when there are no faults.
    ///
    /// # Errors
    /// The faults, when there are some.
    pub fn or_ok<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join("; "))
    }
}

impl std::error::Error for BuildError {}
