//! What `load` promises: all faults at once, each at its place, none with a secret in it; and the shipped file.

use std::{fs, path::PathBuf, time::Duration};

use cdr_gateway::{
    builtin_sinks,
    config::{self, Finding, LogFormat, LogLevel, Plan, SHIPPED, Source},
};
use cdr_spool::Start;
use proptest::prelude::*;
use tempfile::TempDir;

/// A folder with a `gateway.yaml` in it.
struct Folder(TempDir);

impl Folder {
    fn with(yaml: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.yaml"), yaml).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<(Plan, Vec<Finding>), Vec<Finding>> {
        let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        config::load(
            &Source::File(self.path("gateway.yaml")),
            &builtin_sinks(),
            environment.iter().map(variable),
        )
    }

    /// Findings as the operator reads them, the folder left out.
    fn told(&self, findings: &[Finding]) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        findings.iter().map(|finding| finding.to_string().replace(&folder, "")).collect()
    }
}

#[track_caller]
fn plan(yaml: &str, environment: &[(&str, &str)]) -> Plan {
    let folder = Folder::with(yaml);
    match folder.load(environment) {
        Ok((plan, _)) => plan,
        Err(faults) => panic!("{:#?}", folder.told(&faults)),
    }
}

#[track_caller]
fn faults(yaml: impl AsRef<[u8]>, environment: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::with(yaml);
    folder.told(&folder.load(environment).expect_err("there should be faults"))
}

#[track_caller]
fn fault(yaml: &str, expected: &str) {
    let faults = faults(yaml, &[]);
    assert_eq!(faults, [expected]);
}

fn warnings(yaml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::with(yaml);
    let (_, warnings) = folder.load(environment).unwrap();
    folder.told(&warnings)
}

/// A file with nothing to warn of, and what is under test below it.
fn sound(more: &str) -> String {
    format!(
        "sinks:\n  archive: {{ file: {{ path: data/archive }} }}\n\
         routes:\n  - {{ name: all, to: [archive] }}\nalerts: {{ to: [archive] }}\n{more}"
    )
}

#[test]
fn the_shipped_file_has_no_faults_and_no_warnings() {
    let folder = Folder::with(SHIPPED);
    let (plan, warnings) = folder.load(&[]).unwrap_or_else(|faults| panic!("{:#?}", folder.told(&faults)));
    assert_eq!(folder.told(&warnings), Vec::<String>::new());
    let sinks: Vec<_> = plan.sinks.iter().map(|sink| (sink.lane.name.as_str(), sink.kind.as_str())).collect();
    assert_eq!(sinks, [("archive", "file"), ("crm", "http"), ("on-call", "email")]);
    assert_eq!(plan.spool.path, folder.path("data/spool"));
    assert_eq!(plan.alerts.to.len(), 1);
    assert_eq!(plan.timezone.iana_name(), Some("Asia/Shanghai"));
}

#[test]
fn the_shipped_file_says_what_would_count_without_it() {
    let (shipped, bare) = (plan(SHIPPED, &[]), plan("", &[]));
    assert_eq!(shipped.ingress, bare.ingress);
    let spool =
        |plan: &Plan| (plan.spool.keep, plan.spool.max_size, plan.spool.dedupe_window, plan.spool.in_flight);
    assert_eq!(spool(&shipped), spool(&bare));
    assert_eq!((shipped.admin.listen, shipped.log), (bare.admin.listen, bare.log));
    assert_eq!(shipped.timezone, bare.timezone);
    let archive = &shipped.sinks[0].lane;
    assert_eq!(archive.retry, cdr_dispatch::RetryPolicy::default());
}

