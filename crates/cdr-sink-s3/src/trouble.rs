//! What an error says about the push, or about the bucket as a whole, in words for the operator.
//!
//! The archive is the last place that may lose a record to a wrong setting, so an error counts against a push
//! only when it is about that push. Whatever every push would meet makes the sink unavailable: the lane waits.
//!
//! Codes: Amazon S3 API reference, "Error responses"; Tencent COS, "Error codes" (436/7730), which shares most.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ConnectorError, ProvideErrorMetadata, SdkError},
};
use cdr_core::{
    Failure, Unavailable,
    http_status::{self, Verdict},
};

use crate::{S3Sink, sources};

/// What an attempt met.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing passes at present.
    Unavailable(Unavailable),
    /// This push did not pass; another time it may.
    Retry(Failure),
    /// This push never passes as it is.
    Reject(Failure),
}

impl Trouble {
    /// What happened, in words.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Unavailable(why) => why.reason,
            Self::Retry(failure) | Self::Reject(failure) => failure.reason,
        }
    }
}

/// What was being done when it happened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The bucket was asked for, at start.
    Probe,
    /// The push was put.
    Put,
    /// An object that was there already was looked at.
    Look,
}

/// What the server answered, as far as it matters here.
struct Answer<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    retry_after: Option<Duration>,
    region: Option<&'a str>,
}

impl S3Sink {
    /// Sorts an error of the SDK.
    pub(crate) fn trouble<E>(&self, step: Step, error: SdkError<E>) -> Trouble
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        if let Some(why) = sources::why_none(&error) {
            return Trouble::Unavailable(Unavailable::new(why));
        }
        match &error {
            SdkError::ServiceError(service) => self.refused(
                step,
                &answer(service.err().meta().code(), service.err().meta().message(), service.raw()),
            ),
            // An answer that is no S3 answer: a proxy, a login page, another kind of server.
            SdkError::ResponseError(response) => self.refused(step, &answer(None, None, response.raw())),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => self.unreached(error),
                None => {
                    Trouble::Retry(Failure::new(format!("the request to {} failed", self.access.place())))
                }
            },
            SdkError::TimeoutError(_) => Trouble::Retry(Failure::new(self.no_answer())),
            // The request could not even be made: the settings, for any push.
            _ => Trouble::Unavailable(Unavailable::new(format!(
                "the settings make no valid request: {}",
                innermost(&error)
            ))),
        }
    }

    /// No answer came. Before there was a connection nothing passes; after, it may be this push.
    fn unreached(&self, error: &ConnectorError) -> Trouble {
        let place = self.access.place();
        let cause = innermost(error);
        if !error.is_timeout() && !never_connected(error) {
            return Trouble::Retry(Failure::new(format!("the connection to {place} broke: {cause}")));
        }
        let advice = match self.access.names_bucket_in_host() {
            true => "; a server that knows no host of the bucket's name needs path_style: true",
            false => "",
        };
        Trouble::Unavailable(Unavailable::new(format!("no connection to {place}: {cause}{advice}")))
    }

    fn refused(&self, step: Step, answer: &Answer<'_>) -> Trouble {
        let said = answer.said();
        if let Some(advice) = self.advice(step, answer) {
            let why = Unavailable::new(format!("{advice} ({said})"));
            return Trouble::Unavailable(why.retry_after(answer.retry_after));
        }
        let what = match (step, answer.status) {
            (Step::Look, 401 | 403) => {
                "an object is there already, and may not be read: the key needs s3:GetObject, to see whether it is ours"
            }
            (Step::Look, _) => "the object that is there already could not be looked at",
            (Step::Probe, _) => "the bucket could not be looked at",
            (Step::Put, _) => "the upload was refused",
        };
        let failure = Failure::new(format!("{what} ({said})"))
            .quoting(answer.message.as_bytes())
            .retry_after(answer.retry_after);
        match step == Step::Put && answer.is_about_the_object() {
            true => Trouble::Reject(failure),
            false => Trouble::Retry(failure),
        }
    }

    /// What a person should do, when every push would meet this.
    fn advice(&self, step: Step, answer: &Answer<'_>) -> Option<String> {
        self.advice_by_code(answer).or_else(|| self.advice_by_status(step, answer))
    }

    fn advice_by_code(&self, answer: &Answer<'_>) -> Option<String> {
        let place = self.access.place();
        Some(match answer.code {
            "SignatureDoesNotMatch" => {
                "the signature does not match: correct secret_access_key; when it is right, \
                                        a proxy changes the requests on their way"
                    .to_owned()
            }
            "InvalidAccessKeyId" | "NotSignedUp" | "InvalidSecretId" => {
                format!("{place} does not know the access key: correct access_key_id")
            }
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                "the temporary credentials are over or wrong: renew them with their session_token".to_owned()
            }
            "RequestTimeTooSkewed" | "RequestExpired" => {
                "this machine's clock is wrong: set it (NTP)".to_owned()
            }
            "NoSuchBucket" | "InvalidBucketName" => self.no_bucket(),
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidRegionName" => {
                self.other_region(answer)
            }
            "SlowDown" | "RequestLimitExceeded" | "Throttling" | "TooManyRequests" => self.slow_down(),
            "NotImplemented" if self.conditional => format!(
                "{place} lacks something that we ask for; most likely conditions: set conditional: false"
            ),
            code if code.starts_with("KMS.") => format!(
                "{place} cannot encrypt: see that the KMS key (sse_kms_key, or the bucket's own) is enabled and may be used: {}",
                answer.message
            ),
            "InvalidRequest" | "InvalidArgument" | "MissingSecurityHeader" => format!(
                "{place} does not take our way of asking; checksums, conditional, region and path_style change it: {}",
                answer.message
            ),
            _ => return None,
        })
    }

    fn advice_by_status(&self, step: Step, answer: &Answer<'_>) -> Option<String> {
        let bucket = &self.bucket;
        let place = self.access.place();
        let judged = http_status::judge(answer.status, answer.retry_after.is_some());
        Some(match (answer.status, step) {
            (301 | 307 | 308, _) => self.other_region(answer),
            // The bucket takes puts, so this concerns the one push whose key is taken.
            (401 | 403, Step::Look) => return None,
            (401 | 403, Step::Put) => {
                format!("{place} denies access: the key needs s3:PutObject on bucket {bucket}")
            }
            (401 | 403, Step::Probe) => format!(
                "{place} denies access to bucket {bucket}: wrong keys, or a key that may not look at it (s3:ListBucket)"
            ),
            (404, Step::Probe) => self.no_bucket(),
            // What stands before a server, or is another kind of server, knows no S3 codes.
            (400 | 404 | 405, Step::Put) if answer.code.is_empty() => {
                format!("{place} does not answer as S3 does: correct \"endpoint\"")
            }
            (402 | 451, _) => format!("{place} has suspended the account or the bucket: see its bills"),
            (429 | 503, _) => self.slow_down(),
            (507, _) => format!("{place} is full"),
            _ if judged == Verdict::Unavailable => format!("{place} takes nothing at present"),
            (400..=499, Step::Put) if !answer.may_pass() && !answer.is_about_the_object() => {
                format!("{place} refuses an upload, and says nothing against this object: {}", answer.message)
            }
            _ => return None,
        })
    }

    fn slow_down(&self) -> String {
        format!("{} asks to slow down", self.access.place())
    }

    fn no_bucket(&self) -> String {
        format!(
            "there is no bucket {} at {}: create it, or correct \"bucket\"",
            self.bucket,
            self.access.place()
        )
    }

    fn other_region(&self, answer: &Answer<'_>) -> String {
        match answer.region {
            Some(region) => format!("the bucket {} is in another region: set region: {region}", self.bucket),
            None => format!("the bucket {} is in another region: correct region and endpoint", self.bucket),
        }
    }
}

