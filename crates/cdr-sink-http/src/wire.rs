//! A request on its way: logged in, signed, sent, and its answer read.

use std::sync::Arc;

use bytes::Bytes;
use cdr_core::Unavailable;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;

use crate::{
    answer::Answer,
    connect::{NoAnswer, Receiver},
    oauth::OAuth,
    signature::Signature,
};

/// The receiver, and what it wants to see of us beside the headers that are always the same.
pub(crate) struct Wire {
    pub receiver: Receiver,
    pub oauth: Option<OAuth>,
    pub signature: Option<Signature>,
    /// What no answer is quoted with.
    pub secrets: Arc<[String]>,
}

/// Why there is no answer.
pub(crate) enum Unanswered {
    /// The receiver may have taken it.
    Broken(String),
    /// The receiver, or who gives its tokens, takes nothing at present.
    Away(Unavailable),
}

impl Wire {
    /// Sends a request and reads its answer. `looked_into` tells whether anybody reads more of it than the status.
    pub async fn ask(&self, request: Request<Bytes>, looked_into: bool) -> Result<Answer, Unanswered> {
        let Some(oauth) = &self.oauth else { return self.send(request, looked_into).await };
        let token = oauth.header(None).await.map_err(Unanswered::Away)?;
        let with = |token| {
            let mut request = request.clone();
            request.headers_mut().insert(header::AUTHORIZATION, token);
            request
        };
        let answer = self.send(with(token.clone()), looked_into).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer.hiding_token(bare(&token)));
        }
        // It may have been withdrawn: one more try with a new one, and no more.
        let renewed = oauth.header(Some(&token)).await.map_err(Unanswered::Away)?;
        let answer = self.send(with(renewed.clone()), looked_into).await?;
        Ok(answer.hiding_token(bare(&renewed)))
    }

    async fn send(&self, mut request: Request<Bytes>, looked_into: bool) -> Result<Answer, Unanswered> {
        if let Some(signature) = &self.signature {
            signature.sign(&mut request, Timestamp::now().as_second());
        }
        let (response, connection) = match self.receiver.send(request.map(Full::new)).await {
            Ok(answered) => answered,
            Err(NoAnswer::Broken(reason)) => return Err(Unanswered::Broken(reason)),
            Err(NoAnswer::NotConnected(reason)) => return Err(Unanswered::Away(Unavailable::new(reason))),
        };
        let answer = Answer::read(response, looked_into).await;
        if answer.is_whole() {
            self.receiver.give_back(connection);
        }
        Ok(answer.hiding(&self.secrets))
    }
}

/// A token without its scheme.
fn bare(header: &HeaderValue) -> Option<&str> {
    header.to_str().ok()?.split(' ').next_back()
}
