//! Forwards pushes to a CRM or any HTTP receiver.
