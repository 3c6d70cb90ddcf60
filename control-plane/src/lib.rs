//! The deploy API: tenants, tokens, apps, versions, routes. Composes the fleet origin with a client of the compiler
//! service.
//!
//! Relied on by the binary of the same name and by whole-flow tests. Deliberately absent: the compiler and its key (the
//! service is asked over HTTP, its answers are believed only when signed), and serving guests' requests.
//!
//! | Module | One job |
//! |---|---|
//! | [`config`] | `control.toml` |
//! | `server` | [`ControlPlane`]: start, two listeners, stop |
//! | `plane` | what lives once per process |
//! | [`api`] | routes, bodies, refusals, the OpenAPI document |
//! | `tokens` | what a token is and allows |
//! | `admin` | tenants, tokens, uploads, sealed secrets, audit: `admin.sqlite` |
//! | `upload` | receive → validate → compile → sign → publish |
//! | `compiler` | client of the compiler service |
//! | `fleet` | our side of the origin |
//! | `local_ca` | certificates for host names |
//! | `background` | giving versions the code they lack, and renewing |
//! | `recompiles` | compiling anew because somebody asked |

mod admin;
pub mod api;
mod background;
mod clock;
mod compiler;
pub mod config;
mod files;
mod fleet;
mod local_ca;
mod places;
mod plane;
mod random;
mod recompiles;
mod server;
mod stall;
mod tokens;
mod turns;
mod upload;

pub use config::{CompilerConfig, Config, ConfigError};
pub use server::{ControlPlane, Fenced, StartError};
