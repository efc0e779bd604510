//! Trees: the nodes of one directory, sorted by name, as JSON.

use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};
use crate::go_json;
use crate::id::Id;
use crate::limits;
use crate::node::{Node, check_name};

/// A tree as it was read: nodes with their real names, sorted by them.
pub(crate) struct Tree {
    pub(crate) nodes: Vec<(Vec<u8>, Node)>,
    /// Names that must not be restored, lossily as text.
    pub(crate) unsafe_names: Vec<String>,
    /// Length of its JSON, in bytes.
    pub(crate) json_length: usize,
}

impl Tree {
    /// Parses the plaintext of the tree blob `id`.
    pub(crate) fn parse(id: Id, json: &[u8]) -> Result<Self> {
        let mut parser = serde_json::Deserializer::from_slice(json);
        let parsed = Nodes { most: limits::nodes(json.len()) }
            .in_tree(&mut parser)
            .and_then(|nodes| parser.end().map(|()| nodes))
            .map_err(|error| Error::damaged(format!("tree {id}"), error))?;
        let mut tree =
            Self { nodes: Vec::new(), unsafe_names: Vec::new(), json_length: json.len() };
        for node in parsed {
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

/// Reads nodes, and stops at more than there can be: see [`limits::nodes`].
#[derive(Clone, Copy)]
struct Nodes {
    most: usize,
}

impl Nodes {
    fn in_tree<'de, D: de::Deserializer<'de>>(
        self,
        tree: D,
    ) -> std::result::Result<Vec<Node>, D::Error> {
        struct InTree(Nodes);
        impl<'de> Visitor<'de> for InTree {
            type Value = Vec<Node>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tree")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Vec<Node>, A::Error> {
                let mut nodes = None;
                while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
                    if key == "nodes" {
                        if nodes.is_some() {
                            return Err(de::Error::duplicate_field("nodes"));
                        }
                        nodes = Some(map.next_value_seed(self.0)?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(nodes.unwrap_or_default())
            }
        }
        tree.deserialize_map(InTree(self))
    }
}

impl<'de> DeserializeSeed<'de> for Nodes {
    type Value = Vec<Node>;

    fn deserialize<D: de::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Vec<Node>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Nodes {
    type Value = Vec<Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes or null")
    }

    fn visit_none<E: de::Error>(self) -> std::result::Result<Vec<Node>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: de::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Vec<Node>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vec<Node>, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            if nodes.len() >= self.most {
                return Err(de::Error::custom("it holds more nodes than fit in its length"));
            }
            nodes.push(node);
        }
        Ok(nodes)
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
