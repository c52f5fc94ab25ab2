//! Where every setting stands in its YAML text, so that a fault can name line and column.
//!
//! Figment and serde know paths, not places. The index is made from the events of the parser that also reads
//! the text for serde-saphyr, so both see the same document.

use std::collections::HashMap;

use cdr_core::setting::Step;
use granit_parser::{Event, Parser, Span};

/// A place in a text, as editors count: lines and columns from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// The way from each setting of a text to its place.
#[derive(Debug, Default)]
pub struct Places(HashMap<Vec<Step>, Spot>);

#[derive(Debug)]
struct Spot {
    key: Option<Place>,
    value: Place,
    shape: Shape,
}

#[derive(Debug, PartialEq)]
enum Shape {
    /// A map or a list.
    Collection,
    /// A setting without a value.
    Nothing,
    /// A text, number or alias. Its first character is no blank and stands so far behind `value`, if it is spelled as
    /// it is.
    Scalar { shift: Option<usize> },
}

impl Places {
    /// Indexes a text. A text that is no YAML is indexed up to its fault.
    pub fn of(text: &str) -> Self {
        let mut walk = Walk::default();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            if walk.step(&event, span, text).is_none() {
                break;
            }
        }
        walk.places
    }

    /// Whether the setting itself stands in the text.
    pub fn has(&self, path: &[Step]) -> bool {
        self.0.contains_key(path)
    }

    /// Where the name of a setting stands, or what holds it if it stands nowhere itself.
    pub fn key(&self, path: &[Step]) -> Option<Place> {
        self.nearest(path).map(|spot| spot.key.unwrap_or(spot.value))
    }

    /// Where the value of a setting stands; for groups and lists their name, which says more than a first line.
    pub fn value(&self, path: &[Step]) -> Option<Place> {
        let spot = self.nearest(path)?;
        match spot.shape {
            Shape::Scalar { .. } => Some(spot.value),
            Shape::Collection | Shape::Nothing => Some(spot.key.unwrap_or(spot.value)),
        }
    }

    /// Where the `column`th character of a text stands, from 1 and without the blanks before it; none when the text
    /// is spelled in another way in the file.
    pub fn inside(&self, path: &[Step], column: usize) -> Option<Place> {
        match self.0.get(path)? {
            Spot { value, shape: Shape::Scalar { shift: Some(shift) }, .. } => {
                Some(Place { column: value.column + shift + column.saturating_sub(1), ..*value })
            }
            _ => None,
        }
    }

    fn nearest(&self, path: &[Step]) -> Option<&Spot> {
        (0..=path.len()).rev().find_map(|length| self.0.get(&path[..length]))
    }
}

/// Follows the parser's events through the document.
#[derive(Default)]
struct Walk {
    places: Places,
    open: Vec<Open>,
    path: Vec<Step>,
}

enum Open {
    Map { key: Option<(String, Place)> },
    List { next: usize },
}

impl Walk {
    /// None ends the walk: after the first document, or at what no setting can be.
    fn step(&mut self, event: &Event<'_>, span: Span, text: &str) -> Option<()> {
        match event {
            Event::MappingStart(..) => self.enter(Open::Map { key: None }, span),
            Event::SequenceStart(..) => self.enter(Open::List { next: 0 }, span),
            Event::MappingEnd | Event::SequenceEnd => self.leave(),
            Event::Scalar(value, ..) => self.scalar(value, span, text),
            Event::Alias(_) => {
                let key = self.begin_value()?;
                self.note(key, span, Shape::Scalar { shift: None });
                self.path.pop();
                Some(())
            }
            Event::DocumentEnd => None,
            _ => Some(()),
        }
    }

    fn enter(&mut self, open: Open, span: Span) -> Option<()> {
        let key = self.begin_value()?;
        self.note(key, span, Shape::Collection);
        self.open.push(open);
        Some(())
    }

    fn leave(&mut self) -> Option<()> {
        self.open.pop();
        self.path.pop();
        Some(())
    }

