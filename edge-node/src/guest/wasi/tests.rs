//! The interfaces one by one.
