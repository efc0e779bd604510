//! Doors for fuzzing: each parser of what a repository holds, fed with bytes from anywhere.
//!
//! Not part of the interface. The fuzz targets in `fuzz/` and the tests go in here, so that the
//! parsers themselves can stay private. Every function returns, whatever it is given; what it
//! asserts is what the rest of the crate relies on.
//!
//! All but [`unpacked`] and [`pack_file`] get plaintext: a fuzzer cannot guess the MAC, but whoever
//! knows the password can seal what they like.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::cancel::CancelFlag;
use crate::check::CheckLevel;
use crate::chunker::ChunkerParams;
use crate::config::Config;
use crate::crypto::AeadKey;
use crate::error::Result;
use crate::id::{Id, SnapshotId};
use crate::index::{IndexFile, IndexPack, MemoryIndex};
use crate::key::{KeyFile, Password};
use crate::limits;
use crate::node::check_name;
use crate::pack::{self, BlobKind, PackBuilder, PackedBlob};
use crate::repository::{FileKind, Options, Repository};
use crate::snapshot::Snapshot;
use crate::storage::{Storage, StorageError, StorageErrorKind, StoredObject};
use crate::tree::Tree;

/// A parser that takes bytes from anywhere.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("key", key),
    ("unpacked", unpacked),
    ("index", index),
    ("pack_header", pack_header),
    ("pack_file", pack_file),
    ("tree", tree),
    ("snapshot", snapshot),
    ("lock", lock),
    ("walk", walk),
];

/// The file `config`.
pub fn config(json: &[u8]) {
    if let Ok(config) = Config::parse(json) {
        assert!(config.version == 1 || config.version == 2);
    }
}

/// A key file. Where deriving the key is cheap it is tried with a password that may fit.
pub fn key(json: &[u8]) {
    if let Ok(file) = KeyFile::parse("key", json) {
        assert!(file.work() <= limits::KEY_WORK);
        if file.work() <= 1 << 20 {
            let _ = file.open("key", &Password::from_text("fuzz"));
        }
    }
}

/// The plaintext of an index, snapshot or lock file: JSON, compressed or not.
pub fn unpacked(plain: &[u8]) {
    for kind in [FileKind::Lock, FileKind::Index] {
        if let Ok(json) = limits::decode_file("file", kind, plain.to_vec()) {
            assert!(json.len() as u64 <= limits::file(kind).max(plain.len() as u64));
        }
    }
}

/// An index file.
pub fn index(json: &[u8]) {
    let Ok(file) = serde_json::from_slice::<IndexFile>(json) else { return };
    let mut index = MemoryIndex::default();
    index.add(&file.packs);
    for pack in &file.packs {
        let blobs: Vec<_> = pack.packed().collect();
        let _ = pack::file_size(&blobs);
        for blob in &blobs {
            let _ = blob.plain_length();
            let _ = limits::refuses_blob(blob.kind, blob.length, blob.uncompressed);
            for place in index.locations(blob.kind, &blob.id) {
                assert_eq!((place.blob.id, place.blob.kind), (blob.id, blob.kind));
            }
        }
    }
}

/// The header of a pack, sealed as it should be, behind as many bytes as it speaks of or not.
pub fn pack_header(header: &[u8]) {
    let key = fixed_key();
    let sealed = key.seal(header);
    let length = u32::try_from(sealed.len()).unwrap_or(0).to_le_bytes();
    for body in [0, header.len() % 100] {
        let _ = pack::parse(&key, &[&vec![0; body][..], &sealed, &length].concat());
    }
}

/// A whole pack file.
pub fn pack_file(file: &[u8]) {
    if let Ok(blobs) = pack::parse(&fixed_key(), file) {
        assert_eq!(pack::file_size(&blobs), file.len() as u64);
    }
}

/// A tree blob.
pub fn tree(json: &[u8]) {
    let Ok(tree) = Tree::parse(Id([7; 32]), json) else { return };
    assert!(tree.nodes.windows(2).all(|pair| pair[0].0 < pair[1].0), "unsorted or twice");
    for (name, node) in &tree.nodes {
        assert!(check_name(name).is_ok(), "an unsafe name came through");
        let _ = (node.metadata(), node.node_kind());
        assert!(tree.find(name).is_some());
    }
}

/// A snapshot file.
pub fn snapshot(json: &[u8]) {
    if let Ok(snapshot) = Snapshot::parse(Id([7; 32]), json) {
        let _ = snapshot.has_tag("x");
    }
}

