//! The message itself: headers, encodings and an id that a repeat bears again. lettre writes it, as ASCII
//! (RFC 2047 headers, quoted-printable or base64 text), so that any server takes it.

use cdr_core::{Delivery, SinkName};
use jiff::Timestamp;
use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, Mailboxes, MultiPart,
        header::{self, HeaderName, HeaderValue},
    },
};
use sha2::{Digest, Sha256};

use crate::{Recipient, incident::Incident, letter::Letter};

/// A mail, ready to be handed over.
pub(crate) struct Mail {
    /// Its `Message-ID`, with the angle brackets.
    pub(crate) id: String,
    /// When the first of its pushes came.
    pub(crate) first: Timestamp,
    /// The whole message.
    pub(crate) bytes: Vec<u8>,
}

impl Mail {
    /// Writes the mail.
    ///
    /// # Errors
    /// lettre refuses a header. Senders and recipients are checked before, so none is known that it would.
    pub(crate) fn write(
        sink: &SinkName,
        identity: Identity,
        letter: &Letter,
        from: &Mailbox,
        to: &[Recipient],
    ) -> Result<Self, lettre::error::Error> {
        let Identity { id, answers, first } = identity;
        let recipients: Mailboxes = to.iter().map(|to| to.mailbox.clone()).collect();
        let addresses = to.iter().map(|to| to.mailbox.email.clone()).collect();
        let mut builder = Message::builder();
        if let Some(answers) = answers {
            builder = builder.in_reply_to(answers.clone()).references(answers);
        }
        let message = builder
            .envelope(Envelope::new(Some(from.email.clone()), addresses)?)
            .from(from.clone())
            .mailbox(header::To::from(recipients))
            .subject(letter.subject.as_str())
            .message_id(Some(id.clone()))
            .date_now()
            .raw_header(auto_submitted())
            .raw_header(list_id(sink, from.email.domain()))
            .multipart(MultiPart::alternative_plain_html(
                letter.text.trim_end().to_owned(),
                letter.html.clone(),
            ))?;
        Ok(Self { id, first, bytes: message.formatted() })
    }
}

/// What tells a mail from others.
pub(crate) struct Identity {
    /// Its `Message-ID`.
    pub(crate) id: String,
    /// The first mail of its incident, if it is not that itself.
    pub(crate) answers: Option<String>,
    /// When the first of what it tells came.
    pub(crate) first: Timestamp,
}

impl Identity {
    /// That of a mail about these pushes.
    pub(crate) fn of(
        sink: &SinkName,
        deliveries: &[Delivery],
        before: Option<&Incident>,
        domain: &str,
    ) -> Self {
        Self {
            id: message_id(sink, deliveries, domain),
            answers: before.map(|incident| incident.first_id.clone()),
            first: deliveries.first().map(|first| first.push.facts().received_at).unwrap_or_default(),
        }
    }

    /// That of the mail about the end of an incident.
    pub(crate) fn of_end(sink: &SinkName, incident: &Incident, domain: &str) -> Self {
        let Incident { first_id, mails, told, until, .. } = incident;
        let digest = Sha256::digest(format!("{sink} over {first_id} {mails} {told}"));
        let id = format!("<over-{}@{domain}>", hex::encode(&digest[..12]));
        Self { id, answers: Some(first_id.clone()), first: *until }
    }
}

/// RFC 3834 §5: keeps holiday notices and other robots from answering.
fn auto_submitted() -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    HeaderValue::new(name, "auto-generated".to_owned())
}

/// RFC 2919: lets people file the mails of a sink.
fn list_id(sink: &SinkName, domain: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("List-Id");
    HeaderValue::new(name, format!("<{sink}.cdr-gateway.{domain}>"))
}

/// The same pushes by the same sink give the same id, so that a repeat after a crash can be told. A replay is no
/// repeat: mailboxes that drop what they have already must show it again. The bodies count too, since alerts that
/// are sent while the spool cannot store have no position of their own.
fn message_id(sink: &SinkName, deliveries: &[Delivery], domain: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(sink.as_str());
    for delivery in deliveries {
        digest.update(delivery.push.spool().0);
        digest.update(delivery.push.position().0.to_be_bytes());
        digest.update(delivery.push.facts().sha256);
        digest.update([u8::from(delivery.replay)]);
    }
    let first = deliveries.first();
    let place = first.map(|first| format!("{}-{}-", first.push.spool(), first.push.position()));
    let digest = hex::encode(&digest.finalize()[..8]);
    format!("<{}{digest}@{domain}>", place.unwrap_or_default())
}

/// An address as it may stand in a log: `o…@example.com`.
pub(crate) fn masked(address: &Address) -> String {
    let first = address.user().chars().next().map(String::from).unwrap_or_default();
    format!("{first}…@{}", address.domain())
}