#[test]
fn what_the_shipped_file_comments_out_works_once_it_is_not() {
    let settings: Vec<&str> = SHIPPED.lines().filter(|line| line.trim_start().starts_with("# ")).collect();
    let uncommented = settings
        .iter()
        .filter(|line| line.contains(": ") && line.starts_with("  "))
        .fold(SHIPPED.to_owned(), |file, line| file.replacen(line, &line.replacen("# ", "", 1), 1));
    // Two of them stand instead of another, and one names files that are not there.
    let uncommented = uncommented
        .replace("  tls: {", "  # tls: {")
        .replace("    file: { path: data/archive }\n", "")
        .replace("      outbox: data/outbox ", "      # ")
        .replace("TCCC_PASSWORD", "CARGO_PKG_NAME")
        // Long enough for a secret that tokens are made of.
        .replace("TCCC_SECRET", "CARGO_MANIFEST_DIR")
        .replace("PUSH_KEY", "CARGO_PKG_NAME")
        .replace("SMTP_PASSWORD", "CARGO_PKG_NAME");
    let plan = plan(&uncommented, &[]);
    assert!(plan.ingress.allow.is_some() && plan.ingress.verify.is_some(), "{uncommented}");
    assert_eq!(plan.ingress.trusted_proxies.len(), 1);
    assert_eq!(plan.sinks[0].kind, "s3");
    assert_eq!(plan.alerts.silence, Some(Duration::from_secs(12 * 3600)));
    assert_eq!(plan.alerts.repeat, Some(Duration::from_secs(24 * 3600)));
}

#[test]
fn the_built_in_configuration_is_the_shipped_file() {
    let (plan, warnings) = config::load(&Source::Shipped, &builtin_sinks(), []).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(plan.spool.path, PathBuf::from("data/spool"));
}

#[test]
fn all_faults_are_told_at_once_each_at_its_place() {
    let yaml = r#"ingress:
  allow: { networks: [203.0.113.0/24, 10.0.0.300] }
sinks:
  archive:
    s3: { bukcet: cdr, region: ap-shanghai }
  crm:
    http:
      url: http://127.0.0.1:9000/
      auth: { bearer: { env: NO_SUCH_VARIABLE } }
routes:
  - { name: all, to: [archvie] }
  - { name: 应答, when: 'EndStatusSting == "ok"', to: [crm] }
  - name: broken
    when: action ==
    to: [crm]
alerts: { to: [crm] }
"#;
    let faults = faults(yaml, &[]);
    let begins = [
        "gateway.yaml:2:39: ingress.allow.networks.1: \"10.0.0.300\" is neither an address",
        "gateway.yaml:5:11: unknown setting \"bukcet\", did you mean \"bucket\"?",
        "gateway.yaml:9:15: sinks.crm.http.auth.bearer: the environment variable NO_SUCH_VARIABLE is not set",
        "gateway.yaml:11:23: routes.0.to.0: unknown sink \"archvie\", did you mean \"archive\"?",
        "gateway.yaml:12:24: routes.1.when: ",
        "gateway.yaml:14:",
    ];
    assert_eq!(faults.len(), begins.len(), "{faults:#?}");
    for (fault, begin) in faults.iter().zip(begins) {
        assert!(fault.starts_with(begin), "{begin} does not begin {faults:#?}");
    }
    assert!(faults[4].contains("did you mean \"EndStatusString\"?"), "{}", faults[4]);
}

