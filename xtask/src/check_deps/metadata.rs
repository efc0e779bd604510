//! What `cargo metadata` says about the workspace, as far as the rules need it.

use std::collections::BTreeSet;

use serde_json::Value;

/// The crates of the workspace and everything they draw in.
pub struct Workspace {
    /// Crates of ours.
    pub members: Vec<Member>,
    /// Names of all packages in the dependency tree, ours included.
    pub packages: BTreeSet<String>,
}

/// A crate of ours.
pub struct Member {
    /// Its package name.
    pub name: String,
    /// Its directory from the root of the workspace, such as `crates/drivers/filesystem`.
    pub path: String,
    /// What its `Cargo.toml` names.
    pub dependencies: Vec<Dependency>,
}

/// One line of a `Cargo.toml`.
pub struct Dependency {
    /// The package, whatever it is renamed to.
    pub name: String,
    /// Whether only tests, examples and benches see it.
    pub dev: bool,
}

impl Workspace {
    /// Reads the output of `cargo metadata --format-version 1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("cargo metadata is not JSON: {e}"))?;
        let root = string(&value, "workspace_root")?;
        let ids: BTreeSet<&str> = array(&value, "workspace_members")?
            .iter()
            .map(|id| id.as_str().ok_or("cargo metadata: a member's id is not a string"))
            .collect::<Result<_, _>>()?;
        let mut workspace = Self { members: Vec::new(), packages: BTreeSet::new() };
        for package in array(&value, "packages")? {
            let name = string(package, "name")?;
            if ids.contains(string(package, "id")?) {
                workspace.members.push(member(package, name, root)?);
            }
            workspace.packages.insert(name.to_owned());
        }
        workspace.members.sort_by(|a, b| a.name.cmp(&b.name));
        if workspace.members.is_empty() {
            return Err("cargo metadata names no crate of the workspace".to_owned());
        }
        Ok(workspace)
    }
}

fn member(package: &Value, name: &str, root: &str) -> Result<Member, String> {
    let manifest = string(package, "manifest_path")?;
    let path = manifest
        .strip_prefix(root)
        .and_then(|path| path.trim_start_matches('/').strip_suffix("/Cargo.toml"))
        .ok_or_else(|| format!("cargo metadata: {manifest} is not below {root}"))?;
    let dependencies = array(package, "dependencies")?
        .iter()
        .map(|dependency| {
            let dev = dependency["kind"] == "dev";
            Ok(Dependency { name: string(dependency, "name")?.to_owned(), dev })
        })
        .collect::<Result<_, String>>()?;
    Ok(Member { name: name.to_owned(), path: path.to_owned(), dependencies })
}

fn string<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("cargo metadata: no string '{key}'"))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value[key].as_array().ok_or_else(|| format!("cargo metadata: no list '{key}'"))
}

/// Made-up metadata for tests: `members` from [`made_up`], and names of other packages.
#[cfg(test)]
pub fn sample(members: &str, others: &str) -> String {
    let parsed: Vec<Value> = serde_json::from_str(&format!("[{members}]")).unwrap();
    let ids: Vec<&Value> = parsed.iter().map(|package| &package["id"]).collect();
    let mut packages = parsed.clone();
    packages.extend(others.split_whitespace().map(|name| {
        serde_json::json!({"name": name, "id": format!("registry#{name}"), "dependencies": [],
            "manifest_path": format!("/registry/{name}/Cargo.toml")})
    }));
    serde_json::json!({"workspace_root": "/src", "workspace_members": ids, "packages": packages})
        .to_string()
}

/// A made-up member; `dependencies` are JSON objects with commas between.
#[cfg(test)]
pub fn made_up(name: &str, path: &str, dependencies: &str) -> String {
    format!(
        r#"{{"name": "{name}", "id": "path+file:///src/{path}", "dependencies": [{dependencies}],
            "manifest_path": "/src/{path}/Cargo.toml"}}"#
    )
}
