//! What is written, inside a transaction: rows of the log, and the forgetting of what went.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::database::{Known, Trouble, number_at};
use super::rows::{Change, Rows};
use crate::log::entry::{Checkpoint, KnownLane, LaneChange};
use crate::log::view::Extent;
use crate::log::walk::Walk;
use crate::state::Place;
use crate::{Errand, Position};

/// Begins to write, unless someone else wrote since: then what is known here is not true any more.
pub(super) fn begin(connection: &mut Connection, from: Known) -> Result<Transaction<'_>, Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let there = {
        let mut statement = transaction.prepare_cached("SELECT segment, \"offset\" FROM known")?;
        statement
            .query_row((), |row| Ok(Place { segment: number_at(row, 0)?, offset: number_at(row, 1)? }))?
    };
    match there == from.place {
        true => Ok(transaction),
        false => Err(Trouble::Unusable("someone else wrote into it".into())),
    }
}

pub(super) fn set_known(transaction: &Transaction, known: Known) -> Result<(), Trouble> {
    let Known { place, position } = known;
    transaction
        .prepare_cached("UPDATE known SET segment = ?1, \"offset\" = ?2, position = ?3")?
        .execute([place.segment as i64, place.offset as i64, position.0 as i64])?;
    Ok(())
}

pub(super) fn add_segment(transaction: &Transaction, segment: &Extent, rows: &Rows) -> Result<(), Trouble> {
    let (number, salt) = (segment.stamp.segment as i64, segment.stamp.salt as i64);
    transaction
        .prepare_cached("INSERT OR IGNORE INTO segment VALUES (?1, ?2, NULL, NULL)")?
        .execute([number, salt])?;
    if let (Some(first), Some(last)) = (rows.frames.first(), rows.frames.last()) {
        let sql = "UPDATE segment SET first = coalesce(first, ?2), last = ?3 WHERE number = ?1";
        let (first, last) = (first.first.0 as i64, last.last.0 as i64);
        transaction.prepare_cached(sql)?.execute([number, first, last])?;
    }
    Ok(())
}

pub(super) fn add_terms(transaction: &Transaction, rows: &mut Rows, segment: u64) -> Result<(), Trouble> {
    let Some(last) = rows.terms.iter().map(|(_, position)| position.0).max() else { return Ok(()) };
    rows.terms.sort_unstable();
    rows.terms.dedup();
    let run = next_run(transaction)?;
    transaction.prepare_cached("INSERT INTO run VALUES (?1, ?2, ?3)")?.execute([
        run,
        segment as i64,
        last as i64,
    ])?;
    let mut insert = transaction.prepare_cached("INSERT INTO term VALUES (?1, ?2, ?3)")?;
    for (digest, position) in &rows.terms {
        insert.execute([run, *digest, position.0 as i64])?;
    }
    Ok(())
}

pub(super) fn next_run(transaction: &Transaction) -> Result<i64, Trouble> {
    let mut next = transaction.prepare_cached("SELECT coalesce(max(run), 0) + 1 FROM run")?;
    Ok(next.query_row((), |row| row.get(0))?)
}

pub(super) fn add_places(transaction: &Transaction, rows: &Rows) -> Result<(), Trouble> {
    let mut insert =
        transaction.prepare_cached("INSERT OR REPLACE INTO frame VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for row in &rows.frames {
        let Place { segment, offset } = row.place;
        let (first, last) = (row.first.0 as i64, row.last.0 as i64);
        insert.execute([first, last, segment as i64, offset as i64, row.earliest_ms, row.latest_ms])?;
    }
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO carried VALUES (?1, ?2, ?3, ?4)")?;
    for (position, Place { segment, offset }, received_at_ms) in &rows.carried {
        insert.execute([position.0 as i64, *segment as i64, *offset as i64, *received_at_ms])?;
    }
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO span VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for span in &rows.spans {
        let Place { segment, offset } = span.place;
        let (first, last) = (span.first.0 as i64, span.last.0 as i64);
        insert.execute([segment as i64, first, i64::from(span.lane), offset as i64, last])?;
    }
    Ok(())
}

pub(super) fn apply(transaction: &Transaction, change: &Change) -> Result<(), Trouble> {
    match change {
        Change::Died { lane, position, dead, place } => {
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO dead VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            insert.execute(params![
                lane,
                position.0 as i64,
                dead.died_at_ms,
                dead.attempts,
                dead.reason,
                place.segment as i64,
                place.offset as i64
            ])?;
        }
        Change::Woken { lane, first, last } => {
            let mut delete = transaction
                .prepare_cached("DELETE FROM dead WHERE lane = ?1 AND position BETWEEN ?2 AND ?3")?;
            delete.execute([i64::from(*lane), first.0 as i64, last.0 as i64])?;
        }
        Change::Quarantined { position, received_at_ms, bytes, reason, place } => {
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            insert.execute(params![
                position.0 as i64,
                received_at_ms,
                *bytes as i64,
                reason,
                place.segment as i64,
                place.offset as i64
            ])?;
        }
        Change::QuarantineDiscarded(positions) => discard_quarantine(transaction, positions)?,
        Change::Lane(LaneChange::Registered { lane, name, next }) => {
            add_lane(transaction, *lane, name, (*next, *next), None)?
        }
        Change::Lane(LaneChange::Renamed { lane, name }) => {
            transaction.execute("UPDATE lane SET name = ?2 WHERE lane = ?1", params![lane, name])?;
        }
        // A sink's lane that is handed over goes on under the name of an errand; where it began and what it has read stays.
        Change::Lane(LaneChange::Errand { lane, name, next, errand }) => {
            add_errand(transaction, *lane, name, *next, errand)?;
        }
        Change::Lane(LaneChange::SetAside { of, lane, name, next, errand }) => {
            add_errand(transaction, *lane, name, *next, errand)?;
            let mut insert =
                transaction.prepare_cached("INSERT OR REPLACE INTO aside VALUES (?1, ?2, ?3)")?;
            insert.execute([i64::from(*of), next.0 as i64, errand.until.0 as i64])?;
        }
        Change::Lane(LaneChange::Retired { lane }) => {
            transaction.execute("DELETE FROM lane WHERE lane = ?1", [lane])?;
            transaction.execute("DELETE FROM dead WHERE lane = ?1", [lane])?;
        }
        Change::Checkpoint(checkpoint) => apply_checkpoint(transaction, checkpoint)?,
    }
    Ok(())
}

