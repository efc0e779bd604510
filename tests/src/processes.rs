//! Processes of restore tests, found by the token they all carry.

use std::fs;

/// The variable that every process of a restore test carries.
const TOKEN_VARIABLE: &[u8] = b"PROVAULT_RESTORE_TEST=";

/// Ids of the processes that bear a token which `ours` accepts. Those of other tests that run at
/// the same time bear other tokens.
pub fn bearing(ours: impl Fn(&str) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at, and a zombie has no environment.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let token =
            environment.split(|byte| *byte == 0).find_map(|v| v.strip_prefix(TOKEN_VARIABLE));
        if token.and_then(|token| std::str::from_utf8(token).ok()).is_some_and(&ours) {
            found.push(pid);
        }
    }
    found
}

/// Ids of the processes below the process `pid`, at any depth, as long as their parents live.
pub fn below(pid: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name stands in parentheses and may hold anything; the parent is the second word
        // behind it.
        let Some((id, rest)) = stat.split_once(" (") else { continue };
        let Some((_, rest)) = rest.rsplit_once(") ") else { continue };
        let parent = rest.split(' ').nth(1).and_then(|word| word.parse::<i32>().ok());
        if let (Ok(id), Some(parent)) = (id.parse::<i32>(), parent) {
            parents.push((id, parent));
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(id, _)| *id));
        next += 1;
    }
    found.remove(0);
    found
}

/// Whether a process is there and not only waiting to be collected.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with('Z')))
        .unwrap_or(false)
}