#[test]
fn variables_set_what_the_file_does_not_and_more() {
    let environment = [
        ("CDR_GATEWAY_INGRESS__LISTEN", "127.0.0.1:18080"),
        ("CDR_GATEWAY_INGRESS__LIMITS__CONNECTIONS", "8"),
        ("CDR_GATEWAY_SPOOL__MAX_SIZE", "1GiB"),
        ("CDR_GATEWAY_SINKS__ON_CALL__EMAIL__TO", "[a@example.com, b@example.com]"),
        ("CDR_GATEWAY_SINKS__CRM__HTTP__KEEP_QUERY", "true"),
        ("CDR_GATEWAY_SINKS__CRM__CONCURRENCY", "3"),
        ("CDR_GATEWAY_SINKS__CRM__RETRY__MAX", "20m"),
        ("CDR_GATEWAY_SINKS__SECOND", "{ file: { path: second } }"),
        ("CDR_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("CDR_GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("OTHER__THING", "x"),
    ];
    let plan = plan(SHIPPED, &environment);
    assert_eq!(plan.ingress.listen.port(), 18080);
    assert_eq!((plan.ingress.limits.connections, plan.ingress.limits.body_timeout.as_secs()), (8, 10));
    assert_eq!(plan.spool.max_size, 1 << 30);
    let names: Vec<_> = plan.sinks.iter().map(|sink| sink.lane.name.as_str()).collect();
    assert_eq!(names, ["archive", "crm", "on-call", "second"]);
    assert_eq!(plan.sinks[1].lane.concurrency, 3);
    assert_eq!(plan.sinks[1].lane.retry.max, Duration::from_secs(1200));
}

#[test]
fn a_text_of_digits_stays_a_text_where_a_text_is_wanted() {
    let yaml = sound("ingress:\n  verify: [{ basic: { username: tccc, password: 0123 } }]\n");
    let plan = plan(&yaml, &[("CDR_GATEWAY_ADMIN__TOKEN", "0123")]);
    assert_eq!(plan.admin.token.unwrap().expose(), "0123");
    let verify = plan.ingress.verify.unwrap();
    let [cdr_ingress::Proof::Basic(basic)] = verify.as_slice() else { panic!("{verify:?}") };
    assert_eq!(basic.password.expose(), "0123");
}

#[test]
fn a_fault_in_a_variable_names_the_variable() {
    let environment = [
        ("CDR_GATEWAY_INGRESS__LIMITS__CONNECTIONS", "many"),
        ("CDR_GATEWAY_INGRESS__LISTEN", "8080"),
        ("CDR_GATEWAY_INGRES__PATH", "/x"),
        ("CDR_GATEWAY_SINKS__NEW__FILE__LAYOUT", "raw"),
        ("CDR_GATEWAY_SPOOL__KEEP__DAYS", "7"),
        ("CDR_GATEWAY_SPOOL____KEEP", "7d"),
        ("CDR_GATEWAY_ROUTES__0__NAME", "x"),
    ];
    let at_once = faults(SHIPPED, &environment[..4]);
    let expected = [
        "CDR_GATEWAY_INGRESS__LIMITS__CONNECTIONS: ingress.limits.connections: expected a whole number, found a text",
        "CDR_GATEWAY_INGRESS__LISTEN: ingress.listen: \"8080\" is not an address with a port, such as 127.0.0.1:8080 or 0.0.0.0:8080",
        "CDR_GATEWAY_INGRES__PATH: unknown setting \"ingres\", did you mean \"ingress\"?",
        "CDR_GATEWAY_SINKS__NEW__FILE__LAYOUT: sinks.new.file: missing setting \"path\"",
    ];
    for expected in expected {
        assert!(at_once.iter().any(|fault| fault == expected), "{expected} is not in {at_once:#?}");
    }
    assert_eq!(at_once.len(), 4);
    let expected = [
        "CDR_GATEWAY_ROUTES__0__NAME: routes is a list; a variable can only set all of it",
        "CDR_GATEWAY_SPOOL__KEEP__DAYS: spool.keep has no settings in it",
        "CDR_GATEWAY_SPOOL____KEEP: a name of a setting is missing before or after `__`",
    ];
    let mut nowhere = faults(SHIPPED, &environment[4..]);
    nowhere.sort();
    assert_eq!(nowhere, expected);
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    for (yaml, expected) in [
        ("spool: { keep: 7d\nadmin: {}\n", "gateway.yaml:2:"),
        ("spool:\n  keep: 7d\n  keep: 8d\n", "gateway.yaml:3:3: no YAML: duplicate"),
        ("spool:\n\tkeep: 7d\n", "gateway.yaml:2:"),
        ("a: *nowhere\n", "gateway.yaml:1:4"),
        ("- a\n- b\n", "gateway.yaml: the file must be a group"),
        ("just text", "gateway.yaml: the file must be a group"),
        ("admin: {}\n---\nadmin: {}\n", "gateway.yaml:3:"),
        ("admin: 'unterminated", "gateway.yaml:1:8"),
        ("admin: !other {}\n", "gateway.yaml:1:15: no YAML: unsupported tag"),
        ("? { a: b }\n: c\n", "gateway.yaml:1:3"),
    ] {
        let faults = faults(yaml, &[]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with(expected), "{expected} does not begin {faults:?}");
        assert!(!faults[0].contains("at line") && !faults[0].contains('\n'), "{faults:?}");
    }
    let invalid = faults(b"# fine\nspool: { path: \xff }\n", &[]);
    assert_eq!(invalid, ["gateway.yaml: is no UTF-8 text, from line 2 on"]);
    let nowhere =
        config::load(&Source::File("/nowhere/gateway.yaml".into()), &builtin_sinks(), []).unwrap_err();
    assert!(nowhere[0].to_string().starts_with("/nowhere/gateway.yaml: cannot be read: No such file"));
}

#[test]
fn words_that_some_parsers_take_for_truth_stay_words() {
    let yaml = sound("").replace("name: all", "name: yes");
    assert!(Folder::with(yaml).load(&[]).is_ok());
    fault(
        &sound("").replace("name: all", "name: true"),
        "gateway.yaml:4:13: routes.0.name: expected a text, found true or false; put it in quotes",
    );
}

#[test]
fn each_sink_has_one_kind_and_only_what_it_knows() {
    let at_once = faults(
        "sinks:
  a: { fiel: { path: x } }
  b: { file: { path: x }, s3: { bucket: y } }
  c: {}
  d: file
  e: { file: }
  f: { file: { path: x }, paht: y }
  g: { file: { path: x }, rate_limit: 5/d, mask: [Caller] }
  g-: { file: { path: x } }
  On-Call: { file: { path: x } }
  i: { http: { url: 'http://127.0.0.1/' }, concurrency: 0, retry: { initial: 20m }, start_at: soon }
",
        &[],
    );
    let expected = [
        "gateway.yaml:2:8: unknown kind of sink \"fiel\", did you mean \"file\"?",
        "gateway.yaml:3:27: sinks.b.s3: a sink has one kind, and this one has \"file\" and \"s3\"",
        "gateway.yaml:4:3: sinks.c: the sink has no kind; there are: file, s3, email, http",
        "gateway.yaml:5:6: sinks.d: expected a kind and its settings, such as { file: { path: data } }",
        "gateway.yaml:6:8: sinks.e.file: missing setting \"path\"",
        "gateway.yaml:7:27: unknown setting \"paht\"; there are: retry, rate_limit, concurrency, start_at, mask",
        "gateway.yaml:8:39: sinks.g.rate_limit: expected a number of pushes per second, minute or hour, such as 10/s, 600/m or 1000/h",
        "gateway.yaml:8:51: sinks.g.mask.0: unknown value; there are: last4, hash, remove, keep",
        "gateway.yaml:10:3: sinks.On-Call: a sink's name is 1 to 64 lower-case letters, digits, - or _, beginning with a letter or digit",
        "gateway.yaml:11:57: sinks.i.concurrency: must be at least 1",
        "gateway.yaml:11:60: sinks.i.retry.max: must be at least initial, which is 1200s",
        "gateway.yaml:11:95: sinks.i.start_at: expected now, beginning, a day such as 2026-11-22, or a time such as 2026-11-22T08:00:00+08:00",
    ];
    assert_eq!(at_once, expected);
}

#[test]
fn a_mask_that_would_not_hold_is_a_fault_and_an_archive_is_masked_only_if_that_is_meant() {
    let at_once = faults(
        "sinks:
  a: { file: { path: x }, mask: {} }
  b: { http: { url: 'http://127.0.0.1/' }, mask: { numbers: hash } }
  c: { http: { url: 'http://127.0.0.1/' }, mask: { numbers: last } }
  d: { file: { path: x }, mask: { archive: true, nmes: remove } }
",
        &[],
    );
    let expected = [
        "gateway.yaml:2:27: sinks.a.mask: an archive holds what came, byte for byte, and a masked one never will again; mask: { archive: true } if you mean it",
        "gateway.yaml:3:44: sinks.b.mask.key: hash needs a key, or every number could be found by trying: key: { env: MASK_KEY }, as of openssl rand -hex 32",
        "gateway.yaml:4:61: sinks.c.mask.numbers: unknown value \"last\", did you mean \"last4\"?",
        "gateway.yaml:5:50: unknown setting \"nmes\", did you mean \"names\"?",
    ];
    assert_eq!(at_once, expected);
    let warned = warnings(
        "sinks:
  a: { file: { path: x }, mask: { archive: true, names: hash, key: 0123456789abcdef0 } }
routes: [{ name: all, to: [a] }]
alerts: { to: [a] }
",
        &[],
    );
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("sinks.a.mask.key: this secret stands in the file"), "{warned:?}");
}

