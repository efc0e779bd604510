//! Nodes: what a tree says about one file, directory or other entry.

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::go_json::{Base64, quote, unquote};
use crate::id::Id;

/// A point in time of a file system: seconds and nanoseconds since 1970-01-01 00:00 UTC. Before
/// 1970 the seconds are negative and the nanoseconds count forward, as in `struct timespec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1 000 000 000.
    pub nanoseconds: u32,
}

impl FileTime {
    /// The format holds the years 0 to 9999, and restic clamps what lies beyond; so do we. The last
    /// is where jiff's range ends, a day before the year does.
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_207_200;

    /// The time as RFC 3339 text in UTC.
    fn to_text(self) -> String {
        let seconds = self.seconds.clamp(Self::FIRST, Self::LAST);
        let nanoseconds = i32::try_from(self.nanoseconds.min(999_999_999)).unwrap_or(0);
        // Within jiff's range by the clamp; the epoch stands in for what cannot occur.
        jiff::Timestamp::new(seconds, nanoseconds).unwrap_or_default().to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Some(time.into()),
            // The last hours of the year 9999, where restic puts what lies beyond.
            Err(_) if text.starts_with("9999-12-3") => {
                Some(Self { seconds: Self::LAST, nanoseconds: 0 })
            }
            Err(_) => None,
        }
    }
}

impl FileTime {
    /// So much earlier.
    pub(crate) fn before(self, by: std::time::Duration) -> Self {
        let seconds = self.seconds.saturating_sub_unsigned(by.as_secs());
        match self.nanoseconds.checked_sub(by.subsec_nanos()) {
            Some(nanoseconds) => Self { seconds, nanoseconds },
            None => Self {
                seconds: seconds.saturating_sub(1),
                nanoseconds: self.nanoseconds + 1_000_000_000 - by.subsec_nanos(),
            },
        }
    }
}

impl From<jiff::Timestamp> for FileTime {
    fn from(time: jiff::Timestamp) -> Self {
        let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
        match u32::try_from(nanoseconds) {
            Ok(nanoseconds) => Self { seconds, nanoseconds },
            // Before 1970 jiff counts both backwards.
            Err(_) => Self {
                seconds: seconds - 1,
                nanoseconds: 1_000_000_000 - nanoseconds.unsigned_abs(),
            },
        }
    }
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedAttribute {
    /// Full name with its namespace, such as `user.comment`.
    pub name: Vec<u8>,
    /// The value, any bytes.
    pub value: Vec<u8>,
}

/// What is known of a node besides its name, kind and content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with set-user-id, set-group-id and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner, or empty if unknown.
    pub user: String,
    /// Name of the group, or empty if unknown.
    pub group: String,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last access. Set it to `mtime` unless access times matter, as restic does: else every tree
    /// differs from the one before and is stored anew.
    pub atime: FileTime,
    /// Last change of the inode.
    pub ctime: FileTime,
    /// Inode number.
    pub inode: u64,
    /// Number of the device that the node lies on (`st_dev`); with the inode it tells which names
    /// are hard links of one file.
    pub device_id: u64,
    /// Size of a regular file in bytes; else 0.
    pub size: u64,
    /// Number of hard links.
    pub links: u64,
    /// Extended attributes, ACLs among them.
    pub extended_attributes: Vec<ExtendedAttribute>,
    /// For a sparse file, the ranges (offset, length) that are not holes, in ascending order. Kept
    /// in a field of our own, which stock restic ignores; the content holds the zeros as well.
    pub data_extents: Option<Vec<(u64, u64)>>,
}

/// What a node is, for those without content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A symbolic link.
    Symlink {
        /// Where it points, any bytes.
        target: Vec<u8>,
    },
    /// A block device.
    BlockDevice {
        /// Device number as in `st_rdev`.
        device: u64,
    },
    /// A character device.
    CharDevice {
        /// Device number as in `st_rdev`.
        device: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket. It is recorded, though no tool restores it.
    Socket,
}

/// A node as its tree stores it: restic's fields, in restic's order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "is_default")]
    mode: u32,
    mtime: TimeText,
    atime: TimeText,
    ctime: TimeText,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "is_default")]
    user: String,
    #[serde(skip_serializing_if = "is_default")]
    group: String,
    #[serde(skip_serializing_if = "is_default")]
    inode: u64,
    #[serde(skip_serializing_if = "is_default")]
    device_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "is_default")]
    links: u64,
    #[serde(skip_serializing_if = "is_default")]
    linktarget: String,
    #[serde(skip_serializing_if = "is_default")]
    linktarget_raw: Base64,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    extended_attributes: Vec<AttributeJson>,
    #[serde(skip_serializing_if = "is_default")]
    device: u64,
    pub(crate) content: Option<Vec<Id>>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) subtree: Option<Id>,
    #[serde(skip_serializing_if = "is_default")]
    error: String,
    /// Ours: where the data of a sparse file lies. Stock restic skips unknown fields.
    #[serde(rename = "provault_data_extents", skip_serializing_if = "is_default")]
    data_extents: Option<Vec<(u64, u64)>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
