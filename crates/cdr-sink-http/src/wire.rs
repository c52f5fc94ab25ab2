//! A request on its way: logged in, signed, sent, and its answer read.

use std::sync::Arc;

use bytes::Bytes;
use cdr_core::Unavailable;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    answer::Answer,
    connect::{NoAnswer, Receiver},
    oauth::OAuth,
    redirect::{self, Redirects},
    signature::Signature,
};

/// The receiver, and what it wants to see of us beside the headers that are always the same.
pub(crate) struct Wire {
    pub receiver: Receiver,
    pub oauth: Option<OAuth>,
    pub signature: Option<Signature>,
    pub redirects: Redirects,
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
    /// Sends a request and reads its answer, of which the attempt's deadline leaves what has come by then. `looked_into` tells
    /// whether anybody reads more of it than the status.
    pub async fn ask(
        &self,
        request: Request<Bytes>,
        looked_into: bool,
        deadline: Instant,
    ) -> Result<Answer, Unanswered> {
        let Some(oauth) = &self.oauth else { return self.send(request, looked_into, deadline).await };
        let token = oauth.header(None, deadline).await.map_err(Unanswered::Away)?;
        let with = |token| {
            let mut request = request.clone();
            request.headers_mut().insert(header::AUTHORIZATION, token);
            request
        };
        let answer = self.send(with(token.clone()), looked_into, deadline).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer.hiding_token(bare(&token)));
        }
        // It may have been withdrawn: one more try with a new one, and no more.
        let renewed = oauth.header(Some(&token), deadline).await.map_err(Unanswered::Away)?;
        let answer = self.send(with(renewed.clone()), looked_into, deadline).await?;
        Ok(answer.hiding_token(bare(&renewed)))
    }

    /// Goes where redirects lead, as far as they may be followed.
    async fn send(
        &self,
        mut request: Request<Bytes>,
        looked_into: bool,
        deadline: Instant,
    ) -> Result<Answer, Unanswered> {
        let mut followed = 0;
        loop {
            let asked = request.uri().clone();
            let again = (self.redirects == Redirects::Follow).then(|| request.clone());
            let answer = self.exchange(request, looked_into, deadline).await?;
            let status = answer.status();
            if !status.is_redirection() {
                return Ok(answer);
            }
            let location = answer.header(&header::LOCATION);
            match (redirect::target(status, location, &self.receiver.origin(), &asked), again) {
                (Ok(target), Some(again)) if followed < redirect::MOST => {
                    request = again;
                    *request.uri_mut() = target;
                    followed += 1;
                }
                (Ok(_), _) => return Ok(answer.leading(redirect::refused(self.redirects))),
                (Err(words), _) => return Ok(answer.leading(words)),
            }
        }
    }

    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        looked_into: bool,
        deadline: Instant,
    ) -> Result<Answer, Unanswered> {
        if let Some(signature) = &self.signature {
            signature.sign(&mut request, Timestamp::now().as_second());
        }
        let (response, connection) = match self.receiver.send(request.map(Full::new)).await {
            Ok(answered) => answered,
            Err(NoAnswer::Broken(reason)) => return Err(Unanswered::Broken(reason)),
            Err(NoAnswer::NotConnected(reason)) => return Err(Unanswered::Away(Unavailable::new(reason))),
        };
        let answer = Answer::read(response, looked_into, deadline).await;
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
