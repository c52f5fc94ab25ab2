//! How much at a time: requests a second, connections, heads, and senders who do not read.

use std::time::Duration;

use cdr_ingress::Verdict;
use serde_json::json;

use crate::{
    client::{CDR, Client, cdr, push, send},
    store::{House, eventually},
};

fn from(client: &str) -> String {
    push("/?action=cdr", &[&format!("X-Forwarded-For: {client}")], CDR)
}

#[tokio::test]
async fn a_client_that_sends_too_much_waits_and_the_others_do_not() {
    let limits = json!({ "requests_per_second_per_client": 2 });
    let house = House::open(json!({ "limits": limits, "trusted_proxies": ["127.0.0.1"] })).await;
    let address = house.door.address();
    let mut refused = 0;
    for _ in 0..10 {
        let answer = send(address, from("203.0.113.7")).await;
        if answer.status != 200 {
            answer.is(429, "2 a second are taken");
            assert_eq!(answer.headers["retry-after"], "1");
            refused += 1;
        }
    }
    assert!(refused > 0 && refused <= 8, "{refused}");
    send(address, from("203.0.113.8")).await.is_ok();
    assert_eq!(house.count(Verdict::ClientRequests), refused);
    let _ = house.door.reload(house.settings.clone()).unwrap();
    send(address, from("203.0.113.7")).await.is_ok();
}

#[tokio::test]
async fn who_guesses_passwords_is_slowed_down_and_uses_up_nobody_elses_requests() {
    let verify = json!([{ "basic": { "username": "tccc", "password": "right" } }]);
    let limits = json!({ "requests_per_second_per_client": 3, "requests_per_second": 1 });
    let settings = json!({ "verify": verify, "limits": limits, "trusted_proxies": ["127.0.0.1"] });
    let house = House::open(settings).await;
    let address = house.door.address();
    let mut slowed = false;
    for _ in 0..20 {
        slowed |= send(address, from("198.51.100.9")).await.status == 429;
    }
    assert!(slowed);
    let right = ["X-Forwarded-For: 203.0.113.7", "Authorization: Basic dGNjYzpyaWdodA=="];
    send(address, push("/?action=cdr", &right, CDR)).await.is_ok();
    assert_eq!(house.count(Verdict::Requests), 0);
    let more = send(address, push("/?action=cdr", &right, CDR)).await;
    more.is(429, "1 a second are taken");
    assert_eq!(house.count(Verdict::Requests), 1);
}

/// Each is lost after three retries, as with a wrong password.
#[tokio::test]
async fn pushes_that_come_too_fast_are_an_alert_and_what_was_no_push_is_none() {
    let alerts = |house: &House| house.door.strangers().iter().map(|s| s.verdict).collect::<Vec<_>>();
    let house = House::open(json!({ "limits": { "requests_per_second_per_client": 1 } })).await;
    let mut refused = 0;
    while refused < 3 {
        refused += u32::from(send(house.door.address(), push("/nowhere", &[], CDR)).await.status == 429);
    }
    assert_eq!(alerts(&house), []);
    while alerts(&house).is_empty() {
        assert!(matches!(send(house.door.address(), cdr()).await.status, 200 | 429));
    }
    assert_eq!(alerts(&house), [Verdict::ClientRequests]);

    let house = House::open(json!({ "limits": { "requests_per_second": 1 } })).await;
    while house.count(Verdict::Requests) == 0 {
        assert!(matches!(send(house.door.address(), cdr()).await.status, 200 | 429));
    }
    assert_eq!(alerts(&house), [Verdict::Requests]);
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_a_trusted_proxy_all() {
    let limits = json!({ "connections_per_client": 1 });
    let house = House::open(json!({ "limits": limits })).await;
    let mut inside = Client::connect(house.door.address()).await;
    inside.write(cdr()).await;
    inside.answer().await.is_ok();
    let answer = send(house.door.address(), cdr()).await;
    answer.is(429, "too many connections");
    assert!(answer.closes());
    assert_eq!(house.count(Verdict::ClientConnections), 1);
    drop(inside);
    eventually("there is room again", || house.door.counters().snapshot().open_connections == 0).await;
    send(house.door.address(), cdr()).await.is_ok();

    let house = House::open(json!({ "limits": limits, "trusted_proxies": ["127.0.0.1"] })).await;
    let _idle = Client::connect(house.door.address()).await;
    send(house.door.address(), cdr()).await.is_ok();
}

/// Or strangers could hold all connections with requests that never end.
#[tokio::test]
async fn networks_that_are_not_allowed_take_no_connection_from_others() {
    let allow = json!({ "networks": ["203.0.113.0/24"] });
    let limits = json!({ "connections": 1, "header_timeout": "1h" });
    let house = House::open(json!({ "allow": allow, "limits": limits })).await;
    let mut silent = Vec::new();
    for number in 0..64 {
        silent.push(Client::connect_from([127, 0, 1, number / 8], house.door.address()).await);
    }
    let mut crowded = Client::connect_from([127, 0, 2, 1], house.door.address()).await;
    crowded.answer().await.is(403, "this network");
    assert_eq!(house.door.counters().snapshot().open_connections, 0);
    assert_eq!(house.door.strangers(), [], "who only connects may have wanted anything");
    drop(silent);
    eventually_heard(&house).await;
}

#[tokio::test]
async fn a_stranger_who_says_nothing_does_not_keep_others_from_being_heard() {
    let allow = json!({ "networks": ["203.0.113.0/24"] });
    let limits = json!({ "header_timeout": "1h" });
    let house = House::open(json!({ "allow": allow, "limits": limits })).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Client::connect_from([127, 0, 1, 1], house.door.address()).await);
    }
    eventually("most are turned away", || house.count(Verdict::Network) == 92).await;
    assert_eq!(house.door.strangers(), []);
    send(house.door.address(), cdr()).await.is(403, "this network");
    assert_eq!(house.door.strangers().len(), 1);
}

