//! What an object is called: a template over parts that cannot do harm.
//!
//! ```text
//! {action}/dt={date}/{spool}-{first}-{last}-{sha}.{ext}     layouts ndjson and parquet
//! {action}/dt={date}/{spool}-{first}.{ext}                  layout raw
//! ```
//!
//! | part | is |
//! |---|---|
//! | `action`, `result`, `session`, `app` | of the push; pushes that differ there never share an object |
//! | `date`, `year`, `month`, `day`, `hour` | of its arrival, in the archive's time zone; likewise |
//! | `spool` | the identity of the spool, 16 hex digits; every template has it: a fresh spool counts from 1 again |
//! | `first`, `last` | positions, 20 digits, so that keys sort as pushes came; every template has the first |
//! | `sha` | 16 hex digits over positions and digests of all its pushes; every template of objects of many has it |
//! | `ext` | `json`, `ndjson.gz`, …; every template ends with it |
//!
//! A part holds letters, digits, `_` and `-`; everything else that a sender chose is percent-encoded, so it holds no `/` and no
//! `.`. What is not there is `~none`, and what is longer than any honest one is cut and gets `~` and a digest, which no encoded
//! text can look like.

use std::{
    fmt::Write,
    sync::{Arc, LazyLock},
};

use cdr_core::{Action, Position, Push, SpoolId};
use jiff::{
    civil::{Date, DateTime},
    tz::TimeZone,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::{Layout, record};

/// Everything but letters, digits, `_` and `-`.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// Longest part that is kept whole, in encoded letters; a published `SessionId` has 36.
const LONGEST_PART: usize = 64;

/// Longest piece of a key between two `/`. File systems take 255 bytes, of which a temporary name needs some.
const LONGEST_PIECE: usize = 170;

/// Longest key. S3 takes 1024 bytes, a prefix among them.
const LONGEST_KEY: usize = 500;

/// How objects of an archive are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyTemplate(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    Part(Part),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Action,
    Result,
    Session,
    App,
    Date,
    Year,
    Month,
    Day,
    Hour,
    Spool,
    First,
    Last,
    Sha,
    Ext,
}

impl Part {
    const ALL: [(&'static str, Self); 14] = [
        ("action", Self::Action),
        ("result", Self::Result),
        ("session", Self::Session),
        ("app", Self::App),
        ("date", Self::Date),
        ("year", Self::Year),
        ("month", Self::Month),
        ("day", Self::Day),
        ("hour", Self::Hour),
        ("spool", Self::Spool),
        ("first", Self::First),
        ("last", Self::Last),
        ("sha", Self::Sha),
        ("ext", Self::Ext),
    ];

    fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, part)| *part);
        found.ok_or_else(|| {
            cdr_core::setting::unknown("part", name, Self::ALL.iter().map(|(known, _)| *known))
        })
    }

    /// Whether it tells of the object as a whole; the others tell of each push, and are the same for all that share one.
    fn is_of_object(self) -> bool {
        matches!(self, Self::First | Self::Last | Self::Sha | Self::Ext)
    }

    /// Whether it always has its most letters.
    fn is_of_fixed_width(self) -> bool {
        !matches!(self, Self::Action | Self::Result | Self::Session | Self::App | Self::Ext)
    }

    /// Its most letters.
    fn most(self) -> usize {
        match self {
            Self::Action | Self::Session | Self::App => LONGEST_PART,
            Self::Result | Self::Date | Self::Ext => 10,
            Self::Year => 4,
            Self::Month | Self::Day | Self::Hour => 2,
            Self::Spool | Self::Sha => 16,
            Self::First | Self::Last => 20,
        }
    }
}

/// What one key is made of.
pub(crate) struct Place<'a> {
    /// At least one, in the order of their positions.
    pub pushes: &'a [Arc<Push>],
    pub timezone: &'a TimeZone,
    pub ext: &'a str,
}

