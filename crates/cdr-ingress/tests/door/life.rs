//! Hanging up, reloading, stopping.

use std::time::Duration;

use cdr_ingress::{IngressSettings, Reloaded, Verdict};
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    client::{CDR, Client, cdr, expecting, push, send},
    store::{House, eventually},
};

#[tokio::test]
async fn what_was_handed_over_is_stored_though_its_sender_hangs_up() {
    let house = House::open(json!({})).await;
    let disk = house.store.hold_disk().await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(cdr()).await;
    house.store.was_handed(1).await;
    client.reset();
    drop(disk);
    eventually("it is stored and counted", || house.count(Verdict::Stored) == 1).await;
    assert_eq!(house.store.bodies(), [CDR]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_commit_is_a_503_and_goes_on() {
    let house = House::open(json!({})).await;
    let disk = house.store.hold_disk().await;
    send(house.door.address(), cdr()).await.is(503, "push it again later");
    assert_eq!(house.count(Verdict::SlowCommit), 1);
    drop(disk);
    eventually("it is stored after all", || house.count(Verdict::Stored) == 1).await;
    send(house.door.address(), cdr()).await.is_ok();
    assert_eq!(house.count(Verdict::Repeat), 1);
}

#[tokio::test]
async fn a_reload_counts_at_once_on_connections_that_are_open() {
    let house = House::open(json!({})).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(cdr()).await;
    client.answer().await.is_ok();

    let path = IngressSettings { path: "/new".into(), ..house.settings.clone() };
    assert_eq!(house.door.reload(path.clone()), Ok(Reloaded::Wholly));
    client.write(push("/new?action=cdr", &[], CDR)).await;
    client.answer().await.is_ok();
    client.write(cdr()).await;
    client.answer().await.is(404, "nothing is here");

    let then = ([127, 0, 0, 1], 1).into();
    let elsewhere = IngressSettings { listen: then, ..path };
    let now = house.door.address();
    for _ in 0..2 {
        assert_eq!(house.door.reload(elsewhere.clone()), Ok(Reloaded::ListenNeedsRestart { now, then }));
    }
    send(now, push("/new?action=cdr", &[], CDR)).await.is_ok();
}

#[tokio::test]
async fn a_faulty_reload_changes_nothing() {
    let house = House::open(json!({})).await;
    let faulty = IngressSettings { verify: Some(vec![]), path: "/new".into(), ..house.settings.clone() };
    let faults = house.door.reload(faulty).unwrap_err();
    assert_eq!(faults[0].dotted(), "verify");
    send(house.door.address(), cdr()).await.is_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_traffic_drop_nothing() {
    let house = House::open(json!({})).await;
    let address = house.door.address();
    let sender = |sender: usize| async move {
        let mut client = Client::connect(address).await;
        for number in 0..200 {
            let body = format!(r#"{{"SessionId":"{sender}-{number}"}}"#);
            client.write(push("/?action=cdr", &[], &body)).await;
            client.answer().await.is_ok();
        }
    };
    let senders: Vec<_> = (0..4).map(|number| tokio::spawn(sender(number))).collect();
    while senders.iter().any(|sender| !sender.is_finished()) {
        let _ = house.door.reload(house.settings.clone()).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!((house.count(Verdict::Stored), house.store.bodies().len()), (800, 800));
}

#[tokio::test]
async fn a_stop_closes_the_listener_first_and_finishes_what_is_under_way() {
    let mut house = House::open(json!({})).await;
    let address = house.door.address();
    let mut idle = Client::connect(address).await;
    idle.write(cdr()).await;
    idle.answer().await.is_ok();
    let mut busy = Client::connect(address).await;
    busy.write(expecting("/?action=voicemail")).await;
    assert_eq!(busy.answer().await.status, 100);

    house.shut();
    idle.is_closed().await;
    assert!(TcpStream::connect(address).await.is_err(), "the listener is still open");
    busy.write(CDR).await;
    let answer = busy.answer().await;
    answer.is_ok();
    assert!(answer.closes(), "{answer:?}");
    busy.is_closed().await;
    house.shut_wholly().await;
    assert_eq!((house.count(Verdict::Stored), house.count(Verdict::Repeat)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_being_stored_though_nobody_waits_for_the_answer() {
    let mut house = House::open(json!({})).await;
    let store = std::sync::Arc::clone(&house.store);
    let disk = store.hold_disk().await;
    send(house.door.address(), cdr()).await.is(503, "push it again later");
    eventually("the sender has gone", || house.door.counters().snapshot().open_connections == 0).await;
    let disk_comes_back = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(disk);
    };
    tokio::join!(house.shut_wholly(), disk_comes_back);
    assert_eq!(house.count(Verdict::Stored), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let mut house = House::open(json!({ "limits": { "body_timeout": "1h" } })).await;
    let mut stuck = Client::connect(house.door.address()).await;
    stuck.write(expecting("/?action=cdr")).await;
    assert_eq!(stuck.answer().await.status, 100);
    let begun = tokio::time::Instant::now();
    house.shut_wholly().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    stuck.is_closed().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let house = House::open(json!({})).await;
    let settings = IngressSettings { listen: house.door.address(), ..IngressSettings::default() };
    let Err(error) = cdr_ingress::Door::bind(settings).await else { panic!("two doors at one address") };
    let text = error.to_string();
    assert!(text.contains(&house.door.address().to_string()) && text.contains("ingress.listen"), "{text}");
}
