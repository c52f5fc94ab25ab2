//! `send` proves who it is in every way that the door asks for, and a wrong proof of each is refused.

use std::{fs, path::Path};

use cdr_simulator::sender::Preset;
use cdr_tests::{Cli, Process, cli};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{certificate, configuration, paths};

const RIGHT: &str = "5d41402abc4b2a76b9719d911017c592";
const WRONG: &str = "7d793037a0760186574b0282f2f435e7";
const WEBHOOK: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const WRONG_WEBHOOK: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn door(verify: Value) -> Value {
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["verify"] = verify;
    settings["routes"].as_array_mut().unwrap().truncate(1);
    settings
}

/// Pushes one call, whose number is `first`, with this in the environment variable `PROOF`.
fn send(gateway: &Process, first: usize, proof: &[&str], secret: &str) -> Cli {
    let url = format!("http://{}/", gateway.door);
    send_to(gateway.folder(), &url, first, proof, secret)
}

fn send_to(folder: &Path, url: &str, first: usize, proof: &[&str], secret: &str) -> Cli {
    let first = first.to_string();
    let arguments = [&["send", "--url", url, "--retries", "0", "--first", &first], proof].concat();
    cli(folder, &arguments, &[("PROOF", secret)])
}

/// A proof, how `send` gives it, its secret, a wrong one, and what is said of that.
struct Way {
    proof: Value,
    arguments: Vec<&'static str>,
    secrets: [String; 2],
    refused: &'static str,
}

/// No two have a secret in common.
fn ways() -> Vec<Way> {
    let token = |number: u32, proof: &dyn Fn(&str) -> Value, arguments: &[&'static str]| {
        let secrets = [RIGHT, WRONG].map(|secret| format!("{secret}{number}"));
        Way { proof: proof(&secrets[0]), arguments: arguments.to_vec(), secrets, refused: "wrong token" }
    };
    let tokens = [
        token(
            0,
            &|value| json!({ "token": { "header": "X-Token", "value": value } }),
            &["--token-env", "PROOF", "--token-header", "X-Token"],
        ),
        token(
            1,
            &|value| json!({ "token": { "query": "token", "value": value } }),
            &["--token-env", "PROOF", "--token-query", "token"],
        ),
        token(2, &|value| json!({ "token": { "value": value } }), &["--bearer-env", "PROOF"]),
    ];
    let signature = |preset: Preset| {
        let secrets = match preset {
            Preset::StandardWebhooks => [WEBHOOK, WRONG_WEBHOOK].map(str::to_owned),
            _ => [RIGHT, WRONG].map(|secret| format!("{secret} {preset}")),
        };
        Way {
            proof: json!({ "signature": { "preset": preset.name(), "key": secrets[0] } }),
            arguments: vec!["--sign", preset.name(), "--sign-secret-env", "PROOF"],
            secrets,
            refused: "the signature is not taken",
        }
    };
    tokens.into_iter().chain(Preset::ALL.map(signature)).collect()
}

#[test]
fn every_token_and_signature_passes_with_its_secret_alone() {
    let folder = tempfile::tempdir().unwrap();
    let proofs = ways().into_iter().map(|way| way.proof).collect();
    let gateway = Process::start(folder.path(), &door(proofs).to_string());
    for (number, Way { arguments, secrets: [right, wrong], refused, .. }) in ways().into_iter().enumerate() {
        let said = send(&gateway, 2 * number, &arguments, &right);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
        let said = send(&gateway, 2 * number + 1, &arguments, &wrong);
        assert_eq!(said.code, Some(1), "{arguments:?}: {}", said.stdout);
        assert!(said.stdout.contains(refused), "{arguments:?}: {}", said.stdout);
    }
    let bare = send(&gateway, 1000, &[], "");
    assert!(bare.stdout.contains("asks for a proof of sender"), "{}", bare.stdout);
    gateway.until_delivered();
    assert_eq!(paths(&folder.path().join("data/archive"), ".json").len(), ways().len());
}

#[test]
fn every_way_of_signing_that_the_door_takes_can_be_sent() {
    let schema = cli(Path::new("."), &["schema"], &[]).stdout;
    let schema: Value = serde_json::from_str(&schema).expect("a schema is JSON");
    let presets = "/properties/ingress/properties/verify/items/oneOf/3/properties/signature/properties/preset/anyOf/0/oneOf";
    let presets = schema.pointer(presets).and_then(Value::as_array).expect("the door's presets");
    let known: Vec<&str> = presets.iter().map(|preset| preset["const"].as_str().unwrap()).collect();
    assert_eq!(known, Preset::ALL.map(Preset::name));
}

