//! Who gets what, and when again: routes, lanes, retry, pause.
