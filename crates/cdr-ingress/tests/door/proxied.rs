//! Behind proxies that speak the PROXY protocol.

use std::net::SocketAddr;

use cdr_ingress::Verdict;
use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use serde_json::json;

use crate::{
    certificates::{Authority, Speaks, tls},
    client::{Answer, CDR, Client, cdr, push},
    logs::Log,
    store::{House, eventually},
};

/// A door that only 203.0.113.0/24 may use, behind two proxies.
async fn behind() -> House {
    let networks = json!({ "networks": ["203.0.113.0/24"] });
    House::open(json!({ "allow": networks, "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"] })).await
}

fn v1(sender: &str) -> Vec<u8> {
    format!("PROXY TCP4 {sender} 192.0.2.1 4711 443\r\n").into_bytes()
}

fn v2(sender: &str) -> Vec<u8> {
    let [source, destination] = [format!("{sender}:4711"), "192.0.2.1:443".into()]
        .map(|text: String| text.parse::<SocketAddr>().unwrap());
    let mut header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
    header.append_tlv(Tlv::Authority("gateway.example.com".into()));
    let mut bytes = Vec::new();
    header.encode_v2(&mut bytes).unwrap();
    bytes
}

async fn send(house: &House, header: &[u8], request: &str) -> Answer {
    crate::client::send(house.door.address(), [header, request.as_bytes()].concat()).await
}

#[tokio::test]
async fn the_sender_is_whom_the_header_names_for_all_requests_of_the_connection() {
    for header in [v1("203.0.113.7"), v2("203.0.113.7")] {
        let house = behind().await;
        let mut client = Client::connect(house.door.address()).await;
        client.write(&header).await;
        for _ in 0..2 {
            client.write(cdr()).await;
            client.answer().await.is_ok();
        }
        assert_eq!(house.store.only().facts.sender, Some([203, 0, 113, 7].into()));
    }
}

/// Or strangers behind a load balancer could hold all connections, with requests that never end.
#[tokio::test]
async fn strangers_whom_a_proxy_names_take_no_connection_from_others_behind_it() {
    let limits = json!({ "connections": 1, "header_timeout": "1h" });
    let house = House::open(json!({
        "allow": { "networks": ["203.0.113.0/24"] }, "trusted_proxies": ["127.0.0.1"], "limits": limits,
    }))
    .await;
    let mut stranger = Client::connect(house.door.address()).await;
    stranger.write([v2("198.51.100.9").as_slice(), b"POST / HTTP/1.1\r\n"].concat()).await;
    // Until its header is read it has the seat of the proxy.
    for _ in 0..1000 {
        if send(&house, &v2("203.0.113.7"), &cdr()).await.status == 200 {
            stranger.write("Host: gateway\r\n\r\n").await;
            return stranger.answer().await.is(403, "not accepted");
        }
    }
    panic!("the stranger keeps the only connection");
}

#[tokio::test]
async fn each_sender_whom_a_proxy_names_has_connections_of_its_own() {
    let limits = json!({ "connections_per_client": 1 });
    let house = House::open(json!({ "trusted_proxies": ["127.0.0.1"], "limits": limits })).await;
    let mut inside = Client::connect(house.door.address()).await;
    inside.write([v2("203.0.113.7").as_slice(), cdr().as_bytes()].concat()).await;
    inside.answer().await.is_ok();
    send(&house, &v1("203.0.113.7"), &cdr()).await.is(429, "too many connections");
    send(&house, &v1("203.0.113.8"), &cdr()).await.is_ok();
    assert_eq!(house.count(Verdict::ClientConnections), 1);
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    let house = behind().await;
    let mut client = Client::connect(house.door.address()).await;
    client.0.set_nodelay(true).unwrap();
    for byte in [v2("203.0.113.7"), cdr().into_bytes()].concat() {
        client.write([byte]).await;
    }
    client.answer().await.is_ok();
}

