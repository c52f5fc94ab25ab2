//! Tells people by mail.
