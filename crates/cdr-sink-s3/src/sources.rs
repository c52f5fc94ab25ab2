//! Where AWS keeps credentials that the settings do not hold: environment, profile, web identity, container, machine.
//!
//! The client keeps what it was given until ten seconds before its end, then asks again. Each time all sources are looked at
//! anew, so that a file that was mended or renewed needs no restart: the SDK's own chain reads `~/.aws` once, and keeps even the
//! fault that it found there.
//!
//! A look has an end, so that a source that hangs is told by its name. What the SDK logs about it meanwhile stays unsaid: of a source
//! that fails it repeats whatever that said.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use aws_config::{
    BehaviorVersion,
    default_provider::region::DefaultRegionChain,
    ecs::EcsCredentialsProvider,
    environment::EnvironmentVariableCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::provider::{self, ProvideCredentials, error::CredentialsError, future};
use aws_sdk_s3::config::Region;

use tokio::time::Instant;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::{
    helper::Helper,
    trouble::{chain, innermost},
};

/// How long one look at all sources may take; see [`Sources::new`].
pub(crate) const LOOK: Duration = Duration::from_secs(20);

/// Credentials whose end nobody tells may be a file's that somebody renews: they are used for so long at most.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How often the machine's metadata service is asked before it counts as not there: the lane comes again.
const METADATA_ATTEMPTS: u32 = 2;

/// Where credentials and region are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// Nothing but this profile; else whatever AWS's tools would take.
    profile: Option<String>,
    /// How long one look may take.
    limit: Duration,
}

/// A place where credentials may be, as an operator knows it, and what looks there.
type Source = (&'static str, Box<dyn ProvideCredentials>);

/// Credentials by these sources, for requests in this region.
#[derive(Debug)]
struct Found {
    sources: Sources,
    region: Region,
}

impl Sources {
    /// A look takes at most half of `timeout`, that of an attempt, so that it is the look that is told of and not the attempt.
    pub(crate) fn new(profile: Option<String>, timeout: Duration) -> Self {
        Self { profile, limit: LOOK.min(timeout / 2) }
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

    /// In the order of the SDK's own chain, which does not say which of them it failed at.
    async fn all(&self, config: &ProviderConfig) -> Vec<Source> {
        let profile = self.in_profile(config).await;
        if self.profile.is_some() {
            return vec![profile];
        }
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(config);
        let container = EcsCredentialsProvider::builder().configure(config);
        let machine = imds::Client::builder().configure(config).max_attempts(METADATA_ATTEMPTS).build();
        let machine = ImdsCredentialsProvider::builder().configure(config).imds_client(machine);
        vec![
            ("AWS_ACCESS_KEY_ID", Box::new(EnvironmentVariableCredentialsProvider::new())),
            profile,
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Box::new(web_identity.build())),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Box::new(container.build())),
            ("the machine's metadata service", Box::new(machine.build())),
        ]
    }

    async fn in_profile(&self, config: &ProviderConfig) -> Source {
        let source: Box<dyn ProvideCredentials> = match Helper::of(self.profile.as_deref()).await {
            Some(helper) => Box::new(helper),
            None => {
                let profile = ProfileFileCredentialsProvider::builder().configure(config);
                Box::new(match &self.profile {
                    Some(name) => profile.profile_name(name).build(),
                    None => profile.build(),
                })
            }
        };
        ("the profile in ~/.aws", source)
    }
}

impl Found {
    /// The first source that has any counts, and so does the first that is set and fails.
    async fn look(&self) -> provider::Result {
        let config = ProviderConfig::without_region()
            .with_region(Some(self.region.clone()))
            .with_behavior_version(Some(BehaviorVersion::latest()));
        let mut looked_at = Vec::new();
        let limit = self.sources.limit;
        let until = Instant::now() + limit;
        for (place, source) in self.sources.all(&config).await {
            let look = tokio::time::timeout_at(until, source.provide_credentials());
            match look.await.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(limit))) {
                Ok(mut credentials) => {
                    credentials.expiry_mut().get_or_insert_with(|| SystemTime::now() + LOOK_AGAIN);
                    return Ok(credentials);
                }
                Err(error) if matches!(error, CredentialsError::CredentialsNotLoaded(_)) => {
                    let why = error.source().map_or_else(|| "has none".to_owned(), innermost);
                    looked_at.push(format!("{place} ({why})"));
                }
                Err(CredentialsError::ProviderTimedOut(_)) => {
                    return Err(CredentialsError::provider_error(format!(
                        "{place} did not give any within {} s",
                        limit.as_secs_f32()
                    )));
                }
                Err(error) => {
                    let why = innermost(&error);
                    // Below a role the SDK runs `credential_process`, and quotes what it said, whatever that holds.
                    let why = why.split(". Stderr:").next().unwrap_or_default();
                    return Err(CredentialsError::provider_error(format!("{place} fails: {why}")));
                }
            }
        }
        Err(CredentialsError::not_loaded(format!(
            "set \"access_key_id\" and \"secret_access_key\", or one of AWS's sources; looked at {}",
            looked_at.join(", ")
        )))
    }
}

impl ProvideCredentials for Found {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.look().with_subscriber(NoSubscriber::new()))
    }
}

/// Why there were no credentials to sign a request with, if that is what `error` comes from.
pub(crate) fn why_none(error: &(dyn Error + 'static)) -> Option<String> {
    let error = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    Some(format!("no credentials: {}", innermost(error)))
}