#[test]
fn a_sink_retries_as_all_do_but_for_what_it_sets_itself() {
    let plan = plan(
        "timezone: Asia/Shanghai
sinks:
  archive: { file: { path: x }, start_at: beginning }
  crm: { http: { url: 'http://127.0.0.1/' }, retry: { factor: 3 }, concurrency: 2, rate_limit: 600/m, start_at: 2026-11-22 }
  mail: { email: { outbox: o, from: a@example.com, to: [b@example.com] }, start_at: 2026-11-22T00:00:00Z }
  quick: { http: { url: 'http://127.0.0.1/' }, retry: { initial: 10ms, give_up_after: 1h } }
retry: { initial: 2s, max: 1m }
",
        &[],
    );
    let lane = |name: &str| &plan.sinks.iter().find(|sink| sink.lane.name.as_str() == name).unwrap().lane;
    let seconds = Duration::from_secs;
    let crm = lane("crm");
    assert_eq!((crm.retry.initial, crm.retry.factor, crm.retry.max), (seconds(2), 3, seconds(60)));
    assert_eq!((crm.concurrency, crm.start), (2, Start::At(1_795_276_800_000)));
    assert_eq!((crm.rate_limit, lane("archive").rate_limit), (Some("600/m".parse().unwrap()), None));
    assert_eq!(lane("archive").start, Start::Beginning);
    assert_eq!(lane("mail").start, Start::At(1_795_305_600_000));
    assert_eq!(lane("quick").start, Start::Now);
    let give_up = |name| lane(name).retry.give_up_after;
    assert_eq!((give_up("archive"), give_up("mail")), (None, Some(seconds(24 * 3600))));
    assert_eq!((give_up("crm"), give_up("quick")), (Some(seconds(7 * 24 * 3600)), Some(seconds(3600))));
}

