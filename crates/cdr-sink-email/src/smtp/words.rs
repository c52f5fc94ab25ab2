//! What went wrong with a mail server, in words for the operator, and what becomes of the mail.

use std::{error::Error as _, time::Duration};

use cdr_core::Failure;
use lettre::transport::smtp::Error;

use super::{Failed, Server, Stopped};
use crate::letter::one_line;

/// Most characters of a server's answer that are told.
pub(super) const ANSWER: usize = 200;

impl Server {
    pub(super) fn no_connection(&self, error: &Error) -> String {
        let why = root(error);
        match io_kind(error) {
            _ if error.status().is_some() => format!("{self} turned us away: {}", answer(error)),
            _ if error.is_response() => format!("{self} does not answer as a mail server would ({why})"),
            Some(std::io::ErrorKind::ConnectionRefused) => format!("nobody listens at {self}"),
            Some(std::io::ErrorKind::InvalidData) => format!(
                "no TLS with {self}: {why}; check scheme and port of smtp.url, and smtp.ca for a private authority"
            ),
            _ => format!("no connection to {self}: {why}; check smtp.url"),
        }
    }

    /// A sender that is refused is refused for every mail.
    pub(super) fn sender_refused(&self, error: &Error) -> Stopped {
        match code(error) {
            Some(500..) => Stopped::Answered(Failed::Away(format!(
                "{self} refused the sender: {}; check `from`, and smtp.username if it wants a login",
                answer(error)
            ))),
            _ => self.content_refused(error),
        }
    }

    pub(super) fn content_refused(&self, error: &Error) -> Stopped {
        let quoting = |reason: String| Failure::new(reason).quoting(answer(error).as_bytes());
        match code(error) {
            None | Some(421) => self.broken(error),
            Some(code @ ..500) => {
                Stopped::Answered(Failed::Later(quoting(format!("{self} put the mail off ({code})"))))
            }
            Some(code) => {
                Stopped::Answered(Failed::Never(quoting(format!("{self} refused the mail ({code})"))))
            }
        }
    }

    /// The server has the text, or most of it, and did not say whether it takes the mail.
    pub(super) fn unanswered(&self, waited: Duration) -> Failed {
        let waited_s = waited.as_secs();
        let reason =
            format!("{self} had the mail's text and did not say within {waited_s} s whether it takes it");
        tracing::warn!(server = %self, waited_s, "the mail server had a mail's text and did not say whether it takes it; it is sent again, so people may have it twice");
        Failed::Later(Failure::new(reason))
    }

    /// The conversation ended in the middle: because the server leaves, or for a reason that may be this mail.
    pub(super) fn broken(&self, error: &Error) -> Stopped {
        Stopped::Gone(match code(error) {
            Some(_) => Failed::Away(format!("{self} is closing down: {}", answer(error))),
            None => {
                let reason =
                    format!("the connection to {self} broke in the middle of the mail: {}", root(error));
                Failed::Later(Failure::new(reason))
            }
        })
    }
}

pub(super) fn code(error: &Error) -> Option<u16> {
    error.status().map(u16::from)
}

/// The server's answer, as one line.
pub(super) fn answer(error: &Error) -> String {
    let words = error.source().map(ToString::to_string).unwrap_or_default();
    let code = code(error).map(|code| code.to_string()).unwrap_or_default();
    one_line(&format!("{code} {words}"), ANSWER)
}

/// What lies at the bottom of an error, as one line: lettre wraps errors in others that say nothing more.
pub(super) fn root(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    one_line(&deepest.to_string(), ANSWER)
}

fn io_kind(error: &Error) -> Option<std::io::ErrorKind> {
    let mut at: Option<&dyn std::error::Error> = error.source();
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        at = error.source();
    }
    None
}