impl Answer<'_> {
    fn said(&self) -> String {
        match self.code {
            "" => format!("HTTP {}", self.status),
            code => format!("HTTP {}, {code}", self.status),
        }
    }

    /// Whether this object is never taken as it is, while others are. Only what says so plainly: a code that is not known
    /// here may be about a key, a policy or an account, and must not make dead letters of whole batches. (One that is refused
    /// alone, while others pass, the lane finds out.)
    fn is_about_the_object(&self) -> bool {
        const CODES: [&str; 5] = [
            "EntityTooLarge",
            "KeyTooLong",
            "KeyTooLongError",
            "MaxMessageLengthExceeded",
            "MetadataTooLarge",
        ];
        self.status == 413 || ((400..=499).contains(&self.status) && CODES.contains(&self.code))
    }

    /// Whether another attempt may fare better: 404, 408, 409 and 425; a body that was cut or bent on its way, or a part that
    /// got lost, is a 400.
    fn may_pass(&self) -> bool {
        const CODES: [&str; 6] = [
            "BadDigest",
            "IncompleteBody",
            "InvalidDigest",
            "InvalidPart",
            "RequestTimeout",
            "XAmzContentSHA256Mismatch",
        ];
        matches!(self.status, 404 | 408 | 409 | 425) || CODES.contains(&self.code)
    }
}

fn answer<'a>(code: Option<&'a str>, message: Option<&'a str>, raw: &'a HttpResponse) -> Answer<'a> {
    let header = |name: &str| raw.headers().get(name);
    Answer {
        status: raw.status().as_u16(),
        code: code.unwrap_or_default(),
        message: message.unwrap_or_default(),
        retry_after: header("retry-after")
            .and_then(|value| http_status::retry_after(value, SystemTime::now())),
        region: header("x-amz-bucket-region"),
    }
}

/// Whether the error came while connecting: DNS, TCP, TLS.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let is_connect = |error: &(dyn Error + 'static)| {
        error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect())
    };
    chain(error).any(is_connect)
}

/// The cause at the end of the chain, which says most: "Connection refused", "invalid peer certificate: …".
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