#[test]
fn sections_that_contradict_each_other_are_faults() {
    fault(
        &sound("spool: { max_size: 8MiB }"),
        "gateway.yaml:6:20: spool.max_size: must be at least 16.0 MiB",
    );
    fault(
        &sound("spool: { max_size: 128MiB }\ningress: { limits: { body: 4MiB } }"),
        "gateway.yaml:7:28: ingress.limits.body: a spool of this max_size takes bodies of at most 2.0 MiB; make spool.max_size at least 256.0 MiB",
    );
    fault(
        &sound("ingress: { limits: { body: 17MiB, in_flight: 20MiB } }"),
        "gateway.yaml:6:28: ingress.limits.body: a spool of this max_size takes bodies of at most 16.0 MiB; no spool takes larger ones",
    );
    fault(
        &sound("ingress: { listen: 127.0.0.1:8081 }"),
        "gateway.yaml: admin.listen: ingress.listen has 127.0.0.1:8081 already; take another port",
    );
    fault(
        &sound("admin: { listen: 0.0.0.0:9090 }"),
        "gateway.yaml:6:18: admin.listen: everybody who reaches it could read pushes: set admin.token, or listen on 127.0.0.1",
    );
    fault(
        &sound("retry: { initial: 1m, max: 1s }"),
        "gateway.yaml:6:28: retry.max: must be at least initial, which is 60s",
    );
    fault(&sound("retry: { factor: 0 }"), "gateway.yaml:6:18: retry.factor: must be at least 1");
    assert!(faults(sound("retry: { give_up_after: 1d }"), &[])[0].contains("belongs to a sink"));
}

