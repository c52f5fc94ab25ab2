//! HTTPS: who gets in by it, what others hear, and a certificate that is renewed.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use cdr_ingress::{IngressSettings, Verdict};
use rcgen::date_time_ymd;
use rustls::{
    CipherSuite,
    version::{TLS12, TLS13},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream, time::sleep};

use crate::{
    certificates::{Authority, Pair, Speaks, shown, tls},
    client::{CDR, Client, cdr, push, send},
    logs::Log,
    store::{House, eventually},
};

/// The files are looked at within this.
const LOOKED: Duration = Duration::from_secs(3);

/// A door with a certificate.
async fn open(folder: &Path, authority: &Authority) -> (House, Pair) {
    let pair = authority.door();
    pair.lie_in(folder);
    (House::open(json!({ "tls": tls(folder) })).await, pair)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn pushes(speaks: &Speaks, house: &House) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut client = Client(speaks.to(house.door.address()).await.expect("TLS"));
    client.write(cdr()).await;
    client.answer().await.is_ok();
    client
}

#[tokio::test]
async fn a_push_comes_in_by_either_version_and_a_connection_serves_many() {
    let (folder, authority) = (folder(), Authority::new());
    let (house, _) = open(folder.path(), &authority).await;
    for versions in [vec![&TLS12], vec![&TLS13]] {
        let speaks = Speaks { versions, ..Speaks::knowing(&authority) };
        let mut client = pushes(&speaks, &house).await;
        client.write(push("/?action=cdr", &[], CDR)).await;
        client.answer().await.is_ok();
        client.write(push("/nowhere?action=cdr", &[], CDR)).await;
        client.answer().await.is(404, "nothing is here");
        client.is_closed().await;
    }
    assert_eq!(house.door.counters().snapshot().of(Verdict::Tls), 0);
}

/// Begins so many handshakes, and waits until each was refused or has failed.
async fn begins(handshakes: u64, from: [u8; 4], house: &House) {
    let ended = || house.count(Verdict::Handshakes) + house.count(Verdict::Tls);
    let all = ended() + handshakes;
    for _ in 0..handshakes {
        Client::connect_from(from, house.door.address()).await.write([0x16]).await;
    }
    eventually("all have ended", || ended() == all).await;
}

/// Each costs processor time before anything is known of who asks for it.
#[tokio::test]
async fn strangers_shake_hands_so_often_and_who_brings_pushes_as_often_as_he_likes() {
    let (log, _guard) = Log::keep();
    let (folder, authority) = (folder(), Authority::new());
    let (house, _) = open(folder.path(), &authority).await;
    drop(pushes(&Speaks::knowing(&authority), &house).await);
    for last in 1..=5 {
        begins(100, [127, 0, 1, last], &house).await;
    }
    let refused = house.count(Verdict::Handshakes);
    assert!(refused > 0);
    assert_eq!(log.lines_with("has brought no push yet").len(), 1, "{}", log.text());
    begins(100, [127, 0, 0, 1], &house).await;
    assert_eq!(house.count(Verdict::Handshakes), refused);
    assert_eq!(house.door.strangers(), [], "nobody knows what they wanted");
}

#[tokio::test]
async fn all_that_is_spoken_can_be_asked_for_by_name_and_nothing_else() {
    let (folder, authority) = (folder(), Authority::new());
    let (house, _) = open(folder.path(), &authority).await;
    for name in [&["http/1.1"], &["http/1.0"]] {
        pushes(&Speaks::knowing(&authority).offering(name), &house).await;
    }
    assert!(Speaks::knowing(&authority).offering(&["spdy/3"]).to(house.door.address()).await.is_err());
}

#[tokio::test]
async fn no_older_version_is_spoken_than_the_settings_say() {
    let (folder, authority) = (folder(), Authority::new());
    authority.door().lie_in(folder.path());
    let mut tls = tls(folder.path());
    tls["min_version"] = json!(1.3);
    let house = House::open(json!({ "tls": tls })).await;
    let old = Speaks { versions: vec![&TLS12], ..Speaks::knowing(&authority) };
    assert!(old.to(house.door.address()).await.is_err());
    eventually("it is counted", || house.count(Verdict::Tls) == 1).await;
    let stream = Speaks::knowing(&authority).to(house.door.address()).await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert!(matches!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS13_AES_128_GCM_SHA256));
}

