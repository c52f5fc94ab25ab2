//! The simulator's S3 is S3 to the official client, beyond what the sink asks of it.

use std::time::Duration;

use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    presigning::PresigningConfig,
    types::{CompletedMultipartUpload, CompletedPart},
};
use cdr_simulator::s3::{Keys, S3Receiver};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const BUCKET: &str = "archive";

async fn server() -> S3Receiver {
    S3Receiver::start(0, &[BUCKET], Keys::new("AKTEST", "secret")).await.unwrap()
}

fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKTEST", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

#[tokio::test]
async fn of_two_conditional_puts_one_wins() {
    let server = server().await;
    let client = client(&server.endpoint());
    let put = |body: &'static [u8]| {
        client.put_object().bucket(BUCKET).key("k").if_none_match("*").body(body.to_vec().into()).send()
    };
    for _ in 0..20 {
        let (one, other) = tokio::join!(put(b"one"), put(b"other"));
        assert!(one.is_ok() != other.is_ok());
        let winner = if one.is_ok() { "one" } else { "other" };
        assert_eq!(server.objects(BUCKET)[0].bytes, winner);
        client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    }
    assert!(server.objects(BUCKET).is_empty());
}

#[tokio::test]
async fn parts_become_one_object() {
    let server = server().await;
    let client = client(&server.endpoint());
    let upload =
        client.create_multipart_upload().bucket(BUCKET).key("k").metadata("a", "b").send().await.unwrap();
    let id = upload.upload_id().unwrap();
    let mut done = CompletedMultipartUpload::builder();
    // S3 joins no parts below 5 MiB but the last.
    let first = "hello ".repeat(1 << 20);
    for (number, bytes) in [(2, "world"), (1, &*first)] {
        let body = bytes.as_bytes().to_vec().into();
        let part = client.upload_part().bucket(BUCKET).key("k").upload_id(id).part_number(number).body(body);
        let etag = part.send().await.unwrap().e_tag().unwrap().to_owned();
        done = done.parts(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    assert!(server.objects(BUCKET).is_empty());
    let mut parts = done.build().parts().to_vec();
    parts.sort_by_key(|part| part.part_number());
    let done = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete =
        client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id).multipart_upload(done);
    complete.send().await.unwrap();
    let got = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.metadata().unwrap()["a"], "b");
    assert!(got.body.collect().await.unwrap().into_bytes() == format!("{first}world"));
}

#[tokio::test]
async fn listings_come_in_pages() {
    let server = server().await;
    let client = client(&server.endpoint());
    for number in 0..7 {
        server.plant(BUCKET, &format!("a/{number}"), b"x");
    }
    server.plant(BUCKET, "b/0", b"x");
    let mut pages = client.list_objects_v2().bucket(BUCKET).prefix("a/").into_paginator().page_size(3).send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    assert_eq!(keys, ["a/0", "a/1", "a/2", "a/3", "a/4", "a/5", "a/6"]);
}

#[tokio::test]
async fn a_listing_with_a_delimiter_tells_folders_once_each_and_counts_them_in_its_pages() {
    let server = server().await;
    let client = client(&server.endpoint());
    for key in ["a/1/x", "a/1/y", "a/2/x", "a/b", "a/c", "d/e"] {
        server.plant(BUCKET, key, b"x");
    }
    let list = client.list_objects_v2().bucket(BUCKET).prefix("a/").delimiter("/");
    let mut pages = list.into_paginator().page_size(3).send();
    let mut told = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        let folders = page.common_prefixes().iter().filter_map(|folder| folder.prefix());
        let keys = page.contents().iter().filter_map(|object| object.key());
        told.push(folders.chain(keys).map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(told, [vec!["a/1/", "a/2/", "a/b"], vec!["a/c"]]);
}

/// `*.localhost` does not resolve everywhere, so the request is signed for that host and carried there by hand.
#[tokio::test]
async fn buckets_are_reached_by_virtual_host() {
    let server = server().await;
    let client = client(&format!("http://localhost:{}", server.address().port()));
    let signed = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = client.put_object().bucket(BUCKET).key("by/host").presigned(signed).await.unwrap();
    let uri: http::Uri = put.uri().parse().unwrap();
    assert_eq!(uri.host(), Some("archive.localhost"));

    let mut request =
        format!("PUT {} HTTP/1.1\r\nHost: {}\r\n", uri.path_and_query().unwrap(), uri.authority().unwrap());
    for (name, value) in put.headers() {
        request += &format!("{name}: {value}\r\n");
    }
    request += "Content-Length: 5\r\nConnection: close\r\n\r\nhello";
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let objects = server.objects(BUCKET);
    assert_eq!((objects[0].key.as_str(), &objects[0].bytes[..]), ("by/host", &b"hello"[..]));
}