struct AttributeJson {
    name: String,
    value: Base64,
    /// Ours: a name that is not UTF-8, which JSON cannot hold.
    #[serde(rename = "provault_name", skip_serializing_if = "is_default")]
    raw_name: Option<Base64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct TimeText(FileTime);

impl Serialize for TimeText {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_text())
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        FileTime::parse(&text)
            .map(TimeText)
            .ok_or_else(|| serde::de::Error::custom(format!("not a time: {text:?}")))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The bits of Go's `os.FileMode` that say what a node is; its low nine bits are permissions.
mod go_mode {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const NAMED_PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
    /// Which bit stands for which of `st_mode`.
    pub(super) const SPECIAL: [(u32, u32); 3] =
        [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
}

impl Node {
    fn new(name: &[u8], kind: &str, type_bits: u32, metadata: &Metadata) -> Self {
        let special = go_mode::SPECIAL.iter().filter(|(unix, _)| metadata.mode & unix != 0);
        Self {
            name: quote(name),
            kind: kind.to_owned(),
            mode: metadata.mode & 0o777 | type_bits | special.fold(0, |all, (_, go)| all | go),
            mtime: TimeText(metadata.mtime),
            atime: TimeText(metadata.atime),
            ctime: TimeText(metadata.ctime),
            uid: metadata.uid,
            gid: metadata.gid,
            user: metadata.user.clone(),
            group: metadata.group.clone(),
            inode: metadata.inode,
            device_id: metadata.device_id,
            extended_attributes: metadata
                .extended_attributes
                .iter()
                .map(|attribute| AttributeJson {
                    name: String::from_utf8_lossy(&attribute.name).into_owned(),
                    value: Base64(attribute.value.clone()),
                    raw_name: std::str::from_utf8(&attribute.name)
                        .is_err()
                        .then(|| Base64(attribute.name.clone())),
                })
                .collect(),
            ..Self::default()
        }
    }

    pub(crate) fn directory(name: &[u8], metadata: &Metadata, subtree: Id) -> Self {
        Self { subtree: Some(subtree), ..Self::new(name, "dir", go_mode::DIR, metadata) }
    }

    pub(crate) fn file(
        name: &[u8],
        metadata: &Metadata,
        size: u64,
        content: Vec<Id>,
        data_extents: Option<Vec<(u64, u64)>>,
    ) -> Self {
        Self {
            size,
            links: metadata.links,
            content: Some(content),
            data_extents,
            ..Self::new(name, "file", 0, metadata)
        }
    }

    pub(crate) fn other(name: &[u8], metadata: &Metadata, kind: &NodeKind) -> Self {
        let (text, bits) = match kind {
            NodeKind::Symlink { .. } => ("symlink", go_mode::SYMLINK),
            NodeKind::BlockDevice { .. } => ("dev", go_mode::DEVICE),
            NodeKind::CharDevice { .. } => ("chardev", go_mode::DEVICE | go_mode::CHAR_DEVICE),
            NodeKind::Fifo => ("fifo", go_mode::NAMED_PIPE),
            NodeKind::Socket => ("socket", go_mode::SOCKET),
        };
        let mut node = Self::new(name, text, bits, metadata);
        match kind {
            NodeKind::Symlink { target } => {
                node.links = metadata.links;
                node.linktarget = String::from_utf8_lossy(target).into_owned();
                if std::str::from_utf8(target).is_err() {
                    node.linktarget_raw = Base64(target.clone());
                }
            }
            NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } => {
                node.links = metadata.links;
                node.device = *device;
            }
            NodeKind::Fifo | NodeKind::Socket => {}
        }
        node
    }

    /// The name's bytes.
    pub(crate) fn raw_name(&self) -> Option<Vec<u8>> {
        unquote(&self.name)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind == "file"
    }

    /// What the node is, if it has neither content nor a subtree.
    pub(crate) fn node_kind(&self) -> Option<NodeKind> {
        Some(match self.kind.as_str() {
            "symlink" => NodeKind::Symlink {
                target: if self.linktarget_raw.0.is_empty() {
                    self.linktarget.clone().into_bytes()
                } else {
                    self.linktarget_raw.0.clone()
                },
            },
            "dev" => NodeKind::BlockDevice { device: self.device },
            "chardev" => NodeKind::CharDevice { device: self.device },
            "fifo" => NodeKind::Fifo,
            "socket" => NodeKind::Socket,
            _ => return None,
        })
    }

