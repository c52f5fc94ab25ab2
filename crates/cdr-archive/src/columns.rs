//! `parquet`: a row for each push, in the order of their positions, one row group an object.
//!
//! First what we know about the push, under names of our own; then every published field of a CDR under its published name,
//! numbers as numbers, what is nested as JSON text; last the body, as bytes. Fields that a later version of the gateway knows
//! are columns more, which readers of many files fill with null (DuckDB: `union_by_name`).

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use cdr_core::{
    Cdr, Position, Push, SpoolId,
    cdr::{Shape, Value},
};
use jiff::Timestamp;
use parquet::{
    basic::{Compression as Codec, GzipLevel, ZstdLevel},
    column::writer::ColumnWriter,
    errors::{ParquetError, Result as ParquetResult},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, SerializedFileReader},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    record::{Field, Row},
    schema::{
        parser::parse_message_type,
        types::{ColumnPath, Type},
    },
};

use crate::{Compression, Record, Unreadable, record};

/// What stands in a file as its writer. Without a version: the same batch must make the same bytes after an upgrade.
const WRITER: &str = "cdr-gateway";

/// Columns whose values hardly ever repeat: a dictionary would only be thrown away.
const ALL_DIFFERENT: [&str; 4] = ["position", "uuid", "sha256", "body"];

/// What a row holds in one column.
enum Cell {
    Null,
    Integer(i64),
    Bytes(Bytes),
}

/// A column of our own: its type in Parquet's words, and what a push has there.
struct Own(&'static str, fn(&Push) -> Cell);

/// What stands before the published fields.
const OWN: [Own; 12] = [
    Own("required binary spool (string)", |push| text(&push.spool().to_string())),
    // Unsigned on disk, of the same bits.
    Own("required int64 position (integer(64,false))", |push| Cell::Integer(push.position().0.cast_signed())),
    Own("required binary action (string)", |push| text(push.action().as_str())),
    Own("optional binary version (string)", |push| push.facts().version.as_deref().map_or(Cell::Null, text)),
    Own("optional binary uuid (string)", |push| push.facts().uuid.as_deref().map_or(Cell::Null, text)),
    Own("required int64 received_at (timestamp(millis,true))", |push| {
        Cell::Integer(push.facts().received_at.as_millisecond())
    }),
    Own("required binary sha256 (string)", |push| text(&push.sha256_hex())),
    Own("optional binary result (string)", |push| match push.cdr() {
        Some(cdr) if cdr.end_status.is_some() => text(cdr.result().as_str()),
        _ => Cell::Null,
    }),
    Own("optional int64 wait", |push| integer(push.cdr().and_then(Cdr::wait))),
    Own("optional int64 ring", |push| integer(push.cdr().and_then(Cdr::ring))),
    Own("optional int64 talk", |push| integer(push.cdr().and_then(Cdr::talk))),
    Own("optional int64 transfers", |push| {
        integer(push.cdr().and_then(|cdr| i64::try_from(cdr.transfers()).ok()))
    }),
];

/// What stands behind them.
const BODY: Own = Own("required binary body", |push| Cell::Bytes(push.body().clone()));

/// What reading an object back needs.
const TO_READ_BACK: [&str; 8] =
    ["spool", "position", "action", "version", "uuid", "received_at", "sha256", "body"];

fn text(text: &str) -> Cell {
    Cell::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

fn integer(value: Option<i64>) -> Cell {
    value.map_or(Cell::Null, Cell::Integer)
}

/// A published field by its name.
fn published(push: &Push, name: &str) -> Cell {
    let Some(cdr) = push.cdr() else { return Cell::Null };
    match cdr.value(name) {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Integer(value)) => Cell::Integer(value),
        Some(Value::Text(value)) => text(value),
        Some(Value::Object(_) | Value::List(_)) => {
            cdr.get(name).map_or(Cell::Null, |json| text(&json.to_string()))
        }
    }
}

fn schema() -> ParquetResult<Type> {
    let published = |(name, shape): &(&str, Shape)| match shape {
        Shape::Integer => format!("optional int64 {name}"),
        Shape::Text | Shape::Status => format!("optional binary {name} (string)"),
        Shape::Object(_) | Shape::List(_) => format!("optional binary {name} (json)"),
    };
    let before = OWN.iter().map(|own| own.0.to_owned());
    let columns: Vec<String> =
        before.chain(Cdr::SHAPES.iter().map(published)).chain([BODY.0.to_owned()]).collect();
    parse_message_type(&format!("message push {{ {}; }}", columns.join("; ")))
}

fn properties(compression: Compression, level: u32) -> ParquetResult<WriterProperties> {
    let codec = match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Gzip => Codec::GZIP(GzipLevel::try_new(level)?),
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(level.cast_signed())?),
    };
    let mut properties = WriterProperties::builder()
        .set_created_by(WRITER.to_owned())
        .set_compression(codec)
        // The smallest and largest body help no query.
        .set_column_statistics_enabled(ColumnPath::from("body"), EnabledStatistics::None);
    for name in ALL_DIFFERENT {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    Ok(properties.build())
}