/// What a stranger asks for is read: one that pushes may be whom one waits for, at a new address.
async fn eventually_heard(house: &House) {
    for _ in 0..200 {
        if send(house.door.address(), cdr()).await.status == 403 && !house.door.strangers().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a stranger's push was never heard of");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_counted() {
    let house = House::open(json!({})).await;
    let lines = |count: usize| -> Vec<String> { (0..count).map(|line| format!("X-{line}: y")).collect() };
    let (fits, too_many) = (lines(98), lines(99));
    let of =
        |lines: &[String]| push("/?action=cdr", &lines.iter().map(String::as_str).collect::<Vec<_>>(), CDR);
    send(house.door.address(), of(&fits)).await.is_ok();
    let long_line = push("/?action=cdr", &[&format!("X: {}", "y".repeat(64 << 10))], CDR);
    for head in [of(&too_many), long_line] {
        assert_eq!(send(house.door.address(), head).await.status, 431);
    }
    let long_url = push(&format!("/?action=cdr&x={}", "y".repeat(64 << 10)), &[], CDR);
    assert!(matches!(send(house.door.address(), long_url).await.status, 414 | 431));
    eventually("all are counted", || house.count(Verdict::LargeHead) == 3).await;
    assert_eq!(house.count(Verdict::Stored), 1);
}

#[tokio::test]
async fn a_head_that_trickles_is_given_no_more_time_for_each_byte() {
    let house = House::open(json!({ "limits": { "header_timeout": "200ms" } })).await;
    let mut client = Client::connect(house.door.address()).await;
    let trickle = async {
        for byte in cdr().bytes() {
            client.write([byte]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = trickle => panic!("it was let in"),
        () = eventually("it is refused", || house.count(Verdict::SlowHead) == 1) => {}
    }
    client.answer().await.is(408, "head of the request");
    client.is_closed().await;
}

/// hyper reads no further while an answer is stuck, so what it holds is bounded; and it does not wait for ever.
#[tokio::test]
async fn a_sender_that_never_reads_its_answers_loses_its_connection() {
    let house = House::open(json!({ "limits": { "header_timeout": "200ms" } })).await;
    let mut deaf = Client::connect(house.door.address()).await;
    deaf.write_until_closed(cdr().repeat(1000).as_bytes()).await;
    let answered = house.count(Verdict::Repeat);
    assert!((100..200_000).contains(&answered), "{answered}");
    eventually("it is let go", || house.door.counters().snapshot().open_connections == 0).await;
    send(house.door.address(), cdr()).await.is_ok();
}
