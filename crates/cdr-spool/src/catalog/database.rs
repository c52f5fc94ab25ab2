//! The file: opening it with suspicion, and writing what the log says.
//!
//! It has a rollback journal and not a write-ahead log. That one lives beside a file mapped into memory, and whoever removes,
//! cuts or loses that file kills the process (SIGBUS, seen); a catalog must not be able to do that. It costs less, too: new
//! pages need no journal, so they are written once, 100 bytes a push instead of 200. The price: a search and a transaction wait
//! for each other, which each does for at most [`PATIENCE`].

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params, params_from_iter,
};

use super::rows::{Change, Rows};
use crate::log::entry::{Checkpoint, KnownLane, LaneChange};
use crate::log::view::{Extent, LogView};
use crate::log::walk::Walk;
use crate::state::Place;
use crate::{Position, SpoolId};

/// "CdrC", and which tables there are.
const APPLICATION: i32 = i32::from_be_bytes(*b"CdrC");
const VERSION: i32 = 1;
const SCHEMA: &str = include_str!("schema.sql");

/// Pages in memory, in KiB: a few are written again and again, the others once.
const CACHE_KIB: i32 = 1024;
/// How long to wait for someone who reads.
const PATIENCE: Duration = Duration::from_secs(5);
/// A closed segment with more runs than this gets them merged into one.
const MOST_RUNS: i64 = 16;

/// SQLITE_IOERR_SHORT_READ.
const SHORT_READ: i32 = 522;

/// Why the catalog does not work at present.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It is no good: to be thrown away and built again.
    #[error("{0}")]
    Unusable(String),
    /// The disk, or someone else; it may pass.
    #[error("{0}")]
    Passing(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        let text = error.to_string();
        // Shorter than it says: cut off by someone.
        if error.sqlite_error().is_some_and(|error| error.extended_code == SHORT_READ) {
            return Trouble::Unusable(text);
        }
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted,
            ) => Trouble::Passing(text),
            // Damaged, no database at all, or not with the tables that it should have.
            _ => Trouble::Unusable(text),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Passing(error.to_string())
    }
}

/// How far the log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) place: Place,
    /// The first position behind it.
    pub(crate) position: Position,
}

impl Known {
    pub(crate) const NOTHING: Known =
        Known { place: Place { segment: 0, offset: 0 }, position: Position::FIRST };
}

/// A catalog, in a file or for a moment.
pub(crate) struct Database {
    connection: Connection,
    /// The file as it was opened: whoever deletes it leaves us writing into nothing.
    file: Option<(PathBuf, (u64, u64))>,
}

impl Database {
    /// Makes an empty catalog, over whatever lay there.
    pub(crate) fn create(path: &Path, spool: SpoolId) -> Result<Database, Trouble> {
        for file in files_of(path) {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        // SQLite gives the journal the same mode.
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut database = Database::over(connection)?;
        database.fill(spool)?;
        database.watch(path);
        Ok(database)
    }

    /// Opens a catalog to go on with it. Unusable if it is not there, not whole, not ours, or of another version.
    pub(crate) fn open(path: &Path, spool: SpoolId) -> Result<(Database, Known), Trouble> {
        if !path.exists() {
            return Err(Trouble::Unusable("it is not there".into()));
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut database = Database::over(connection)?;
        let (known, is_clean) = database.check(spool)?;
        if !is_clean {
            database.quick_check()?;
        }
        database.connection.execute("UPDATE known SET clean = 0", ())?;
        database.watch(path);
        Ok((database, known))
    }

    /// Opens a catalog to look into it, beside whoever writes it.
    pub(crate) fn open_to_read(path: &Path, spool: SpoolId) -> Result<(Database, Known), Trouble> {
        if !path.exists() {
            return Err(Trouble::Unusable("it is not there".into()));
        }
        // Not read-only: what a kill left half done is taken back by whoever comes first.
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let database = Database::over(connection)?;
        let (known, _) = database.check(spool)?;
        Ok((database, known))
    }

    /// A catalog of its own for one search: in memory, and beyond that in a file that nobody else sees.
    pub(crate) fn for_a_moment(spool: SpoolId) -> Result<Database, Trouble> {
        let mut database = Database::over(Connection::open("")?)?;
        database.connection.pragma_update(None, "synchronous", "off")?;
        database.fill(spool)?;
        Ok(database)
    }

    fn over(connection: Connection) -> Result<Database, Trouble> {
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        // Says which mode it is in now: another one where there is no file.
        connection.pragma_update_and_check(None, "journal_mode", "truncate", |_| Ok(()))?;
        Ok(Database { connection, file: None })
    }

    fn fill(&mut self, spool: SpoolId) -> Result<(), Trouble> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction
            .execute("INSERT INTO known VALUES (1, ?1, 0, 0, 1, 0)", params![spool.as_bytes().as_slice()])?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
        Ok(())
    }

    fn check(&self, spool: SpoolId) -> Result<(Known, bool), Trouble> {
        let number = |pragma| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        let (application, version) = (number("application_id")?, number("user_version")?);
        if application != APPLICATION || version != VERSION {
            return Err(Trouble::Unusable(format!(
                "it is of version {version}, this gateway's is {VERSION}"
            )));
        }
        let sql = "SELECT spool, segment, \"offset\", position, clean FROM known";
        let (of, known, clean) = self.connection.query_row(sql, (), |row| {
            let place = Place { segment: number_at(row, 1)?, offset: number_at(row, 2)? };
            let known = Known { place, position: Position(number_at(row, 3)?) };
            Ok((row.get::<_, Vec<u8>>(0)?, known, row.get::<_, bool>(4)?))
        })?;
        match of == spool.as_bytes() {
            true => Ok((known, clean)),
            false => Err(Trouble::Unusable("it belongs to another spool".into())),
        }
    }

    fn quick_check(&self) -> Result<(), Trouble> {
        let found: String = self.connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(Trouble::Unusable(found)) }
    }

