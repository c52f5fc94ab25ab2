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
    /// Those of them that share a batch with nobody.
    alone: BTreeSet<Position>,
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

    /// Takes the wishes of a new sink, and gives back what is ready: it may belong to other partitions now.
    pub fn reconfigure(&mut self, batching: Batching) -> Vec<Position> {
        self.batching = Batching { pushes: batching.pushes.max(1), ..batching };
        (self.ready, self.bytes) = (0, 0);
        let mut ready = Vec::new();
        for queue in self.queues.values_mut() {
            ready.extend(std::mem::take(&mut queue.ready));
            *queue = Queue { not_before: queue.not_before, trying: queue.trying, ..Queue::default() };
        }
        ready
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
            queue.alone.clear();
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

    /// A delivery is ready, to be tried in a batch with others or `alone`.
    pub fn add(
        &mut self,
        partition: Partition,
        position: Position,
        bytes: usize,
        is_counted: bool,
        alone: bool,
    ) {
        let queue = self.queues.entry(partition).or_default();
        queue.is_counted = is_counted;
        if queue.ready.insert(position) {
            queue.bytes += bytes;
            self.ready += 1;
            self.bytes += bytes;
        }
        if alone {
            queue.alone.insert(position);
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
        // All of them: of a partition that stays quiet, nothing else comes to an end after its spacing.
        let now = Instant::now();
        self.queues.retain(|_, queue| !queue.is_over(now));
    }

    /// When the next batch may go out, if nothing else happens.
    pub fn next_due(&self, hurry: bool) -> Option<Instant> {
        self.queues.values().filter_map(|queue| queue.due(&self.batching, hurry, self.hold)).min()
    }
}

impl Queue {
    /// Whether nothing needs to be known of it. What the hour holds back may be given away, and comes again.
    fn is_over(&self, now: Instant) -> bool {
        let is_idle = self.ready.is_empty() && self.trying == 0 && !self.was_held;
        is_idle && self.not_before.is_none_or(|until| until <= now)
    }

    /// When a batch of this queue may go out; none when it is empty or must wait for another one.
    fn due(&self, batching: &Batching, hurry: bool, hold: Hold) -> Option<Instant> {
        let since = self.since.filter(|_| !self.ready.is_empty())?;
        // Spaced batches follow each other; otherwise the first two would leave side by side.
        if batching.spacing > Duration::ZERO && self.trying > 0 {
            return None;
        }
        let waits_for_nobody = self.ready.first().is_some_and(|first| self.alone.contains(first));
        let full = waits_for_nobody || self.ready.len() >= batching.pushes || self.bytes >= batching.bytes;
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
        let is_alone = |position: &Position| self.alone.contains(position);
        if let Some(first) = self.ready.first().filter(|first| is_alone(first)) {
            return vec![*first];
        }
        for &position in self.ready.iter().filter(|position| !is_alone(position)).take(batching.pushes) {
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
            self.alone.remove(&position);
            self.bytes = self.bytes.saturating_sub(size(position));
        }
        self.trying += 1;
        let now = Instant::now();
        self.since = (!self.ready.is_empty()).then_some(now);
        self.not_before = (spacing > Duration::ZERO).then(|| now + spacing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u64) -> Partition {
        Partition(number.to_string().into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_stays_quiet_is_forgotten_after_its_spacing() {
        let spacing = Duration::from_secs(60);
        let mut gather = Gather::new(Batching { spacing, ..Batching::single() });
        for number in 0..1000 {
            gather.add(partition(number), Position(number), 1, false, false);
            let ready = gather.next(|_| 1, false).unwrap();
            gather.finished(&ready.partition, true);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(gather.queues.len() <= 61, "{}", gather.queues.len());
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_alone_waits_for_nobody_and_keeps_its_place_in_the_order() {
        let ten = Batching { pushes: 10, wait: Duration::from_secs(1), ..Batching::single() };
        let mut gather = Gather::new(ten);
        for position in 0..6 {
            gather.add(Partition::ONE, Position(position), 1, false, matches!(position, 0 | 3));
        }
        let mut next = || gather.next(|_| 1, false).map(|ready| ready.positions);
        assert_eq!(next(), Some(vec![Position(0)]));
        assert_eq!(next(), None, "the others wait for company");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(next(), Some([1, 2, 4, 5].map(Position).to_vec()));
        assert_eq!(next(), Some(vec![Position(3)]));
        assert_eq!((gather.len(), gather.bytes()), (0, 0));
    }
}
