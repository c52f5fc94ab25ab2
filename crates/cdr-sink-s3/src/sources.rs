//! Where AWS keeps credentials that the settings do not hold: environment, profile, web identity, container, machine.
//!
//! The client keeps what it was given until ten seconds before its end, then asks again. Each time all sources are looked at
//! anew, so that a file that was mended or renewed needs no restart: the SDK's own chain reads `~/.aws` once, and keeps even the
//! fault that it found there.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use aws_config::{
    BehaviorVersion,
    default_provider::{credentials::DefaultCredentialsChain, region::DefaultRegionChain},
    imds,
    meta::ProviderChainError,
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
};
use aws_credential_types::provider::{self, ProvideCredentials, error::CredentialsError, future};
use aws_sdk_s3::config::Region;

use crate::trouble::{chain, innermost};

/// Credentials whose end nobody tells may be a file's that somebody renews: they are used for so long at most.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How often the machine's metadata service is asked before it counts as not there: the lane comes again.
const METADATA_ATTEMPTS: u32 = 2;

/// Where credentials and region are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// Nothing but this profile; else whatever AWS's tools would take.
    profile: Option<String>,
}

/// Credentials by these sources, for requests in this region.
#[derive(Debug)]
struct Found {
    sources: Sources,
    region: Region,
}

impl Sources {
    pub(crate) fn new(profile: Option<String>) -> Self {
        Self { profile }
    }

    /// The region that is set beside the credentials: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, the machine's.
    pub(crate) async fn region(&self) -> Option<Region> {
        let chain = DefaultRegionChain::builder();
        let chain = match &self.profile {
            Some(profile) => chain.profile_name(profile),
            None => chain,
        };
        chain.build().region().await.filter(|region| !region.as_ref().is_empty())
    }

    /// What the client asks whenever it has no credentials, or old ones. Roles are taken on in `region`.
    pub(crate) fn credentials(&self, region: Region) -> impl ProvideCredentials + 'static {
        Found { sources: self.clone(), region }
    }

    /// Where it looks, for people.
    pub(crate) fn describe(&self) -> String {
        match &self.profile {
            Some(profile) => format!("credentials of the profile {profile}"),
            None => "credentials from AWS's usual sources".to_owned(),
        }
    }
}

impl Found {
    async fn look(&self) -> provider::Result {
        let config = ProviderConfig::without_region()
            .with_region(Some(self.region.clone()))
            .with_behavior_version(Some(BehaviorVersion::latest()));
        let mut credentials = match &self.sources.profile {
            Some(profile) => {
                let provider = ProfileFileCredentialsProvider::builder().configure(&config);
                provider.profile_name(profile).build().provide_credentials().await?
            }
            None => {
                let machine = imds::Client::builder().configure(&config).max_attempts(METADATA_ATTEMPTS);
                let chain = DefaultCredentialsChain::builder().region(self.region.clone()).configure(config);
                chain.imds_client(machine.build()).build().await.provide_credentials().await?
            }
        };
        credentials.expiry_mut().get_or_insert_with(|| SystemTime::now() + LOOK_AGAIN);
        Ok(credentials)
    }
}

impl ProvideCredentials for Found {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.look())
    }
}

/// Why there were no credentials to sign a request with, if that is what `error` comes from: each source that was looked at,
/// and what it said.
pub(crate) fn why_none(error: &(dyn Error + 'static)) -> Option<String> {
    let error = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    let sources = chain(error).find_map(|error| error.downcast_ref::<ProviderChainError<CredentialsError>>());
    Some(match sources {
        Some(sources) => {
            let looked = sources.attempts().iter();
            let looked =
                looked.map(|tried| format!("{} ({})", place(tried.name()), innermost(tried.error())));
            format!(
                "no credentials: set \"access_key_id\" and \"secret_access_key\", or one of AWS's sources; looked at {}",
                looked.collect::<Vec<_>>().join(", ")
            )
        }
        None => format!("no credentials: {}", innermost(error)),
    })
}

/// A source of the SDK's chain as an operator knows it.
fn place(name: &str) -> &str {
    match name {
        "Environment" => "AWS_ACCESS_KEY_ID",
        "Profile" => "the profile in ~/.aws",
        "WebIdentityToken" => "AWS_WEB_IDENTITY_TOKEN_FILE",
        "EcsContainer" => "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "Ec2InstanceMetadata" => "the machine's metadata service",
        other => other,
    }
}
