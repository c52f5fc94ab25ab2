//! Deliveries that are ready for an attempt, gathered into batches as the sink wants them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cdr_core::{Batching, Partition, Position};
use tokio::time::Instant;

/// Ready deliveries by partition.
#[derive(Debug)]
pub struct Gather {
    batching: Batching,
    hold: Hold,
    queues: BTreeMap<Partition, Queue>,
    ready: usize,
    bytes: usize,
}

/// What keeps back the batches of partitions that are counted by the hour.
#[derive(Clone, Copy, Debug, Default)]
struct Hold {
    /// None goes out before this.
    until: Option<Instant>,
    /// More of them are being read back: each mail counts, so none goes out half full.
    is_filling: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of their positions, so that a batch is, too.
    ready: BTreeSet<Position>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// No batch goes out before this.
    not_before: Option<Instant>,
    /// Batches of this partition under way.
    trying: usize,
    /// Whether its batches are counted by the hour.
    is_counted: bool,
    /// Whether that held it back since the last batch.
    was_held: bool,
}

/// What is ready to be tried together.
#[derive(Debug)]
pub struct Ready {
    /// Which partition it is of.
    pub partition: Partition,
    /// In the order of their positions, at least one.
    pub positions: Vec<Position>,
    /// Whether the most that may leave in an hour held it back.
    pub was_held: bool,
}

impl Gather {
    /// Gathers as a sink wants it.
    pub fn new(batching: Batching) -> Self {
        let batching = Batching { pushes: batching.pushes.max(1), ..batching };
        Self { batching, hold: Hold::default(), queues: BTreeMap::new(), ready: 0, bytes: 0 }
    }

    /// Takes the wishes of a new sink.
    pub fn reconfigure(&mut self, batching: Batching) {
        self.batching = Batching { pushes: batching.pushes.max(1), ..batching };
    }

    /// Most pushes in a batch.
    pub fn batch_size(&self) -> usize {
        self.batching.pushes
    }

    /// Least time between two batches of a partition.
    pub fn spacing(&self) -> Duration {
        self.batching.spacing
    }

    /// Holds back what is counted by the hour: until then, and while more of it `is_filling` up what is ready.
    pub fn hold(&mut self, until: Option<Instant>, is_filling: bool) {
        let (batching, now) = (self.batching, Instant::now());
        // Seen when the hold ends, too: nothing need have woken the lane in between.
        if self.hold.until.is_some() {
            for queue in self.queues.values_mut().filter(|queue| queue.is_counted) {
                queue.was_held |= queue.due(&batching, false, Hold::default()).is_some_and(|due| due <= now);
            }
        }
        self.hold = Hold { until, is_filling };
    }

    /// Gives away what the hour holds back until then, with its bodies: whoever wants it ready adds it again.
    pub fn give_away_held(&mut self, until: Instant) -> Vec<Position> {
        let mut given = Vec::new();
        for queue in self.queues.values_mut().filter(|queue| queue.is_counted && !queue.ready.is_empty()) {
            // The least time between two batches may hold it back for longer; then it is not the hour that does.
            queue.was_held |= queue.not_before.is_none_or(|not_before| not_before < until);
            self.bytes = self.bytes.saturating_sub(std::mem::take(&mut queue.bytes));
            self.ready -= queue.ready.len();
            given.extend(std::mem::take(&mut queue.ready));
        }
        given
    }

    /// The next batch of a partition waits until then: what a restart interrupted goes on.
    pub fn resume(&mut self, partition: &Partition, not_before: Instant) {
        if not_before > Instant::now() {
            self.queues.entry(partition.clone()).or_default().not_before = Some(not_before);
        }
    }

    /// How many deliveries are ready.
    pub fn len(&self) -> usize {
        self.ready
    }

    /// Bytes of their bodies.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A delivery is ready.
    pub fn add(&mut self, partition: Partition, position: Position, bytes: usize, is_counted: bool) {
        let queue = self.queues.entry(partition).or_default();
        queue.is_counted = is_counted;
        if queue.ready.insert(position) {
            queue.bytes += bytes;
            self.ready += 1;
            self.bytes += bytes;
        }
        queue.since.get_or_insert_with(Instant::now);
    }

