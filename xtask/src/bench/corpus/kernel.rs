//! The source tree of Linux, from Debian's package of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::test::command::{Environment, run};

/// The package; its version comes from Debian's index and changes little in what matters here.
pub const PACKAGE: &str = "linux-source-6.1";

/// Unpacks the tree into `target`. The package itself is kept in `work/cache`.
pub fn unpack(environment: &Environment, work: &Path, target: &Path) -> Result<(), String> {
    let cache = work.join("cache");
    fs::create_dir_all(&cache).map_err(|e| format!("cannot make {}: {e}", cache.display()))?;
    let package = if let Some(package) = downloaded(&cache)? {
        package
    } else {
        run(environment.command("apt-get").args(["download", PACKAGE]).current_dir(&cache))
            .map_err(|e| {
                format!(
                    "{e}\n{PACKAGE} comes from Debian: run apt-get update, or put {PACKAGE}_*.deb \
                     into {}",
                    cache.display()
                )
            })?;
        downloaded(&cache)?
            .ok_or_else(|| format!("apt-get left no {PACKAGE} in {}", cache.display()))?
    };
    let parts = cache.join("package");
    run(environment.command("dpkg-deb").arg("-x").arg(&package).arg(&parts))?;
    let archive = parts.join(format!("usr/src/{PACKAGE}.tar.xz"));
    run(environment.command("tar").arg("-xf").arg(&archive).arg("-C").arg(target))
        .map_err(|e| format!("{e}\ntar needs xz for {}", archive.display()))?;
    super::remove(&parts)
}

fn downloaded(cache: &Path) -> Result<Option<PathBuf>, String> {
    let failed = |e| format!("cannot read {}: {e}", cache.display());
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(cache).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("{PACKAGE}_")) && path.extension().is_some_and(|e| e == "deb")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found.pop())
}