#[test]
fn an_access_token_is_got_at_the_door_and_serves_many_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = door(json!([{ "oauth2": { "client_id": "tccc", "client_secret": RIGHT } }]));
    let gateway = Process::start(folder.path(), &settings.to_string());
    let client = ["--oauth2-client-id", "tccc", "--oauth2-secret-env", "PROOF"];
    let sent = send(&gateway, 0, &[&client[..], &["--count", "20", "--connections", "4"]].concat(), RIGHT);
    assert_eq!(sent.code, Some(0), "{}{}", sent.stdout, sent.stderr);
    let url = format!("http://{}/oauth2/token", gateway.door);
    let told = send(&gateway, 20, &[&client[..], &["--oauth2-url", &url]].concat(), RIGHT);
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
    let metrics = gateway.ask("GET", "/metrics").body;
    assert!(metrics.contains(r#"cdr_gateway_requests_total{verdict="stored"} 21"#), "{metrics}");
    assert!(metrics.contains(r#"cdr_gateway_requests_total{verdict="token"} 2"#), "{metrics}");

    let wrong = send(&gateway, 21, &client, WRONG);
    assert_eq!(wrong.code, Some(1));
    let words =
        format!("no access token: {} answers HTTP 401: wrong client_id or client_secret", gateway.door);
    assert!(wrong.stdout.contains(&words), "{}", wrong.stdout);
}

/// A certificate for this name and its key, signed, in `NAME.pem` and `NAME-key.pem`.
fn certify(folder: &Path, authority: &CertifiedIssuer<'static, KeyPair>, name: &str) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
    fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_certificate_is_shown_and_one_of_a_stranger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificate::write(folder.path(), &certificate::pair("gateway"));
    let (ours, foreign) = (authority(), authority());
    fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
    certify(folder.path(), &ours, "tccc");
    certify(folder.path(), &ours, "other");
    certify(folder.path(), &foreign, "stranger");
    let mut settings = door(json!([
        { "mtls": { "subject": "CN=tccc" } },
        { "oauth2": { "client_id": "tccc", "client_secret": RIGHT } },
    ]));
    settings["ingress"]["tls"] =
        json!({ "certificate": "cert.pem", "key": "key.pem", "client_ca": "ca.pem" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let url = format!("https://localhost:{}/", gateway.door.port());
    let send = |first, proof: &[&str], secret| {
        let trust = ["--ca", "cert.pem"];
        send_to(folder.path(), &url, first, &[&trust, proof].concat(), secret)
    };
    let taken = send(0, &["--cert", "tccc.pem", "--key", "tccc-key.pem"], "");
    assert_eq!(taken.code, Some(0), "{}{}", taken.stdout, taken.stderr);
    let client = ["--oauth2-client-id", "tccc", "--oauth2-secret-env", "PROOF"];
    let by_token = send(1, &client, RIGHT);
    assert_eq!(by_token.code, Some(0), "{}{}", by_token.stdout, by_token.stderr);

    let bare = send(2, &[], "");
    assert!(bare.stdout.contains("a client certificate or OAuth 2.0 is expected"), "{}", bare.stdout);
    let other = send(3, &["--cert", "other.pem", "--key", "other-key.pem"], "");
    assert!(other.stdout.contains("HTTP 401, ErrCode 401"), "{}", other.stdout);
    let stranger = send(4, &["--cert", "stranger.pem", "--key", "stranger-key.pem"], "");
    assert!(
        stranger.stdout.contains("it may want a client certificate, or another one"),
        "{}",
        stranger.stdout
    );
    for refused in [&bare, &other, &stranger] {
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    }
    let mixed = send(5, &["--cert", "tccc.pem", "--key", "other-key.pem"], "");
    assert!(mixed.stderr.contains("does not fit its key"), "{}", mixed.stderr);
    gateway.until_delivered();
    assert_eq!(paths(&folder.path().join("data/archive"), ".json").len(), 2);
}

#[test]
fn proofs_that_are_half_given_or_two_at_once_are_used_wrongly() {
    let folder = tempfile::tempdir().unwrap();
    let send = |proof: &[&str]| send_to(folder.path(), "http://127.0.0.1:1/", 0, proof, RIGHT);
    for proof in [
        &["--bearer-env", "PROOF", "--token-env", "PROOF", "--token-header", "X-Token"][..],
        &["--username", "tccc", "--password-env", "PROOF", "--sign", "im", "--sign-secret-env", "PROOF"],
        &["--token-env", "PROOF"],
        &["--token-header", "X-Token"],
        &["--oauth2-client-id", "tccc"],
        &["--sign", "github"],
        &["--sign", "githup", "--sign-secret-env", "PROOF"],
        &["--cert", "cert.pem"],
    ] {
        assert_eq!(send(proof).code, Some(2), "{proof:?}");
    }
    let unset = send(&["--bearer-env", "NO_SUCH_VARIABLE_HERE"]);
    assert_eq!(unset.code, Some(1));
    assert!(unset.stderr.contains("variable NO_SUCH_VARIABLE_HERE holds no text"), "{}", unset.stderr);
}
