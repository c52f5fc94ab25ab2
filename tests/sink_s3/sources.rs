//! Credentials that the settings do not hold: each of AWS's sources, against a server that checks their token, too.
//!
//! Variables are a process's own, so each test runs this binary again, as a child.

use std::{
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::{Timestamp, ToSpan as _};
use tempfile::TempDir;
use tokio::{io::BufReader, net::TcpStream};

use super::{on_the_way::read_request, *};

const SETTINGS: &str = "CDR_TEST_S3_SETTINGS";
const TOKEN: &str = "a-session-token-that-no-log-may-hold";
const METADATA_TOKEN: &str = "a-token-of-the-metadata-service";
const ROLE: &str = "arn:aws:iam::123456789012:role/archive";
/// Below the ten seconds within which the client asks again.
const SOON: i64 = 4;

/// A metadata service, a container's endpoint and an STS in one. Each time it is asked it gives other keys, and the S3 server
/// knows none but those.
struct Giver {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Giver {
    async fn start(s3: Arc<S3Receiver>, seconds: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let requests = asked.clone();
        tokio::spawn(async move {
            let keys = AtomicUsize::new(0);
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &s3, &keys, seconds, &requests).await;
            }
        });
        Self { url, asked }
    }

    /// How often it gave keys.
    fn given(&self) -> usize {
        let gives =
            |asked: &&String| !asked.contains("/api/token") && !asked.contains("security-credentials/ ");
        self.asked.lock().unwrap().iter().filter(gives).count()
    }
}

async fn answer(
    stream: TcpStream,
    s3: &S3Receiver,
    keys: &AtomicUsize,
    seconds: i64,
    requests: &Mutex<Vec<String>>,
) {
    let mut stream = BufReader::new(stream);
    let (head, body) = read_request(&mut stream).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    let (status, headers, text) = answer_to(&head, &body, || {
        let number = keys.fetch_add(1, Ordering::Relaxed);
        let (id, secret) = (format!("{ID}{number}"), format!("{SECRET}-{number}"));
        s3.know(Keys::temporary(&id, &secret, TOKEN));
        (id, secret, Timestamp::now() + seconds.seconds())
    });
    requests.lock().unwrap().push(format!("{head}{body}"));
    let length = text.len();
    let answer =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{text}");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Status, headers and text, as AWS documents them.
fn answer_to(
    head: &str,
    body: &str,
    give: impl FnOnce() -> (String, String, Timestamp),
) -> (&'static str, &'static str, String) {
    let has_header = |name: &str, value: &str| {
        head.lines().any(|line| line.eq_ignore_ascii_case(&format!("{name}: {value}")))
    };
    let json = |(id, secret, until): (String, String, Timestamp)| {
        let keys = json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "AccessKeyId": id,
            "SecretAccessKey": secret, "Token": TOKEN, "Expiration": format!("{until:.0}"),
        });
        keys.to_string()
    };
    let with_token = has_header("x-aws-ec2-metadata-token", METADATA_TOKEN);
    match head.split(' ').nth(1).unwrap() {
        "/latest/api/token" if head.starts_with("PUT") => {
            ("200 OK", "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", METADATA_TOKEN.to_owned())
        }
        "/latest/meta-data/iam/security-credentials/" if with_token => ("200 OK", "", "gateway".to_owned()),
        "/latest/meta-data/iam/security-credentials/gateway" if with_token => ("200 OK", "", json(give())),
        "/container" if has_header("authorization", "of the pod") => ("200 OK", "", json(give())),
        "/" if body.contains("RoleArn=arn%3Aaws%3Aiam") => {
            let action = ["AssumeRoleWithWebIdentity", "AssumeRole"]
                .into_iter()
                .find(|action| body.contains(&format!("Action={action}&")))
                .unwrap();
            let (id, secret, until) = give();
            let xml = format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
                 <AssumedRoleUser><Arn>{ROLE}/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser><Credentials>\
                 <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{TOKEN}</SessionToken><Expiration>{until:.0}</Expiration></Credentials>\
                 </{action}Result></{action}Response>"
            );
            ("200 OK", "Content-Type: text/xml\r\n", xml)
        }
        _ => ("401 Unauthorized", "", String::new()),
    }
}

