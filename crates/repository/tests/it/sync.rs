//! What is committed is durable, proven by the system calls of a backup: `strace` looks on, and a
//! trace that lacks a single sync that matters must not pass.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use provault_repository::{LocalStorage, Password, Repository};

use crate::support::{Sandbox, noise, options, small_tree};

/// Says to this test that it runs under `strace`, on a sandbox at this path.
const TRACED: &str = "PROVAULT_TRACED_BACKUP";
/// And that it is to leave out the syncs.
const UNSYNCED: &str = "PROVAULT_TRACED_UNSYNCED";

/// A system call that succeeded: the lines of the trace at which it began and was over.
#[derive(Debug)]
struct Call {
    name: String,
    /// Every path in its arguments.
    paths: Vec<String>,
    begun: usize,
    over: usize,
    created: bool,
}

/// Reads `strace -f -y`. Calls that failed did nothing.
fn parse(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, (usize, String)> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let (begun, text) = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (number, start.to_owned()));
            continue;
        } else if let Some((_, end)) = rest.split_once("resumed>") {
            let Some((begun, start)) = unfinished.remove(thread) else { continue };
            (begun, start + end)
        } else {
            (number, rest.to_owned())
        };
        let Some((name, arguments)) = text.split_once('(') else { continue };
        if !text.contains(" = ") || text.contains(" = -1 ") {
            continue;
        }
        let paths = |open: char, close: char| {
            let pieces = arguments.split(open).skip(1);
            pieces.filter_map(move |piece| piece.split(close).next()).map(str::to_owned)
        };
        // Quoted paths are arguments, and those in angle brackets are those of descriptors.
        let quoted: Vec<_> = arguments.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        let paths = if quoted.is_empty() { paths('<', '>').collect() } else { quoted };
        let created = arguments.contains("O_CREAT");
        calls.push(Call { name: name.to_owned(), paths, begun, over: number, created });
    }
    calls
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// What is wrong with a backup's trace.
fn violations(trace: &str, root: &str) -> Vec<String> {
    let calls = parse(trace);
    let mut found = Vec::new();
    let synced_between = |path: &str, after: usize, before: usize| {
        calls.iter().any(|call| {
            call.name.ends_with("sync")
                && call.paths.iter().any(|synced| synced == path)
                && call.begun > after
                && call.over < before
        })
    };
    let below = |path: &str, directory: &str| path.starts_with(&format!("{root}/{directory}/"));
    let renames: Vec<&Call> = calls
        .iter()
        .filter(|call| call.name.starts_with("rename") && call.paths.len() == 2)
        .filter(|call| call.paths[1].starts_with(&format!("{root}/")))
        .collect();
    // The first moment at which something comes into being below a directory.
    let begins = |directory: &str| {
        let creates = calls.iter().filter(|call| call.created && below(&call.paths[0], directory));
        creates.map(|call| call.begun).min()
    };
    let (index, snapshot) = (begins("index"), begins("snapshots"));
    let unlocked = calls
        .iter()
        .filter(|call| call.name.starts_with("unlink") && below(&call.paths[0], "locks"))
        .map(|call| call.begun)
        .max();
    for rename in &renames {
        let (new, name) = (&rename.paths[0], &rename.paths[1]);
        // Until when it must be durable.
        let by = if below(name, "data") {
            index
        } else if below(name, "index") {
            snapshot
        } else {
            unlocked
        };
        let Some(by) = by else {
            found.push(format!("{name}: nothing was committed after it"));
            continue;
        };
        if below(name, "locks") {
            continue;
        }
        if !synced_between(new, 0, rename.begun) {
            found.push(format!("{name} has its name before its content is synced"));
        }
        if !synced_between(parent(name), rename.over, by) {
            found.push(format!("{name} counts before its directory is synced"));
        }
    }
    for made in calls.iter().filter(|call| call.name.starts_with("mkdir")) {
        let used = renames.iter().filter(|rename| {
            rename.paths[1].strip_prefix(&made.paths[0]).is_some_and(|rest| rest.starts_with('/'))
        });
        let Some(used) = used.map(|rename| rename.begun).min() else { continue };
        if !synced_between(parent(&made.paths[0]), made.over, used) {
            found.push(format!("{} is used before it is synced", made.paths[0]));
        }
    }
    for (kind, least) in [("data", 3), ("index", 1), ("snapshots", 1)] {
        let count = renames.iter().filter(|rename| below(&rename.paths[1], kind)).count();
        if count < least {
            found.push(format!("{count} files in {kind}"));
        }
    }
    found
}