/// A lock file.
pub fn lock(json: &[u8]) {
    crate::lock_file::fuzz(json);
}

/// Steps of a walk: a hostile repository may be endless.
const STEPS: usize = 500;

/// A whole repository of these trees: see [`hostile`]. It is walked and read for a number of steps,
/// and checked.
pub fn walk(script: &[u8]) {
    let Ok((storage, id)) = hostile(script) else { return };
    let _ = tour(storage, id);
}

fn tour(storage: Arc<dyn Storage>, id: SnapshotId) -> Result<()> {
    let repository = opened(storage)?;
    let snapshot = repository.snapshot(id)?;
    let reader = repository.reader()?;
    let mut files = Vec::new();
    for entry in reader.entries(&snapshot, b"")?.take(STEPS) {
        let Ok(entry) = entry else { continue };
        assert!(entry.path.split(|byte| *byte == b'/').all(|name| check_name(name).is_ok()));
        if files.len() < 20 {
            let _ = reader.blobs(&entry);
            let _ = reader.read_range(&entry, entry.metadata.size / 2, 100);
            let _ = reader.read_file(&entry, &mut |_, _| Ok(()));
            files.push(entry);
        }
    }
    drop(reader);
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new())?;
    assert!(report.hurt.is_empty() || !report.is_clean(), "hurt, and nothing wrong");
    Ok(())
}

