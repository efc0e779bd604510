//! What a tree refers to, without all else that it says.

use std::borrow::Cow;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::Id;

/// The blobs that a tree refers to.
#[derive(Debug, Default)]
pub(crate) struct TreeRefs {
    pub(crate) subtrees: Vec<Id>,
    /// Chunks of files, as often as they occur.
    pub(crate) content: Vec<Id>,
}

impl TreeRefs {
    /// Of the plaintext of the tree blob `id`. What is referred to by a node of a kind that we do
    /// not know counts too.
    pub(crate) fn parse(id: &Id, json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Tree<'a> {
            #[serde(borrow)]
            nodes: Option<Vec<Node<'a>>>,
        }
        #[derive(Deserialize)]
        struct Node<'a> {
            #[serde(rename = "type", borrow, default)]
            kind: Cow<'a, str>,
            #[serde(default)]
            subtree: Option<Id>,
            #[serde(default)]
            content: Option<Vec<Id>>,
        }
        let bad = |reason: &dyn std::fmt::Display| Error::damaged(format!("tree {id}"), reason);
        let tree: Tree<'_> = serde_json::from_slice(json).map_err(|error| bad(&error))?;
        let mut refs = Self::default();
        for node in tree.nodes.unwrap_or_default() {
            if node.kind == "dir" && node.subtree.is_none() {
                return Err(bad(&"a directory without a tree"));
            }
            refs.subtrees.extend(node.subtree);
            refs.content.extend(node.content.unwrap_or_default());
        }
        Ok(refs)
    }
}
