//! `cargo xtask check-docs`: documentation that names what is not there misleads.
//!
//! In every Markdown file: a relative link must lead to a file, and a path in backticks that begins
//! with a directory of this repository (`crates/…`, `docs/…`) must exist. A name with a `*`, a `…`
//! or a capitalised placeholder (`crates/drivers/KIND/`) is a pattern and not looked up.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Markdown files are looked for, from the root.
const PLACES: &[&str] = &[".", "docs", "changelog", "model"];
/// What a path in backticks must begin with to be looked up.
const ROOTS: &[&str] =
    &["crates/", "docs/", "xtask/", "tests/", "model/", "changelog/", ".ci/", ".config/"];

/// Runs the task with the arguments after its name.
pub fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err(format!("unknown arguments {args:?}; there are no options"));
    }
    let root = crate::root();
    let mut files = Vec::new();
    for place in PLACES {
        collect(&root.join(place), *place != ".", &mut files)?;
    }
    files.sort();
    let mut wrong = Vec::new();
    for file in &files {
        let text =
            fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        wrong.extend(dangling(&root, file, &text));
    }
    if wrong.is_empty() {
        println!("{} documents lead somewhere", files.len());
        return Ok(());
    }
    Err(format!("the documentation names what does not exist:\n  {}", wrong.join("\n  ")))
}

fn collect(directory: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries =
        fs::read_dir(directory).map_err(|e| format!("cannot read {}: {e}", directory.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot read {}: {e}", directory.display()))?.path();
        if path.is_dir() && deep {
            collect(&path, true, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// One complaint for each name in `text`, the content of `file`, that leads nowhere.
fn dangling(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let here = file.parent().unwrap_or(root);
    let name = file.strip_prefix(root).unwrap_or(file).display();
    let mut wrong = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in links(line) {
            if !here.join(target).exists() {
                wrong.push(format!("{name}:{number}: link to {target}"));
            }
        }
        for path in paths(line) {
            if !root.join(path).exists() {
                wrong.push(format!("{name}:{number}: {path}"));
            }
        }
    }
    wrong
}

/// Targets of relative links: `[text](target)`, without what stands behind a `#`.
fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Paths in backticks that claim to be of this repository.
fn paths(line: &str) -> Vec<&str> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| ROOTS.iter().any(|root| code.starts_with(root)))
        .filter(|code| !code.contains(['*', '…', ' ', '<']))
        .filter(|code| !code.split(['/', '.', '_']).any(is_placeholder))
        .collect()
}

/// Such as `KIND`; a README is a file.
fn is_placeholder(part: &str) -> bool {
    part.len() > 1 && part != "README" && part.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_that_lead_nowhere_are_named_with_their_line() {
        let root = crate::root();
        let text = "[model](../model/README.md) and `crates/wire/src/lib.rs`\n\
                    [gone](gone.md#part) `crates/wire/src/gone.rs`\n\
                    ```\n[in code](gone.md)\n```\n\
                    [web](https://example.com/) [here](#part) `crates/drivers/KIND/` `crates/*`\n";
        let wrong = dangling(&root, &root.join("xtask/NOTES.md"), text);
        assert_eq!(
            wrong,
            ["xtask/NOTES.md:2: link to gone.md", "xtask/NOTES.md:2: crates/wire/src/gone.rs"]
        );
    }
}
