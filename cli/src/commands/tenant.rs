//! `skerry tenant create|list`.

use crate::{
    api::Api,
    args::Tenant,
    error::Result,
    output::{Output, objects},
};

/// Runs it.
pub fn run(api: &Api, command: &Tenant, output: Output) -> Result<()> {
    match command {
        Tenant::Create { name } => {
            let created = api.create_tenant(name)?;
            output.print(&created, || format!("tenant {name} is created"))
        }
        Tenant::List => {
            let tenants = api.tenants()?;
            output.print(&tenants, || objects(&["tenant", "created_ms"], &tenants))
        }
    }
}
