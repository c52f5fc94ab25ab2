//! `credential_process`: a command of the profile in `~/.aws` that prints credentials.
//!
//! Run here and not by the SDK, which leaves a command that hangs behind, one at each attempt, and puts all that it said to stderr
//! into errors and logs. Here a command ends with the look that started it, along with all that it started; what it says to stderr is
//! dropped, for nobody knows what it holds.
//!
//! What it prints: AWS SDKs and Tools Reference Guide, "Process credential provider". Below a role (`source_profile`) the SDK runs it.

use std::{fmt, process::Stdio};

use aws_config::profile;
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

/// In bytes. Credentials are a few hundred, with a large session token some thousand.
const LARGEST: u64 = 64 * 1024;

/// What the SDK takes from a profile rather than its `credential_process`, or puts on top of that.
const BEFORE_IT: [&str; 7] = [
    "role_arn",
    "credential_source",
    "web_identity_token_file",
    "sso_session",
    "sso_account_id",
    "sso_start_url",
    "login_session",
];

/// A command that prints credentials.
pub(crate) struct Helper {
    command: String,
}

/// What it prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// A command and all that it started: they end when this is dropped.
struct Group(Option<Pid>);

impl Helper {
    /// That of this profile, or of the one that environment and files choose, if its credentials come from one.
    pub(crate) async fn of(profile: Option<&str>) -> Option<Self> {
        let name = profile.map(|name| name.to_owned().into());
        let files = profile::load(&Default::default(), &Default::default(), &Default::default(), name).await;
        // What is wrong with the files is said by the SDK, which looks at them next.
        let files = files.ok()?;
        let profile = files.get_profile(files.selected_profile())?;
        if BEFORE_IT.iter().any(|name| profile.get(name).is_some()) {
            return None;
        }
        Some(Self { command: profile.get("credential_process")?.to_owned() })
    }

    async fn run(&self) -> provider::Result {
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("cannot be started: {error}")))?;
        let group = Group::of(&child);
        let printed = match child.stdout.take() {
            Some(stdout) => read(stdout).await?,
            None => Vec::new(),
        };
        let status = child.wait().await.map_err(|error| failed(format!("cannot be waited for: {error}")))?;
        group.let_go();
        match status.success() {
            true => credentials(&printed),
            false => Err(failed(format!("ended with {status}: run it by hand to see what it says"))),
        }
    }
}

impl ProvideCredentials for Helper {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.run())
    }
}

/// Its arguments may be secret.
impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").finish_non_exhaustive()
    }
}

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Its number may be somebody else's from now on.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error says that nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read(stdout: impl AsyncRead + Unpin) -> Result<Vec<u8>, CredentialsError> {
    let mut printed = Vec::new();
    let read = stdout.take(LARGEST + 1).read_to_end(&mut printed).await;
    read.map_err(|error| failed(format!("cannot be read: {error}")))?;
    match printed.len() as u64 > LARGEST {
        true => Err(failed(format!("printed more than {LARGEST} bytes"))),
        false => Ok(printed),
    }
}

/// No error here quotes what was printed.
fn credentials(printed: &[u8]) -> provider::Result {
    let printed: Printed = serde_json::from_slice(printed)
        .map_err(|_| failed("printed no JSON with Version, AccessKeyId and SecretAccessKey".to_owned()))?;
    if printed.version != 1 {
        return Err(failed(format!("printed version {}, and only 1 is known", printed.version)));
    }
    let mut credentials = Credentials::builder()
        .access_key_id(printed.access_key_id)
        .secret_access_key(printed.secret_access_key)
        .provider_name("credential_process");
    credentials.set_session_token(printed.session_token);
    if let Some(text) = printed.expiration {
        let end = DateTime::from_str(&text, DateTimeFormat::DateTimeWithOffset).ok();
        let end = end.and_then(|end| end.try_into().ok());
        credentials.set_expiry(Some(
            end.ok_or_else(|| failed("printed an Expiration that is no time of RFC 3339".to_owned()))?,
        ));
    }
    Ok(credentials.build())
}

fn failed(how: String) -> CredentialsError {
    CredentialsError::provider_error(format!("its credential_process {how}"))
}
