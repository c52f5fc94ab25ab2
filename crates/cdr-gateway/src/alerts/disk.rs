//! What is told of the disk: a spool that fills up, cannot write, or cannot be read in places.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use cdr_core::SinkName;
use cdr_dispatch::lane::UnreadableNow;
use cdr_spool::{Health, Holder};

use super::fill::Change;

/// The spool's room, and who holds it.
pub(super) struct Room {
    /// What is owed, in percent of `spool.max_size`.
    pub share: u64,
    /// Who holds most of it.
    pub holder: Option<Holder>,
    /// The configuration does not name the holder's sink.
    pub is_parked: bool,
    /// When it is full at the pace of the last hour.
    pub left: Option<Duration>,
}

/// Subject and text of an alert about room and writing.
pub(super) fn letter(change: &Change, health: &Health, room: &Room) -> (String, String) {
    let (share, held) = (room.share, room.held());
    match (change, health) {
        (Change::HasRoom, _) => {
            ("the spool has room again".to_owned(), "Pushes are stored as usual.".to_owned())
        }
        (Change::StoresAgain, _) => (
            "the spool takes pushes again".to_owned(),
            format!("What sinks have not taken still fills {share} % of spool.max_size. {held}"),
        ),
        (Change::Worse, Health::Failing { reason, .. }) => (
            "the spool cannot write: pushes are refused".to_owned(),
            format!(
                "The disk says: {reason}\n\nTCCC hears 503 and retries 3 times; calls that end meanwhile may be lost. \
                 The gateway tries again by itself and goes on when the disk is back."
            ),
        ),
        (Change::Worse, Health::Full { .. }) => (
            "the spool is full: pushes are refused".to_owned(),
            format!(
                "What sinks have not taken fills spool.max_size. TCCC hears 503 and retries 3 times; nothing is deleted.\n\n\
                 {held}\n\nOr raise spool.max_size and restart."
            ),
        ),
        (Change::Worse, Health::Ok) => (
            format!("the spool is {share} % full"),
            format!(
                "What sinks have not taken fills {share} % of spool.max_size. {}When it is full, TCCC is refused.\n\n\
                 {held}\n\nOr raise spool.max_size and restart.",
                room.lasts()
            ),
        ),
    }
}

impl Room {
    /// Who holds most, and what makes room.
    fn held(&self) -> String {
        let Some(Holder { lane, waiting_bytes, dead_bytes, dead_letters }) = &self.holder else {
            return "No sink holds it: quarantine does, see cdr-gateway quarantine list.".to_owned();
        };
        let (waiting, dead) = (ByteSize(*waiting_bytes), ByteSize(*dead_bytes));
        let what = match (*waiting_bytes, *dead_bytes) {
            (_, 0) => format!("{waiting} wait for it"),
            (0, _) => format!("its {dead_letters} dead letters, {dead}"),
            _ => format!("{waiting} wait for it, and its {dead_letters} dead letters are {dead}"),
        };
        let remedy = if dead_bytes > waiting_bytes {
            format!(
                "Decide about its dead letters:\n\
                 Look:    cdr-gateway dead list --sink {lane}\n\
                 Retry:   cdr-gateway dead retry --sink {lane}\n\
                 Discard: cdr-gateway dead discard --sink {lane}"
            )
        } else if self.is_parked {
            format!(
                "The configuration does not name it: put it back, or let it go with what waits for it: cdr-gateway sink retire {lane}"
            )
        } else {
            "Mend that sink; what waits goes by itself.".to_owned()
        };
        format!("{lane} holds most: {what}. {remedy}")
    }

    fn lasts(&self) -> String {
        let Some(left) = self.left else { return String::new() };
        let hours = left.as_secs() / 3600;
        let lasts = match hours {
            0 => format!("{} min", left.as_secs() / 60),
            1..72 => format!("{hours} h"),
            _ => format!("{} days", hours / 24),
        };
        format!("At the pace of the last hour it is full in {lasts}. ")
    }
}

/// The end of reading trouble is told when it lasts.
const CALM: Duration = Duration::from_secs(60);

/// A hiccup is not worth a mail.
const LASTS: Duration = Duration::from_secs(5);

/// What lanes cannot read, and whether that was told.
#[derive(Default)]
pub(super) struct Reading {
    since: Option<Instant>,
    calm_since: Option<Instant>,
    told: bool,
}

/// Reading trouble: which lane, and what it cannot read; none when it is over.
pub(super) type News = Option<(SinkName, UnreadableNow)>;

