//! Forms: what is written comes back, to the byte, and is the same whenever it is written.

use cdr_archive::{Compression, Layout, Object, Record, record};
use proptest::prelude::*;

use super::*;

const FORMS: [(Layout, Compression, &str); 6] = [
    (Layout::Ndjson, Compression::None, ".ndjson"),
    (Layout::Ndjson, Compression::Gzip, ".ndjson.gz"),
    (Layout::Ndjson, Compression::Zstd, ".ndjson.zst"),
    (Layout::Parquet, Compression::None, ".parquet"),
    (Layout::Parquet, Compression::Gzip, ".parquet"),
    (Layout::Parquet, Compression::Zstd, ".parquet"),
];

fn object(layout: Layout, compression: Compression, pushes: &[Arc<Push>]) -> Object {
    let filing = filing(Settings { layout, compression: Some(compression), ..Settings::default() });
    let batch = batch(pushes.iter().cloned());
    let seal = filing.seal("", &batch).unwrap();
    let mut objects = filing.objects("", &batch.sealed(seal));
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

fn bytes(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.write(&mut bytes).unwrap();
    bytes
}

fn read_back(object: &Object) -> Vec<Record> {
    record::read(object.key(), &bytes(object)).unwrap().unwrap()
}

fn pushes(bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<Arc<Push>> {
    (1..).zip(bodies).map(|(position, body)| push(position, "cdr", body)).collect()
}

fn samples() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/samples/cdr");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn every_byte_of_every_sample_comes_back_from_every_form() {
    let mut bodies = samples();
    bodies.push(b"\xEF\xBB\xBF{\"SessionId\":\"with a BOM\"}\r\n".to_vec());
    bodies.push(br#"{"SessionId":"lone \ud800 surrogate, \u0000 and \/"}"#.to_vec());
    bodies.push(b"\xff\xfe no text at all".to_vec());
    assert!(bodies.len() > 20);
    let pushes = pushes(bodies);
    for (layout, compression, ends) in FORMS {
        let object = object(layout, compression, &pushes);
        assert!(object.key().ends_with(ends), "{}", object.key());
        let records = read_back(&object);
        assert_eq!(records.len(), pushes.len());
        for (record, push) in records.into_iter().zip(&pushes) {
            assert!(record.body == push.body(), "{ends} {}", push.position());
            assert!(record.is_intact());
            assert_eq!((record.spool, record.position), (push.spool(), push.position()));
            let facts = record.into_push(Default::default()).unwrap().facts().clone();
            assert_eq!(&facts, push.facts());
        }
    }
}

#[test]
fn the_same_pushes_make_the_same_bytes_and_others_do_not() {
    let pushes = pushes(samples());
    // As the door has them, finer than the spool keeps.
    let live = |push: &Arc<Push>| {
        let received_at = "2026-03-31T23:30:00.123987654Z".parse().unwrap();
        let facts = Facts { received_at, ..push.facts().clone() };
        Arc::new(Push::from_spool(push.spool(), push.position(), facts, push.body().clone()))
    };
    let live: Vec<_> = pushes.iter().map(live).collect();
    for (layout, compression, ends) in FORMS {
        let one = object(layout, compression, &pushes);
        assert!(bytes(&one) == bytes(&object(layout, compression, &live)), "{ends}");
        assert!(one.has_same_records(&bytes(&one)));
        let fewer = object(layout, compression, &pushes[1..]);
        assert!(!one.has_same_records(&bytes(&fewer)), "{ends}");
        assert!(!one.has_same_records(b"something else"), "{ends}");
    }
}

/// Whoever changes what a line holds gives the form another name in its seal, or a repeat after an upgrade makes other bytes.
#[test]
fn a_line_is_as_it_was_in_the_first_version() {
    let body = r#"{"SessionId":"s-7"}"#;
    let pushes = [push(7, "cdr", body), push(9, "record", vec![0xff])];
    let expected = format!(
        concat!(
            r#"{{"spool":"c0ffee0000000001","position":7,"action":"cdr","version":"1","uuid":null,"#,
            r#""received_at":"2026-03-31T23:30:00.123Z","sha256":"{}","body":"{{\"SessionId\":\"s-7\"}}"}}"#,
            "\n",
            r#"{{"spool":"c0ffee0000000001","position":9,"action":"record","version":"1","uuid":null,"#,
            r#""received_at":"2026-03-31T23:30:00.123Z","sha256":"{}","body_base64":"/w=="}}"#,
            "\n",
        ),
        hex::encode(Sha256::digest(body)),
        hex::encode(Sha256::digest([0xff])),
    );
    let filing =
        filing(Settings { key: Some("{spool}-{first}-{sha}.{ext}".to_owned()), ..Settings::default() });
    let batch = batch(pushes);
    let seal = filing.seal("", &batch).unwrap();
    assert_eq!(seal.facts, serde_json::json!({ "format": "ndjson-1", "compression": "none", "level": 0 }));
    let lines = bytes(&filing.objects("", &batch.sealed(seal))[0]);
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

#[test]
fn what_is_cut_or_bent_is_never_taken_for_whole() {
    let pushes = pushes(samples());
    for (layout, compression, ends) in FORMS {
        let object = object(layout, compression, &pushes);
        let whole = bytes(&object);
        assert!(!object.has_same_records(&whole[..whole.len() - 1]), "{ends}");
        assert!(!object.has_same_records(&whole[..whole.len() / 2]), "{ends}");
        assert!(!object.has_same_records(&[]), "{ends}");
    }
    let object = object(Layout::Ndjson, Compression::None, &pushes);
    let bent = String::from_utf8(bytes(&object)).unwrap().replacen("SessionId", "SessionID", 1);
    let records = record::read(object.key(), bent.as_bytes()).unwrap().unwrap();
    assert_eq!(records.iter().filter(|record| !record.is_intact()).count(), 1);
}

#[test]
fn a_raw_object_is_the_very_bytes() {
    let filing = filing(Settings { layout: Layout::Raw, ..Settings::default() });
    let pushes = pushes(samples());
    let objects = filing.objects("p/", &batch(pushes.clone()));
    assert_eq!(objects.len(), pushes.len());
    for (object, push) in objects.iter().zip(&pushes) {
        assert!(bytes(object) == *push.body());
        assert!(object.key().starts_with("p/cdr/dt="), "{}", object.key());
        assert!(record::read(object.key(), push.body()).is_none());
        assert!(!object.has_same_records(push.body()), "it is compared to the byte");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_body_comes_back(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
        let pushes = pushes(bodies);
        for (layout, compression, _) in FORMS {
            let records = read_back(&object(layout, compression, &pushes));
            prop_assert!(records.iter().map(|record| &record.body).eq(pushes.iter().map(|push| push.body())));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (.., ends) in FORMS {
            let _ = record::read(&format!("x{ends}"), &bytes).unwrap();
        }
    }
}
