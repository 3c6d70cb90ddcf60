//! One server under a load: what it answered, and what it used of the machine meanwhile.
//!
//! | Module | One job |
//! |---|---|
//! | [`client`] | the load, and the looks at the counters |
//! | [`usage`] | what `/proc` says |
//! | [`figures`] | what is told of a server |

pub mod client;
pub mod figures;
pub mod usage;
