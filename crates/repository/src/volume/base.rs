//! The volume of the parent snapshot, which an increment builds upon.

use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::pack::BlobKind;
use crate::repository::Inner;
use crate::tree::Tree;

use super::layout::{self, Geometry};

/// A stored volume, as far as it was looked into: its sizes and its groups.
pub(crate) struct Base {
    pub(crate) geometry: Geometry,
    pub(crate) groups: Vec<Id>,
}

impl Base {
    /// Reads the description and the list of groups of the volume whose tree is `id`.
    pub(crate) fn load(inner: &Inner, id: &Id) -> Result<Self> {
        let tree = load_tree(inner, id)?;
        let not_one = |reason: String| Error::NotAVolume { path: None, reason };
        let node = tree
            .find(layout::DESCRIPTION)
            .filter(|node| node.is_file())
            .ok_or_else(|| not_one("it holds no volume.json".to_owned()))?;
        let [blob] = node.content.as_deref().unwrap_or_default() else {
            return Err(not_one("its volume.json is not one small file".to_owned()));
        };
        let json = inner.read_blob(BlobKind::Data, blob)?;
        let geometry = Geometry::parse(&json).map_err(not_one)?;
        let groups = layout::parse_volume(&geometry, *id, &tree)?;
        Ok(Self { geometry, groups })
    }

    /// The segments of a group; none behind the end.
    pub(crate) fn segments(&self, inner: &Inner, group: u64) -> Result<Vec<Id>> {
        let Some(id) = usize::try_from(group).ok().and_then(|group| self.groups.get(group)) else {
            return Ok(Vec::new());
        };
        layout::parse_group(&self.geometry, group, *id, &load_tree(inner, id)?)
    }

    /// The blocks of the segment whose tree is `id`.
    pub(crate) fn blocks(&self, inner: &Inner, segment: u64, id: &Id) -> Result<Vec<Id>> {
        layout::parse_segment(&self.geometry, segment, *id, load_tree(inner, id)?)
    }
}

/// A tree, by its id.
pub(crate) fn load_tree(inner: &Inner, id: &Id) -> Result<Tree> {
    Tree::parse(*id, &inner.read_blob(BlobKind::Tree, id)?)
}

/// Damage in a base means that the list of changes can't be used, not that the backup must fail.
pub(crate) fn unusable(base: SnapshotId, error: Error) -> Error {
    match error {
        error if error.is_damage() || matches!(error, Error::NotAVolume { .. }) => {
            Error::BaseUnusable { base, reason: error.to_string() }
        }
        other => other,
    }
}