#[test]
fn values_that_no_setting_can_have_are_told_in_words() {
    fault(&sound("spool: { keep: long }"), "gateway.yaml:6:16: spool.keep: expected a duration such as 30s");
    fault(
        &sound("spool: { keep: 7 }"),
        "gateway.yaml:6:16: spool.keep: expected a duration such as 30s, found a number",
    );
    fault(
        &sound("spool: { max_size: huge }"),
        "gateway.yaml:6:20: spool.max_size: expected a size such as 20GiB",
    );
    fault(&sound("spool: { path: '' }"), "gateway.yaml:6:16: spool.path: the path is empty");
    fault(
        &sound("timezone: Asia/Shanhgai"),
        "gateway.yaml:6:11: timezone: unknown time zone \"Asia/Shanhgai\", did you mean \"Asia/Shanghai\"?",
    );
    fault(&sound("timezone: 8"), "gateway.yaml:6:11: timezone: expected a name such as Asia/Shanghai");
    fault(
        &sound("log: { format: xml }"),
        "gateway.yaml:6:16: log.format: unknown value; there are: text, json",
    );
    fault(
        &sound("log: { level: inof }"),
        "gateway.yaml:6:15: log.level: unknown value \"inof\", did you mean \"info\"?",
    );
    fault(
        &sound("admin:\n  listen:\n"),
        "gateway.yaml:7:3: admin.listen: expected socket address, found nothing",
    );
    fault(
        &sound("retry: { factor: 1.5 }"),
        "gateway.yaml:6:18: retry.factor: expected a whole number, found a fraction",
    );
    fault(
        &sound("retry: { factor: -1 }"),
        "gateway.yaml:6:18: retry.factor: expected a whole number, found -1",
    );
    fault(&sound("ingres: {}"), "gateway.yaml:6:1: unknown setting \"ingres\", did you mean \"ingress\"?");
    fault(
        &sound("").replace("alerts: { to: [archive]", "alerts: { to: [nobody]"),
        "gateway.yaml:5:16: alerts.to.0: unknown sink \"nobody\"; there are: archive",
    );
    fault(
        &sound("").replace("routes:\n  - {", "routes:\n  {"),
        "gateway.yaml:3:1: routes: expected a list, such as - { name: every push, to: [archive] }",
    );
    fault(
        "sinks: [a]",
        "gateway.yaml:1:1: sinks: expected sinks by their names, such as archive: { file: { path: data } }",
    );
}

#[test]
fn a_faulty_route_does_not_hide_the_faults_of_the_next() {
    let yaml = "sinks: { a: { file: { path: x } } }
routes:
  - { nam: first, to: [a] }
  - { name: second, to: [b] }
";
    assert_eq!(
        faults(yaml, &[]),
        [
            "gateway.yaml:3:7: unknown setting \"nam\", did you mean \"name\"?",
            "gateway.yaml:4:26: routes.1.to.0: unknown sink \"b\", did you mean \"a\"?",
        ]
    );
}

#[test]
fn a_wrong_time_zone_is_told_once_and_not_by_each_sink_that_inherits_it() {
    let yaml = SHIPPED.replace("timezone: Asia/Shanghai", "timezone: Asia/Shanghia");
    assert_eq!(
        faults(yaml, &[]),
        ["gateway.yaml:6:11: timezone: unknown time zone \"Asia/Shanghia\", did you mean \"Asia/Shanghai\"?"]
    );
}

#[test]
fn log_settings_are_read() {
    let log = plan(&sound("log: { format: json, level: debug }"), &[]).log;
    assert_eq!((log.format, log.level), (LogFormat::Json, LogLevel::Debug));
}

#[test]
fn secrets_come_from_the_environment_or_a_file_without_its_last_line_end() {
    let folder = Folder::with(sound("admin: { token: { file: token } }\n"));
    for (text, secret) in [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("hunter2\n\n", "hunter2\n")]
    {
        fs::write(folder.path("token"), text).unwrap();
        assert_eq!(folder.load(&[]).unwrap().0.admin.token.unwrap().expose(), secret);
    }
    fs::write(folder.path("token"), "\n").unwrap();
    let empty = folder.load(&[]).unwrap_err();
    assert_eq!(folder.told(&empty), ["gateway.yaml:6:10: admin.token: the secret is empty"]);
    fs::remove_file(folder.path("token")).unwrap();
    let missing = folder.load(&[]).unwrap_err();
    assert_eq!(
        folder.told(&missing),
        ["gateway.yaml:6:10: admin.token: token: No such file or directory (os error 2)"]
    );
    // Cargo sets it for whoever runs the tests.
    let plan = plan(&sound("admin: { token: { env: CARGO_PKG_NAME } }\n"), &[]);
    assert_eq!(plan.admin.token.unwrap().expose(), env!("CARGO_PKG_NAME"));
}