    fn scalar(&mut self, value: &str, span: Span, text: &str) -> Option<()> {
        if let Some(Open::Map { key: key @ None }) = self.open.last_mut() {
            *key = Some((value.to_owned(), place(span)));
            return Some(());
        }
        let key = self.begin_value()?;
        let shape = match span.start.index() == span.end.index() {
            true => Shape::Nothing,
            false => Shape::Scalar { shift: shift(value, span, text) },
        };
        self.note(key, span, shape);
        self.path.pop();
        Some(())
    }

    /// Extends the path by the value that begins; a map or list as a key ends the walk.
    fn begin_value(&mut self) -> Option<Option<Place>> {
        match self.open.last_mut() {
            None => Some(None),
            Some(Open::Map { key }) => {
                let (name, place) = key.take()?;
                self.path.push(Step::Key(name));
                Some(Some(place))
            }
            Some(Open::List { next }) => {
                self.path.push(Step::Index(*next));
                *next += 1;
                Some(None)
            }
        }
    }

    fn note(&mut self, key: Option<Place>, span: Span, shape: Shape) {
        // The whole has no place: what a file does not say stands nowhere in it.
        if !self.path.is_empty() {
            self.places.0.insert(self.path.clone(), Spot { key, value: place(span), shape });
        }
    }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

/// How many quotes and blanks stand before a text; none when its spelling has escapes or is folded.
fn shift(value: &str, span: Span, text: &str) -> Option<usize> {
    let spelled = span.slice(text)?;
    let quotes = spelled.len().checked_sub(value.len())? / 2;
    let blanks = value.chars().take_while(|c| c.is_whitespace()).count();
    (spelled.get(quotes..quotes + value.len()) == Some(value)).then_some(quotes + blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> Vec<Step> {
        cdr_core::SettingFault::at(dotted, "").path
    }

    fn place(line: usize, column: usize) -> Option<Place> {
        Some(Place { line, column })
    }

    const TEXT: &str = "\
timezone: Asia/Shanghai
sinks:
  归档: { 文件: { path: data }, retry: {} }   # wide characters count as one
  crm:
    http:
routes:
  - { name: 名称, when: 'a == 1', to: [x, \"y\"] }
  - name: second
    when: >
      folded
      text
base: &base { a: 1 }
copy: *base
";

    #[test]
    fn keys_and_values_are_found() {
        let places = Places::of(TEXT);
        assert_eq!(places.key(&path("timezone")), place(1, 1));
        assert_eq!(places.value(&path("timezone")), place(1, 11));
        assert_eq!(places.key(&path("sinks.归档.文件")), place(3, 9));
        assert_eq!(places.value(&path("sinks.归档.文件.path")), place(3, 21));
        assert_eq!(places.value(&path("routes.0.to.1")), place(7, 41));
        assert_eq!(places.value(&path("routes.1.name")), place(8, 11));
        assert_eq!(places.value(&path("copy")), place(13, 7));
    }

    #[test]
    fn what_stands_nowhere_is_told_at_what_would_hold_it() {
        let places = Places::of(TEXT);
        assert_eq!(places.value(&path("routes.1.to")), place(8, 5), "the entry of a list");
        assert_eq!(places.value(&path("sinks.crm.http.url")), place(5, 5), "a setting without a value");
        assert_eq!(places.value(&path("copy.a")), place(13, 7), "an alias");
        assert_eq!(places.value(&path("nothing.here")), None);
        assert!(!places.has(&path("nothing.here")));
        assert_eq!(Places::of("").value(&[]), None);
    }

    #[test]
    fn a_character_of_a_text_is_found_where_it_is_spelled_as_it_is() {
        let places = Places::of(TEXT);
        assert_eq!(places.inside(&path("timezone"), 6), place(1, 16));
        assert_eq!(places.inside(&path("routes.0.when"), 3), place(7, 26), "in quotes");
        assert_eq!(places.inside(&path("routes.1.when"), 3), None, "folded");
        assert_eq!(Places::of("when: ' a'").inside(&path("when"), 1), place(1, 9), "behind a blank");
        assert_eq!(Places::of("when: 'it''s'").inside(&path("when"), 1), None, "escaped");
    }

    #[test]
    fn no_text_makes_the_index_panic() {
        for text in
            ["{[a]: 1}", "? {a: b}\n: c", "- *nowhere", "a: [", "\u{feff}a: 1", "--- a\n--- b", "a: 'it''s'"]
        {
            Places::of(text);
        }
    }
}
