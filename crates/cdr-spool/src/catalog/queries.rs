//! What a catalog is asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Row, params, params_from_iter};

use super::Query;
use super::database::{Database, Trouble, number_at};
use super::rows::LONGEST_SPAN;
use super::telling::LaneToday;
use crate::state::Place;
use crate::{DeadLetter, Errand, Position};

impl Database {
    /// Positions behind `after` with a term, in order.
    pub(super) fn with_term(
        &self,
        digest: i64,
        after: Position,
        max: usize,
    ) -> Result<Vec<Position>, Trouble> {
        let sql = "SELECT DISTINCT term.position FROM run CROSS JOIN term
            WHERE run.last > ?2 AND term.run = run.run AND term.digest = ?1 AND term.position > ?2
            ORDER BY term.position LIMIT ?3";
        let mut select = self.connection().prepare_cached(sql)?;
        let found = select.query_map([digest, after.0 as i64, max as i64], position_at_0)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Positions behind the query's that may have arrived in its time, in order.
    pub(super) fn arrived(&self, query: &Query, max: usize) -> Result<Vec<Position>, Trouble> {
        let (since, until) = (query.since_ms.unwrap_or(i64::MIN), query.until_ms.unwrap_or(i64::MAX));
        let sql = "SELECT first, last FROM frame
            WHERE first > coalesce((SELECT max(first) FROM frame WHERE first <= ?1), 0) - 1
                AND last > ?1 AND latest_ms >= ?2 AND earliest_ms < ?3
            ORDER BY first LIMIT ?4";
        let mut select = self.connection().prepare_cached(sql)?;
        let limits = params![query.after.0 as i64, since, until, max as i64];
        let ranges = select.query_map(limits, |row| Ok((number_at(row, 0)?, number_at(row, 1)?)))?;
        let ranges: Vec<(u64, u64)> = ranges.collect::<Result<_, _>>()?;
        let from = query.after.0 + 1;
        let mut found: Vec<Position> = ranges
            .into_iter()
            .flat_map(|(first, last)| first.max(from)..=last)
            .take(max)
            .map(Position)
            .collect();
        let sql = "SELECT position FROM carried
            WHERE position > ?1 AND received_at_ms >= ?2 AND received_at_ms < ?3 ORDER BY position LIMIT ?4";
        let mut select = self.connection().prepare_cached(sql)?;
        for position in select.query_map(limits, position_at_0)? {
            found.push(position?);
        }
        Ok(found)
    }

    /// The frames that may hold a push.
    pub(super) fn places_of(&self, position: Position) -> Result<Vec<Place>, Trouble> {
        let sql = "SELECT segment, \"offset\" FROM (SELECT * FROM frame WHERE first <= ?1 ORDER BY first DESC LIMIT 1) WHERE last >= ?1
            UNION ALL SELECT segment, \"offset\" FROM carried WHERE position = ?1";
        self.places(sql, &[position.0 as i64])
    }

    /// The frames that may tell what became of a push.
    pub(super) fn frames_telling_of(&self, position: Position) -> Result<Vec<Place>, Trouble> {
        let sql = "SELECT span.segment, span.\"offset\" FROM segment CROSS JOIN span
            WHERE span.segment = segment.number AND span.first BETWEEN ?1 - ?2 AND ?1 AND span.last >= ?1";
        self.places(sql, &[position.0 as i64, LONGEST_SPAN as i64])
    }

    fn places(&self, sql: &str, numbers: &[i64]) -> Result<Vec<Place>, Trouble> {
        let mut select = self.connection().prepare_cached(sql)?;
        let place = |row: &Row| Ok(Place { segment: number_at(row, 0)?, offset: number_at(row, 1)? });
        let found = select.query_map(params_from_iter(numbers), place)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    pub(super) fn lanes(&self) -> Result<BTreeMap<u32, LaneToday>, Trouble> {
        let sql = "SELECT lane, name, next, began, sink, until, facts FROM lane";
        let mut select = self.connection().prepare_cached(sql)?;
        let lane = |row: &Row| {
            let errand = match row.get::<_, Option<String>>(4)? {
                Some(sink) => {
                    let facts = Bytes::from(row.get::<_, Vec<u8>>(6)?);
                    Some(Errand { sink, until: Position(number_at(row, 5)?), facts })
                }
                None => None,
            };
            let (next, began) = (Position(number_at(row, 2)?), Position(number_at(row, 3)?));
            Ok((row.get(0)?, LaneToday { name: row.get(1)?, next, began, errand, aside: Vec::new() }))
        };
        let mut lanes: BTreeMap<u32, LaneToday> = select.query_map((), lane)?.collect::<Result<_, _>>()?;
        let mut select = self.connection().prepare_cached("SELECT lane, first, until FROM aside")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            if let Some(lane) = lanes.get_mut(&row.get(0)?) {
                lane.aside.push(Position(number_at(row, 1)?)..Position(number_at(row, 2)?));
            }
        }
        Ok(lanes)
    }

    pub(super) fn is_dead(&self, lane: u32, position: Position) -> Result<bool, Trouble> {
        let sql = "SELECT 1 FROM dead WHERE lane = ?1 AND position = ?2";
        let mut select = self.connection().prepare_cached(sql)?;
        Ok(select.exists([i64::from(lane), position.0 as i64])?)
    }

    /// Dead letters of one lane or of all, behind `after`, by lane and position; each with the frame that has its reason.
    pub(super) fn dead_letters(
        &self,
        lane: Option<&str>,
        after: Option<(&str, Position)>,
        max: usize,
    ) -> Result<Vec<(u32, DeadLetter, Place)>, Trouble> {
        let (after_lane, after) = after.map_or(("", 0), |(lane, position)| (lane, position.0 as i64));
        let sql = "SELECT lane, name, position, died_at_ms, attempts, reason, segment, \"offset\" FROM dead JOIN lane USING (lane)
            WHERE (?1 IS NULL OR name = ?1) AND (name, position) > (?2, ?3) ORDER BY name, position LIMIT ?4";
        let mut select = self.connection().prepare_cached(sql)?;
        let letter = |row: &Row| {
            let letter = DeadLetter {
                lane: row.get(1)?,
                position: Position(number_at(row, 2)?),
                died_at_ms: row.get(3)?,
                attempts: row.get(4)?,
                reason: row.get(5)?,
                excerpt: String::new(),
            };
            Ok((row.get(0)?, letter, Place { segment: number_at(row, 6)?, offset: number_at(row, 7)? }))
        };
        let found = select.query_map(params![lane, after_lane, after, max as i64], letter)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// What lies in quarantine behind `after`, and in which frame.
    pub(super) fn quarantined(&self, after: Position, max: usize) -> Result<Vec<(Position, Place)>, Trouble> {
        let sql = "SELECT position, segment, \"offset\" FROM quarantine WHERE position > ?1 ORDER BY position LIMIT ?2";
        let mut select = self.connection().prepare_cached(sql)?;
        let held = |row: &Row| {
            let place = Place { segment: number_at(row, 1)?, offset: number_at(row, 2)? };
            Ok((Position(number_at(row, 0)?), place))
        };
        let found = select.query_map([after.0 as i64, max as i64], held)?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

fn position_at_0(row: &Row) -> rusqlite::Result<Position> {
    number_at(row, 0).map(Position)
}
