//! Certificates of senders as a proof.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cdr_ingress::{IngressSettings, Verdict};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    certificates::{Authority, Pair, Speaks, tls},
    client::{Answer, CDR, Client, cdr, push},
    http2::Sender,
    store::{House, eventually},
};

struct Place {
    folder: tempfile::TempDir,
    /// Of the door.
    door: Authority,
    /// Of the senders.
    senders: Authority,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { folder: tempfile::tempdir().unwrap(), door: Authority::new(), senders: Authority::new() };
        place.door.door().lie_in(place.folder.path());
        place.vouch(&[&place.senders]);
        place
    }

    fn ca(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn vouch(&self, authorities: &[&Authority]) {
        let pem: String = authorities.iter().map(|authority| authority.pem()).collect();
        std::fs::write(self.ca(), pem).unwrap();
    }

    fn settings(&self, verify: Value) -> Value {
        let mut tls = tls(self.folder.path());
        tls["client_ca"] = json!(self.ca());
        json!({ "tls": tls, "verify": verify })
    }

    async fn house(&self, verify: Value) -> House {
        House::open(self.settings(verify)).await
    }

    fn speaks(&self, shows: Option<Pair>) -> Speaks {
        Speaks { shows, ..Speaks::knowing(&self.door) }
    }

    async fn send(&self, house: &House, shows: Option<Pair>, request: &str) -> Answer {
        let mut client = Client(self.speaks(shows).to(house.door.address()).await.expect("TLS"));
        client.write(request).await;
        client.answer().await
    }
}

#[tokio::test]
async fn the_subject_or_the_host_of_the_certificate_is_the_proof() {
    let place = Place::new();
    for mtls in [
        json!({ "subject": "CN=tccc" }),
        json!({ "subject": "o=Example\\, Ltd. , CN=tccc" }),
        json!({ "subject": ["CN=other", "CN=tccc"] }),
        json!({ "dns": "TCCC" }),
        json!({ "subject": "CN=other", "dns": ["another", "tccc"] }),
    ] {
        let house = place.house(json!([{ "mtls": mtls }])).await;
        place.send(&house, Some(place.senders.sender("tccc")), &cdr()).await.is_ok();
        place.send(&house, Some(place.senders.sender("tccc2")), &cdr()).await.is(401, "");
        place.send(&house, None, &cdr()).await.is(401, "");
        assert_eq!(house.store.bodies().len(), 1);
    }
}

#[tokio::test]
async fn all_parts_of_a_subject_must_be_there() {
    let place = Place::new();
    for subject in ["CN=tccc,O=Example", "CN=tccc,OU=Example\\, Ltd.", "CN=TCCC", "CN=tcc"] {
        let house = place.house(json!([{ "mtls": { "subject": subject } }])).await;
        place.send(&house, Some(place.senders.sender("tccc")), &cdr()).await.is(401, "");
    }
}