    pub(crate) fn metadata(&self) -> Metadata {
        let special = go_mode::SPECIAL.iter().filter(|(_, go)| self.mode & go != 0);
        Metadata {
            mode: self.mode & 0o777 | special.fold(0, |all, (unix, _)| all | unix),
            uid: self.uid,
            gid: self.gid,
            user: self.user.clone(),
            group: self.group.clone(),
            mtime: self.mtime.0,
            atime: self.atime.0,
            ctime: self.ctime.0,
            inode: self.inode,
            device_id: self.device_id,
            size: self.size,
            links: self.links,
            extended_attributes: self
                .extended_attributes
                .iter()
                .map(|attribute| ExtendedAttribute {
                    name: attribute
                        .raw_name
                        .as_ref()
                        .map_or_else(|| attribute.name.clone().into_bytes(), |raw| raw.0.clone()),
                    value: attribute.value.0.clone(),
                })
                .collect(),
            data_extents: self.data_extents.clone(),
        }
    }

    /// Whether a file is, by all signs, the one that this node was made of: the signs that restic
    /// trusts too.
    pub(crate) fn looks_unchanged(&self, metadata: &Metadata) -> bool {
        let clamped = |time: FileTime| FileTime::parse(&time.to_text()).unwrap_or_default();
        self.is_file()
            && self.content.is_some()
            && self.size == metadata.size
            && self.inode == metadata.inode
            && self.mtime.0 == clamped(metadata.mtime)
            && self.ctime.0 == clamped(metadata.ctime)
    }

    pub(crate) fn data_extents(&self) -> Option<&Vec<(u64, u64)>> {
        self.data_extents.as_ref()
    }
}

/// A name that may stand in a tree: of one path component, and one that leads nowhere else.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name == b"." || name == b".." {
        "it is a directory's name for itself or its parent"
    } else if name.contains(&b'/') || name.contains(&0) {
        "it holds a slash or a zero byte"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { name: String::from_utf8_lossy(name).into_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go_json;

    fn text(seconds: i64, nanoseconds: u32) -> String {
        FileTime { seconds, nanoseconds }.to_text()
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(text(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_700_000_000, 120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(text(1_700_000_000, 1), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(text(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(text(i64::MAX, 0), "9999-12-30T22:00:00Z");
        let last = FileTime::parse("9999-12-31T23:59:59.999Z").unwrap();
        assert_eq!(last.to_text(), "9999-12-30T22:00:00Z");
        assert_eq!(FileTime::parse("yesterday"), None);
        assert_eq!(text(i64::MIN, 0), "0000-01-01T00:00:00Z");
        for (seconds, nanoseconds) in [(-1, 500_000_000), (-7, 0), (5, 999_999_999)] {
            let time = FileTime { seconds, nanoseconds };
            assert_eq!(FileTime::parse(&time.to_text()), Some(time));
        }
        let offset = FileTime::parse("2015-01-02T18:10:50.895208559+01:00").unwrap();
        assert_eq!((offset.seconds, offset.nanoseconds), (1_420_218_650, 895_208_559));
        let zero = FileTime::parse("0001-01-01T00:00:00Z").unwrap();
        assert_eq!(zero.seconds, -62_135_596_800);
    }

    /// Made by stock restic 0.14 of a real file: name, order and form of every field.
    #[test]
    fn a_node_is_written_as_restic_writes_it() {
        let restic = concat!(
            r#"{"name":"a\u003cb\\n","type":"file","mode":8389101,"mtime":"2014-12-06T17:50:23.34513538Z","#,
            r#""atime":"2014-12-06T17:50:23.34513538Z","ctime":"2014-12-06T17:50:23.34513538Z","#,
            r#""uid":1000,"gid":100,"user":"fd0","group":"users","inode":416863351,"device_id":2049,"#,
            r#""size":2,"links":1,"extended_attributes":[{"name":"user.a","value":"AAE="}],"#,
            r#""content":["50f77b3b4291e8411a027b9f9b9e64658181cc676ce6ba9958b95f268cb1109d"]}"#
        );
        let node: Node = serde_json::from_str(restic).unwrap();
        assert_eq!(node.raw_name().unwrap(), b"a<b\n");
        let metadata = node.metadata();
        assert_eq!(metadata.mode, 0o4755);
        let content = node.content.clone().unwrap();
        let written = Node::file(b"a<b\n", &metadata, 2, content, None);
        assert_eq!(String::from_utf8(go_json::to_vec(&written).unwrap()).unwrap(), restic);
        assert!(node.looks_unchanged(&metadata));
        let changed = Metadata { inode: 1, ..metadata };
        assert!(!node.looks_unchanged(&changed));
    }

    #[test]
    fn earlier_is_earlier_across_a_second() {
        let time = FileTime { seconds: 5, nanoseconds: 100 };
        let by = std::time::Duration::from_nanos;
        assert_eq!(time.before(by(0)), time);
        assert_eq!(time.before(by(100)), FileTime { seconds: 5, nanoseconds: 0 });
        assert_eq!(time.before(by(101)), FileTime { seconds: 4, nanoseconds: 999_999_999 });
        assert_eq!(time.before(by(2_000_000_000)), FileTime { seconds: 3, nanoseconds: 100 });
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(check_name(name).is_err());
        }
        for name in [&b"..."[..], b".a", b"\xff", b"\n"] {
            assert!(check_name(name).is_ok());
        }
    }
}
