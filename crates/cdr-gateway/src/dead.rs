//! Dead letters as operators look for them: which are meant, and what is told of each.
//!
//! The running gateway finds them a page at a time and forgets each page when it was answered, so it makes no difference
//! to its memory how many there are.

use cdr_core::{Position, Push};
use cdr_dispatch::Dispatcher;
use cdr_expression::Expression;
use cdr_spool::{DeadLetter, ReadError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// So many are looked at for one page.
const PAGE: usize = 1000;

/// So many bodies are in memory at once; each may be as long as `limits.body`.
const BODIES: usize = 16;

/// Which dead letters are meant: those for which all of this holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// One of these pushes; empty for any.
    pub numbers: Vec<Position>,
    /// The reason contains this, in whatever case.
    pub reason: Option<String>,
    /// Given up after this.
    pub died_after: Option<Timestamp>,
    /// Given up before this.
    pub died_before: Option<Timestamp>,
    /// An expression that holds for the push. One whose bytes are gone does not match.
    #[serde(rename = "where")]
    pub condition: Option<String>,
}

/// What is told of a dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// The sink that it is for.
    pub sink: String,
    /// The push.
    pub number: Position,
    /// When it was given up.
    pub died_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// The beginning of what the receiver answered.
    pub answer: String,
    /// What the push is; none when its bytes are gone.
    #[serde(flatten)]
    pub about: Option<About>,
}

/// What a push is, as far as a line of a list tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// Its `action`.
    pub action: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The session that it tells of.
    pub session_id: Option<String>,
}

/// Some dead letters of a sink, oldest push first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Those that are meant, among the ones that were looked at.
    pub letters: Vec<Letter>,
    /// Behind which push to go on; none: that was all.
    pub next: Option<Position>,
}

impl Which {
    /// Whether it may be meant, as far as it can be told without the push.
    pub fn may_take(&self, number: Position, reason: &str, died_at: Timestamp) -> bool {
        let contains = |part: &String| reason.to_lowercase().contains(&part.to_lowercase());
        (self.numbers.is_empty() || self.numbers.contains(&number))
            && self.reason.as_ref().is_none_or(contains)
            && self.died_after.is_none_or(|time| died_at > time)
            && self.died_before.is_none_or(|time| died_at < time)
    }
}

impl Letter {
    /// The parts of it that the spool knows without the push.
    pub fn new(dead: DeadLetter) -> Self {
        Self {
            sink: dead.lane,
            number: Position(dead.position.0),
            died_at: Timestamp::from_millisecond(dead.died_at_ms).unwrap_or_default(),
            attempts: dead.attempts,
            reason: dead.reason,
            answer: dead.excerpt,
            about: None,
        }
    }
}

impl About {
    /// What this push is.
    pub fn of(push: &Push) -> Self {
        Self {
            action: push.action().to_string(),
            received_at: push.facts().received_at,
            session_id: push.session_id().map(|id| cdr_core::push::short(id).to_owned()),
        }
    }
}

/// The dead letters of a sink behind `after` that are meant; `condition` is what [`Which::condition`] says, compiled.
///
/// # Errors
/// The disk cannot be read.
pub async fn find(
    dispatcher: &Dispatcher,
    sink: &str,
    after: Position,
    which: &Which,
    condition: Option<&Expression>,
) -> Result<Page, ReadError> {
    let (looked_at, next) = look_at(dispatcher, sink, after, which).await?;
    let mut meant: Vec<Letter> = looked_at.into_iter().map(Letter::new).collect();
    meant.retain(|letter| which.may_take(letter.number, &letter.reason, letter.died_at));
    let mut letters = Vec::with_capacity(meant.len());
    while !meant.is_empty() {
        let some: Vec<Letter> = meant.drain(..meant.len().min(BODIES)).collect();
        let pushes =
            dispatcher.pushes().get(some.iter().map(|letter| letter.number).collect(), usize::MAX).await;
        for (mut letter, push) in some.into_iter().zip(pushes) {
            let push = push?;
            let holds = |condition: &Expression| {
                push.as_ref().is_some_and(|push| condition.eval(push).unwrap_or(false))
            };
            if condition.is_none_or(holds) {
                letter.about = push.as_deref().map(About::of);
                letters.push(letter);
            }
        }
    }
    Ok(Page { letters, next })
}

/// A page of candidates, and where to go on.
async fn look_at(
    dispatcher: &Dispatcher,
    sink: &str,
    after: Position,
    which: &Which,
) -> Result<(Vec<DeadLetter>, Option<Position>), ReadError> {
    if which.numbers.is_empty() {
        let letters = dispatcher.dead_letters(sink, after, PAGE).await?;
        let last = letters.last().map(|letter| Position(letter.position.0));
        let next = last.filter(|_| letters.len() == PAGE);
        return Ok((letters, next));
    }
    let mut numbers: Vec<Position> = which.numbers.iter().copied().filter(|number| *number > after).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let next = (numbers.len() > PAGE).then(|| numbers[PAGE - 1]);
    let mut letters = Vec::new();
    for number in numbers.into_iter().take(PAGE) {
        let before = Position(number.0.saturating_sub(1));
        let found = dispatcher.dead_letters(sink, before, 1).await?;
        letters.extend(found.into_iter().filter(|letter| letter.position.0 == number.0));
    }
    Ok((letters, next))
}