/// A repository whose trees are the lines of a script, in storage in memory, and its snapshot,
/// whose tree is the last line. In a line `"TREE:n"` stands for the id of the n-th tree before it
/// (modulo their number), and `"DATA:n"` for that of a chunk of n bytes, at most 1000.
pub fn hostile(script: &[u8]) -> Result<(Arc<dyn Storage>, SnapshotId)> {
    let key = fixed_key();
    let storage = Arc::new(MemoryStorage::default());
    let mut trees: Vec<Id> = Vec::new();
    let (mut pack, mut seen) = (PackBuilder::default(), std::collections::BTreeSet::new());
    let mut store = |kind, plain: &[u8]| -> Result<Id> {
        let id = Id::hash(plain);
        if seen.insert((kind, id)) {
            pack.add(kind, id, &key.seal(plain), None)?;
        }
        Ok(id)
    };
    for line in script.split(|byte| *byte == b'\n').take(50_000) {
        let mut json = Vec::new();
        let mut rest = line;
        while let Some((before, kind, number, after)) = reference(rest) {
            json.extend_from_slice(before);
            let id = match (kind, trees.len()) {
                (BlobKind::Data, _) => store(kind, &vec![b'd'; number % 1001])?,
                (BlobKind::Tree, 0) => Id([9; 32]),
                (BlobKind::Tree, count) => trees[count - 1 - number % count],
            };
            json.extend_from_slice(format!("\"{id}\"").as_bytes());
            rest = after;
        }
        json.extend_from_slice(rest);
        trees.push(store(BlobKind::Tree, &json)?);
    }
    let root = trees.last().copied().unwrap_or(Id([9; 32]));
    let (id, file, blobs) = pack.finish(&key)?;
    storage.put(&FileKind::Pack.name(&id), Bytes::from(file))?;
    let index = crate::index::to_json(&[&IndexPack::new(id, &blobs)])?;
    let snapshot = format!(r#"{{"time":"2024-01-01T00:00:00Z","tree":"{root}","paths":["/"]}}"#);
    let save = |kind: FileKind, json: &[u8]| -> Result<Id> {
        let sealed = key.seal(json);
        let id = Id::hash(&sealed);
        storage.put(&kind.name(&id), Bytes::from(sealed))?;
        Ok(id)
    };
    save(FileKind::Index, &index)?;
    let snapshot = save(FileKind::Snapshot, snapshot.as_bytes())?;
    let config = serde_json::to_vec(&fixed_config()).unwrap_or_default();
    storage.put("config", Bytes::from(key.seal(&config)))?;
    Ok((storage, snapshot))
}

/// The blob that [`relist`] makes up.
pub const MADE_UP: Id = Id([7; 32]);

/// Adds an index file to a [`hostile`] repository that lists its pack so many times, in another
/// order: as it is, or (where true) with a blob more that is not there.
pub fn relist(storage: &Arc<dyn Storage>, listings: &[bool]) -> Result<()> {
    let repository = opened(Arc::clone(storage))?;
    let mut packs = Vec::new();
    for (index, _) in repository.inner.list(FileKind::Index)?.into_iter().take(1) {
        for pack in &repository.inner.load_index_file(&index)?.packs {
            for more in listings {
                let mut blobs: Vec<_> = pack.packed().collect();
                blobs.reverse();
                let last = blobs.last().filter(|_| *more).copied();
                blobs.extend(last.map(|last| PackedBlob { id: MADE_UP, ..last }));
                packs.push(IndexPack::new(pack.id, &blobs));
            }
        }
    }
    let job = crate::lock::begin_job(&repository.inner)?;
    repository.inner.save_index(&job, &packs.iter().collect::<Vec<_>>()).map(drop)
}

/// The script of a tree of so many directories above one another.
pub fn deep(levels: usize) -> Vec<u8> {
    let line = r#"{"nodes":[{"name":"d","type":"dir","subtree":"TREE:0"}]}"#;
    vec![line; levels].join("\n").into_bytes()
}

/// The first reference in a text: what is before it, its kind and number, and what is behind it.
fn reference(text: &[u8]) -> Option<(&[u8], BlobKind, usize, &[u8])> {
    let at = text.windows(6).position(|six| six == b"\"TREE:" || six == b"\"DATA:")?;
    let kind = if text[at + 1] == b'T' { BlobKind::Tree } else { BlobKind::Data };
    let digits = &text[at + 6..];
    let end = digits.iter().position(|byte| *byte == b'"')?;
    let number = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Some((&text[..at], kind, number, &digits[end + 1..]))
}

/// The password of a repository of [`hostile`] trees, once [`add_key`] has given it one.
pub const PASSWORD: &str = "hostile";

/// Gives a [`hostile`] repository a key file, so that any program can open it.
pub fn add_key(storage: &Arc<dyn Storage>) -> Result<()> {
    opened(Arc::clone(storage))?.add_key(&Password::from_text(PASSWORD)).map(drop)
}

fn opened(storage: Arc<dyn Storage>) -> Result<Repository> {
    let (key, config) = (fixed_key(), fixed_config());
    let chunker = ChunkerParams::of(storage.as_ref(), &config, &key)?;
    Ok(Repository::new(storage, key, config, chunker, options()))
}

fn fixed_key() -> AeadKey {
    AeadKey::from_bytes(&[1; 32], &[2; 32])
}

fn fixed_config() -> Config {
    // The polynomial of restic's own examples.
    Config {
        version: 2,
        id: Id([3; 32]),
        chunker_polynomial: "3da3358b4dc173".to_owned(),
        provault_chunker: Some(crate::config::FASTCDC.to_owned()),
    }
}

fn options() -> Options {
    Options { lock_settle: std::time::Duration::ZERO, ..Options::default() }
}

/// Storage in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<BTreeMap<String, Bytes>>);

impl MemoryStorage {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(operation: &'static str, name: &str, kind: StorageErrorKind) -> StorageError {
    StorageError { kind, ..StorageError::other(operation, name, "in memory") }
}

impl Storage for MemoryStorage {
    fn get(&self, name: &str) -> std::result::Result<Bytes, StorageError> {
        let found = self.objects().get(name).cloned();
        found.ok_or_else(|| failed("get", name, StorageErrorKind::NotFound))
    }

    fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> std::result::Result<Bytes, StorageError> {
        let all = self.get(name)?;
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(all.len());
        Ok(all.slice(clamp(offset)..clamp(offset.saturating_add(length))))
    }

    fn put(&self, name: &str, content: Bytes) -> std::result::Result<(), StorageError> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(failed("put", name, StorageErrorKind::AlreadyExists));
        }
        objects.insert(name.to_owned(), content);
        Ok(())
    }

    fn list(&self, prefix: &str) -> std::result::Result<Vec<StoredObject>, StorageError> {
        let below = format!("{prefix}/");
        let objects = self.objects();
        let all = objects.iter().filter(|(name, _)| name.starts_with(&below));
        let object = |(name, content): (&String, &Bytes)| StoredObject {
            name: name.clone(),
            size: content.len() as u64,
        };
        Ok(all.map(object).collect())
    }

    fn size(&self, name: &str) -> std::result::Result<u64, StorageError> {
        self.get(name).map(|content| content.len() as u64)
    }

    fn delete(&self, name: &str) -> std::result::Result<(), StorageError> {
        let gone = self.objects().remove(name);
        gone.map(drop).ok_or_else(|| failed("delete", name, StorageErrorKind::NotFound))
    }
}