/// Writes a file of these pushes. One column of them is in memory at a time.
pub(crate) fn write(
    pushes: &[Arc<Push>],
    compression: Compression,
    level: u32,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    write_columns(pushes, compression, level, out).map_err(|error| match error {
        // A full disk must be told as one.
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        error => io::Error::other(error),
    })
}

fn write_columns(
    pushes: &[Arc<Push>],
    compression: Compression,
    level: u32,
    out: &mut (dyn Write + Send),
) -> ParquetResult<()> {
    let properties = Arc::new(properties(compression, level)?);
    let mut file = SerializedFileWriter::new(out, Arc::new(schema()?), properties)?;
    let mut rows = file.next_row_group()?;
    let mut column = |cell: &dyn Fn(&Push) -> Cell| match rows.next_column()? {
        Some(column) => fill(column, pushes, cell),
        None => Err(ParquetError::General("there are more columns than the schema names".to_owned())),
    };
    for Own(_, cell) in OWN {
        column(&cell)?;
    }
    for (name, _) in Cdr::SHAPES {
        column(&|push| published(push, name))?;
    }
    column(&BODY.1)?;
    rows.close()?;
    file.close().map(drop)
}

fn fill(
    mut column: SerializedColumnWriter<'_>,
    pushes: &[Arc<Push>],
    cell: &dyn Fn(&Push) -> Cell,
) -> ParquetResult<()> {
    let (mut there, mut integers, mut texts) = (Vec::with_capacity(pushes.len()), Vec::new(), Vec::new());
    for push in pushes {
        let cell = cell(push);
        there.push(i16::from(!matches!(cell, Cell::Null)));
        match cell {
            Cell::Null => {}
            Cell::Integer(value) => integers.push(value),
            Cell::Bytes(value) => texts.push(value.into()),
        }
    }
    // Columns that must hold a value ignore which are there.
    match column.untyped() {
        ColumnWriter::Int64ColumnWriter(writer) => writer.write_batch(&integers, Some(&there), None)?,
        ColumnWriter::ByteArrayColumnWriter(writer) => writer.write_batch(&texts, Some(&there), None)?,
        _ => return Err(ParquetError::General("a column is of a type that no cell has".to_owned())),
    };
    column.close()
}

pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Record>, Unreadable> {
    let rows = read_rows(bytes).map_err(|error| Unreadable::new(error.to_string()))?;
    rows.into_iter().map(record_of).collect()
}

fn read_rows(bytes: &[u8]) -> ParquetResult<Vec<Row>> {
    let file = SerializedFileReader::new(Bytes::copy_from_slice(bytes))?;
    let schema = file.metadata().file_metadata().schema();
    let wanted = schema.get_fields().iter().filter(|field| TO_READ_BACK.contains(&field.name()));
    let projection = Type::group_type_builder("push").with_fields(wanted.cloned().collect()).build()?;
    file.get_row_iter(Some(projection))?.collect()
}

fn record_of(row: Row) -> Result<Record, Unreadable> {
    let mut fields: HashMap<String, Field> = row.into_columns().into_iter().collect();
    let mut take = |name: &str| fields.remove(name).filter(|field| !matches!(field, Field::Null));
    let mut string = |name: &str| match take(name) {
        Some(Field::Str(text)) => Ok(text),
        _ => Err(Unreadable::new(format!("it has no column {name} of texts"))),
    };
    let spool: SpoolId = record::spool(&string("spool")?)?;
    let action = string("action")?.parse().map_err(|error| Unreadable::new(format!("{error}")))?;
    let sha256 = record::sha256(&string("sha256")?)?;
    let (version, uuid) = (string("version").ok(), string("uuid").ok());
    let (Some(Field::ULong(position)), Some(Field::TimestampMillis(at)), Some(Field::Bytes(body))) =
        (take("position"), take("received_at"), take("body"))
    else {
        return Err(Unreadable::new("its columns position, received_at and body are not of our types"));
    };
    let received_at = Timestamp::from_millisecond(at).map_err(|error| Unreadable::new(error.to_string()))?;
    Ok(Record {
        spool,
        position: Position(position),
        action: Some(action),
        version,
        uuid,
        received_at: Some(received_at),
        sha256: Some(sha256),
        body: Bytes::copy_from_slice(body.data()),
    })
}
