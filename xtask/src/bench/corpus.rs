//! What is backed up: a directory that is the same on every machine, and the ways to change it.
//!
//! A corpus is built once (a stamp, written last, says what it is) and put back into its first
//! state after every round: what an edit overwrites is kept beside it until then. A corpus that was
//! left in the middle of a round is put back before it is used.
//!
//! | corpus | what it is |
//! |---|---|
//! | `files` | the source tree of Linux as Debian packages it |
//! | `volume` | one raw ext4 image: that tree and a quarter of its size random data, the rest holes |
//! | `random` | one file of random data |
//! | `many` | small files of words in directories of 500, with links of both kinds |

mod image;
mod kernel;
mod many;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blocks;
use super::edits;
use super::random::Random;
use crate::test::command::Environment;

/// 1 GiB and the like.
const GIB: u64 = 1 << 30;

/// What is in a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's source.
    Files,
    /// A raw image of this size, made from the directory of another corpus.
    Volume {
        /// Bytes of the image.
        bytes: u64,
    },
    /// Random data.
    Random {
        /// Bytes of the one file.
        bytes: u64,
    },
    /// Small files.
    Many {
        /// How many.
        files: u64,
    },
}

/// A step of a round that changes the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The n-th change of 1 %, counted from 1.
    Increment(u32),
    /// A tenth of everything is replaced, so that a tenth of a repository that keeps only the new
    /// state is garbage.
    ReplaceTenth,
}

/// What a step changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Files touched.
    pub files: u64,
    /// Bytes that differ from before (of a file that was edited in place: the bytes put in).
    pub bytes: u64,
}

/// How large a corpus is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Files, links and directories.
    pub entries: u64,
    /// The sum of the lengths of all files.
    pub bytes: u64,
    /// What they take on this disk; less than their length where there are holes.
    pub allocated: u64,
}

/// A corpus on disk.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What is in it.
    pub kind: Kind,
    /// Everything of it: `data`, `undo`, `stamp.json`.
    directory: PathBuf,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    identity: String,
    shape: Shape,
}

impl Corpus {
    /// The corpora by name, with the sizes of the record runs.
    pub fn named(name: &str, work: &Path) -> Option<Self> {
        let (name, kind) = match name {
            "files" => ("files", Kind::Files),
            "volume" => ("volume", Kind::Volume { bytes: 4 * GIB }),
            "random" => ("random", Kind::Random { bytes: GIB }),
            "many" => ("many", Kind::Many { files: 500_000 }),
            _ => return None,
        };
        Some(Self::new(name, kind, work))
    }

    /// A corpus of any size below a work directory.
    pub fn new(name: &'static str, kind: Kind, work: &Path) -> Self {
        Self { name, kind, directory: work.join("corpora").join(name) }
    }