/// What the child says that delivers two pushes with these settings, in an environment of these variables alone.
async fn child(settings: Value, home: &Path, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["sink_s3::sources::in_an_environment_of_its_own", "--exact", "--ignored", "--nocapture"])
        .env_clear()
        // Else a machine at AWS would lend its role to the test.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", home)
        .env(SETTINGS, settings.to_string())
        .envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the log is captured"), "{said}");
    for secret in [SECRET, TOKEN, METADATA_TOKEN, "of the pod"] {
        assert!(!said.contains(secret), "{said}");
    }
    said
}

#[tokio::test]
#[ignore = "the child of the others"]
async fn in_an_environment_of_its_own() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    let settings: Value = serde_json::from_str(&settings).unwrap();
    let log = tracing_subscriber::fmt().with_writer(io::stdout).with_max_level(tracing::Level::INFO);
    let _guard = tracing::subscriber::set_default(log.finish());
    tracing::info!("the log is captured");
    let sink = sink(settings);
    println!("{}\n{:?}", sink.describe(), sink.probe().await);
    for _ in 0..2 {
        println!("{:?}", deliver(&sink, &push("cdr", "{}")).await);
    }
}

fn without_keys(server: &S3Receiver) -> Value {
    let mut settings = settings(server);
    for name in ["access_key_id", "secret_access_key"] {
        settings.as_object_mut().unwrap().remove(name);
    }
    settings
}

#[track_caller]
fn all_arrived(said: &str, server: &S3Receiver) {
    assert!(said.contains("Ok(())") && said.matches("Delivered(").count() == 2, "{said}");
    assert_eq!(server.objects(BUCKET).len(), 2);
}

#[tokio::test]
async fn keys_of_the_environment() {
    let (server, home) = (server().await, TempDir::new().unwrap());
    server.know(Keys::temporary(ID, SECRET, TOKEN));
    let variables =
        [("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_SESSION_TOKEN", TOKEN)];
    let said = child(without_keys(&server), home.path(), &variables).await;
    assert!(said.contains("credentials from AWS's usual sources"), "{said}");
    all_arrived(&said, &server);
}

