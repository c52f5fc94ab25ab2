//! Who may come in, by address.

use cdr_ingress::Verdict;
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
async fn to_learn_the_addresses_first_everybody_may_pass() {
    let allow = json!({ "networks": ["203.0.113.0/24"], "mode": "log" });
    let house = House::open(json!({ "allow": allow })).await;
    send(house.door.address(), from("X: y")).await.is_ok();
    assert_eq!(house.count(Verdict::Network), 0);
}
