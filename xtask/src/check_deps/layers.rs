//! Which room may know which.
//!
//! Normal and build dependencies follow the table. Tests may use more: a dev-dependency may also
//! name `provault-testkit`, and any room of a lower level, where the level of a room is one more
//! than the highest level it may depend on. So tests never look upwards, and no cycle can hide in
//! them. The binary and the end-to-end tests see everything.

use std::collections::BTreeMap;

use super::metadata::{Member, Workspace};

/// What each room may depend on, in the order of the layers.
const ROOMS: &[(&str, &[&str])] = &[
    ("provault-domain", &[]),
    ("provault-wire", &[]),
    ("provault-iam", &[]),
    ("provault-repository", &[]),
    (TESTKIT, &[]),
    ("provault-catalog", &["provault-domain"]),
    ("provault-notify", &["provault-domain", "provault-iam"]),
    ("provault-driver", &["provault-domain"]),
    ("provault-cli", &["provault-wire", "provault-iam"]),
    ("provault-proof", &["provault-domain", "provault-driver"]),
    (
        "provault-engine",
        &[
            "provault-domain",
            "provault-catalog",
            "provault-driver",
            "provault-repository",
            "provault-notify",
            "provault-proof",
        ],
    ),
    (
        "provault-app",
        &[
            "provault-domain",
            "provault-iam",
            "provault-catalog",
            "provault-driver",
            "provault-engine",
        ],
    ),
    ("provault-server", &["provault-wire", "provault-iam", "provault-domain", "provault-app"]),
    ("xtask", &[]),
];

/// What every crate below `crates/drivers/` may depend on.
const DRIVER: &[&str] = &["provault-driver", "provault-domain"];
/// Any room's tests may use it.
const TESTKIT: &str = "provault-testkit";
/// Wires all rooms together.
const BINARY: &str = "provault";
/// The end-to-end tests.
const END_TO_END: &str = "provault-tests";

/// Every dependency that the table forbids, and every crate that it does not know.
pub fn violations(workspace: &Workspace) -> Vec<String> {
    let levels: BTreeMap<&str, usize> =
        workspace.members.iter().map(|m| (m.name.as_str(), level(m))).collect();
    let mut found = Vec::new();
    for member in &workspace.members {
        let Some(allowed) = allowed(member) else {
            found.push(format!(
                "{} has no place in the layers: give it one in xtask/src/check_deps/layers.rs and \
                 docs/architecture.md",
                member.name
            ));
            continue;
        };
        let Allowed::These(allowed) = allowed else { continue };
        for dependency in &member.dependencies {
            let name = dependency.name.as_str();
            let Some(&theirs) = levels.get(name) else { continue };
            if allowed.contains(&name) {
                continue;
            }
            let below = name == TESTKIT || theirs < levels[member.name.as_str()];
            if dependency.dev && below {
                continue;
            }
            found.push(complaint(member, name, dependency.dev, allowed));
        }
    }
    found
}

fn complaint(member: &Member, dependency: &str, dev: bool, allowed: &[&str]) -> String {
    let kind = if dev { "its tests depend" } else { "it depends" };
    let may = if allowed.is_empty() { "no room".to_owned() } else { allowed.join(", ") };
    format!(
        "{} breaks the layers: {kind} on {dependency}, but it may know {may}{}",
        member.name,
        if dev { " (its tests also lower rooms and provault-testkit)" } else { "" }
    )
}

enum Allowed {
    These(&'static [&'static str]),
    All,
}

fn allowed(member: &Member) -> Option<Allowed> {
    if member.path.starts_with("crates/drivers/") {
        return Some(Allowed::These(DRIVER));
    }
    if member.name == BINARY || member.name == END_TO_END {
        return Some(Allowed::All);
    }
    let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == member.name)?;
    Some(Allowed::These(allowed))
}

fn level(member: &Member) -> usize {
    match allowed(member) {
        Some(Allowed::These(allowed)) => above(allowed),
        Some(Allowed::All) | None => usize::MAX,
    }
}

/// One more than the highest level among `rooms`. The table has no cycle (a test holds that).
fn above(rooms: &[&str]) -> usize {
    rooms
        .iter()
        .map(|name| {
            let below = ROOMS.iter().find(|(room, _)| room == name).map_or(&[][..], |(_, b)| *b);
            above(below) + 1
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{made_up, sample};
    use super::*;

    /// Violations in a workspace where `name` depends on `dependency` and all rooms exist.
    fn found(name: &str, path: &str, dependency: &str, kind: &str) -> Vec<String> {
        let dependency = format!(r#"{{"name": "{dependency}", "kind": {kind}}}"#);
        let mut members = vec![made_up(name, path, &dependency)];
        for (room, _) in ROOMS.iter().filter(|(room, _)| *room != name) {
            members.push(made_up(room, &format!("crates/{room}"), ""));
        }
        if name != "provault-driver-filesystem" {
            let path = "crates/drivers/filesystem";
            members.push(made_up("provault-driver-filesystem", path, ""));
        }
        violations(&Workspace::parse(&sample(&members.join(","), "serde")).unwrap())
    }

    #[test]
    fn an_upward_dependency_is_found_in_every_kind() {
        for kind in ["null", r#""build""#, r#""dev""#] {
            let found = found("provault-domain", "crates/domain", "provault-catalog", kind);
            assert_eq!(found.len(), 1, "{kind}: {found:?}");
            assert!(found[0].contains("provault-domain breaks the layers"), "{found:?}");
            assert!(found[0].contains("on provault-catalog"), "{found:?}");
        }
    }

    #[test]
    fn a_sideways_dependency_is_found() {
        for (name, path, dependency) in [
            ("provault-catalog", "crates/catalog", "provault-notify"),
            ("provault-cli", "crates/cli", "provault-domain"),
            ("provault-server", "crates/server", "provault-engine"),
            ("provault-driver-filesystem", "crates/drivers/filesystem", "provault-repository"),
            ("provault-app", "crates/app", "provault-testkit"),
        ] {
            assert_eq!(found(name, path, dependency, "null").len(), 1, "{name} on {dependency}");
        }
    }

    #[test]
    fn allowed_dependencies_are_silent() {
        for (name, path, dependency, kind) in [
            ("provault-engine", "crates/engine", "provault-repository", "null"),
            ("provault-engine", "crates/engine", "provault-driver-filesystem", r#""dev""#),
            ("provault-catalog", "crates/catalog", "provault-testkit", r#""dev""#),
            ("provault-driver-filesystem", "crates/drivers/filesystem", "provault-driver", "null"),
            ("provault-server", "crates/server", "provault-engine", r#""dev""#),
            ("provault", "crates/provault", "provault-engine", "null"),
            ("provault-tests", "tests", "provault-wire", r#""dev""#),
            ("provault-domain", "crates/domain", "serde", "null"),
        ] {
            let found = found(name, path, dependency, kind);
            assert_eq!(found, Vec::<String>::new(), "{name} on {dependency}");
        }
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let found = found("provault-console", "crates/console", "provault-app", "null");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("provault-console has no place"), "{found:?}");
    }

    #[test]
    fn the_table_lists_lower_rooms_first() {
        for (index, (room, below)) in ROOMS.iter().enumerate() {
            for name in *below {
                let known = ROOMS[..index].iter().any(|(earlier, _)| earlier == name);
                assert!(known, "{room} names {name}, which does not stand before it");
            }
        }
    }
}