/// The traced backup, in a process of its own.
fn back_up(root: &Path) {
    let storage = LocalStorage::local(&root.join("repo")).unwrap();
    let storage = if env::var_os(UNSYNCED).is_some() { storage.without_sync() } else { storage };
    let password = Password::from_text("traced");
    let repository = Repository::init(Arc::new(storage), &password, options()).unwrap();
    let source = root.join("source");
    let mut writer = repository.backup(crate::support::backup_options(&source, None)).unwrap();
    crate::support::walk(&mut writer, &source).unwrap();
    writer.finish(None).unwrap();
}

/// Runs this test again under `strace`; returns the trace and the repository's path.
fn traced(sandbox: &Sandbox, synced: bool) -> (String, String) {
    let trace = sandbox.path("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "4096", "-e"]);
    command.arg(
        "trace=open,openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,\
         fsync,fdatasync",
    );
    command.arg("-o").arg(&trace).arg(env::current_exe().unwrap());
    command.args(["--exact", "sync::a_backup_is_durable_in_its_order", "--test-threads=1"]);
    command.env(TRACED, sandbox.root.path());
    if !synced {
        command.env(UNSYNCED, "1");
    }
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run strace ({error}): install Debian's package `strace`")
    });
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let root = sandbox.path("repo").to_str().unwrap().to_owned();
    (fs::read_to_string(trace).unwrap(), root)
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(9, 3_500_000)).unwrap();
    sandbox
}

#[test]
fn a_backup_is_durable_in_its_order() {
    if let Some(root) = env::var_os(TRACED) {
        return back_up(Path::new(&root));
    }
    let synced = sandbox();
    let (trace, root) = traced(&synced, true);
    let wrong = violations(&trace, &root);
    assert!(wrong.is_empty(), "{wrong:#?}\n{trace}");

    // The test of the test. Without syncs, everything is wrong.
    let unsynced = sandbox();
    let (bare, bare_root) = traced(&unsynced, false);
    let wrong = violations(&bare, &bare_root);
    assert!(wrong.len() > 10, "{wrong:#?}");

    // A trace that lacks the syncs of one object, or of one directory, does not pass.
    let mut lacking = 0;
    for rename in parse(&trace).iter().filter(|call| call.name.starts_with("rename")) {
        let (new, name) = (&rename.paths[0], &rename.paths[1]);
        if name.contains("/locks/") {
            continue;
        }
        for path in [new.as_str(), parent(name)] {
            let needle = format!("<{path}>");
            let without: Vec<_> = trace
                .lines()
                .filter(|line| !(line.contains("sync(") && line.contains(&needle)))
                .collect();
            assert!(without.len() < trace.lines().count(), "{path} is never synced");
            assert!(!violations(&without.join("\n"), &root).is_empty(), "{path}");
            lacking += 1;
        }
    }
    println!("{lacking} traces without a sync were found out");

    // Nor does one in which the order is turned round.
    let lines: Vec<&str> = trace.lines().collect();
    let first_pack =
        lines.iter().position(|line| line.contains("rename") && line.contains("/data/"));
    let index = lines.iter().position(|line| line.contains("O_CREAT") && line.contains("/index/"));
    let mut turned = lines.clone();
    let early = turned.remove(index.unwrap());
    turned.insert(first_pack.unwrap(), early);
    assert!(!violations(&turned.join("\n"), &root).is_empty());
}
