//! `skerry token create|list|revoke`.

use artifact::TenantName;
use serde_json::json;

use crate::{
    api::{Api, NewToken},
    args::Token,
    error::Result,
    output::{Output, objects},
};

/// Runs it. An operator makes tokens for `tenant`; a tenant's admin for its own.
pub fn run(api: &Api, command: &Token, tenant: Option<&TenantName>, output: Output) -> Result<()> {
    match command {
        Token::Create { actions, app, operator, ttl } => {
            let created = api.create_token(&NewToken {
                tenant: tenant.map(TenantName::to_string),
                operator: *operator,
                actions: actions.iter().map(|action| action.name()).collect(),
                app: app.as_ref().map(|app| app.to_string()),
                ttl_s: ttl.map(|ttl| ttl.as_secs()),
            })?;
            // The token alone on stdout, so that `TOKEN=$(skerry token create)` works.
            if output == Output::Text {
                eprintln!("token {}; keep it, it is not shown again:", created.id);
            }
            output.print(&created, || created.token.clone())
        }
        Token::List => {
            let tokens = api.tokens()?;
            output.print(&tokens, || {
                objects(
                    &["id", "tenant", "actions", "app", "created_ms", "expires_ms", "revoked_ms"],
                    &tokens,
                )
            })
        }
        Token::Revoke { id } => {
            api.revoke_token(id)?;
            output.print(&json!({ "id": id, "revoked": true }), || format!("token {id} is revoked"))
        }
    }
}