    /// The next batch that may go out now. `size` tells the bytes of a push. In a hurry none waits for company: the lane
    /// can hold no more, so that none would come.
    pub fn next(&mut self, size: impl Fn(Position) -> usize, hurry: bool) -> Option<Ready> {
        let now = Instant::now();
        let (batching, hold) = (self.batching, self.hold);
        let due = |queue: &Queue| queue.due(&batching, hurry, hold).is_some_and(|due| due <= now);
        let (partition, queue) =
            self.queues.iter_mut().filter(|(_, queue)| due(queue)).min_by_key(|(_, queue)| queue.since)?;
        let positions = queue.front(&self.batching, &size);
        queue.take(&positions, &size, batching.spacing);
        let was_held = std::mem::take(&mut queue.was_held);
        self.ready -= positions.len();
        self.bytes = self.bytes.saturating_sub(positions.iter().map(|&position| size(position)).sum());
        Some(Ready { partition: partition.clone(), positions, was_held })
    }

    /// One push to see whether a sink is back: the one with the least `burden`, so that a poison push cannot
    /// keep the sink paused.
    pub fn probe(
        &mut self,
        size: impl Fn(Position) -> usize,
        burden: impl Fn(Position) -> u32,
    ) -> Option<Ready> {
        let now = Instant::now();
        let due = |queue: &Queue| queue.due(&self.batching, true, self.hold).is_some_and(|due| due <= now);
        let ready =
            self.queues.iter().filter(|(_, queue)| due(queue)).flat_map(|(partition, queue)| {
                queue.ready.iter().map(move |&position| (partition, position))
            });
        let (partition, position) = ready.min_by_key(|&(_, position)| (burden(position), position))?;
        let partition = partition.clone();
        self.queues.get_mut(&partition)?.take(&[position], &size, self.batching.spacing);
        self.ready -= 1;
        self.bytes = self.bytes.saturating_sub(size(position));
        Some(Ready { partition, positions: vec![position], was_held: false })
    }

    /// A batch is over; the next one of its partition waits for the spacing if it `left`, be it in part.
    pub fn finished(&mut self, partition: &Partition, left: bool) {
        let Some(queue) = self.queues.get_mut(partition) else { return };
        queue.trying = queue.trying.saturating_sub(1);
        if !left {
            queue.not_before = None;
        }
        let idle = queue.ready.is_empty() && queue.trying == 0;
        if idle && queue.not_before.is_none_or(|until| until <= Instant::now()) {
            self.queues.remove(partition);
        }
    }

    /// When the next batch may go out, if nothing else happens.
    pub fn next_due(&self, hurry: bool) -> Option<Instant> {
        self.queues.values().filter_map(|queue| queue.due(&self.batching, hurry, self.hold)).min()
    }
}

impl Queue {
    /// When a batch of this queue may go out; none when it is empty or must wait for another one.
    fn due(&self, batching: &Batching, hurry: bool, hold: Hold) -> Option<Instant> {
        let since = self.since.filter(|_| !self.ready.is_empty())?;
        // Spaced batches follow each other; otherwise the first two would leave side by side.
        if batching.spacing > Duration::ZERO && self.trying > 0 {
            return None;
        }
        let full = self.ready.len() >= batching.pushes || self.bytes >= batching.bytes;
        if self.is_counted && hold.is_filling && !full {
            return None;
        }
        let gathered = if full || hurry { since } else { since + batching.wait };
        let held = hold.until.filter(|_| self.is_counted);
        Some([self.not_before, held].into_iter().flatten().fold(gathered, Instant::max))
    }

    /// The positions of the next batch: as many as its bounds allow, at least one.
    fn front(&self, batching: &Batching, size: impl Fn(Position) -> usize) -> Vec<Position> {
        let mut bytes = 0_usize;
        let mut chosen = Vec::new();
        for &position in self.ready.iter().take(batching.pushes) {
            bytes = bytes.saturating_add(size(position));
            if !chosen.is_empty() && bytes > batching.bytes {
                break;
            }
            chosen.push(position);
        }
        chosen
    }

    fn take(&mut self, positions: &[Position], size: impl Fn(Position) -> usize, spacing: Duration) {
        for &position in positions {
            self.ready.remove(&position);
            self.bytes = self.bytes.saturating_sub(size(position));
        }
        self.trying += 1;
        let now = Instant::now();
        self.since = (!self.ready.is_empty()).then_some(now);
        self.not_before = (spacing > Duration::ZERO).then(|| now + spacing);
    }
}
