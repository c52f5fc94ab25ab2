//! Archives pushes as files.