fn add_errand(
    transaction: &Transaction,
    lane: u32,
    name: &str,
    next: Position,
    errand: &Errand,
) -> Result<(), Trouble> {
    let known = transaction
        .prepare_cached("SELECT began, next FROM lane WHERE lane = ?1")?
        .query_row([lane], |row| Ok((Position(number_at(row, 0)?), Position(number_at(row, 1)?))))
        .optional()?;
    add_lane(transaction, lane, name, known.unwrap_or((next, next)), Some(errand))
}

fn add_lane(
    transaction: &Transaction,
    lane: u32,
    name: &str,
    (began, next): (Position, Position),
    errand: Option<&Errand>,
) -> Result<(), Trouble> {
    let sink = errand.map(|errand| &errand.sink);
    let until = errand.map(|errand| errand.until.0 as i64);
    let facts = errand.map(|errand| &errand.facts[..]);
    transaction
        .prepare_cached("INSERT OR REPLACE INTO lane VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![lane, name, next.0 as i64, began.0 as i64, sink, until, facts])?;
    Ok(())
}

fn discard_quarantine(transaction: &Transaction, positions: &[Position]) -> Result<(), Trouble> {
    let mut delete = transaction.prepare_cached("DELETE FROM quarantine WHERE position = ?1")?;
    for position in positions {
        delete.execute([position.0 as i64])?;
    }
    Ok(())
}

/// Segments need not go in order: what a segment between two others said may be gone, and only a checkpoint knows it still.
fn apply_checkpoint(transaction: &Transaction, checkpoint: &Checkpoint) -> Result<(), Trouble> {
    transaction.execute("DELETE FROM lane", ())?;
    transaction.execute("DELETE FROM aside", ())?;
    for lane in &checkpoint.lanes {
        add_lane(transaction, lane.lane, &lane.name, (lane.began, lane.next), lane.errand.as_ref())?;
        keep_dead(transaction, lane)?;
    }
    transaction.execute("DELETE FROM dead WHERE lane NOT IN (SELECT lane FROM lane)", ())?;
    discard_quarantine(transaction, &checkpoint.discarded_quarantine)
}

fn keep_dead(transaction: &Transaction, lane: &KnownLane) -> Result<(), Trouble> {
    let listed: Vec<i64> = {
        let mut select = transaction.prepare_cached("SELECT position FROM dead WHERE lane = ?1")?;
        let rows = select.query_map([lane.lane], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    };
    let is_dead = |position: &i64| lane.dead.binary_search(&Position(*position as u64)).is_ok();
    let mut delete = transaction.prepare_cached("DELETE FROM dead WHERE lane = ?1 AND position = ?2")?;
    for position in listed.iter().filter(|position| !is_dead(position)) {
        delete.execute([i64::from(lane.lane), *position])?;
    }
    // Its reason comes again behind this, if it was carried here, or is damaged.
    let sql = "INSERT OR IGNORE INTO dead VALUES (?1, ?2, 0, 0, 'the reason is damaged on disk', 0, 0)";
    let mut insert = transaction.prepare_cached(sql)?;
    for position in &lane.dead {
        insert.execute([i64::from(lane.lane), position.0 as i64])?;
    }
    Ok(())
}

pub(super) fn forget_segment(transaction: &Transaction, number: u64) -> Result<(), Trouble> {
    for sql in [
        "DELETE FROM term WHERE run IN (SELECT run FROM run WHERE segment = ?1)",
        "DELETE FROM run WHERE segment = ?1",
        // Found by its positions, which another segment may have again; see `go_back`.
        "DELETE FROM frame WHERE segment = ?1 AND first BETWEEN (SELECT first FROM segment WHERE number = ?1)
            AND (SELECT last FROM segment WHERE number = ?1)",
        "DELETE FROM carried WHERE segment = ?1",
        "DELETE FROM span WHERE segment = ?1",
        "DELETE FROM dead WHERE segment = ?1",
        "DELETE FROM quarantine WHERE segment = ?1",
        "DELETE FROM segment WHERE number = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([number as i64])?;
    }
    Ok(())
}

/// Recovery gave up the end of a segment and wrote it again into the next one, so it is read again, there. Terms and the state
/// of today may stay: they come again as they are.
pub(super) fn go_back(transaction: &Transaction, extent: &Extent) -> Result<Place, Trouble> {
    let place = Place { segment: extent.stamp.segment, offset: extent.end.max(Walk::start()) };
    for table in ["frame", "carried", "span"] {
        let sql = format!("DELETE FROM {table} WHERE segment = ?1 AND \"offset\" >= ?2");
        transaction.execute(&sql, [place.segment as i64, place.offset as i64])?;
    }
    Ok(place)
}