    /// What the tools are asked to back up: a directory.
    pub fn source(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What tells this corpus from one made otherwise.
    pub fn identity(&self) -> String {
        match self.kind {
            Kind::Files => format!("{} tree, edits 1", kernel::PACKAGE),
            Kind::Volume { bytes } => {
                format!("ext4 of {} and random, {bytes} bytes, edits 1", kernel::PACKAGE)
            }
            Kind::Random { bytes } => format!("random, {bytes} bytes, edits 1"),
            Kind::Many { files } => format!("{files} small files, edits 1"),
        }
    }

    /// Builds the corpus unless it is there, and puts it into its first state.
    pub fn prepare(&self, environment: &Environment, work: &Path) -> Result<Shape, String> {
        let stamp = self.directory.join("stamp.json");
        if let Some(found) = read_stamp(&stamp)
            && found.identity == self.identity()
        {
            self.reset()?;
            return Ok(found.shape);
        }
        println!("building the corpus {}", self.name);
        if self.directory.exists() {
            remove(&self.directory)?;
        }
        let source = self.source();
        fs::create_dir_all(&source)
            .map_err(|e| format!("cannot make {}: {e}", source.display()))?;
        match self.kind {
            Kind::Files => kernel::unpack(environment, work, &source)?,
            Kind::Volume { bytes } => {
                let files = Self::new("files", Kind::Files, work);
                files.prepare(environment, work)?;
                image::build(environment, &files.source(), &source.join(VOLUME), bytes)?;
            }
            Kind::Random { bytes } => random(&source.join("random.bin"), bytes)?,
            Kind::Many { files } => many::build(&source, files)?,
        }
        let shape = shape(&source)?;
        let text = serde_json::to_string(&Stamp { identity: self.identity(), shape })
            .map_err(|e| e.to_string())?;
        fs::write(&stamp, text).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
        Ok(shape)
    }

    /// Changes it; the same step always changes the same state in the same way.
    pub fn change(&self, step: Step) -> Result<Change, String> {
        match self.file() {
            Some(file) => blocks::change(&file, &self.undo(), step),
            None => edits::change(&self.source(), &self.undo(), step),
        }
    }

    /// Makes a backup by time stamps impossible for what has no trustworthy ones: a device does not
    /// tell when it was written to. The content stays.
    pub fn touch(&self) -> Result<(), String> {
        let Some(file) = self.file() else { return Ok(()) };
        blocks::touch(&file, &self.undo())
    }

    /// True for corpora that are read again whenever they are backed up.
    pub fn is_device(&self) -> bool {
        matches!(self.kind, Kind::Volume { .. })
    }

    /// Back to the first state.
    pub fn reset(&self) -> Result<(), String> {
        match self.file() {
            Some(file) => blocks::reset(&file, &self.undo()),
            None => edits::reset(&self.source(), &self.undo()),
        }
    }

    /// Its single large file, when it has one.
    fn file(&self) -> Option<PathBuf> {
        match self.kind {
            Kind::Volume { .. } => Some(self.source().join(VOLUME)),
            Kind::Random { .. } => Some(self.source().join("random.bin")),
            Kind::Files | Kind::Many { .. } => None,
        }
    }

    fn undo(&self) -> PathBuf {
        self.directory.join("undo")
    }
}

/// The name of the image in the corpus `volume`.
pub const VOLUME: &str = "volume.img";

fn read_stamp(path: &Path) -> Option<Stamp> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn random(path: &Path, bytes: u64) -> Result<(), String> {
    use std::io::Write as _;
    let failed = |e| format!("cannot write {}: {e}", path.display());
    let mut file = fs::File::create(path).map_err(failed)?;
    let mut random = Random::new(1);
    let mut buffer = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        random.fill(&mut buffer[..now]);
        file.write_all(&buffer[..now]).map_err(failed)?;
        left -= now as u64;
    }
    file.sync_all().map_err(failed)
}

/// Counts a directory.
pub fn shape(root: &Path) -> Result<Shape, String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut shape = Shape::default();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let failed = |e| format!("cannot read {}: {e}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // A repository may drop a temporary file or a lock while it is counted.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("{}: {error}", entry.path().display())),
            };
            shape.entries += 1;
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                shape.bytes += metadata.len();
                shape.allocated += metadata.blocks() * 512;
            }
        }
    }
    Ok(shape)
}

/// Removes a directory and all below it.
pub fn remove(directory: &Path) -> Result<(), String> {
    fs::remove_dir_all(directory).map_err(|e| format!("cannot remove {}: {e}", directory.display()))
}

/// Makes a directory absent at once, then removes it: what is half removed is never taken for whole.
pub fn discard(directory: &Path) -> Result<(), String> {
    let gone = directory.with_extension("gone");
    if gone.exists() {
        remove(&gone)?;
    }
    if !directory.exists() {
        return Ok(());
    }
    fs::rename(directory, &gone)
        .map_err(|e| format!("cannot rename {}: {e}", directory.display()))?;
    remove(&gone)
}
