//! Audits: what is missing, there twice or bent is found, and so is a day that was taken away.

use std::collections::BTreeMap;

use cdr_archive::{Absent, Audit, Below, Fault, Findings, Layout, Manifest};
use jiff::civil::Date;

use super::*;

/// An archive in memory.
struct Shelf {
    filing: Filing,
    objects: BTreeMap<String, Vec<u8>>,
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

/// A push that arrived at noon of this day.
fn arrived(position: u64, day: &str) -> Arc<Push> {
    let body = format!(r#"{{"SessionId":"s-{position}"}}"#);
    let facts =
        Facts { received_at: format!("{day}T12:00:00Z").parse().unwrap(), ..facts("cdr", body.as_bytes()) };
    Arc::new(Push::from_spool(SPOOL, Position(position), facts, body.into()))
}

impl Shelf {
    fn new(layout: Layout) -> Self {
        Self { filing: filing(Settings { layout, ..Settings::default() }), objects: BTreeMap::new() }
    }

    /// Puts objects there as a sink would, one for the batch or one for each.
    fn put(&mut self, pushes: impl IntoIterator<Item = Arc<Push>>) -> String {
        let batch = batch(pushes);
        let batch = match self.filing.seal("", &batch) {
            Some(seal) => batch.sealed(seal),
            None => batch,
        };
        let mut last = String::new();
        for object in self.filing.objects("", &batch) {
            let mut bytes = Vec::new();
            object.write(&mut bytes).unwrap();
            last = object.key().to_owned();
            self.objects.insert(last.clone(), bytes);
        }
        last
    }

    fn audit(&self) -> Audit<'_> {
        let mut audit = Audit::new(&self.filing);
        self.objects.iter().for_each(|(key, bytes)| audit.take(key, bytes));
        audit
    }

    /// Writes the manifests that are due, and tells their days.
    fn note(&mut self, last: &str) -> Vec<String> {
        self.note_without(last, &BTreeMap::new())
    }

    /// The same, when these positions were given up.
    fn note_without(&mut self, last: &str, absent: &BTreeMap<Date, Vec<u64>>) -> Vec<String> {
        let due = self.audit().due(SPOOL, day(last), absent);
        let days = due.iter().map(|manifest| manifest.day.to_string()).collect();
        self.objects.extend(due.iter().map(|manifest| (manifest.key(), manifest.bytes())));
        days
    }

    fn findings(&self, expected: impl IntoIterator<Item = u64>) -> Findings {
        let mut audit = self.audit();
        for position in expected {
            let digest = Sha256::digest(format!(r#"{{"SessionId":"s-{position}"}}"#));
            audit.expect(SPOOL, position, Some(digest.into()));
        }
        audit.end()
    }

    fn faults(&self) -> Vec<String> {
        self.findings([]).faults.iter().map(ToString::to_string).collect()
    }
}

/// Three days of two objects each, with their manifests.
fn three_days() -> Shelf {
    let mut shelf = Shelf::new(Layout::Ndjson);
    for (index, day) in ["2026-03-01", "2026-03-02", "2026-03-04"].into_iter().enumerate() {
        let first = 1 + 10 * index as u64;
        shelf.put((first..first + 3).map(|position| arrived(position, day)));
        shelf.put((first + 5..first + 7).map(|position| arrived(position, day)));
    }
    assert_eq!(shelf.note("2026-03-04"), ["2026-03-01", "2026-03-02", "2026-03-04"]);
    shelf
}

#[test]
fn an_archive_that_holds_everything_is_good_in_every_layout() {
    for layout in [Layout::Ndjson, Layout::Parquet, Layout::Raw] {
        let mut shelf = Shelf::new(layout);
        shelf.put((1..=5).map(|position| arrived(position, "2026-03-01")));
        let findings = shelf.findings(1..=5);
        assert!(findings.is_good(), "{layout:?} {findings:?}");
        assert_eq!((findings.pushes, findings.expected), (5, 5));
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut shelf = Shelf::new(Layout::Ndjson);
    shelf.put([1, 2].map(|position| arrived(position, "2026-03-01")));
    let findings = shelf.findings([1, 2, 3, 4, 5, 9]);
    assert_eq!(findings.faults, [Fault::Missing { spool: SPOOL, positions: vec![3, 4, 5, 9] }]);
    assert!(findings.faults[0].to_string().ends_with("are not there: 3-5,9"), "{}", findings.faults[0]);
}

#[test]
fn what_is_there_twice_is_named_with_both_objects() {
    for layout in [Layout::Ndjson, Layout::Parquet] {
        let mut shelf = Shelf::new(layout);
        let first = shelf.put([1, 2].map(|position| arrived(position, "2026-03-01")));
        let second = shelf.put([2, 3].map(|position| arrived(position, "2026-03-01")));
        assert_eq!(shelf.findings([]).faults, [Fault::Twice { position: 2, first, second }]);
    }
}

#[test]
fn a_body_that_changed_is_named() {
    let mut shelf = Shelf::new(Layout::Ndjson);
    let key = shelf.put([1, 2].map(|position| arrived(position, "2026-03-01")));
    let text = String::from_utf8(shelf.objects[&key].clone()).unwrap();
    shelf.objects.insert(key.clone(), text.replace("s-2", "s-7").into_bytes());
    assert_eq!(shelf.findings([]).faults, [Fault::Bent { position: 2, key: key.clone() }]);
    shelf.objects.insert(key.clone(), b"{".to_vec());
    assert!(
        matches!(&shelf.findings([]).faults[..], [Fault::Unreadable { key: named, .. }] if *named == key)
    );

    // A raw object says nothing about itself; the spool does.
    let mut raw = Shelf::new(Layout::Raw);
    let key = raw.put([arrived(2, "2026-03-01")]);
    raw.objects.insert(key.clone(), b"{}".to_vec());
    assert!(raw.findings([]).is_good());
    assert_eq!(raw.findings([2]).faults, [Fault::Bent { position: 2, key }]);
}

#[test]
fn what_is_nothing_of_an_archive_is_told_and_no_fault() {
    let mut shelf = Shelf::new(Layout::Ndjson);
    shelf.objects.insert("readme.txt".to_owned(), b"hello".to_vec());
    let findings = shelf.findings([]);
    assert_eq!((findings.is_good(), findings.foreign), (true, vec!["readme.txt".to_owned()]));
}

#[test]
fn manifests_tell_what_was_there_and_are_written_once() {
    let mut shelf = three_days();
    let findings = shelf.findings([]);
    assert!(findings.is_good(), "{findings:?}");
    assert_eq!((findings.objects, findings.manifests), (6, 3));
    let text =
        String::from_utf8(shelf.objects["_manifest/c0ffee0000000001/2026-03-02.json"].clone()).unwrap();
    for part in [
        r#""pushes": 5"#,
        r#""first": 11"#,
        r#""last": 17"#,
        r#""positions": "11-13""#,
        r#"_manifest/c0ffee0000000001/2026-03-01.json"#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(shelf.note("2026-03-04"), [""; 0]);
}

#[test]
fn a_day_that_is_not_over_has_no_manifest_and_one_that_was_late_stands_in_the_next() {
    let mut shelf = three_days();
    shelf.put([arrived(90, "2026-03-05")]);
    let late = shelf.put([arrived(8, "2026-03-01")]);
    assert_eq!(shelf.note("2026-03-04"), [""; 0]);
    assert_eq!(shelf.note("2026-03-05"), ["2026-03-05"]);
    let text =
        String::from_utf8(shelf.objects["_manifest/c0ffee0000000001/2026-03-05.json"].clone()).unwrap();
    assert!(text.contains(&late), "{text}");
    assert!(shelf.findings([]).is_good());
}

#[test]
fn a_day_that_was_taken_away_shows() {
    let mut shelf = three_days();
    shelf.objects.retain(|key, _| !key.contains("2026-03-02"));
    assert_eq!(
        shelf.faults(),
        [
            "_manifest/c0ffee0000000001/2026-03-04.json: _manifest/c0ffee0000000001/2026-03-02.json, which it names, is gone"
        ]
    );
    let mut beginning = three_days();
    beginning.objects.retain(|key, _| !key.contains("2026-03-01"));
    assert!(
        beginning.faults()[0].ends_with("2026-03-01.json, which it names, is gone"),
        "{:?}",
        beginning.faults()
    );
}

#[test]
fn an_object_that_was_taken_away_or_changed_shows_in_its_manifest() {
    let mut shelf = three_days();
    let key = shelf.objects.keys().find(|key| key.contains("dt=2026-03-02")).unwrap().clone();
    let whole = shelf.objects.remove(&key).unwrap();
    assert_eq!(
        shelf.faults(),
        [format!("_manifest/c0ffee0000000001/2026-03-02.json: {key} is gone (positions 11-13)")]
    );
    // The same records in other bytes are not what the manifest saw.
    shelf.objects.insert(
        key.clone(),
        String::from_utf8(whole).unwrap().replacen("{\"spool\"", "{ \"spool\"", 1).into(),
    );
    assert_eq!(
        shelf.faults(),
        [format!("_manifest/c0ffee0000000001/2026-03-02.json: {key} is not the same any more")]
    );
}

#[test]
fn a_manifest_that_was_changed_shows_in_the_next_one() {
    let mut shelf = three_days();
    let key = "_manifest/c0ffee0000000001/2026-03-02.json";
    let text = String::from_utf8(shelf.objects[key].clone()).unwrap();
    shelf.objects.insert(key.to_owned(), text.replace(r#""pushes": 5"#, r#""pushes": 4"#).into_bytes());
    assert_eq!(
        shelf.faults(),
        [format!("_manifest/c0ffee0000000001/2026-03-04.json: {key} is not the one that it names any more")]
    );
    shelf.objects.insert(key.to_owned(), b"{}".to_vec());
    assert!(shelf.faults()[0].starts_with(key), "{:?}", shelf.faults());
}

#[test]
fn a_raw_push_whose_action_is_called_like_the_folder_of_manifests_is_a_push() {
    let mut shelf = Shelf::new(Layout::Raw);
    let body = "{}";
    shelf.put([Arc::new(Push::from_spool(
        SPOOL,
        Position(1),
        facts("_manifest", body.as_bytes()),
        body.into(),
    ))]);
    let findings = shelf.findings([]);
    assert_eq!((findings.pushes, findings.faults), (1, vec![]));
}

#[test]
fn what_was_given_up_stands_in_the_manifest_of_its_day_and_is_told_until_it_is_there() {
    let mut shelf = Shelf::new(Layout::Ndjson);
    shelf.put([1, 2, 5].map(|position| arrived(position, "2026-03-01")));
    let absent = BTreeMap::from([(day("2026-03-01"), vec![3, 4]), (day("2026-03-02"), vec![7])]);
    assert_eq!(shelf.note_without("2026-03-02", &absent), ["2026-03-01", "2026-03-02"]);
    let manifests = shelf.objects.range("_".to_owned().."a".to_owned());
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<Manifest>(bytes).unwrap();
    let told: Vec<_> =
        manifests.map(|(_, bytes)| read(bytes)).map(|m| (m.pushes, m.first, m.absent)).collect();
    assert_eq!(told, [(3, Some(1), "3-4".to_owned()), (0, None, "7".to_owned())]);

    shelf.put([arrived(4, "2026-03-01")]);
    let findings = shelf.findings([]);
    let gone = |of: &str, position| Absent {
        day: day(of),
        manifest: format!("_manifest/c0ffee0000000001/{of}.json"),
        positions: vec![position],
    };
    assert_eq!(findings.absent, [gone("2026-03-01", 3), gone("2026-03-02", 7)]);
    assert!(findings.is_good(), "what was never there is no fault of the archive: {findings:?}");
}

#[test]
fn what_stands_in_a_manifest_is_known_by_key_and_by_position() {
    let shelf = three_days();
    let noted = shelf.audit().noted(SPOOL);
    assert_eq!(noted.newest, Some(day("2026-03-04")));
    let objects = || shelf.objects.keys().filter(|key| key.starts_with("cdr/"));
    assert!(objects().all(|key| noted.has(key)) && !noted.has("cdr/other"));
    let held: Vec<u64> = (0..40).filter(|&position| noted.holds(position)).collect();
    assert_eq!(held, [1, 2, 3, 6, 7, 11, 12, 13, 16, 17, 21, 22, 23, 26, 27]);
}

#[test]
fn of_a_masked_push_the_position_alone_is_expected() {
    let mut shelf = Shelf::new(Layout::Ndjson);
    shelf.put([arrived(1, "2026-03-01")]);
    let mut audit = shelf.audit();
    audit.expect(SPOOL, 1, None);
    audit.expect(SPOOL, 2, None);
    assert_eq!(audit.end().faults, [Fault::Missing { spool: SPOOL, positions: vec![2] }]);
}

/// What of some folders is asked for by who wants the first of March.
fn below(key: &str, folders: &[&str]) -> Vec<Below> {
    let filing = filing(Settings { layout: Layout::Raw, key: Some(key.to_owned()), ..Settings::default() });
    folders.iter().map(|folder| filing.below(folder, |of| of == day("2026-03-01"))).collect()
}

#[test]
fn folders_of_other_days_are_not_looked_into() {
    use Below::{All, Folders, Nothing};
    let usual = "{action}/dt={date}/{spool}-{first}.{ext}";
    let folders = ["", "cdr/", "cdr/dt=2026-03-01/", "cdr/dt=2026-03-02/", "cdr/of-old/", "old/2026/"];
    assert_eq!(below(usual, &folders), [Folders, Folders, All, Nothing, All, All]);
    let by_parts = "a/{year}/{month}/{day}/{hour}/{spool}-{first}.{ext}";
    let folders = ["", "a/", "a/2026/", "a/2026/03/", "a/2026/03/01/", "a/2026/03/02/", "cdr/dt=2026-03-02/"];
    assert_eq!(below(by_parts, &folders), [Folders, Folders, Folders, Folders, All, Nothing, Nothing]);
    // Nothing tells the day before the name itself does.
    let in_names = "{action}/{spool}-{date}-{first}.{ext}";
    assert_eq!(below(in_names, &["", "cdr/"]), [All, All]);
    let manifests = ["_manifest/", "_manifest/c0ffee0000000001/", "_manifest/dt=2026-03-01/"];
    assert_eq!(below(usual, &manifests), [Folders, Nothing, All]);
}