#[tokio::test]
async fn without_any_it_is_said_where_they_were_looked_for() {
    let (server, home) = (server().await, TempDir::new().unwrap());
    // Half a pair is none, and a blank one is none.
    for variables in [&[][..], &[("AWS_ACCESS_KEY_ID", ID)], &[("AWS_SECRET_ACCESS_KEY", SECRET)]] {
        let said = child(without_keys(&server), home.path(), variables).await;
        assert_eq!(said.matches("no credentials: set \\\"access_key_id\\\"").count(), 3, "{said}");
        assert_eq!(said.matches("Untried").count(), 2, "{said}");
        for source in [
            "AWS_ACCESS_KEY_ID (environment variable not set)",
            "the profile in ~/.aws (",
            "AWS_WEB_IDENTITY_TOKEN_FILE (",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI (",
            "the machine's metadata service (IMDS disabled by AWS_EC2_METADATA_DISABLED",
        ] {
            assert!(said.contains(source), "{source}: {said}");
        }
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_source_that_is_set_and_fails_is_told_by_name() {
    let (server, home) = (server().await, TempDir::new().unwrap());
    let web_identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"), ("AWS_ROLE_ARN", ROLE)];
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/"), ("AWS_ROLE_ARN", ROLE)];
    for (variables, words) in [
        (&web_identity, "AWS_WEB_IDENTITY_TOKEN_FILE fails: No such file"),
        (&container, "AWS_CONTAINER_CREDENTIALS_FULL_URI fails: Connection refused"),
    ] {
        let said = child(without_keys(&server), home.path(), variables).await;
        assert_eq!(said.matches(&format!("\"no credentials: {words}")).count(), 3, "{said}");
    }
    let home = home_with("[default\n", "");
    let said = child(without_keys(&server), home.path(), &[]).await;
    assert_eq!(said.matches("no credentials: the profile in ~/.aws fails: ").count(), 3, "{said}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn aws_needs_a_region_and_takes_it_from_the_profile() {
    let home = TempDir::new().unwrap();
    let aws = json!({ "bucket": BUCKET, "access_key_id": ID, "secret_access_key": SECRET, "timeout": "1s" });
    // A proxy that nobody is at, so that nothing leaves this machine.
    let nowhere = ("HTTPS_PROXY", "http://127.0.0.1:9");
    let said = child(aws.clone(), home.path(), &[nowhere]).await;
    assert_eq!(said.matches("no region: set \\\"region\\\"").count(), 3, "{said}");
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), "[default]\nregion = eu-central-1\n").unwrap();
    for variables in [&[nowhere][..], &[nowhere, ("AWS_REGION", "eu-west-1")]] {
        let said = child(aws.clone(), home.path(), variables).await;
        assert_eq!(said.matches("no connection to AWS").count(), 3, "{said}");
    }
}

/// `~/.aws` with these files.
fn home_with(config: &str, credentials: &str) -> TempDir {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    home
}

fn keys_of(profile: &str) -> String {
    format!(
        "[{profile}]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    )
}

#[tokio::test]
async fn a_profile_by_variable_or_by_setting() {
    let server = server().await;
    server.know(Keys::temporary(ID, SECRET, TOKEN));
    let home = home_with("", &keys_of("archive"));
    let said = child(without_keys(&server), home.path(), &[("AWS_PROFILE", "archive")]).await;
    all_arrived(&said, &server);
    server.delete_bucket(BUCKET);
    server.create_bucket(BUCKET);
    // It counts instead of what else there is.
    let by_name = with(without_keys(&server), json!({ "profile": "archive" }));
    let others = [("AWS_ACCESS_KEY_ID", "another"), ("AWS_SECRET_ACCESS_KEY", "anothers")];
    let said = child(by_name, home.path(), &others).await;
    assert!(said.contains("credentials of the profile archive"), "{said}");
    all_arrived(&said, &server);
}

#[tokio::test]
async fn a_profile_that_is_missing_is_told_by_name() {
    let (server, home) = (server().await, home_with("", &keys_of("archive")));
    let settings = with(without_keys(&server), json!({ "profile": "archives" }));
    let said = child(settings, home.path(), &[]).await;
    assert_eq!(said.matches("no credentials").count(), 3, "{said}");
    assert!(said.contains("`archives`"), "{said}");
}

#[tokio::test]
async fn a_profile_that_takes_on_a_role() {
    let server = Arc::new(server().await);
    let sts = Giver::start(server.clone(), 3600).await;
    let config = format!("[profile archive]\nrole_arn = {ROLE}\nsource_profile = base\n");
    let home = home_with(&config, &keys_of("base"));
    let settings = with(without_keys(&server), json!({ "profile": "archive" }));
    let said = child(settings, home.path(), &[("AWS_ENDPOINT_URL_STS", &sts.url)]).await;
    all_arrived(&said, &server);
    assert_eq!(sts.given(), 1, "they are kept while they last");
}

#[tokio::test]
async fn a_web_identity_as_pods_have_it() {
    let (server, home) = (Arc::new(server().await), TempDir::new().unwrap());
    let sts = Giver::start(server.clone(), 3600).await;
    let file = home.path().join("token");
    std::fs::write(&file, "a.web.token").unwrap();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_ENDPOINT_URL_STS", &sts.url),
    ];
    let said = child(without_keys(&server), home.path(), &variables).await;
    all_arrived(&said, &server);
    assert_eq!(sts.given(), 1);
}

#[tokio::test]
async fn a_container_and_keys_that_end_are_renewed() {
    let (server, home) = (Arc::new(server().await), TempDir::new().unwrap());
    let container = Giver::start(server.clone(), SOON).await;
    let url = format!("{}/container", container.url);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of the pod"),
    ];
    let said = child(without_keys(&server), home.path(), &variables).await;
    all_arrived(&said, &server);
    assert_eq!(container.given(), 3, "for the probe and each push");
}

#[tokio::test]
async fn a_machines_role_whose_keys_are_renewed() {
    let (server, home) = (Arc::new(server().await), TempDir::new().unwrap());
    for (seconds, given) in [(SOON, 3), (3600, 1)] {
        server.delete_bucket(BUCKET);
        server.create_bucket(BUCKET);
        let machine = Giver::start(server.clone(), seconds).await;
        let variables =
            [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*machine.url), ("AWS_EC2_METADATA_DISABLED", "false")];
        let said = child(without_keys(&server), home.path(), &variables).await;
        all_arrived(&said, &server);
        assert_eq!(machine.given(), given);
    }
}

