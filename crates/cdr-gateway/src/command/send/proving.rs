//! How `send` proves who it is: in every way that the door asks for.

use std::path::PathBuf;

use anyhow::Context as _;
use cdr_core::Secret;
use cdr_simulator::sender::{ClientCertificate, Preset, Proof};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use http::HeaderName;
use url::Url;

/// One proof, and a certificate beside it if one is asked for. Secrets come in environment variables: arguments are seen by
/// everybody on the machine.
#[derive(Args)]
#[command(next_help_heading = "Proof of sender")]
pub struct Proving {
    /// User name for Basic.
    #[arg(long, value_name = "NAME", group = "proof", requires = "password_env")]
    username: Option<String>,
    /// The environment variable that holds the password for Basic.
    #[arg(long, value_name = "VARIABLE", requires = "username")]
    password_env: Option<String>,
    /// The environment variable that holds a token; --token-header or --token-query says where it stands.
    #[arg(long, value_name = "VARIABLE", group = "proof", requires = "token_place")]
    token_env: Option<String>,
    /// The header that is the token.
    #[arg(long, value_name = "NAME", group = "token_place", requires = "token_env")]
    token_header: Option<HeaderName>,
    /// The parameter in the query of the URL that is the token.
    #[arg(long, value_name = "NAME", group = "token_place", requires = "token_env")]
    token_query: Option<String>,
    /// The environment variable that holds a token for `Authorization: Bearer`.
    #[arg(long, value_name = "VARIABLE", group = "proof")]
    bearer_env: Option<String>,
    /// ClientID for OAuth 2.0 client credentials.
    #[arg(long, value_name = "NAME", group = "proof", requires = "oauth2_secret_env")]
    oauth2_client_id: Option<String>,
    /// The environment variable that holds the ClientSecret.
    #[arg(long, value_name = "VARIABLE", requires = "oauth2_client_id")]
    oauth2_secret_env: Option<String>,
    /// The token URL; without it where the gateway has it, /oauth2/token behind the path of the push URL.
    #[arg(long, value_name = "URL", requires = "oauth2_client_id")]
    oauth2_url: Option<Url>,
    /// How to sign, by the preset of `ingress.verify`. With css and tiw two fields are added to the body.
    #[arg(long, value_name = "PRESET", group = "proof", requires = "sign_secret_env", value_parser = presets())]
    sign: Option<Preset>,
    /// The environment variable that holds the key to sign with.
    #[arg(long, value_name = "VARIABLE", requires = "sign")]
    sign_secret_env: Option<String>,
    /// A PEM file with the certificate to show during TLS; goes with any of the other proofs.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl Proving {
    /// The proof that goes with each push. Fails when an environment variable holds no secret.
    pub fn proof(&self) -> anyhow::Result<Option<Proof>> {
        if let (Some(username), Some(password)) = (&self.username, &self.password_env) {
            return Ok(Some(Proof::Basic { username: username.clone(), password: secret(password)? }));
        }
        if let Some(variable) = &self.token_env {
            return self.token(secret(variable)?);
        }
        if let Some(variable) = &self.bearer_env {
            return Ok(Some(Proof::Bearer(secret(variable)?)));
        }
        if let (Some(client_id), Some(variable)) = (&self.oauth2_client_id, &self.oauth2_secret_env) {
            let (token_url, client_id) = (self.oauth2_url.clone(), client_id.clone());
            return Ok(Some(Proof::OAuth2 { token_url, client_id, client_secret: secret(variable)? }));
        }
        if let (Some(preset), Some(variable)) = (self.sign, &self.sign_secret_env) {
            return Ok(Some(Proof::Signature { preset, key: secret(variable)? }));
        }
        Ok(None)
    }

    fn token(&self, token: Secret) -> anyhow::Result<Option<Proof>> {
        Ok(match (&self.token_header, &self.token_query) {
            (Some(name), _) => Some(Proof::Header { name: name.clone(), token }),
            (None, Some(name)) => Some(Proof::Query { name: name.clone(), token }),
            (None, None) => None,
        })
    }

    /// What is shown during TLS.
    pub fn certificate(&self) -> Option<ClientCertificate> {
        let (certificate, key) = (self.cert.clone()?, self.key.clone()?);
        Some(ClientCertificate { certificate, key })
    }
}

fn presets() -> impl clap::builder::TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(Preset::ALL.map(Preset::name)).try_map(|name| name.parse::<Preset>())
}

fn secret(variable: &str) -> anyhow::Result<Secret> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty());
    text.map(Secret::new).with_context(|| format!("the environment variable {variable} holds no text"))
}
