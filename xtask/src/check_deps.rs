//! `cargo xtask check-deps`: holds the shape of the workspace.
//!
//! Three rules, each checked on what cargo itself says or on the sources:
//!
//! * rooms depend downwards only ([`layers`] has the table);
//! * no crate is used that was ruled out: AWS's SDK outside the drivers, OpenSSL anywhere;
//! * a source file stays readable: [`MAX_LINES`] lines at most, generated code and tests aside.

mod layers;
mod metadata;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use metadata::Workspace;

/// The most lines a hand-written source file may have.
const MAX_LINES: usize = 600;

/// Runs the task with the arguments after its name.
pub fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err(format!("unknown arguments {args:?}; there are no options"));
    }
    let root = crate::root();
    let workspace = Workspace::parse(&cargo_metadata(&root)?)?;
    let mut problems = layers::violations(&workspace);
    problems.extend(forbidden(&workspace));
    let (files, long) = long_files(&root)?;
    problems.extend(long);
    if problems.is_empty() {
        println!("{} crates and {files} source files keep the rules", workspace.members.len());
        return Ok(());
    }
    Err(format!("{} broken:\n  {}", plural(problems.len()), problems.join("\n  ")))
}

fn plural(problems: usize) -> String {
    if problems == 1 { "1 rule is".to_owned() } else { format!("{problems} rules are") }
}

fn cargo_metadata(root: &Path) -> Result<String, String> {
    let output = Command::new(crate::cargo())
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata failed:\n{errors}"));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

/// Crates that were ruled out, with the reason.
fn forbidden(workspace: &Workspace) -> Vec<String> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        if matches!(package.as_str(), "openssl" | "openssl-sys" | "native-tls") {
            found.push(format!(
                "{package} is in the dependency tree: TLS is rustls; choose the library's rustls \
                 feature (`cargo tree -i {package}` shows who asks for it)"
            ));
        }
    }
    for member in workspace.members.iter().filter(|m| !m.path.starts_with("crates/drivers/")) {
        for dependency in &member.dependencies {
            if dependency.name.starts_with("aws-sdk-") || dependency.name == "aws-config" {
                found.push(format!(
                    "{} depends on {}: AWS's SDK is used in crates/drivers/ only",
                    member.name, dependency.name
                ));
            }
        }
    }
    found
}

/// How many source files there are, and a complaint for each that is too long.
fn long_files(root: &Path) -> Result<(usize, Vec<String>), String> {
    let mut sources = Vec::new();
    for directory in ["crates", "xtask"] {
        collect_sources(&root.join(directory), &mut sources)?;
    }
    sources.sort();
    let mut long = Vec::new();
    for path in &sources {
        let text =
            fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            let path = path.strip_prefix(root).unwrap_or(path).display();
            long.push(format!(
                "{path} has {lines} lines, the limit is {MAX_LINES}: one noun a file; move what is \
                 a noun of its own, or the tests, elsewhere"
            ));
        }
    }
    Ok((sources.len(), long))
}

fn collect_sources(directory: &Path, sources: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries =
        fs::read_dir(directory).map_err(|e| format!("cannot read {}: {e}", directory.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("cannot read {}: {e}", directory.display()))?;
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !matches!(name.to_str(), Some("generated" | "tests" | "target")) {
                collect_sources(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(members: &str, packages: &str) -> Workspace {
        Workspace::parse(&metadata::sample(members, packages)).unwrap()
    }

    #[test]
    fn the_sdk_is_for_drivers_only() {
        let sdk = r#"{"name": "aws-sdk-s3", "kind": null}"#;
        let wrong = workspace(&metadata::made_up("provault-engine", "crates/engine", sdk), "");
        assert_eq!(forbidden(&wrong).len(), 1, "{:?}", forbidden(&wrong));
        assert!(forbidden(&wrong)[0].contains("provault-engine depends on aws-sdk-s3"));
        let path = "crates/drivers/bucket";
        let right = workspace(&metadata::made_up("provault-driver-bucket", path, sdk), "");
        assert_eq!(forbidden(&right), Vec::<String>::new());
    }

    #[test]
    fn openssl_is_found_wherever_it_comes_from() {
        let domain = metadata::made_up("provault-domain", "crates/domain", "");
        let found = forbidden(&workspace(&domain, "openssl-sys"));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("openssl-sys"), "{found:?}");
        assert_eq!(forbidden(&workspace(&domain, "rustls")), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_is_named_and_generated_ones_and_tests_are_not() {
        let root = std::env::temp_dir().join(format!("provault-long-files-{}", std::process::id()));
        let long = "//\n".repeat(MAX_LINES + 1);
        for (path, text) in [
            ("crates/a/src/long.rs", long.as_str()),
            ("crates/a/src/short.rs", &"//\n".repeat(MAX_LINES)),
            ("crates/a/src/generated/types.rs", &long),
            ("crates/a/tests/it.rs", &long),
            ("crates/a/notes.md", &long),
            ("xtask/src/main.rs", ""),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (files, found) = long_files(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(files, 3);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/a/src/long.rs has 601 lines"), "{found:?}");
    }
}
