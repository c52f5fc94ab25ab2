//! The way to the bucket: a client, made at first use.
//!
//! Not earlier, since building a sink is pure: `check` may run where neither the credentials nor the network of
//! the gateway are. What is missing then is said by the probe at start, and by every attempt until it is there.

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, IdentityCache, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use cdr_core::{Secret, Unavailable};
use tokio::sync::OnceCell;
use url::{Host, Url};

use crate::{
    settings::{Checksums, S3Settings},
    sources::{LOOK, Sources},
};

/// How long connecting may take: a server that is there answers within this even from the other side of the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the region is looked for that the settings leave out.
const LOOK_FOR_REGION: Duration = Duration::from_secs(5);

/// What signing requests falls back to when the endpoint is not AWS: servers of one's own take it.
const ANY_REGION: &str = "us-east-1";

/// The way to the bucket.
pub(crate) struct Access {
    region: Option<String>,
    endpoint: Option<Url>,
    path_style: bool,
    credentials: Option<Credentials>,
    /// Where they are looked for otherwise.
    sources: Sources,
    checksums: Checksums,
    timeout: Duration,
    client: OnceCell<Client>,
}

impl Access {
    /// The way that these settings, already checked, describe.
    pub(crate) fn new(settings: S3Settings) -> Self {
        let at_aws = settings.endpoint.is_none();
        let credentials = settings
            .access_key_id
            .zip(settings.secret_access_key)
            .map(|(id, secret)| credentials(id.expose(), secret.expose(), settings.session_token.as_ref()));
        Self {
            region: settings.region,
            endpoint: settings.endpoint,
            path_style: settings.path_style,
            credentials,
            sources: Sources::new(settings.profile, settings.timeout),
            checksums: settings.checksums.unwrap_or(match at_aws {
                true => Checksums::Supported,
                false => Checksums::Required,
            }),
            timeout: settings.timeout,
            client: OnceCell::new(),
        }
    }

    /// The client. The first call makes it, and looks for a region that the settings leave out.
    ///
    /// # Errors
    /// There is no region.
    pub(crate) async fn client(&self) -> Result<&Client, Unavailable> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Client, Unavailable> {
        let region = self.region().await?;
        let credentials = match &self.credentials {
            Some(credentials) => SharedCredentialsProvider::new(credentials.clone()),
            None => SharedCredentialsProvider::new(self.sources.credentials(region.clone())),
        };
        let (calculation, validation) = match self.checksums {
            Checksums::Required => {
                (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
            }
            Checksums::Supported => {
                (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
            }
        };
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT.min(self.timeout)).build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .credentials_provider(credentials)
            // Longer than a look: the client's own limit would be told as a connection that broke.
            .identity_cache(IdentityCache::lazy().load_timeout(2 * LOOK).build())
            .force_path_style(self.path_style)
            .request_checksum_calculation(calculation)
            .response_checksum_validation(validation)
            // One attempt: the lane decides about the next. Two layers of retries would hide throttling from it.
            .retry_config(RetryConfig::disabled())
            // An attempt has its own deadline over all its requests and bodies, so a stalled one ends there.
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let config = match &self.endpoint {
            Some(endpoint) => config.endpoint_url(endpoint.as_str()),
            None => config,
        };
        Ok(Client::from_conf(config.build()))
    }

    async fn region(&self) -> Result<Region, Unavailable> {
        if let Some(region) = &self.region {
            return Ok(Region::new(region.clone()));
        }
        if self.endpoint.is_some() {
            return Ok(Region::from_static(ANY_REGION));
        }
        // Nobody answers where there is no metadata service, and the attempt has a deadline.
        let found = tokio::time::timeout(LOOK_FOR_REGION, self.sources.region()).await;
        found.ok().flatten().ok_or_else(|| {
            Unavailable::new("no region: set \"region\", or AWS_REGION in the gateway's environment")
        })
    }

    /// Where it leads, for people: the endpoint, or AWS and its region.
    pub(crate) fn place(&self) -> String {
        match (&self.endpoint, &self.region) {
            (Some(endpoint), _) => endpoint.as_str().trim_end_matches('/').to_owned(),
            (None, Some(region)) => format!("AWS {region}"),
            (None, None) => "AWS".to_owned(),
        }
    }

    /// Where credentials come from that the settings do not hold, for people.
    pub(crate) fn keys_from(&self) -> Option<String> {
        self.credentials.is_none().then(|| self.sources.describe())
    }

    /// Whether the bucket's name becomes part of the host's name, which DNS must then know.
    pub(crate) fn names_bucket_in_host(&self) -> bool {
        let by_name = |endpoint: &Url| matches!(endpoint.host(), Some(Host::Domain(_)));
        !self.path_style && self.endpoint.as_ref().is_none_or(by_name)
    }
}

fn credentials(id: &str, secret: &str, token: Option<&Secret>) -> Credentials {
    Credentials::new(id, secret, token.map(|token| token.expose().to_owned()), None, "cdr-sink-s3")
}
