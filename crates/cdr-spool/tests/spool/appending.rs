//! Append, repeat, read, quarantine.

use std::sync::atomic::{AtomicUsize, Ordering};

use cdr_spool::{AppendError, Appended, NewPush, Position, Read};

use crate::harness::*;

#[test]
fn what_is_appended_is_read_as_it_was() {
    let world = World::new();
    let (spool, recovery) = world.open(&["crm"]);
    assert!(recovery.is_new);
    let positions = append(&spool, 0..100);
    assert_eq!(positions, (1..=100).map(Position).collect::<Vec<_>>());
    assert_eq!(spool.end(), Position(101));

    let Read { pushes, next, lost } = spool.read(Position(1), 1000, usize::MAX).unwrap();
    assert_eq!((pushes.len(), next, lost.len()), (100, Position(101), 0));
    for (n, push) in pushes.into_iter().enumerate() {
        let n = n as u64;
        assert_eq!(push.position, positions[n as usize]);
        assert_eq!((push.key, push.body, push.facts), (key(n), body(n), format!("facts {n}").into()));
        assert_eq!(spool.get(positions[n as usize]).unwrap().unwrap().body, body(n));
    }
    assert_eq!(spool.get(Position(101)).unwrap(), None);
}

#[test]
fn a_read_ends_at_its_limits_and_goes_on_where_it_ended() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..60);
    let mut from = Position::default();
    let mut seen = Vec::new();
    while from < spool.end() {
        let read = spool.read(from, 7, 700).unwrap();
        let bytes: usize = read.pushes.iter().map(|p| p.body.len()).sum();
        assert!(!read.pushes.is_empty() && read.pushes.len() <= 7, "{} pushes", read.pushes.len());
        assert!(bytes <= 700 || read.pushes.len() == 1, "{bytes} bytes");
        seen.extend(read.pushes.iter().map(|p| p.position.0));
        from = read.next;
    }
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_repeat_is_recognised_and_other_bytes_under_the_same_uuid_are_stored() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, [1, 2, 3]);
    let repeat = wait(spool.append(push(2))).unwrap();
    assert_eq!(repeat, Appended::Repeat { position: Position(2) });
    let without_uuid = wait(spool.append(push(3))).unwrap();
    assert_eq!(without_uuid, Appended::Repeat { position: Position(3) });

    let mut other = push(77);
    other.key.uuid = key(2).uuid;
    let stored = wait(spool.append(other)).unwrap();
    assert_eq!(stored, Appended::Stored { position: Position(4), uuid_reused: true });

    let mut other_action = push(2);
    other_action.key.action = "status".into();
    let stored = wait(spool.append(other_action)).unwrap();
    assert_eq!(stored, Appended::Stored { position: Position(5), uuid_reused: true });

    let stats = spool.stats();
    assert_eq!((stats.appended, stats.repeats, stats.uuid_reuses), (5, 2, 2));
}

#[test]
fn a_repeat_is_recognised_after_a_restart_and_not_after_the_window() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    append(&spool, 0..50);
    wait(spool.close());
    let (spool, _) = world.open(&["crm"]);
    assert_eq!(wait(spool.append(push(7))).unwrap(), Appended::Repeat { position: Position(8) });
    world.clock.pass(world.settings.dedupe_window * 2);
    assert!(matches!(wait(spool.append(push(7))).unwrap(), Appended::Stored { .. }));
}

#[test]
fn a_repeat_in_flight_shares_the_fate_of_the_first() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let (a, b, c) = wait(async {
        let all = tokio::join!(spool.append(push(1)), spool.append(push(1)), spool.append(push(2)));
        (all.0.unwrap(), all.1.unwrap(), all.2.unwrap())
    });
    assert_eq!(a.position(), b.position());
    assert_ne!(a.position(), c.position());
    wait(spool.close());
    assert_eq!(*world.committed.lock().unwrap(), [(a.position(), 1), (c.position(), 2)]);
}

#[test]
fn the_callback_sees_each_push_once_and_in_order() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let mut appended = Vec::new();
    for n in 0..20 {
        appended.push((wait(spool.append(push(n))).unwrap().position(), n));
        wait(spool.append(push(n))).unwrap();
    }
    wait(spool.close());
    assert_eq!(*world.committed.lock().unwrap(), appended);
}

#[test]
fn a_push_is_stored_though_its_appender_hangs_up() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    wait(async {
        let mut appending = Box::pin(spool.append(push(5)));
        // Polled once, which queues it, and dropped, answered or not.
        std::future::poll_fn(|cx| {
            let _answered = appending.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    });
    until("the commit", || spool.end() == Position(2));
    assert_eq!(spool.get(Position(1)).unwrap().unwrap().body, body(5));
}

#[test]
fn too_large_and_too_many_are_refused_with_numbers() {
    let mut world = World::new();
    world.settings.in_flight = 100;
    let (spool, _) = world.open(&["crm"]);
    let large = NewPush { body: vec![0; 4000].into(), ..push(1) };
    assert_eq!(
        wait(spool.append(large)),
        Err(AppendError::TooLarge { what: "the body", size: 4000, limit: SEGMENT / 4 })
    );
    let busy = AtomicUsize::new(0);
    wait(async {
        let one = |n| {
            let (spool, busy) = (&spool, &busy);
            async move {
                match spool.append(NewPush { body: vec![n as u8; 60].into(), ..push(n) }).await {
                    Err(AppendError::Busy { waiting }) => {
                        assert!(waiting >= 60);
                        busy.fetch_add(1, Ordering::Relaxed);
                    }
                    other => drop(other.unwrap()),
                }
            }
        };
        tokio::join!(one(1), one(2), one(3));
    });
    // The first may be committed before the next is offered, but what waits is never above the limit.
    assert!(busy.load(Ordering::Relaxed) <= 2);
    until("the end of the commits", || spool.stats().in_flight == 0);
}

#[test]
fn quarantine_keeps_equal_bytes_once_and_has_a_share_of_the_room() {
    let world = World::new();
    let (spool, _) = world.open(&["crm"]);
    let first = wait(spool.quarantine(found(1))).unwrap();
    let again = wait(spool.quarantine(found(1))).unwrap();
    assert!(first.is_new && !again.is_new && first.position == again.position);
    append(&spool, [9]);
    let pushes = spool.read(Position(1), 10, usize::MAX).unwrap().pushes;
    assert_eq!(pushes.len(), 1, "quarantine is no push");
    assert_eq!(spool.get(first.position).unwrap(), None);

    let full = (2..200).find_map(|n| wait(spool.quarantine(found(n))).err());
    assert!(
        matches!(full, Some(AppendError::QuarantineFull { limit, .. }) if limit == world.settings.max_size / 20)
    );
    let held = spool.quarantined(Position(0), 1000).unwrap();
    assert_eq!((held[0].body.clone(), held[0].reason.as_str()), (body(1), "no JSON 1"));

    let all: Vec<Position> = held.iter().map(|q| q.position).collect();
    assert_eq!(wait(spool.discard_quarantine(&all)).unwrap(), all);
    assert!(wait(spool.quarantine(found(1))).unwrap().is_new);
    wait(spool.close());
    let (spool, _) = world.open(&["crm"]);
    assert_eq!(spool.quarantined(Position(0), 1000).unwrap().len(), 1);
    assert_eq!(spool.read(Position(1), 1000, usize::MAX).unwrap().pushes.len(), 1);
}