#[tokio::test]
async fn another_proof_does_as_well() {
    let place = Place::new();
    let basic = json!({ "basic": { "username": "tccc", "password": "p" } });
    let house = place.house(json!([{ "mtls": { "subject": "CN=tccc" } }, basic])).await;
    let login = push("/?action=cdr", &["Authorization: Basic dGNjYzpw"], CDR);
    place.send(&house, None, &login).await.is_ok();
    place.send(&house, Some(place.senders.sender("stranger")), &login).await.is_ok();
    place.send(&house, Some(place.senders.sender("tccc")), &cdr()).await.is_ok();
    place.send(&house, None, &cdr()).await.is(401, "");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_ends_the_handshake_and_counts_as_a_wrong_proof() {
    let place = Place::new();
    let house = place.house(json!([{ "mtls": { "subject": "CN=tccc" } }])).await;
    let forged = Authority::new().sender("tccc");
    let expired = place.senders.signs(&[(rcgen::DnType::CommonName, "tccc")], &[], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    for (number, pair) in [forged, expired].into_iter().enumerate() {
        // With TLS 1.3 the sender learns of it only after the handshake, which is over for it by then.
        if let Ok(stream) = place.speaks(Some(pair)).to(house.door.address()).await {
            Client(stream).is_closed().await;
        }
        eventually("it is counted", || house.count(Verdict::WrongProof) == number as u64 + 1).await;
    }
    assert!(house.store.bodies().is_empty());
}

/// A house, and its sender once on a connection of HTTP/1 and once on one of HTTP/2, both of which have pushed.
async fn pushing(place: &Place, shows: impl Fn() -> Pair) -> (House, Client<TlsStream<TcpStream>>, Sender) {
    let house = place.house(json!([{ "mtls": { "subject": "CN=tccc" } }])).await;
    let mut one = Client(place.speaks(Some(shows())).to(house.door.address()).await.unwrap());
    one.write(cdr()).await;
    one.answer().await.is_ok();
    let two = Sender::speaking(place.speaks(Some(shows())), &house).await;
    assert_eq!(two.push().await, 200);
    (house, one, two)
}

#[tokio::test]
async fn authorities_that_are_gone_vouch_for_nobody_on_open_connections_and_end_them() {
    let place = Place::new();
    let (house, mut one, two) = pushing(&place, || place.senders.sender("tccc")).await;
    let others = Authority::new();
    place.vouch(&[&others]);
    let _ = house.door.reload(house.settings.clone()).unwrap();
    one.write(cdr()).await;
    one.answer().await.is(401, "connect anew");
    one.is_closed().await;
    assert_eq!(two.push().await, 401);
    two.goes().await;
    assert_eq!(house.count(Verdict::StaleProof), 2);
    place.send(&house, Some(others.sender("tccc")), &cdr()).await.is_ok();
}

/// Or a sender that keeps its connection would lose pushes each time that an authority is added or replaced.
#[tokio::test]
async fn other_authorities_that_vouch_for_what_was_shown_change_nothing_for_open_connections() {
    let place = Place::new();
    let (house, mut one, two) = pushing(&place, || place.senders.sender("tccc")).await;
    place.vouch(&[&Authority::new(), &place.senders]);
    let _ = house.door.reload(house.settings.clone()).unwrap();
    for _ in 0..2 {
        one.write(cdr()).await;
        let answer = one.answer().await;
        answer.is_ok();
        assert!(!answer.closes(), "{answer:?}");
        assert_eq!(two.push().await, 200);
    }
    assert_eq!(house.count(Verdict::WrongProof), 0);
}

#[tokio::test]
async fn a_certificate_that_ends_proves_nothing_on_open_connections_and_ends_them() {
    let place = Place::new();
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3);
    let soon_over = || {
        place.senders.signs(&[(rcgen::DnType::CommonName, "tccc")], &[], |params| {
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + ends;
        })
    };
    let (_house, mut one, two) = pushing(&place, soon_over).await;
    let refused = async {
        loop {
            one.write(cdr()).await;
            let answer = one.answer().await;
            if answer.status == 401 {
                return;
            }
            answer.is_ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("it proves on");
    one.is_closed().await;
    assert_eq!(two.push().await, 401);
    two.goes().await;
}

fn faults(settings: Value) -> Vec<String> {
    let told = |faults: Vec<cdr_core::SettingFault>| faults.iter().map(ToString::to_string).collect();
    match cdr_core::setting::read::<IngressSettings>(settings) {
        Ok(settings) => told(settings.faults()),
        Err(faults) => told(faults),
    }
}

#[track_caller]
fn faulty(settings: Value, path: &str, words: &str) {
    let faults = faults(settings);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with(&format!("{path}: ")) && faults[0].contains(words), "{faults:?}");
}

#[test]
fn a_proof_by_certificate_is_never_half_set() {
    let place = Place::new();
    let verify = |mtls: Value| place.settings(json!([{ "mtls": mtls }]));
    assert_eq!(faults(verify(json!({ "subject": "CN=tccc" }))), Vec::<String>::new());
    faulty(verify(json!({})), "verify.0.mtls", "names nobody");
    faulty(verify(json!({ "subject": [], "dns": [] })), "verify.0.mtls", "names nobody");
    faulty(verify(json!({ "dns": "" })), "verify.0.mtls.dns", "names of hosts");
    for subject in ["", "tccc", "CN=", "XY=tccc", "CN=tccc,"] {
        faulty(
            verify(json!({ "subject": subject })),
            "verify.0.mtls.subject",
            "is no subject such as CN=tccc",
        );
    }
    faulty(
        json!({ "verify": [{ "mtls": { "subject": "CN=tccc" } }] }),
        "verify.0.mtls",
        "set ingress.tls.client_ca",
    );
    let mut nobody_looks = verify(json!({ "subject": "CN=tccc" }));
    nobody_looks["verify"] = json!([{ "basic": { "username": "tccc", "password": "p" } }]);
    faulty(nobody_looks, "tls.client_ca", "nothing looks at them");
    std::fs::write(place.ca(), "nothing").unwrap();
    faulty(verify(json!({ "subject": "CN=tccc" })), "tls.client_ca", "there is no certificate in");
    assert!(Path::new(&place.ca()).exists());
}
