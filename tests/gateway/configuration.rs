//! The configuration as operators meet it: `check`, `init`, reload under load.

use cdr_tests::{Process, cli, until};

use super::configuration;

#[test]
fn check_tells_six_faults_at_once_each_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"ingress:
  listen: 127.0.0.1:0
  allow: { networks: [203.0.113.0/33] }
sinks:
  archive:
    s3:
      bukcet: cdr-1250000000
      region: ap-shanghai
  crm:
    http:
      url: "http://127.0.0.1:9000/calls"
      auth: { bearer: { env: NO_SUCH_VARIABLE_HERE } }
routes:
  - { name: all, to: [archvie] }
  - { name: bad, when: 'EndStatusString ==', to: [crm] }
  - { name: typo, when: 'EndStatusSting == "ok"', to: [crm] }
"#;
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    let checked = cli(folder.path(), &["check"], &[]);
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    let expect = [
        ("gateway.yaml:3:", "203.0.113.0/33"),
        ("gateway.yaml:7:7:", "did you mean \"bucket\"?"),
        ("gateway.yaml:12:", "NO_SUCH_VARIABLE_HERE"),
        ("gateway.yaml:14:", "did you mean \"archive\"?"),
        ("gateway.yaml:15:", "EndStatusString =="),
        ("gateway.yaml:16:", "did you mean"),
    ];
    for (place, words) in expect {
        let told =
            |line: &str| line.starts_with(place) && (line.contains(words) || place == "gateway.yaml:15:");
        assert!(checked.stdout.lines().any(told), "{place} {words} in\n{}", checked.stdout);
    }
    assert_eq!(checked.stdout.lines().count(), 6, "{}", checked.stdout);
}

#[test]
fn init_writes_a_configuration_that_check_finds_good() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(cli(folder.path(), &["init"], &[]).code, Some(0));
    let checked = cli(folder.path(), &["check"], &[]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let again = cli(folder.path(), &["init"], &[]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
}

#[test]
fn wrong_words_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(cli(folder.path(), &["fly"], &[]).code, Some(2));
    assert_eq!(cli(folder.path(), &["send", "--count", "many"], &[]).code, Some(2));
    assert_eq!(cli(folder.path(), &["--help"], &[]).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_reload_changes_nothing_and_a_good_one_drops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let good = configuration("http://127.0.0.1:1/");
    let gateway = Process::start(folder.path(), &good.to_string());
    let url = format!("http://{}/", gateway.door);
    let path = folder.path().to_owned();
    let load = std::thread::spawn(move || {
        let arguments = [
            "send",
            "--count",
            "2000",
            "--connections",
            "8",
            "--rate",
            "800",
            "--retries",
            "0",
            "--url",
            &url,
        ];
        cli(&path, &arguments, &[])
    });
    let successful = |value: &str| {
        let line = format!("cdr_gateway_config_last_reload_successful {value}");
        until(&line, || gateway.ask("GET", "/metrics").body.contains(&line).then_some(()));
    };
    std::fs::write(folder.path().join("gateway.yaml"), "sinks: { archive: { fiel: {} } }").unwrap();
    gateway.hang_up();
    successful("0.0");
    let refused = gateway.until_logged("the configuration was not taken");
    assert!(refused["fault"].as_str().unwrap().contains("gateway.yaml:1:"), "{refused}");
    std::fs::write(folder.path().join("gateway.yaml"), good.to_string()).unwrap();
    gateway.hang_up();
    successful("1.0");
    let load = load.join().unwrap();
    assert_eq!(load.code, Some(0), "{}\n{}", load.stdout, load.stderr);
    let reloaded = cli(folder.path(), &["reload"], &[]);
    // The address in the file is port 0: the command finds nobody there, and says so.
    assert_eq!(reloaded.code, Some(1));
    assert!(reloaded.stderr.contains("admin.listen"), "{}", reloaded.stderr);
}
