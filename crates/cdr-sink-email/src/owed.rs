//! Mails that some of their recipients do not have yet.
//!
//! A server may put off one recipient (4xx: greylisting, a full mailbox) and take the mail for the others. The pushes of such a
//! mail stay open in the lane; when they come again the very same mail, under its id, goes to those alone who lack it.
//!
//! In memory, at most [`BYTES`] of mails: who lacks which of a thousand pushes does not fit into a memo, and a guess could keep
//! a call from somebody. After a restart or a reload such a mail goes to all its recipients once more.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use cdr_core::{Delivery, Position, SpoolId};
use tokio::sync::Mutex as TurnMutex;

use crate::{Recipient, mail::Mail};

/// Bytes of mails that are kept; beyond it the oldest are forgotten.
const BYTES: usize = 4 << 20;

/// A mail, and who lacks it.
pub(crate) struct Owed {
    pub(crate) mail: Mail,
    /// Locked while it is sent: its pushes may come in two batches side by side.
    pub(crate) lacking: TurnMutex<Vec<Recipient>>,
}

/// What a mail is about, as far as it must be known again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum About {
    /// A push.
    Push(SpoolId, Position, IsReplay),
    /// The end of an incident, by the id of the mail that tells it.
    End(String),
}

/// Whether an operator sends it again.
type IsReplay = bool;

impl About {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        Self::Push(delivery.push.spool(), delivery.push.position(), delivery.replay)
    }
}

/// The mails that are owed.
#[derive(Default)]
pub(crate) struct OwedMails(Mutex<VecDeque<(Arc<Owed>, HashSet<About>)>>);

impl OwedMails {
    /// The mail about this that somebody lacks.
    pub(crate) fn about(&self, about: &About) -> Option<Arc<Owed>> {
        let mails = self.lock();
        mails.iter().find(|(_, known)| known.contains(about)).map(|(owed, _)| Arc::clone(owed))
    }

    /// The mail about a delivery that was tried before. On its first attempt nobody was told: it is a replay of its own, or
    /// a dead letter that a person sends to all again.
    pub(crate) fn of(&self, delivery: &Delivery) -> Option<Arc<Owed>> {
        let about = About::of(delivery);
        match delivery.attempt {
            0 | 1 => {
                self.settle(&about);
                None
            }
            _ => self.about(&about),
        }
    }

    /// Keeps a mail for those who lack it.
    pub(crate) fn keep(&self, mail: Mail, lacking: Vec<Recipient>, about: HashSet<About>) {
        let mut mails = self.lock();
        mails.push_back((Arc::new(Owed { mail, lacking: TurnMutex::new(lacking) }), about));
        let size = |mails: &VecDeque<(Arc<Owed>, _)>| -> usize {
            mails.iter().map(|(owed, _)| owed.mail.bytes.len()).sum()
        };
        while mails.len() > 1 && size(&mails) > BYTES {
            mails.pop_front();
        }
    }

    /// This is told to all; a mail is forgotten with the last of what it is about.
    pub(crate) fn settle(&self, about: &About) {
        self.lock().retain_mut(|(_, known)| !(known.remove(about) && known.is_empty()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Arc<Owed>, HashSet<About>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