impl KeyTemplate {
    /// The template where the settings name none.
    pub(crate) fn usual(layout: Layout) -> &'static str {
        match layout {
            Layout::Ndjson | Layout::Parquet => "{action}/dt={date}/{spool}-{first}-{last}-{sha}.{ext}",
            Layout::Raw => "{action}/dt={date}/{spool}-{first}.{ext}",
        }
    }

    /// The one for pushes by themselves.
    pub(crate) fn usual_of_raw() -> &'static Self {
        static USUAL: LazyLock<KeyTemplate> = LazyLock::new(|| KeyTemplate::known(Layout::Raw));
        &USUAL
    }

    /// The one for objects of many.
    pub(crate) fn usual_of_many() -> &'static Self {
        static USUAL: LazyLock<KeyTemplate> = LazyLock::new(|| KeyTemplate::known(Layout::Ndjson));
        &USUAL
    }

    fn known(layout: Layout) -> Self {
        // A test reads them.
        Self::parse(Self::usual(layout), layout).unwrap_or_else(|why| unreachable!("{why}"))
    }

    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str, layout: Layout) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, more) = rest.split_once('{').unwrap_or((rest, ""));
            if literal.contains('}') {
                return Err("a } without its {".to_owned());
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            if literal.len() == rest.len() {
                break;
            }
            let (name, more) = more.split_once('}').ok_or("a { without its }")?;
            pieces.push(Piece::Part(Part::named(name)?));
            rest = more;
        }
        let template = Self(pieces);
        template.check(layout)?;
        Ok(template)
    }

    fn check(&self, layout: Layout) -> Result<(), String> {
        let has = |part| self.0.contains(&Piece::Part(part));
        if !has(Part::Spool) {
            return Err("a key needs {spool}: a fresh spool counts from 1 again, and would meet the objects of the old one".to_owned());
        }
        if !has(Part::First) {
            return Err("a key needs {first}, the position of its first push: nothing else differs for sure"
                .to_owned());
        }
        if layout != Layout::Raw && !has(Part::Sha) {
            return Err("a key of an object of many pushes needs {sha}: pushes that are gathered anew must not meet their old object".to_owned());
        }
        if !matches!(&self.0[..], [.., Piece::Literal(dot), Piece::Part(Part::Ext)] if dot.ends_with('.')) {
            return Err("a key ends with .{ext}, by which objects are read back".to_owned());
        }
        let longest = self.longest();
        if !is_safe(&longest) {
            return Err("a key does not begin with /, and has no part between / that is empty or begins with a dot; no control characters, no \\".to_owned());
        }
        if longest.starts_with('_') {
            return Err("a key does not begin with _: there the manifests lie".to_owned());
        }
        if longest.split('/').any(|piece| piece.len() > LONGEST_PIECE) || longest.len() > LONGEST_KEY {
            return Err(format!(
                "a key is at most {LONGEST_KEY} letters, and {LONGEST_PIECE} between two /; this one may become longer"
            ));
        }
        Ok(())
    }

    /// A key as long as one can be.
    fn longest(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Part(part) => "x".repeat(part.most()),
        };
        self.0.iter().map(piece).collect()
    }

    /// What tells places apart: pushes of which this is the same may share an object.
    pub(crate) fn partition(&self, push: &Push, timezone: &TimeZone) -> String {
        let mut text = String::with_capacity(64);
        let arrival = push.facts().received_at.to_zoned(timezone.clone()).datetime();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Part(part) if part.is_of_object() => text.push('*'),
                Piece::Part(part) => put(&mut text, *part, push, arrival),
            }
        }
        text
    }

    /// Which push a key names, the first of its object; none when this template makes no such key.
    pub fn push_of(&self, key: &str) -> Option<Named> {
        let mut found = Found::default();
        if !fits(&self.0, key, &mut found) {
            return None;
        }
        let spool = record::spool(found.spool).ok()?;
        let position = Position(found.first.parse().ok()?);
        Some(Named { spool, position, action: found.action.parse().ok(), day: found.day() })
    }

    /// What lies below a folder of keys, such as `cdr/` or the empty one above all; none when this template makes no such
    /// folder.
    pub(crate) fn folder(&self, folder: &str) -> Option<Folder> {
        let depth = folder.matches('/').count();
        let mut found = Found::default();
        if !fits(&self.head(depth), folder, &mut found) {
            return None;
        }
        Some(match found.day() {
            Some(day) => Folder::OfDay(day),
            None if self.days_have_folders() => Folder::AboveDays,
            None => Folder::OfAnyDay,
        })
    }

    /// What it makes down to the `depth`th folder, its `/` included.
    fn head(&self, depth: usize) -> Vec<Piece> {
        let (mut head, mut left) = (Vec::new(), depth);
        for piece in &self.0 {
            if left == 0 {
                break;
            }
            let Piece::Literal(text) = piece else {
                head.push(piece.clone());
                continue;
            };
            let cut = text.match_indices('/').nth(left - 1).map_or(text.len(), |(at, _)| at + 1);
            left -= text[..cut].matches('/').count();
            head.push(Piece::Literal(text[..cut].to_owned()));
        }
        head
    }

    /// Whether its folders tell the day.
    fn days_have_folders(&self) -> bool {
        let is_folder = |piece: &Piece| matches!(piece, Piece::Literal(text) if text.contains('/'));
        let folders = self.0.iter().rposition(is_folder).unwrap_or(0);
        let has = |part| self.0[..folders].contains(&Piece::Part(part));
        has(Part::Date) || [Part::Year, Part::Month, Part::Day].into_iter().all(has)
    }

    /// The key of the object that these pushes share.
    pub(crate) fn of(&self, place: &Place<'_>) -> String {
        let mut text = String::with_capacity(128);
        let (Some(first), Some(last)) = (place.pushes.first(), place.pushes.last()) else { return text };
        let arrival = first.facts().received_at.to_zoned(place.timezone.clone()).datetime();
        for piece in &self.0 {
            // Writing to a text never fails.
            let _ = match piece {
                Piece::Literal(literal) => text.write_str(literal),
                Piece::Part(Part::First) => write!(text, "{:020}", first.position().0),
                Piece::Part(Part::Last) => write!(text, "{:020}", last.position().0),
                Piece::Part(Part::Sha) => text.write_str(&digest(place.pushes)),
                Piece::Part(Part::Ext) => text.write_str(place.ext),
                Piece::Part(part) => {
                    put(&mut text, *part, first, arrival);
                    Ok(())
                }
            };
        }
        text
    }
}

