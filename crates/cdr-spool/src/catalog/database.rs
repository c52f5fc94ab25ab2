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
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params, params_from_iter};

use super::rows::Rows;
use super::writing::{
    add_places, add_segment, add_terms, apply, begin, forget_segment, go_back, next_run, set_known,
};
use crate::log::view::{Extent, LogView};
use crate::state::Place;
use crate::{Position, SpoolId};

/// "CdrC", and which tables there are.
const APPLICATION: i32 = i32::from_be_bytes(*b"CdrC");
const VERSION: i32 = 3;
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
        for (table, columns) in [("lane", 7), ("aside", 3), ("dead", 7), ("quarantine", 6)] {
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