/// `~/.aws` whose default profile has its credentials from this command.
fn home_with_command(command: &str) -> TempDir {
    home_with(&format!("[default]\ncredential_process = {command}\n"), "")
}

#[tokio::test]
async fn a_command_of_the_profile() {
    let server = server().await;
    server.know(Keys::temporary(ID, SECRET, TOKEN));
    let printed = json!({
        "Version": 1, "AccessKeyId": ID, "SecretAccessKey": SECRET, "SessionToken": TOKEN,
        "Expiration": "2199-05-02T18:36:00+00:00",
    });
    let home = home_with_command(&format!("echo '{printed}'"));
    let said = child(without_keys(&server), home.path(), &[]).await;
    all_arrived(&said, &server);
}

#[tokio::test]
async fn what_a_command_says_when_it_fails_stays_its_own() {
    let server = server().await;
    let fails = format!("echo {SECRET} >&2; exit 3");
    let garbage = format!("echo '{{ \"Version\": 1, \"{SECRET}\": 2 }}'");
    let role = format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\n");
    for (home, words) in [
        (home_with_command(&fails), "its credential_process ended with exit status: 3"),
        (home_with_command(&garbage), "its credential_process printed no JSON"),
        (home_with(&format!("{role}credential_process = {fails}\n"), ""), "exited with code exit status: 3"),
    ] {
        let said = child(without_keys(&server), home.path(), &[]).await;
        assert_eq!(said.matches(words).count(), 3, "{said}");
        assert_eq!(said.matches("Untried").count(), 2, "{said}");
    }
}

#[tokio::test]
async fn a_command_that_hangs_ends_with_all_that_it_started() {
    let server = server().await;
    let notes = TempDir::new().unwrap();
    let pids = notes.path().join("pids");
    let home = home_with_command(&format!("sleep 1000 & echo $! >> {}; wait", pids.display()));
    let settings = with(without_keys(&server), json!({ "timeout": "2s" }));
    let said = child(settings, home.path(), &[]).await;
    assert_eq!(said.matches("the profile in ~/.aws did not give any within 1 s").count(), 3, "{said}");
    assert_eq!(said.matches("Untried").count(), 2, "{said}");
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 3);
    for pid in pids.lines() {
        // One that ended and that nobody has waited for has no command line any more.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "{pid} is left behind");
    }
}

#[tokio::test]
async fn credentials_that_do_not_come_are_told_as_such() {
    let (server, home) = (server().await, TempDir::new().unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let settings = with(without_keys(&server), json!({ "timeout": "2s" }));
    let said = child(settings, home.path(), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]).await;
    let words = "no credentials: AWS_CONTAINER_CREDENTIALS_FULL_URI did not give any within 1 s";
    assert_eq!(said.matches(words).count(), 3, "{said}");
    assert_eq!(said.matches("Untried").count(), 2, "{said}");
}
