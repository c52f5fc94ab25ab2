//! What the demo plays on: receivers on loopback, and the real gateway between them.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use cdr_core::Sinks;
use cdr_simulator::{
    crm::Crm,
    s3::{Keys, S3Receiver},
    smtp::{SmtpOptions, SmtpReceiver},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{
    command::logging,
    config::{self, Log, LogLevel, SHIPPED, Source},
    gateway::Gateway,
};

/// The bucket of the demo.
pub const BUCKET: &str = "cdr-demo";

/// Further alerts of the same kind are gathered this long; five minutes by default, a demo has less.
pub const GROUP_INTERVAL: Duration = Duration::from_secs(4);

/// Receivers and gateway.
pub struct Stage {
    /// Where archives go.
    pub s3: S3Receiver,
    /// Where mails go.
    pub mailbox: SmtpReceiver,
    /// Where answered calls go; behind a lock since it goes away in the middle.
    pub crm: Mutex<Crm>,
    /// Where pushes go.
    pub gateway: Gateway,
    _folder: TempDir,
}

impl Stage {
    /// Starts everything.
    pub async fn set(sinks: Sinks, level: Option<LogLevel>) -> anyhow::Result<Self> {
        let keys = Keys::new("CDRDEMOKEY", "cdr-demo-secret-of-no-worth");
        let s3 = S3Receiver::start(0, &[BUCKET], keys).await.context("cannot start the S3 receiver")?;
        let mailbox =
            SmtpReceiver::start(0, SmtpOptions::default()).await.context("cannot start the mailbox")?;
        let crm = Crm::start("127.0.0.1:0").await.context("cannot start the CRM")?;
        let folder = TempDir::with_prefix("cdr-gateway-demo-").context("cannot make a temporary folder")?;
        let path = folder.path().join("gateway.yaml");
        let configuration = configuration(&s3, &mailbox, &crm)?;
        std::fs::write(&path, configuration.to_string()).context("cannot write the demo's configuration")?;
        // The gateway's own lines would drown the story; what goes wrong is still told.
        logging::start_quietly(level.unwrap_or(LogLevel::Error));
        let gateway = start_gateway(path, sinks).await?;
        say!("receivers  S3 {}   SMTP {}   CRM {}", s3.endpoint(), mailbox_address(&mailbox), crm.url());
        say!("gateway    http://{}/   admin http://{}/", gateway.address(), gateway.admin_address());
        say!("routes     every push → S3;  error, noSeatOnline → mail;  answered → CRM\n");
        Ok(Self { s3, mailbox, crm: Mutex::new(crm), gateway, _folder: folder })
    }

    /// Stops everything; the folder goes with it.
    pub async fn clear(self) {
        self.gateway.stop().await;
    }
}

async fn start_gateway(path: PathBuf, sinks: Sinks) -> anyhow::Result<Gateway> {
    let source = Source::File(path);
    // The environment is for the gateway that somebody runs for good; the demo is the same everywhere.
    let (plan, _) = config::load(&source, &sinks, Vec::new()).or_else(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        bail!("the demo's configuration has faults:\n{}", faults.join("\n"))
    })?;
    debug_assert_eq!(plan.log, Log::default());
    Ok(Gateway::start(plan, source, sinks).await?)
}

fn mailbox_address(mailbox: &SmtpReceiver) -> String {
    format!("127.0.0.1:{}", mailbox.port())
}

/// The shipped configuration, with the receivers of the demo in place of files. JSON is YAML.
fn configuration(s3: &S3Receiver, mailbox: &SmtpReceiver, crm: &Crm) -> anyhow::Result<Value> {
    let mut settings: Value =
        serde_saphyr::from_str(SHIPPED).context("the shipped configuration is no YAML")?;
    settings["ingress"]["listen"] = json!("127.0.0.1:0");
    settings["admin"]["listen"] = json!("127.0.0.1:0");
    settings["sinks"]["archive"] = json!({ "s3": {
        "bucket": BUCKET, "region": "us-east-1", "endpoint": s3.endpoint(), "path_style": true, "layout": "raw",
        "access_key_id": "CDRDEMOKEY", "secret_access_key": "cdr-demo-secret-of-no-worth",
    }});
    settings["sinks"]["on-call"] = json!({ "email": {
        "smtp": { "url": format!("smtp://{}", mailbox_address(mailbox)), "tls": "none" },
        "from": "CDR gateway <cdr@example.com>", "to": ["on-call@example.com"],
        "group_interval": format!("{}s", GROUP_INTERVAL.as_secs()),
    }});
    settings["sinks"]["crm"]["http"]["url"] = json!(crm.url());
    settings["retry"] = json!({ "initial": "500ms", "factor": 2, "max": "2s" });
    Ok(settings)
}