    fn watch(&mut self, path: &Path) {
        self.file = identity_of(path).map(|identity| (path.to_path_buf(), identity));
    }

    /// Whether the file is still the one that was opened.
    pub(crate) fn is_there(&self) -> bool {
        self.file.as_ref().is_some_and(|(path, identity)| identity_of(path) == Some(*identity))
    }

    /// Closed in order: the next one need not look for damage.
    pub(crate) fn close(self) -> Result<(), Trouble> {
        self.connection.execute("UPDATE known SET clean = 1", ())?;
        self.connection.close().map_err(|(_, error)| error.into())
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Brings what is known into line with the segments that there are: those that went are forgotten, and what was read of a
    /// last segment that recovery then wrote again. Tells where to go on.
    ///
    /// Unusable if the log is not the one that was read.
    pub(crate) fn align(&mut self, log: &LogView, known: Known) -> Result<Known, Trouble> {
        let read: Vec<(u64, u64)> = {
            let mut statement = self.connection.prepare_cached("SELECT number, salt FROM segment")?;
            let rows = statement.query_map((), |row| Ok((number_at(row, 0)?, number_at(row, 1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        if known.place.segment > log.end().segment {
            return Err(Trouble::Unusable("it knows more than the log".into()));
        }
        let is_other = |(number, salt): &(u64, u64)| {
            log.segment(*number).is_some_and(|extent| extent.stamp.salt as i64 != *salt as i64)
        };
        if read.iter().any(is_other) {
            return Err(Trouble::Unusable("it was made from another log of the same spool".into()));
        }
        let gone: Vec<u64> =
            read.iter().map(|(number, _)| *number).filter(|number| log.segment(*number).is_none()).collect();
        let too_far = log.segment(known.place.segment).filter(|extent| extent.end < known.place.offset);
        if gone.is_empty() && too_far.is_none() {
            return Ok(known);
        }
        let transaction = begin(&mut self.connection, known)?;
        gone.iter().try_for_each(|number| forget_segment(&transaction, *number))?;
        let place = match too_far {
            Some(extent) => go_back(&transaction, extent)?,
            None => known.place,
        };
        let known = Known { place, ..known };
        set_known(&transaction, known)?;
        transaction.commit()?;
        Ok(known)
    }

    /// Writes what was read of one segment between two places.
    pub(crate) fn add(
        &mut self,
        rows: &mut Rows,
        segment: &Extent,
        from: Known,
        to: Known,
    ) -> Result<(), Trouble> {
        let transaction = begin(&mut self.connection, from)?;
        add_segment(&transaction, segment, rows)?;
        add_terms(&transaction, rows, segment.stamp.segment)?;
        add_places(&transaction, rows)?;
        for change in &rows.changes {
            apply(&transaction, change)?;
        }
        set_known(&transaction, to)?;
        transaction.commit()?;
        Ok(())
    }

    /// Takes over the state of today, to go on with it without the other one's past.
    pub(crate) fn take_over_today(&mut self, from: &Database) -> Result<(), Trouble> {
        let transaction = self.connection.transaction()?;
        for (table, columns) in [("lane", 3), ("dead", 7), ("quarantine", 6)] {
            let places: Vec<String> = (1..=columns).map(|column| format!("?{column}")).collect();
            let mut insert =
                transaction.prepare(&format!("INSERT INTO {table} VALUES ({})", places.join(", ")))?;
            let mut select = from.connection.prepare(&format!("SELECT * FROM {table}"))?;
            let mut rows = select.query(())?;
            while let Some(row) = rows.next()? {
                let values: Vec<Value> =
                    (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?;
                insert.execute(params_from_iter(values))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Takes what lies before a place as known.
    pub(crate) fn start_at(&mut self, known: Known) -> Result<(), Trouble> {
        let transaction = self.connection.transaction()?;
        set_known(&transaction, known)?;
        transaction.commit()?;
        Ok(())
    }

    /// Merges the runs of a closed segment if it has many, as with little traffic: a search asks each of them.
    pub(crate) fn merge(&mut self, segment: u64) -> Result<(), Trouble> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "SELECT count(*), max(last) FROM run WHERE segment = ?1";
        let (runs, last): (i64, Option<i64>) =
            transaction.query_row(sql, [segment as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if runs <= MOST_RUNS {
            return Ok(());
        }
        let of_segment = "run IN (SELECT run FROM run WHERE segment = ?1)";
        let merged = format!(
            "INSERT OR IGNORE INTO term SELECT ?2, digest, position FROM term WHERE {of_segment} ORDER BY digest, position"
        );
        let into = next_run(&transaction)?;
        transaction.execute(&merged, [segment as i64, into])?;
        transaction.execute(&format!("DELETE FROM term WHERE {of_segment}"), [segment as i64])?;
        transaction.execute("DELETE FROM run WHERE segment = ?1", [segment as i64])?;
        transaction.execute("INSERT INTO run VALUES (?1, ?2, ?3)", params![into, segment as i64, last])?;
        transaction.commit()?;
        Ok(())
    }
}

/// Begins to write, unless someone else wrote since: then what is known here is not true any more.
fn begin(connection: &mut Connection, from: Known) -> Result<Transaction<'_>, Trouble> {
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

fn set_known(transaction: &Transaction, known: Known) -> Result<(), Trouble> {
    let Known { place, position } = known;
    transaction
        .prepare_cached("UPDATE known SET segment = ?1, \"offset\" = ?2, position = ?3")?
        .execute([place.segment as i64, place.offset as i64, position.0 as i64])?;
    Ok(())
}

fn add_segment(transaction: &Transaction, segment: &Extent, rows: &Rows) -> Result<(), Trouble> {
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

fn add_terms(transaction: &Transaction, rows: &mut Rows, segment: u64) -> Result<(), Trouble> {
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

fn next_run(transaction: &Transaction) -> Result<i64, Trouble> {
    let mut next = transaction.prepare_cached("SELECT coalesce(max(run), 0) + 1 FROM run")?;
    Ok(next.query_row((), |row| row.get(0))?)
}

fn add_places(transaction: &Transaction, rows: &Rows) -> Result<(), Trouble> {
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

fn apply(transaction: &Transaction, change: &Change) -> Result<(), Trouble> {
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
            add_lane(transaction, *lane, name, *next)?
        }
        Change::Lane(LaneChange::Renamed { lane, name }) => {
            transaction.execute("UPDATE lane SET name = ?2 WHERE lane = ?1", params![lane, name])?;
        }
        Change::Lane(LaneChange::Retired { lane }) => {
            transaction.execute("DELETE FROM lane WHERE lane = ?1", [lane])?;
            transaction.execute("DELETE FROM dead WHERE lane = ?1", [lane])?;
        }
        Change::Checkpoint(checkpoint) => apply_checkpoint(transaction, checkpoint)?,
    }
    Ok(())
}

fn add_lane(transaction: &Transaction, lane: u32, name: &str, next: Position) -> Result<(), Trouble> {
    transaction.prepare_cached("INSERT OR REPLACE INTO lane VALUES (?1, ?2, ?3)")?.execute(params![
        lane,
        name,
        next.0 as i64
    ])?;
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
    for lane in &checkpoint.lanes {
        add_lane(transaction, lane.lane, &lane.name, lane.next)?;
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

fn forget_segment(transaction: &Transaction, number: u64) -> Result<(), Trouble> {
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
fn go_back(transaction: &Transaction, extent: &Extent) -> Result<Place, Trouble> {
    let place = Place { segment: extent.stamp.segment, offset: extent.end.max(Walk::start()) };
    for table in ["frame", "carried", "span"] {
        let sql = format!("DELETE FROM {table} WHERE segment = ?1 AND \"offset\" >= ?2");
        transaction.execute(&sql, [place.segment as i64, place.offset as i64])?;
    }
    Ok(place)
}

/// SQLite has signed numbers only; ours are positions, offsets and counts, and a salt that is never compared by size.
pub(crate) fn number_at(row: &rusqlite::Row, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number as u64)
}

/// The file, and what SQLite puts beside it.
fn files_of(path: &Path) -> [PathBuf; 2] {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    [PathBuf::from(journal), path.to_path_buf()]
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
