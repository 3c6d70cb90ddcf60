//! Real sockets on loopback against servers made here.

mod counts;
mod scenarios;
mod server;