/// Appends what a push has there.
fn put(text: &mut String, part: Part, push: &Push, arrival: DateTime) {
    let date = arrival.date();
    // Writing to a text never fails.
    let _ = match part {
        Part::Action => encode(text, push.action().as_str()),
        Part::Result => encode(text, push.cdr().map_or("", |cdr| cdr.result().as_str())),
        Part::Session => encode(text, push.session_id().unwrap_or_default()),
        Part::App => match push.cdr().and_then(|cdr| cdr.sdk_app_id) {
            Some(app) => write!(text, "{app}"),
            None => encode(text, ""),
        },
        Part::Date => write!(text, "{date}"),
        Part::Year => write!(text, "{:04}", date.year()),
        Part::Month => write!(text, "{:02}", date.month()),
        Part::Day => write!(text, "{:02}", date.day()),
        Part::Hour => write!(text, "{:02}", arrival.hour()),
        Part::Spool => write!(text, "{}", push.spool()),
        Part::First | Part::Last | Part::Sha | Part::Ext => Ok(()),
    };
}

/// Appends what a sender chose, or we found, so that nothing in it can be taken for anything else.
fn encode(text: &mut String, value: &str) -> std::fmt::Result {
    if value.is_empty() {
        return text.write_str("~none");
    }
    let encoded = utf8_percent_encode(value, UNSAFE).to_string();
    match encoded.len() <= LONGEST_PART {
        true => text.write_str(&encoded),
        false => {
            let digest = hex::encode(&Sha256::digest(value)[..8]);
            // Encoded text is ASCII. A cut within an escape does no harm: the digest tells such values apart.
            write!(text, "{}~{digest}", &encoded[..LONGEST_PART - 17])
        }
    }
}

/// 16 hex digits over which pushes an object holds.
fn digest(pushes: &[Arc<Push>]) -> String {
    let mut digest = Sha256::new();
    for push in pushes {
        digest.update(push.position().0.to_le_bytes());
        digest.update(push.facts().sha256);
    }
    hex::encode(&digest.finalize()[..8])
}

/// Whether a key stays where it belongs, on a disk and in a bucket.
pub(crate) fn is_safe(key: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    key.split('/').all(is_plain) && !key.chars().any(|c| c.is_control() || c == '\\')
}

/// Whether a key has what every template puts there: 16 hex digits for the spool, 20 for the first position.
pub(crate) fn may_name_a_push(key: &str) -> bool {
    let longest =
        |is_part: fn(&char) -> bool| key.split(|c| !is_part(&c)).map(str::len).max().unwrap_or_default();
    longest(char::is_ascii_hexdigit) >= Part::Spool.most()
        && longest(char::is_ascii_digit) >= Part::First.most()
}

/// The push that a key names: that of a raw object, or the first of many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its spool.
    pub spool: SpoolId,
    /// Its place there.
    pub position: Position,
    /// Its action, where the template has it.
    pub action: Option<Action>,
    /// The day of its arrival, where the template has that as `{date}`, or as `{year}`, `{month}` and `{day}`.
    pub day: Option<Date>,
}

#[derive(Default)]
struct Found<'k> {
    spool: &'k str,
    first: &'k str,
    action: &'k str,
    date: &'k str,
    year: &'k str,
    month: &'k str,
    day: &'k str,
}

impl Found<'_> {
    fn day(&self) -> Option<Date> {
        let whole = self.date.parse().ok();
        whole.or_else(|| format!("{}-{}-{}", self.year, self.month, self.day).parse().ok())
    }
}

/// What lies below a folder of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Folder {
    /// Pushes of this day.
    OfDay(Date),
    /// Folders that tell their days, or such ones below them.
    AboveDays,
    /// Whatever came.
    OfAnyDay,
}

/// Whether pieces make a key, and what some of them are there.
fn fits<'k>(pieces: &[Piece], key: &'k str, found: &mut Found<'k>) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return key.is_empty() };
    let part = match piece {
        Piece::Literal(text) => {
            return key.strip_prefix(text.as_str()).is_some_and(|key| fits(rest, key, found));
        }
        Piece::Part(part) => *part,
    };
    let is_letter = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'%' | b'~');
    let longest = key.bytes().take(part.most()).take_while(is_letter).count();
    let shortest = if part.is_of_fixed_width() { part.most() } else { 1 };
    let Some(length) = (shortest..=longest).rev().find(|&length| fits(rest, &key[length..], found)) else {
        return false;
    };
    let text = &key[..length];
    match part {
        Part::Spool => found.spool = text,
        Part::First => found.first = text,
        Part::Action => found.action = text,
        Part::Date => found.date = text,
        Part::Year => found.year = text,
        Part::Month => found.month = text,
        Part::Day => found.day = text,
        _ => {}
    }
    true
}
