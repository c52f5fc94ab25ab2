//! Logging in: by a password, or by a token as the mail services of Microsoft and Google want it.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cdr_core::Secret;
use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, DEFAULT_MECHANISMS, Mechanism},
    client::AsyncSmtpConnection,
};
use tokio::time::Instant;

use super::{
    Server,
    token::{Tokens, is_token},
    words::{answer, code, root},
};

/// Who we are to the server.
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) proof: Proof,
}

/// How we prove it.
pub(crate) enum Proof {
    /// By PLAIN or LOGIN, or by the one of them that is named.
    Password(Secret, Option<Mechanism>),
    /// By XOAUTH2, with what the file holds when it is needed: tokens live for an hour.
    TokenFile(PathBuf),
    /// By XOAUTH2, with a token that is fetched.
    Tokens(Box<Tokens>),
}

/// Why a login failed.
pub(super) struct NoLogin {
    /// In words for the operator.
    pub(super) reason: String,
    /// Whether a token was refused that had been kept: a new one may pass.
    pub(super) was_kept: bool,
}

impl From<String> for NoLogin {
    fn from(reason: String) -> Self {
        Self { reason, was_kept: false }
    }
}

impl Proof {
    fn mechanisms(&self) -> &[Mechanism] {
        match self {
            Self::Password(_, Some(mechanism)) => std::slice::from_ref(mechanism),
            Self::Password(_, None) => DEFAULT_MECHANISMS,
            Self::TokenFile(_) | Self::Tokens(_) => &[Mechanism::Xoauth2],
        }
    }

    /// What is shown to the server, and whether it is a token that was kept. The error is in words for the operator.
    async fn secret(&self, deadline: Instant) -> Result<(String, bool), String> {
        let path = match self {
            Self::Password(password, _) => return Ok((password.expose().to_owned(), false)),
            Self::Tokens(tokens) => return tokens.token(deadline).await,
            Self::TokenFile(path) => path,
        };
        let unread = |why: &dyn std::fmt::Display| format!("smtp.token_file {}: {why}", path.display());
        let text = tokio::fs::read_to_string(path).await.map_err(|error| unread(&error))?;
        match text.trim() {
            token if is_token(token) => Ok((token.to_owned(), false)),
            _ => Err(unread(&"holds no access token and nothing else; does what renews it still run?")),
        }
    }

    fn settings(&self) -> &'static str {
        match self {
            Self::Password(..) => "smtp.username and smtp.password",
            Self::Tokens(_) => "smtp.username, and what the token may be used for: smtp.oauth2.scope",
            Self::TokenFile(_) => "smtp.username, and whether what renews smtp.token_file still runs",
        }
    }
}

impl Server {
    pub(super) async fn log_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        login: &Login,
        deadline: Instant,
    ) -> Result<(), NoLogin> {
        let wanted = login.proof.mechanisms();
        if connection.server_info().get_auth_mechanism(wanted).is_none() {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            let wanted = wanted.join(" or ");
            let why = format!("{self} offers no login that we speak ({wanted}); does it want TLS first?");
            return Err(why.into());
        }
        // It must leave time for the login, and be told apart from a mail server that is late.
        let token_by = deadline.min(Instant::now() + self.timeout / 2);
        let (secret, was_kept) = login.proof.secret(token_by).await?;
        let credentials = Credentials::new(login.username.clone(), secret.clone());
        let Err(error) = connection.auth(wanted, &credentials).await else { return Ok(()) };
        if let Proof::Tokens(tokens) = &login.proof {
            tokens.refused(&secret).await;
        }
        Err(NoLogin { reason: self.no_login(&error, login, &secret), was_kept })
    }

    /// A server may quote what it was sent; an answer that holds the password or token in any form is not told.
    fn no_login(&self, error: &Error, login: &Login, secret: &str) -> String {
        let Login { username, proof } = login;
        let forms = [
            secret.to_owned(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("\0{username}\0{secret}")),
            STANDARD.encode(format!("user={username}\x01auth=Bearer {secret}\x01\x01")),
        ];
        let (answer, check) = (answer(error), proof.settings());
        match code(error) {
            // To a token that it does not take a server answers with a question, which lettre does not go into.
            None if error.is_client() => format!("{self} refused the login; check {check}"),
            None => format!("{self} broke off the login: {}", root(error)),
            Some(code) if forms.iter().any(|form| answer.contains(form)) => {
                format!("{self} refused the login ({code}); check {check}")
            }
            Some(_) => format!("{self} refused the login: {answer}; check {check}"),
        }
    }
}