#[test]
fn no_fault_tells_a_secret() {
    let http = |auth: &str| format!("sinks: {{ crm: {{ http: {{ url: 'http://127.0.0.1/', {auth} }} }} }}");
    for yaml in [
        "ingress: { verify: [{ basic: 'tccc:hunter2' }] }".to_owned(),
        "ingress: { verify: [{ basic: { username: 'a:b', password: hunter2 } }] }".to_owned(),
        "ingress: { verify: [{ basic: { usrname: a, password: hunter2 } }] }".to_owned(),
        "ingress: { verify: 'hunter2' }".to_owned(),
        http("auth: hunter2"),
        "ingress: { verify: [hunter2] }".to_owned(),
        "log: { format: hunter2 }".to_owned(),
        "spool: { keep: hunter2 }".to_owned(),
        http("auth: { bearer: [hunter2] }"),
        http("auth: { bearer: \"hunter2\\n\" }"),
        http("auth: { basic: { username: 'a:b', password: hunter2 } }"),
        "sinks: { crm: { http: { url: 'http://u:hunter2@127.0.0.1/' } } }".to_owned(),
        "sinks: { m: { email: { smtp: { url: 'smtp://u:hunter2@h' }, from: a@b.c, to: [a@b.c] } } }"
            .to_owned(),
        "sinks: { m: { email: { smtp: { url: x, password: hunter2 }, from: a@b.c, to: [hunter2] } } }"
            .to_owned(),
        "sinks: { s: { s3: { bucket: b, secret_access_key: hunter2, endpoint: x } } }".to_owned(),
        "admin: { listen: 0.0.0.0:1, token: { envv: hunter2 } }".to_owned(),
        "admin: { listen: x, token: hunter2 }".to_owned(),
        "admin: { token: hunter2 }\ningress: { listen: hunter2 }".to_owned(),
        "admin: { token: hunter2\nspool: {}\n".to_owned(),
        "admin: { token: 'hunter2 }".to_owned(),
        "admin: { token: hunter2: hunter2 }".to_owned(),
    ] {
        let faults = faults(&yaml, &[]);
        assert!(!faults.concat().contains("hunter2"), "{yaml}\n{faults:#?}");
    }
    let variable =
        faults("", &[("CDR_GATEWAY_INGRESS__VERIFY", "hunter2"), ("CDR_GATEWAY_ADMIN__TOKEN", "")]);
    assert_eq!(variable.len(), 2, "{variable:?}");
    assert!(!variable.concat().contains("hunter2"), "{variable:?}");
}

