//! The Debian package.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::test::command::{Environment, run};

/// After an installation or upgrade: a server that runs goes on with the new program. It is not started
/// the first time, since its settings have not been looked at.
const AFTER_INSTALL: &str = r#"#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
        if [ -n "$2" ]; then systemctl try-restart provault.service || true; fi
    fi
    if [ -z "$2" ]; then
        echo "provault: look at /etc/provault/provault.toml, then: systemctl enable --now provault"
    fi
fi
"#;
const BEFORE_REMOVAL: &str = r#"#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now provault.service || true
fi
"#;
/// What is backed up is nobody's to remove but the operator's.
const AFTER_REMOVAL: &str = r#"#!/bin/sh
set -e
if [ "$1" = purge ] && [ -d /var/lib/provault ]; then
    echo "provault: /var/lib/provault holds keys and backups and is kept; remove it by hand"
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
"#;

/// The version of the workspace.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Where the finished package lies.
pub fn place(environment: &Environment) -> Result<PathBuf, String> {
    let name = format!("provault_{}_{}.deb", version(), architecture(environment)?);
    Ok(super::directory(environment).join(name))
}

fn architecture(environment: &Environment) -> Result<String, String> {
    environment
        .output("dpkg", &["--print-architecture"])
        .ok_or_else(|| "dpkg is missing: packages for Debian are made on Debian".to_owned())
}

/// Puts the package together around `program`.
pub fn build(environment: &Environment, program: &Path) -> Result<PathBuf, String> {
    let place = place(environment)?;
    let tree = super::directory(environment).join("tree");
    remove(&tree)?;
    let packaging = environment.root.join("packaging");

    put(&tree.join("usr/bin/provault"), &read(program)?, 0o755)?;
    let unit = text(&packaging.join("systemd/provault.service"))?;
    let unit = packaged_unit(&unit)?;
    put(&tree.join("usr/lib/systemd/system/provault.service"), unit.as_bytes(), 0o644)?;
    put(
        &tree.join("etc/provault/provault.toml"),
        &read(&packaging.join("etc/provault.toml"))?,
        0o644,
    )?;
    let documents = tree.join("usr/share/doc/provault");
    put(&documents.join("grafana.json"), &read(&packaging.join("grafana/provault.json"))?, 0o644)?;
    put(&documents.join("copyright"), copyright(environment)?.as_bytes(), 0o644)?;
    written_by_itself(environment, program, &tree)?;

    let size = kib(&tree)?;
    let control = tree.join("DEBIAN");
    let described = format!(
        "Package: provault\nVersion: {}\nArchitecture: {}\nMaintainer: The Provault authors \
         <provault@localhost>\nInstalled-Size: {size}\nSection: admin\nPriority: optional\n\
         Recommends: fuse3\nSuggests: restic\nDescription: backup that is proven\n Backs up what you \
         run yourself, speaks the AWS Backup API, and proves each recovery\n point by restoring it in \
         isolation and asking its application.\n",
        version(),
        architecture(environment)?,
    );
    put(&control.join("control"), described.as_bytes(), 0o644)?;
    put(&control.join("conffiles"), b"/etc/provault/provault.toml\n", 0o644)?;
    for (name, script) in
        [("postinst", AFTER_INSTALL), ("prerm", BEFORE_REMOVAL), ("postrm", AFTER_REMOVAL)]
    {
        put(&control.join(name), script.as_bytes(), 0o755)?;
    }

    // The same sources give the same package: times are those of the last commit.
    let committed = environment.output("git", &["log", "-1", "--format=%ct"]);
    let mut command = environment.command("dpkg-deb");
    command.env("SOURCE_DATE_EPOCH", committed.unwrap_or_else(|| "0".to_owned()));
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&place);
    run(&mut command)?;
    remove(&tree)?;
    Ok(place)
}

/// The unit as it stands in the repository is for a program that somebody put there by hand.
fn packaged_unit(unit: &str) -> Result<String, String> {
    let by_hand = "ExecStart=/usr/local/bin/provault ";
    if !unit.contains(by_hand) {
        return Err(format!("packaging/systemd/provault.service has no line {by_hand}…"));
    }
    let lines = unit.lines().filter(|line| !line.starts_with("# Copy to "));
    let unit: String = lines.flat_map(|line| [line, "\n"]).collect();
    Ok(unit.replace("/usr/local/bin/provault", "/usr/bin/provault"))
}

/// Manual pages and completions, which the program writes.
fn written_by_itself(environment: &Environment, program: &Path, tree: &Path) -> Result<(), String> {
    let pages = tree.join("usr/share/man/man1");
    make(&pages)?;
    run(environment.command(program).arg("man").arg(&pages))?;
    run(environment.command("gzip").arg("-9nr").arg(&pages))?;
    let share = tree.join("usr/share");
    for (shell, place) in [
        ("bash", "bash-completion/completions/provault"),
        ("zsh", "zsh/vendor-completions/_provault"),
        ("fish", "fish/vendor_completions.d/provault.fish"),
    ] {
        let script = environment.output(program, &["completions", shell]);
        let script = script.ok_or_else(|| format!("provault completions {shell} fails"))?;
        put(&share.join(place), script.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn copyright(environment: &Environment) -> Result<String, String> {
    let mut all = String::from("Provault is under the Apache License 2.0 or the MIT License.\n");
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        all.push('\n');
        all.push_str(&text(&environment.root.join(name))?);
    }
    Ok(all)
}

/// Space that the files below take, in KiB, each rounded up.
fn kib(directory: &Path) -> Result<u64, String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", directory.display());
    let mut sum = 0;
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let metadata = entry.metadata().map_err(wrong)?;
        sum += if metadata.is_dir() { kib(&entry.path())? } else { metadata.len().div_ceil(1024) };
    }
    Ok(sum)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Directories that a package brings are everybody's to look into, whatever the umask is.
fn make(directory: &Path) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", directory.display());
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make(parent)?;
    }
    fs::create_dir(directory).map_err(wrong)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(wrong)
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        make(parent)?;
    }
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {e}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_program_that_the_package_brings() {
        let unit =
            packaged_unit(include_str!("../../../packaging/systemd/provault.service")).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/provault serve"), "{unit}");
        assert!(!unit.contains("/usr/local") && !unit.contains("Copy to"), "{unit}");
        assert!(packaged_unit("[Unit]\n").is_err());
    }
}
