//! What people ask of the compiler on the command line, beside the service: compile a file, look into an artifact,
//! make keys and say what one thinks of another.

pub mod compile;
pub mod inspect;
pub mod key;