#[test]
fn what_is_doubtful_is_warned_of_at_its_place() {
    assert_eq!(warnings(&sound(""), &[]), Vec::<String>::new());
    let yaml = "ingress:
  listen: 0.0.0.0:8080
sinks:
  archive: { file: { path: x } }
  crm: { http: { url: 'http://127.0.0.1/', headers: { X-Api-Key: hunter2 }, auth: { bearer: hunter2 } } }
routes:
  - { name: some, when: 'action == \"cdr\"', to: [archive] }
";
    let expected = [
        "gateway.yaml: alerts: names no sink; what goes wrong is told to the log alone",
        "gateway.yaml:2:11: ingress.listen: anybody who reaches it can push: set ingress.verify or ingress.allow, or a long random path",
        "gateway.yaml:2:11: ingress.listen: phone numbers and passwords come over the network for all to read: set ingress.tls, or put a proxy that speaks HTTPS in front and name it in ingress.trusted_proxies",
        "gateway.yaml:5:3: sinks.crm: no route names this sink, so it gets nothing",
        "gateway.yaml:5:66: sinks.crm.http.headers.X-Api-Key: this secret stands in the file; { env: NAME } or { file: PATH } keeps it out of backups and tickets",
        "gateway.yaml:5:93: sinks.crm.http.auth.bearer: this secret stands in the file; { env: NAME } or { file: PATH } keeps it out of backups and tickets",
        "gateway.yaml:6:1: routes: no route takes every push; one that none takes is kept for spool.keep and goes nowhere",
    ];
    let told = warnings(yaml, &[]);
    assert_eq!(told, expected);
    for guarded in [
        "path: /a-path-that-nobody-guesses",
        "allow: { networks: [10.0.0.0/8] }",
        "verify: [{ basic: { username: a, password: { env: CARGO_PKG_NAME } } }]",
    ] {
        let yaml =
            sound(&format!("ingress: {{ listen: '[::]:8080', trusted_proxies: [10.0.0.1], {guarded} }}"));
        assert_eq!(warnings(&yaml, &[]), Vec::<String>::new(), "{guarded}");
    }
    let crm = |auth: &str| {
        let http = format!("{{ url: 'http://127.0.0.1/', auth: {auth} }}");
        let told = warnings(&format!("sinks: {{ crm: {{ http: {http} }} }}"), &[]);
        told.iter().filter(|warning| warning.contains("stands in the file")).count()
    };
    assert_eq!(crm("{ api_key: { header: X-Key, value: hunter2 } }"), 1);
    let oauth2 = "{ oauth2: { token_url: 'http://127.0.0.1/token', client_id: a, client_secret: hunter2 } }";
    assert_eq!(crm(oauth2), 1, "the secret, and not where tokens come from");
    let literal = "verify: [{ token: { value: hunter2-hunter2-hunter2 } }, { signature: { preset: trtc, key: hunter2 } }]";
    let told = warnings(&sound(&format!("ingress: {{ listen: '127.0.0.1:8080', {literal} }}")), &[]);
    assert!(told.len() == 2 && told[0].contains("ingress.verify.0.token.value: this secret"), "{told:?}");
    assert!(told[1].contains("ingress.verify.1.signature.key: this secret"), "{told:?}");
    let by_variable = warnings(&sound(""), &[("CDR_GATEWAY_ADMIN__TOKEN", "hunter2")]);
    assert_eq!(by_variable, Vec::<String>::new());
}

#[test]
fn the_digest_changes_with_a_setting_and_not_with_a_secret_or_a_comment() {
    let digest = |more: &str, environment: &[(&str, &str)]| plan(&sound(more), environment).digest;
    let token = |token| [("CDR_GATEWAY_ADMIN__TOKEN", token)];
    assert_eq!(digest("admin: { token: a }", &[]), digest("admin: { token: b } # later", &[]));
    assert_eq!(digest("", &token("a")), digest("", &token("b")));
    assert_ne!(digest("spool: { keep: 7d }", &[]), digest("spool: { keep: 8d }", &[]));
    assert_ne!(digest("", &[]), digest("", &[("CDR_GATEWAY_SPOOL__KEEP", "8d")]));
    assert_eq!(digest("", &[]).len(), 16);
}

fn edits() -> impl Strategy<Value = Vec<(usize, usize, String)>> {
    let text = prop_oneof![
        "[ \\n\\t:{}\\[\\]'\"#&*!|>,-]{1,3}",
        Just("null".to_owned()),
        Just(": ".to_owned()),
        Just("1e999".to_owned()),
        Just("99999999999999999999999".to_owned()),
        "\\PC{0,6}",
    ];
    proptest::collection::vec((0..SHIPPED.len(), 0_usize..12, text), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_edit_of_the_shipped_file_makes_it_panic(edits in edits()) {
        let mut yaml: Vec<char> = SHIPPED.chars().collect();
        for (at, gone, text) in edits {
            let at = at.min(yaml.len());
            let end = (at + gone).min(yaml.len());
            yaml.splice(at..end, text.chars());
        }
        let folder = Folder::with(yaml.into_iter().collect::<String>());
        if let Err(faults) = folder.load(&[]) {
            prop_assert!(!faults.is_empty());
            for fault in folder.told(&faults) {
                prop_assert!(fault.starts_with("gateway.yaml"), "{fault}");
            }
        }
    }
}
