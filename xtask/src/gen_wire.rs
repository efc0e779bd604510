//! `cargo xtask gen-wire [--check]`: writes the generated half of the crate `provault-wire` from
//! the service model.
//!
//! The output is committed, so that building needs no generator and a change of the model shows
//! up in review. `--check` regenerates in memory and compares. A construct of the model that the
//! generator does not know (a blob, a header member, a new pattern) is an error that says where to
//! teach it: nothing is skipped silently.

mod code;
mod model;
mod names;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::Model;

/// The model file, from the root of the workspace.
const MODEL: &str = "model/backup-2018-11-15.json";
/// Where the output goes, from the root of the workspace.
const OUTPUT: &str = "crates/wire/src/generated";

/// Generated files by path below [`OUTPUT`].
type Files = BTreeMap<PathBuf, String>;

/// Runs the task with the arguments after its name.
pub fn run(args: &[String]) -> Result<(), String> {
    let root = root();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => write(&root),
        ["--check"] => check(&root),
        _ => Err(format!("unknown arguments {args:?}; the only option is --check")),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

fn write(root: &Path) -> Result<(), String> {
    let files = generate(root)?;
    let output = root.join(OUTPUT);
    for stale in existing(&output)?.into_keys().filter(|path| !files.contains_key(path)) {
        let path = output.join(stale);
        fs::remove_file(&path)
            .map_err(|e| format!("cannot remove stale {}: {e}", path.display()))?;
    }
    for (path, text) in &files {
        let path = output.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|e| format!("cannot create {}: {e}", parent.display()))?;
        }
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    println!("wrote {} files below {OUTPUT}", files.len());
    Ok(())
}

fn check(root: &Path) -> Result<(), String> {
    let wanted = generate(root)?;
    let found = existing(&root.join(OUTPUT))?;
    let mut differences = Vec::new();
    for (path, text) in &wanted {
        match found.get(path) {
            None => differences.push(format!("{} is missing", path.display())),
            Some(old) if old != text => {
                let line = old.lines().zip(text.lines()).take_while(|(a, b)| a == b).count() + 1;
                differences.push(format!("{} differs from line {line} on", path.display()));
            }
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !wanted.contains_key(*path)) {
        differences.push(format!("{} is not generated (any more)", path.display()));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{OUTPUT} is not what {MODEL} generates:\n  {}\nrun `cargo xtask gen-wire` and commit the \
         result; never edit generated files by hand",
        differences.join("\n  ")
    ))
}

/// The whole output, formatted.
fn generate(root: &Path) -> Result<Files, String> {
    let path = root.join(MODEL);
    let text =
        fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let model = Model::parse(&text).map_err(|e| format!("{MODEL}: {e}"))?;
    let mut files = code::files(&model).map_err(|e| format!("{MODEL}: {e}"))?;
    for (path, text) in &mut files {
        *text = rustfmt(root, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(files)
}

/// What lies in the output directory now.
fn existing(output: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    let mut pending = vec![output.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let text = fs::read_to_string(&path)
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            files.insert(path.strip_prefix(output).unwrap_or(&path).to_path_buf(), text);
        }
    }
    Ok(files)
}

/// Formats one file as `cargo fmt` would.
fn rustfmt(root: &Path, text: &str) -> Result<String, String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| {
            format!("cannot run rustfmt ({e}); install it: rustup component add rustfmt")
        })?;
    // The thread feeds rustfmt while its output is read, so that neither pipe can fill up.
    let feeder = child.stdin.take().map(|mut stdin| {
        let text = text.to_owned();
        std::thread::spawn(move || stdin.write_all(text.as_bytes()))
    });
    let output = child.wait_with_output().map_err(|e| format!("rustfmt: {e}"))?;
    if let Some(feeder) = feeder {
        let fed = feeder.join().map_err(|_| "the thread feeding rustfmt panicked".to_owned())?;
        fed.map_err(|e| format!("cannot feed rustfmt: {e}"))?;
    }
    if !output.status.success() {
        return Err(format!("rustfmt refused the generated code ({})", output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("rustfmt: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_output_is_what_the_model_generates() {
        check(&root()).unwrap();
    }

    #[test]
    fn a_changed_file_is_named() {
        let directory =
            std::env::temp_dir().join(format!("provault-gen-wire-{}", std::process::id()));
        fs::create_dir_all(directory.join("model")).unwrap();
        for file in [MODEL, "rustfmt.toml"] {
            fs::copy(root().join(file), directory.join(file)).unwrap();
        }
        write(&directory).unwrap();
        check(&directory).unwrap();
        let victim = directory.join(OUTPUT).join("enums.rs");
        let text = fs::read_to_string(&victim).unwrap();
        fs::write(&victim, text.replace("\"WARM\"", "\"TEPID\"")).unwrap();
        fs::write(directory.join(OUTPUT).join("extra.rs"), "").unwrap();
        let message = check(&directory).unwrap_err();
        fs::remove_dir_all(&directory).unwrap();
        assert!(message.contains("enums.rs differs from line"), "{message}");
        assert!(message.contains("extra.rs is not generated"), "{message}");
        assert!(message.contains("cargo xtask gen-wire"), "{message}");
    }
}