#[tokio::test]
async fn the_header_decides_whether_x_forwarded_for_counts() {
    let house = behind().await;
    let claims = push("/?action=cdr", &["X-Forwarded-For: 203.0.113.7"], CDR);
    // A stranger claims: nothing.
    send(&house, &v2("198.51.100.9"), &claims).await.is(403, "not accepted");
    // A proxy behind the proxy says so: it counts.
    send(&house, &v2("10.0.0.2"), &claims).await.is_ok();
    // No header at all, as nginx does.
    send(&house, b"", &claims).await.is_ok();
    send(&house, &v1("203.0.113.8"), &cdr()).await.is_ok();
}

#[tokio::test]
async fn a_proxy_that_asks_for_itself_comes_from_its_own_address() {
    let house = behind().await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [b"PROXY UNKNOWN\r\n".as_slice(), local] {
        send(&house, header, &cdr()).await.is(403, "not accepted");
    }
    let all = House::open(json!({ "trusted_proxies": ["127.0.0.1"] })).await;
    send(&all, local, &cdr()).await.is_ok();
    assert_eq!(all.store.only().facts.sender, Some([127, 0, 0, 1].into()));
}

#[tokio::test]
async fn from_anybody_else_it_is_refused_and_told() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({ "trusted_proxies": ["10.0.0.0/8"] })).await;
    for header in [v1("203.0.113.7"), v2("203.0.113.7")] {
        let mut client = Client::connect(house.door.address()).await;
        client.write([header.as_slice(), cdr().as_bytes()].concat()).await;
        assert_eq!(client.answer().await.status, 400);
    }
    eventually("both are counted", || house.count(Verdict::NotHttp) == 2).await;
    assert_eq!(log.lines_with("counts only from ingress.trusted_proxies").len(), 1, "{}", log.text());
    assert!(house.store.bodies().is_empty());
}

#[tokio::test]
async fn a_malformed_header_is_refused_and_a_second_one_too() {
    let house = behind().await;
    send(&house, b"PROXY TCP4 203.0.113.700 192.0.2.1 1 2\r\n", &cdr())
        .await
        .is(400, "PROXY protocol is malformed");
    let twice = [v1("203.0.113.7"), v1("203.0.113.8")].concat();
    assert_eq!(send(&house, &twice, &cdr()).await.status, 400);
    assert!(house.store.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_header_that_stalls_is_ended() {
    let proxies = json!(["127.0.0.1"]);
    let house =
        House::open(json!({ "trusted_proxies": proxies, "limits": { "header_timeout": "2s" } })).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(&v2("203.0.113.7")[..20]).await;
    client.answer().await.is(408, "did not arrive within");
    client.is_closed().await;
    assert_eq!(house.count(Verdict::SlowHead), 1);
}

#[tokio::test]
async fn tls_comes_after_the_header() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.door().lie_in(folder.path());
    let house = House::open(json!({ "tls": tls(folder.path()), "trusted_proxies": ["127.0.0.1"] })).await;
    let mut client = Client::connect(house.door.address()).await;
    client.write(v2("203.0.113.7")).await;
    let mut client = Client(Speaks::knowing(&authority).over(client.0).await.expect("TLS"));
    client.write(cdr()).await;
    client.answer().await.is_ok();
    assert_eq!(house.store.only().facts.sender, Some([203, 0, 113, 7].into()));
}

#[tokio::test]
async fn a_door_of_tls_takes_no_header_from_strangers_either() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.door().lie_in(folder.path());
    let house = House::open(json!({ "tls": tls(folder.path()), "trusted_proxies": ["10.0.0.0/8"] })).await;
    send(&house, &v1("203.0.113.7"), "").await.is(400, "not HTTP/1.1");
    let mut client = Client::connect(house.door.address()).await;
    client.write(v2("203.0.113.7")).await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(house.count(Verdict::NotHttp), 2);
}