#[tokio::test]
async fn who_speaks_plain_http_to_it_hears_so() {
    let (log, _guard) = Log::keep();
    let (folder, authority) = (folder(), Authority::new());
    let (house, _) = open(folder.path(), &authority).await;
    send(house.door.address(), cdr()).await.is(400, "https://");
    assert_eq!(house.count(Verdict::NotHttp), 1);
    assert_eq!(log.lines_with("this port speaks TLS").len(), 1, "{}", log.text());
    assert!(house.store.bodies().is_empty());
}

#[tokio::test]
async fn a_sender_who_does_not_know_our_authority_is_told_of_in_words() {
    let (log, _guard) = Log::keep();
    let (folder, authority) = (folder(), Authority::new());
    let (house, _) = open(folder.path(), &authority).await;
    assert!(Speaks::knowing(&Authority::new()).to(house.door.address()).await.is_err());
    eventually("it is counted", || house.count(Verdict::Tls) == 1).await;
    assert_eq!(log.lines_with("does not accept the certificate of ingress.tls").len(), 1, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_is_ended_and_one_that_never_begins_is_no_news() {
    let (folder, authority) = (folder(), Authority::new());
    let (house, _) = open(folder.path(), &authority).await;
    let mut silent = Client::connect(house.door.address()).await;
    let mut stalls = Client::connect(house.door.address()).await;
    stalls.write(b"\x16\x03\x01\x02").await;
    let begun = tokio::time::Instant::now();
    for client in [&mut silent, &mut stalls] {
        let mut byte = [0];
        assert_eq!(client.0.read(&mut byte).await.unwrap(), 0);
    }
    let limit = house.settings.limits.header_timeout;
    assert!(begun.elapsed() < limit + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(house.count(Verdict::Tls), 1);
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_does_not_wait_for_handshakes() {
    let (folder, authority) = (folder(), Authority::new());
    let (mut house, _) = open(folder.path(), &authority).await;
    let mut idle = pushes(&Speaks::knowing(&authority), &house).await;
    let mut stalls = Client::connect(house.door.address()).await;
    stalls.write(b"\x16\x03\x01\x02").await;
    eventually("both are there", || house.door.counters().snapshot().open_connections == 2).await;
    house.shut_wholly().await;
    idle.is_closed().await;
    stalls.is_closed().await;
}

#[tokio::test]
async fn connections_are_limited_before_anybody_shakes_hands() {
    let (folder, authority) = (folder(), Authority::new());
    authority.door().lie_in(folder.path());
    let house = House::open(json!({ "tls": tls(folder.path()), "limits": { "connections": 1 } })).await;
    let _first = pushes(&Speaks::knowing(&authority), &house).await;
    assert!(Speaks::knowing(&authority).to(house.door.address()).await.is_err());
    assert_eq!(house.count(Verdict::Connections), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_taken_and_open_connections_stay() {
    let (folder, authority) = (folder(), Authority::new());
    let (house, old) = open(folder.path(), &authority).await;
    let speaks = Speaks::knowing(&authority);
    let mut client = pushes(&speaks, &house).await;
    assert_eq!(shown(&client.0), old.der());

    let new = authority.signs(&[], &["gateway"], |params| params.not_after = date_time_ymd(2040, 1, 1));
    new.lie_in(folder.path());
    sleep(LOOKED).await;
    client.write(cdr()).await;
    client.answer().await.is_ok();
    assert_eq!(shown(&pushes(&speaks, &house).await.0), new.der());
    assert_eq!(house.door.certificate_expires_at().unwrap().to_string(), "2040-01-01T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_without_its_key_changes_nothing_until_the_key_is_there() {
    let (folder, authority) = (folder(), Authority::new());
    let (house, old) = open(folder.path(), &authority).await;
    let speaks = Speaks::knowing(&authority);
    let new = authority.door();
    for half in [new.certificate.as_str(), "-----BEGIN CERTIFICATE-----\nMIIB", ""] {
        fs::write(folder.path().join("cert.pem"), half).unwrap();
        sleep(LOOKED).await;
        assert_eq!(shown(&pushes(&speaks, &house).await.0), old.der());
    }
    fs::remove_file(folder.path().join("cert.pem")).unwrap();
    sleep(LOOKED).await;
    assert_eq!(shown(&pushes(&speaks, &house).await.0), old.der());
    new.lie_in(folder.path());
    sleep(LOOKED).await;
    assert_eq!(shown(&pushes(&speaks, &house).await.0), new.der());
}

/// As Kubernetes does with secrets, and certbot with `live`.
#[tokio::test(start_paused = true)]
async fn links_that_point_elsewhere_are_followed() {
    let (folder, authority) = (folder(), Authority::new());
    let (old, new) = (authority.door(), authority.door());
    for (name, pair) in [("1", &old), ("2", &new)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        pair.lie_in(&folder.path().join(name));
    }
    let now = folder.path().join("now");
    symlink("1", &now).unwrap();
    let house = House::open(json!({ "tls": tls(&now) })).await;
    let speaks = Speaks::knowing(&authority);
    assert_eq!(shown(&pushes(&speaks, &house).await.0), old.der());

    symlink("2", folder.path().join("next")).unwrap();
    fs::rename(folder.path().join("next"), &now).unwrap();
    sleep(LOOKED).await;
    assert_eq!(shown(&pushes(&speaks, &house).await.0), new.der());
}

#[tokio::test]
async fn a_reload_takes_tls_up_and_gives_it_up() {
    let (folder, authority) = (folder(), Authority::new());
    authority.door().lie_in(folder.path());
    let house = House::open(json!({})).await;
    let mut plain = Client::connect(house.door.address()).await;
    plain.write(cdr()).await;
    plain.answer().await.is_ok();
    let tls = cdr_core::setting::read(tls(folder.path())).unwrap();
    let _ = house.door.reload(IngressSettings { tls: Some(tls), ..house.settings.clone() }).unwrap();
    pushes(&Speaks::knowing(&authority), &house).await;
    plain.write(cdr()).await;
    plain.answer().await.is_ok();
    let _ = house.door.reload(house.settings.clone()).unwrap();
    send(house.door.address(), cdr()).await.is_ok();
    assert_eq!(house.door.certificate_expires_at(), None);
}

fn faults(tls: serde_json::Value) -> Vec<String> {
    let settings: IngressSettings = cdr_core::setting::read(json!({ "tls": tls })).unwrap();
    settings.faults().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn faulty(folder: &Path, setting: &str, words: &[&str]) {
    let faults = faults(tls(folder));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with(&format!("{setting}: ")), "{faults:?}");
    for words in words {
        assert!(faults[0].contains(words), "{words} not in {faults:?}");
    }
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_their_names() {
    let (folder, authority) = (folder(), Authority::new());
    let folder = folder.path();
    assert_eq!(faults(tls(folder)).len(), 2);
    let (pair, other) = (authority.door(), authority.door());
    pair.lie_in(folder);
    assert_eq!(faults(tls(folder)), Vec::<String>::new());
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));

    fs::remove_file(&cert).unwrap();
    faulty(folder, "tls.certificate", &["cert.pem cannot be read: No such file"]);
    fs::write(&cert, &pair.key).unwrap();
    faulty(folder, "tls.certificate", &["there is no certificate in", "cert.pem"]);
    fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    faulty(folder, "tls.certificate", &["none that can be read", "cert.pem"]);
    fs::write(&cert, &pair.certificate).unwrap();
    fs::write(&key, &pair.certificate).unwrap();
    faulty(folder, "tls.key", &["there is no private key in", "key.pem"]);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&key, encrypted).unwrap();
    faulty(folder, "tls.key", &["is encrypted", "openssl pkey"]);
    fs::write(&key, &other.key).unwrap();
    faulty(folder, "tls.key", &["key.pem does not belong to the first certificate in", "cert.pem"]);
}

#[test]
fn a_certificate_near_its_end_is_a_warning_and_no_fault() {
    let (folder, authority) = (folder(), Authority::new());
    let warnings = |until: Option<(i32, u8, u8)>| {
        let change = |params: &mut rcgen::CertificateParams| {
            if let Some((year, month, day)) = until {
                params.not_after = date_time_ymd(year, month, day);
            }
        };
        authority.signs(&[], &["gateway"], change).lie_in(folder.path());
        assert_eq!(faults(tls(folder.path())), Vec::<String>::new());
        let settings: IngressSettings =
            cdr_core::setting::read(json!({ "tls": tls(folder.path()) })).unwrap();
        settings.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(warnings(None), Vec::<String>::new());
    let over = warnings(Some((2020, 1, 2)));
    assert_eq!(over, ["tls.certificate: expired at 2020-01-02T00:00:00Z; senders refuse it: renew it"]);
    let in_days = jiff::Timestamp::now() + Duration::from_secs(5 * 24 * 3600);
    let day = in_days.to_zoned(jiff::tz::TimeZone::UTC).date();
    let soon = warnings(Some((day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs())));
    assert!(soon.len() == 1 && soon[0].contains("in 4 day(s): renew it"), "{soon:?}");
}
