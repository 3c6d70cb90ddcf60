//! What people ask of the compiler on the command line, beside the service: compile a file, look into an artifact.

pub mod compile;
pub mod inspect;
