//! Objects of many places, which are gathered side by side.

use cdr_tests::{Process, until};

use super::*;

const PLACES: usize = 70;
const PUSHES: usize = 2 * PLACES;
const BODY: usize = 60_000;
/// What a lane has in hand at most.
const ROOM: usize = 6 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_many_places_share_the_room_of_one_lane() {
    let server = server().await;
    let s3 = with(
        settings(&server),
        json!({
            "layout": "ndjson", "key": "{app}/{spool}-{first}-{last}-{sha}.{ext}",
            "batch": { "pushes": 4000, "size": "8MiB", "age": "1h" },
        }),
    );
    let configuration = json!({
        "ingress": { "listen": "127.0.0.1:0" }, "admin": { "listen": "127.0.0.1:0" },
        "spool": { "path": "data/spool" },
        "sinks": { "archive": { "s3": s3 } },
        "routes": [{ "name": "every push is archived", "to": ["archive"] }],
    });
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &configuration.to_string());
    let pushing = tokio::task::spawn_blocking(move || {
        for number in 0..PUSHES {
            let body = json!({
                "SessionId": format!("s-{number}"), "SdkAppId": 1_400_000_000 + number % PLACES, "Uui": "x".repeat(BODY),
            });
            assert_eq!(gateway.push("cdr", body.to_string().as_bytes(), None).err_code(), 0);
        }
        // Nothing is full or old enough to go, but for the room.
        until("what is more than the room has gone", || {
            let lane = gateway.lane("archive");
            let waiting = lane["open"].as_u64()? + lane["unread"].as_u64()?;
            (usize::try_from(waiting).unwrap() * BODY <= ROOM).then_some(())
        });
    });
    pushing.await.unwrap();
    let objects = server.objects(BUCKET);
    assert!(objects.iter().all(|object| object.puts == 1), "what goes early goes once");
    let positions = |object: &cdr_simulator::s3::Object| {
        cdr_archive::record::read(&object.key, &object.bytes).unwrap().unwrap().len()
    };
    // Those that waited longest went, and no more than had to.
    assert!(objects.iter().map(positions).sum::<usize>() < PUSHES);
}
