//! Trees: the nodes of one directory, sorted by name, as JSON.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::go_json;
use crate::id::Id;
use crate::node::{Node, check_name};

/// A tree as it was read: nodes with their real names, sorted by them.
pub(crate) struct Tree {
    pub(crate) nodes: Vec<(Vec<u8>, Node)>,
    /// Names that must not be restored, lossily as text.
    pub(crate) unsafe_names: Vec<String>,
}

impl Tree {
    /// Parses the plaintext of the tree blob `id`.
    pub(crate) fn parse(id: Id, json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct TreeJson {
            nodes: Option<Vec<Node>>,
        }
        let parsed: TreeJson = serde_json::from_slice(json)
            .map_err(|error| Error::damaged(format!("tree {id}"), error))?;
        let mut tree = Self { nodes: Vec::new(), unsafe_names: Vec::new() };
        for node in parsed.nodes.unwrap_or_default() {
            match node.raw_name().filter(|name| check_name(name).is_ok()) {
                Some(name) => tree.nodes.push((name, node)),
                None => tree.unsafe_names.push(node.name.clone()),
            }
        }
        // Sorted by every writer of the format; sorting again costs nothing then.
        tree.nodes.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(twins) = tree.nodes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = &twins[0].1.name;
            return Err(Error::damaged(format!("tree {id}"), format!("it holds {name:?} twice")));
        }
        Ok(tree)
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|(other, _)| other.as_slice().cmp(name)).ok()?;
        Some(&self.nodes[at].1)
    }
}

/// A tree in the making. Nodes are kept as their JSON, and sorted at the end.
#[derive(Default)]
pub(crate) struct TreeBuilder {
    nodes: Vec<(Vec<u8>, Box<[u8]>)>,
}

impl TreeBuilder {
    pub(crate) fn add(&mut self, name: &[u8], node: &Node) -> Result<()> {
        self.nodes.push((name.to_vec(), go_json::to_vec(node)?.into_boxed_slice()));
        Ok(())
    }

    /// The tree's JSON, with the newline at the end that restic puts there.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.nodes.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(twins) = self.nodes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = String::from_utf8_lossy(&twins[0].0).into_owned();
            return Err(Error::InvalidName { name, reason: "the directory has it twice" });
        }
        let size: usize = self.nodes.iter().map(|(_, json)| json.len() + 1).sum();
        let mut out = Vec::with_capacity(size + 16);
        out.extend_from_slice(b"{\"nodes\":[");
        for (position, (_, json)) in self.nodes.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(json);
        }
        out.extend_from_slice(b"]}\n");
        Ok(out)
    }
}
