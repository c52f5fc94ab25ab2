//! The way to the bucket: a client, made at first use.
//!
//! Not earlier, since building a sink is pure: `check` may run where neither the credentials nor the network of
//! the gateway are. What is missing then is said by the probe at start, and by every attempt until it is there.

use std::{sync::OnceLock, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use cdr_core::{Secret, Unavailable};
use url::{Host, Url};

use crate::settings::{Checksums, S3Settings};

/// How long connecting may take: a server that is there answers within this even from the other side of the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What signing requests falls back to when the endpoint is not AWS: servers of one's own take it.
const ANY_REGION: &str = "us-east-1";

/// The way to the bucket.
pub(crate) struct Access {
    region: Option<String>,
    endpoint: Option<Url>,
    path_style: bool,
    credentials: Option<Credentials>,
    checksums: Checksums,
    timeout: Duration,
    client: OnceLock<Client>,
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
            checksums: settings.checksums.unwrap_or(match at_aws {
                true => Checksums::Supported,
                false => Checksums::Required,
            }),
            timeout: settings.timeout,
            client: OnceLock::new(),
        }
    }

    /// The client. The first call makes it, and reads the environment for what the settings leave out.
    ///
    /// # Errors
    /// Credentials or region are nowhere to be found.
    pub(crate) fn client(&self) -> Result<&Client, Unavailable> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = self.connect(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        Ok(self.client.get_or_init(|| made))
    }

    fn connect(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Client, Unavailable> {
        let region = self.region_from(&environment)?;
        let credentials = self.credentials_from(&environment)?;
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
            .region(Region::new(region))
            .credentials_provider(credentials)
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

    fn region_from(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<String, Unavailable> {
        if let Some(region) = &self.region {
            return Ok(region.clone());
        }
        if self.endpoint.is_some() {
            return Ok(ANY_REGION.to_owned());
        }
        environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION")).ok_or_else(|| {
            Unavailable::new("no region: set \"region\", or AWS_REGION in the gateway's environment")
        })
    }

    fn credentials_from(
        &self,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<Credentials, Unavailable> {
        if let Some(credentials) = &self.credentials {
            return Ok(credentials.clone());
        }
        let (Some(id), Some(secret)) =
            (environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"))
        else {
            return Err(Unavailable::new(
                "no credentials: set \"access_key_id\" and \"secret_access_key\", or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY in the gateway's environment",
            ));
        };
        let token = environment("AWS_SESSION_TOKEN").map(Secret::new);
        Ok(credentials(&id, &secret, token.as_ref()))
    }

    /// Where it leads, for people: the endpoint, or AWS and its region.
    pub(crate) fn place(&self) -> String {
        match (&self.endpoint, &self.region) {
            (Some(endpoint), _) => endpoint.as_str().trim_end_matches('/').to_owned(),
            (None, Some(region)) => format!("AWS {region}"),
            (None, None) => "AWS, region from the environment".to_owned(),
        }
    }

    /// Whether the settings name the credentials; else the environment does.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn access(settings: &str) -> Access {
        Access::new(serde_json::from_str(settings).unwrap())
    }

    fn missing(access: &Access, variables: &[(&str, &str)]) -> Option<String> {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        access.connect(environment).err().map(|why| why.reason)
    }

    #[test]
    fn aws_needs_a_region_and_other_servers_do_not() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let aws = access(r#"{ "bucket": "calls" }"#);
        assert!(missing(&aws, &keys).unwrap().starts_with("no region: set \"region\""));
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            assert_eq!(missing(&aws, &[keys[0], keys[1], (name, "eu-central-1")]), None);
        }
        let own = access(r#"{ "bucket": "calls", "endpoint": "http://127.0.0.1:9000" }"#);
        assert_eq!(missing(&own, &keys), None);
    }

    #[test]
    fn half_a_pair_of_keys_is_none() {
        let own = access(r#"{ "bucket": "calls", "endpoint": "http://127.0.0.1:9000" }"#);
        for variables in [&[][..], &[("AWS_ACCESS_KEY_ID", "a")], &[("AWS_SECRET_ACCESS_KEY", "s")]] {
            assert!(missing(&own, variables).unwrap().starts_with("no credentials"));
        }
    }
}
