//! One server under a load: what it answered, and what it used of the machine meanwhile.
//!
//! | Module | One job |
//! |---|---|
//! | [`client`] | the load, and the looks at the counters |
//! | [`usage`] | what `/proc` says |
//! | [`threads`] | what it says of threads, by their name |
//! | [`metrics`] | what a node says of itself |
//! | [`seen`] | what the client saw |
//! | [`figures`] | what is told of a server |

pub mod client;
pub mod figures;
pub mod metrics;
pub mod seen;
pub mod threads;
pub mod usage;
