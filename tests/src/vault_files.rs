//! What lies in a vault on disk, for tests that damage it.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory of a vault's repository below a server's data directory.
pub fn directory(data_dir: &Path, vault: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(data_dir.join("vaults"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.rsplit_once('-').is_some_and(|(name, _)| name == vault)
        })
        .collect();
    assert_eq!(found.len(), 1, "the repositories of vault {vault}: {found:?}");
    found.remove(0)
}

/// Flips one bit in the middle of the largest pack: with a file of incompressible bytes in the
/// source that is one of file content, not one of directories.
pub fn flip_a_byte(data_dir: &Path, vault: &str) -> PathBuf {
    let packs = packs(data_dir, vault);
    let pack = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut content = fs::read(&pack).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    // Packs are written once and are read-only.
    let mut permissions = fs::metadata(&pack).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(&pack, permissions).unwrap();
    fs::write(&pack, content).unwrap();
    pack
}

/// The packs of a vault.
pub fn packs(data_dir: &Path, vault: &str) -> Vec<PathBuf> {
    let mut packs = Vec::new();
    collect(&directory(data_dir, vault).join("data"), &mut packs);
    packs
}

/// Adds all files below a directory.
pub(crate) fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// What the files of a vault take, in bytes.
pub fn size(data_dir: &Path, vault: &str) -> u64 {
    let mut files = Vec::new();
    collect(&directory(data_dir, vault), &mut files);
    files.iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}
