//! Keeping the node's certificate fresh: at half its life, and before dialling when it has expired.

use std::sync::Arc;

use crate::{clock::now_ms, enrol, replica::Inner};

/// Renews when due. True when the present certificate may be used to dial.
pub(crate) async fn renew_if_due(replica: &Arc<Inner>) -> bool {
    let Some(identity) = replica.identity() else { return false };
    let Some(life) = identity.life() else { return false };
    if !life.is_due(now_ms()) {
        return true;
    }
    // One at a time; the others find it done.
    let _turn = replica.renewing.lock().await;
    let Some(identity) = replica.identity() else { return false };
    let Some(life) = identity.life().filter(|life| life.is_due(now_ms())) else { return true };
    match enrol::renew(&replica.config.control, &identity).await {
        Ok(renewed) => match renewed.save(&replica.config.data_dir) {
            Ok(()) => {
                tracing::info!(node = %renewed.node, "renewed this node's certificate");
                replica.set_identity(renewed);
                true
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "keeping the renewed certificate");
                !life.is_over(now_ms())
            }
        },
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "renewing this node's certificate");
            !life.is_over(now_ms())
        }
    }
}
