//! Who may come in, by address.

use cdr_ingress::{IngressSettings, Reloaded, Verdict};
use serde_json::json;

use crate::{
    client::{CDR, push, send},
    store::House,
};

fn from(line: &str) -> String {
    push("/?action=cdr", &[line], CDR)
}

#[tokio::test]
async fn only_allowed_networks_come_in() {
    let house = House::open(json!({ "allow": { "networks": ["127.0.0.0/8"] } })).await;
    send(house.door.address(), from("X: y")).await.is_ok();
    let house = House::open(json!({ "allow": { "networks": ["203.0.113.0/24"] } })).await;
    send(house.door.address(), from("X: y")).await.is(403, "not accepted");
    assert_eq!(house.count(Verdict::Network), 1);
    assert!(house.store.bodies().is_empty());
}

#[tokio::test]
async fn a_claimed_address_opens_nothing() {
    let house = House::open(json!({ "allow": { "networks": ["203.0.113.0/24"] } })).await;
    for line in ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7", "X-Real-IP: 203.0.113.7"] {
        send(house.door.address(), from(line)).await.is(403, "not accepted");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_that_it_saw_counts() {
    let settings = json!({ "allow": { "networks": ["203.0.113.0/24"] }, "trusted_proxies": ["127.0.0.1"] });
    let house = House::open(settings).await;
    send(house.door.address(), from("X-Forwarded-For: 198.51.100.9, 203.0.113.7:4711")).await.is_ok();
    assert_eq!(house.store.only().facts.sender, Some([203, 0, 113, 7].into()));
    send(house.door.address(), from("Forwarded: for=203.0.113.7")).await.is_ok();

    send(house.door.address(), from("X-Forwarded-For: 203.0.113.7, 198.51.100.9")).await.is(403, "");
    send(house.door.address(), from("X-Forwarded-For: 203.0.113.7, garbage")).await.is(403, "");
    let spoofed_line = ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 198.51.100.9"];
    send(house.door.address(), push("/?action=cdr", &spoofed_line, CDR)).await.is(403, "");
    assert_eq!(house.count(Verdict::Network), 3);
}

#[tokio::test]
async fn to_learn_the_addresses_first_everybody_may_pass_and_who_brought_a_push_is_told_apart() {
    let allow = json!({ "networks": ["203.0.113.0/24"], "mode": "log" });
    let settings = json!({ "path": "/secret", "allow": allow, "trusted_proxies": ["127.0.0.1"] });
    let house = House::open(settings).await;
    let send_as = |path: &str, sender: &str| {
        send(house.door.address(), push(path, &[&format!("X-Forwarded-For: {sender}")], CDR))
    };
    send_as("/secret?action=cdr", "198.51.100.7").await.is_ok();
    send_as("/secret?action=cdr", "198.51.100.7").await.is_ok();
    send_as("/secret?action=cdr", "203.0.113.9").await.is_ok();
    send_as("/?action=cdr", "192.0.2.1").await.is(404, "");
    assert_eq!(house.count(Verdict::Network), 0);
    let told: Vec<_> = (house.door.newcomers().iter())
        .map(|newcomer| (newcomer.network.to_string(), newcomer.requests, newcomer.pushes))
        .collect();
    assert_eq!(told, [("192.0.2.1/32".to_owned(), 1, 0), ("198.51.100.7/32".to_owned(), 2, 2)]);

    // A reload that names it takes it off the list.
    let allow = json!({ "networks": ["203.0.113.0/24", "198.51.100.7"], "mode": "enforce" });
    let allow = cdr_core::setting::read(allow).unwrap();
    let settings = IngressSettings { allow: Some(allow), ..house.settings.clone() };
    assert_eq!(house.door.reload(settings), Ok(Reloaded::Wholly));
    assert_eq!(house.door.newcomers().len(), 1);
}

#[tokio::test]
async fn who_may_have_been_ours_is_remembered_until_its_pushes_arrive() {
    let verify = json!([{ "basic": { "username": "tccc", "password": "hunter2" } }]);
    let house = House::open(json!({ "path": "/secret", "verify": verify })).await;
    let address = house.door.address();
    send(address, push("/secret?action=cdr", &[], CDR)).await.is(401, "");
    for _ in 0..2 {
        let wrong = "Authorization: Basic dGNjYzpodW50ZXIx";
        send(address, push("/secret?action=cdr", &[wrong], CDR)).await.is(401, "");
    }
    // A scanner that does not know the path is none of ours.
    send(address, push("/?action=cdr", &[], CDR)).await.is(404, "");
    let refused = |arrives: bool| {
        let strangers = house.door.strangers();
        assert!(strangers.iter().all(|stranger| stranger.arrives == arrives), "{strangers:?}");
        let told = strangers.iter().map(|stranger| (stranger.verdict, stranger.requests));
        told.collect::<Vec<_>>()
    };
    let expected = [(Verdict::NoProof, 1), (Verdict::WrongProof, 2)];
    assert_eq!(refused(false), expected);
    send(address, push("/secret?action=cdr", &["Authorization: Basic dGNjYzpodW50ZXIy"], CDR)).await.is_ok();
    assert_eq!(refused(true), expected);
}

#[tokio::test]
async fn from_a_foreign_network_only_what_asks_for_us_may_have_been_ours() {
    let house = House::open(json!({ "path": "/secret", "allow": { "networks": ["203.0.113.0/24"] } })).await;
    send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is(403, "");
    assert_eq!(house.door.strangers(), []);
    send(house.door.address(), push("/secret?action=cdr", &[], CDR)).await.is(403, "");
    assert_eq!(house.door.strangers().len(), 1);
    assert_eq!(house.count(Verdict::Network), 2);
}
