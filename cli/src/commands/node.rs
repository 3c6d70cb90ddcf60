//! `skerry node token create`, `skerry node list|revoke`.

use serde_json::json;

use crate::{
    api::{Api, NodeSummary},
    args::{Node, NodeToken},
    error::Result,
    output::{Output, table},
};

/// Runs it.
pub fn run(api: &Api, command: &Node, output: Output) -> Result<()> {
    match command {
        Node::Token(NodeToken::Create { pop, ttl }) => {
            let created = api.create_node_token(pop.as_str(), *ttl)?;
            if output == Output::Text {
                eprintln!("join token for one node in {pop}; put it into the file its node.toml names:");
            }
            output.print(&created, || created.token.clone())
        }
        Node::List => {
            let nodes = api.nodes()?;
            output.print(&nodes, || table_of(&nodes))
        }
        Node::Revoke { node } => {
            api.revoke_node(node)?;
            output.print(&json!({ "node": node, "revoked": true }), || format!("node {node} is revoked"))
        }
    }
}

/// Nodes as a table.
pub fn table_of(nodes: &[NodeSummary]) -> String {
    let head = ["NODE", "POP", "STATE", "REV", "SERVING", "TARGETS"].map(str::to_owned).to_vec();
    let rows = nodes.iter().map(|node| {
        let state = match (node.revoked, node.connected) {
            (true, _) => "revoked",
            (false, true) => "connected",
            (false, false) => "not connected",
        };
        vec![
            node.node.clone(),
            node.pop.clone(),
            state.to_owned(),
            node.applied_rev.to_string(),
            node.serving.clone().unwrap_or_else(|| "-".to_owned()),
            node.targets.join(" "),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
