//! The seam to the server that runs the apps.

use artifact::{AppId, nack::Nack};
use async_trait::async_trait;
use fleet_sync_proto::{
    FleetView, Report,
    inspect::Serving,
    logs::{AppLogs, Follow},
};

/// What to bring into service.
#[derive(Debug, Clone)]
pub struct Activation {
    /// The fleet's state. Durable already.
    pub view: FleetView,
    /// Apps to bring to their active version in `view` (or to remove, when `view` does not have them). Their artifact
    /// for this node is on the shelf. An app that is *not* listed keeps serving what it serves, whatever `view` says
    /// of it: its artifact may be missing still.
    pub changed: Vec<AppId>,
    /// Certificates in `view` are not those of the activation before.
    pub certificates_changed: bool,
}

/// Implemented by the node.
#[async_trait]
pub trait Activator: Send + Sync + 'static {
    /// Swaps the changed apps in; one pointer swap. Answers the apps that could not be brought up, with the reason:
    /// they go on serving their last good version. Called one at a time; the first call after start lists every app.
    /// Given up after a minute, as if every app had failed.
    async fn activate(&self, activation: Activation) -> Vec<(AppId, Nack)>;

    /// Counters and health now. Called each second; must not block.
    fn report(&self) -> Report;

    /// What serves this app now, and by which code; `None`: nothing does. Must not block.
    fn inspect(&self, id: &AppId) -> Option<Serving>;

    /// Somebody listens to these apps, and to no others; for [`fleet_sync_proto::logs::FOLLOW_MS`]. Must not block.
    fn follow(&self, _follow: Follow) {}

    /// Some 100 ms have passed, with a connection to the origin or without: to end what [`Activator::follow`] began. Must not
    /// block.
    fn tick(&self) {}

    /// The next lines of those apps, at most [`fleet_sync_proto::logs::LOGS_BYTES_MAX`]: the same ones each time, and perhaps
    /// more, until [`Activator::logs_taken`]. Called each 100 ms at most; must not block.
    fn logs(&self) -> Vec<AppLogs> {
        Vec::new()
    }

    /// What [`Activator::logs`] gave last has arrived.
    fn logs_taken(&self) {}
}
