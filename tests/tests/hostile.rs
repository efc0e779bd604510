//! A hostile repository, restored by the real program: whatever its trees say, nothing is written
//! outside of the target, and the program ends with an error and not with a panic.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::Path;

use provault_repository::fuzzing::{PASSWORD, add_key, hostile};
use provault_tests::{Finished, Manifest, Sandbox, clean_command, executable};

/// A node; `more` is the rest of its JSON.
fn node(name: &str, kind: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"name":"{name}","type":"{kind}","mode":511{comma}{more}}}"#)
}

fn tree(nodes: &[String]) -> String {
    format!(r#"{{"nodes":[{}]}}"#, nodes.join(","))
}

fn file(name: &str) -> String {
    node(name, "file", r#""size":5,"content":["DATA:5"]"#)
}

fn dir(name: &str) -> String {
    node(name, "dir", r#""subtree":"TREE:0""#)
}

fn link(name: &str, target: &Path) -> String {
    node(name, "symlink", &format!(r#""linktarget":"{}""#, target.display()))
}

#[test]
fn nothing_is_written_outside_of_the_target() {
    let (sandbox, cache) = (Sandbox::new(), Sandbox::new());
    let outside = sandbox.directory("outside");
    fs::write(outside.join("victim"), "untouched").unwrap();
    fs::create_dir(outside.join("directory")).unwrap();
    let before = Manifest::of(&outside);
    let victim = outside.join("victim");
    let inner = tree(&[file("victim"), file("new")]);
    let shared = r#""inode":7,"device_id":1,"links":2"#;
    let mut cases: Vec<(String, Vec<String>)> = Vec::new();
    // Names that lead elsewhere.
    let absolute = outside.join("new");
    let absolute = absolute.to_str().unwrap();
    let up = format!("../outside/{}", "new");
    for name in ["..", ".", "", "/", "a/b", "\\\\x2e\\\\x2e", "\\\\x00", "a\\\\x2fb", absolute, &up]
    {
        cases.push((format!("file {name:?}"), vec![tree(&[file(name), file("zz")])]));
        cases.push((format!("dir {name:?}"), vec![inner.clone(), tree(&[dir(name), file("zz")])]));
        let link = link(name, &victim);
        cases.push((format!("link {name:?}"), vec![tree(&[link, file("zz")])]));
    }
    // A link out of the target, and something that goes through it.
    cases.push(("twice".to_owned(), vec![inner.clone(), tree(&[link("l", &outside), dir("l")])]));
    cases.push(("link then file".to_owned(), vec![tree(&[link("l", &victim), file("l")])]));
    let through = node("l\\\\x2fvictim", "file", r#""size":5,"content":["DATA:5"]"#);
    cases.push(("through".to_owned(), vec![tree(&[link("l", &outside), through])]));
    // Two names of one file, where the first is a link: the second must not follow it.
    let target = victim.display();
    let first = node("a", "symlink", &format!(r#""linktarget":"{target}",{shared}"#));
    let second = node("b", "file", &format!(r#""size":5,"content":["DATA:5"],{shared}"#));
    cases.push(("hard link of a link".to_owned(), vec![tree(&[first, second])]));
    // A link with owner, times and attributes: they are the link's and not its target's.
    let more = format!(
        r#""linktarget":"{target}","uid":12345,"gid":12345,"mtime":"2001-01-01T00:00:00Z","extended_attributes":[{{"name":"user.evil","value":"AA=="}}]"#
    );
    cases.push(("metadata of a link".to_owned(), vec![tree(&[node("l", "symlink", &more)])]));
    // Sizes and extents that are not so.
    for more in [
        r#""size":18446744073709551615,"content":["DATA:5"]"#,
        r#""size":5,"content":["DATA:5"],"provault_data_extents":[[18446744073709551615,5]]"#,
        r#""size":5,"content":["DATA:5"],"provault_data_extents":[[3,18446744073709551615],[0,1]]"#,
        r#""size":9223372036854775807,"content":[]"#,
        r#""size":5"#,
    ] {
        cases.push((more.to_owned(), vec![tree(&[node("f", "file", more), file("zz")])]));
    }
    let (mut whole, mut refused) = (0, 0);
    for (case, lines) in cases {
        let (memory, _) = hostile(lines.join("\n").as_bytes()).unwrap();
        add_key(&memory).unwrap();
        let repo = sandbox.directory("repo");
        for directory in ["data", "index", "keys", "snapshots"] {
            for object in memory.list(directory).unwrap() {
                let path = repo.join(&object.name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, memory.get(&object.name).unwrap()).unwrap();
            }
        }
        fs::write(repo.join("config"), memory.get("config").unwrap()).unwrap();
        let target = sandbox.directory("around").join("target");
        let mut command = clean_command(executable());
        command.args(["repository", "restore", "latest"]).arg(&target).arg("--repo").arg(&repo);
        command.env("XDG_CACHE_HOME", cache.root());
        let ended = Finished::of(command.env("RESTIC_PASSWORD", PASSWORD), "it was just there");
        match ended.code {
            Some(0) => whole += 1,
            Some(1) => refused += 1,
            _ => panic!("{case}: {ended}"),
        }
        before.assert_same(&Manifest::of(&outside), &case);
        let around = fs::read_dir(sandbox.path("around")).unwrap().count();
        assert_eq!(
            around,
            usize::from(target.exists()),
            "{case}: something lies beside the target"
        );
        let everything = fs::read_dir(sandbox.root()).unwrap().count();
        assert_eq!(everything, 3, "{case}: something new in the sandbox");
        fs::remove_dir_all(sandbox.path("around")).unwrap();
        fs::remove_dir_all(repo).unwrap();
    }
    println!("{refused} refused, {whole} restored within the target");
    assert!(refused > 30 && whole > 0, "{refused} {whole}");
}