impl Reading {
    /// What is worth telling, given what lanes cannot read.
    pub fn look(&mut self, unreadable: &BTreeMap<SinkName, UnreadableNow>, now: Instant) -> Option<News> {
        let Some((sink, worst)) = unreadable.iter().max_by_key(|(_, lane)| lane.pushes) else {
            let calm_since = *self.calm_since.get_or_insert(now);
            let is_over = now.duration_since(calm_since) >= CALM;
            if !self.told || is_over {
                let was_told = std::mem::take(self).told;
                return was_told.then_some(None);
            }
            return None;
        };
        self.calm_since = None;
        let since = *self.since.get_or_insert(now);
        if self.told || now.duration_since(since) < LASTS {
            return None;
        }
        self.told = true;
        Some(Some((sink.clone(), worst.clone())))
    }
}

/// Subject and text of an alert about reading.
pub(super) fn reading_letter(news: &News) -> (String, String) {
    let Some((sink, unreadable)) = news else {
        let text = "What had been unreadable was delivered, or is a dead letter that tells why.";
        return ("the spool can be read again".to_owned(), text.to_owned());
    };
    let text = format!(
        "The disk says: {}\n\n{} push(es) for {sink} cannot be read at present. They are looked for again by themselves, the others go \
         on. What stays unreadable for ten minutes while others can be read becomes a dead letter; nothing is deleted. \
         Look at the disk first: dmesg, smartctl.",
        unreadable.reason, unreadable.pushes
    );
    ("the spool cannot be read in places".to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(waiting: u64, dead: u64, dead_letters: u64) -> Room {
        let holder = Holder { lane: "crm".into(), waiting_bytes: waiting, dead_bytes: dead, dead_letters };
        Room {
            share: 85,
            holder: Some(holder),
            is_parked: false,
            left: Some(Duration::from_secs(5 * 3600 + 9)),
        }
    }

    fn full() -> Health {
        Health::Full { owed: 9, max_size: 10 }
    }

    #[test]
    fn dead_letters_that_fill_the_spool_are_named_with_what_to_do() {
        let (subject, text) = letter(&Change::Worse, &full(), &room(GIB, 4 * GIB, 1234));
        assert_eq!(subject, "the spool is full: pushes are refused");
        assert!(
            text.contains("crm holds most: 1.0 GiB wait for it, and its 1234 dead letters are 4.0 GiB"),
            "{text}"
        );
        assert!(text.contains("dead retry --sink crm") && text.contains("dead discard --sink crm"), "{text}");
    }

    #[test]
    fn a_sink_that_is_behind_is_to_be_mended_and_the_hours_are_told() {
        let (_, text) = letter(&Change::Worse, &Health::Ok, &room(4 * GIB, GIB, 3));
        assert!(text.contains("full in 5 h") && text.contains("Mend that sink"), "{text}");
        assert!(!text.contains("discard"), "{text}");
    }

    #[test]
    fn a_parked_sink_is_to_be_put_back_or_retired() {
        let room = Room { is_parked: true, ..room(GIB, 0, 0) };
        let (_, text) = letter(&Change::Worse, &full(), &room);
        assert!(
            text.contains("crm holds most: 1.0 GiB wait for it.") && text.contains("sink retire crm"),
            "{text}"
        );
    }

    /// Which seconds of this course told something, and whether it was the end.
    fn told(course: &[(bool, u64)]) -> Vec<(u64, bool)> {
        let (mut reading, began) = (Reading::default(), Instant::now());
        let now = UnreadableNow { since: jiff::Timestamp::UNIX_EPOCH, pushes: 1, reason: "EIO".into() };
        let lanes = BTreeMap::from([("crm".parse().unwrap(), now)]);
        let seconds = course.iter().flat_map(|&(is_bad, seconds)| (0..seconds).map(move |_| is_bad));
        let look = |(second, is_bad): (u64, bool)| {
            let (nothing, at) = (BTreeMap::new(), began + Duration::from_secs(second));
            let news = reading.look(if is_bad { &lanes } else { &nothing }, at)?;
            Some((second, news.is_none()))
        };
        (0..).zip(seconds).filter_map(look).collect()
    }

    #[test]
    fn reading_trouble_is_told_once_and_so_is_its_end() {
        assert_eq!(told(&[(true, 4), (false, 200)]), []);
        assert_eq!(told(&[(true, 500), (false, 30), (true, 9), (false, 99)]), [(5, false), (599, true)]);
    }
}
