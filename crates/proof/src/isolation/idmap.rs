//! The id maps of a user namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::message::{Ids, Trouble};

/// Every id mapped to itself, as far as this process has ids: ranges of `/proc/self/uid_map` as
/// `first first count`. Of an ordinary host that is all 2^32 - 1.
fn identity(own: &str) -> String {
    let mut map = String::new();
    for line in own.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(first), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) {
            for part in [first, " ", first, " ", count, "\n"] {
                map.push_str(part);
            }
        }
    }
    map
}

fn write(path: &PathBuf, content: &str) -> Result<(), Trouble> {
    fs::write(path, content).map_err(Trouble::step(&format!("writing {}", path.display())))
}

/// Maps the ids of `pid`, which has just entered a user namespace, from outside.
///
/// With [`Ids::all`] every id is itself; otherwise `outside` ids are the only ones and are called
/// `inside` there.
pub(super) fn map(pid: u32, ids: Ids, outside: Ids, inside: Ids) -> Result<(), Trouble> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let own = |file: &str| {
        fs::read_to_string(format!("/proc/self/{file}"))
            .map_err(Trouble::step("reading the id map"))
    };
    if ids.all {
        write(&process.join("uid_map"), &identity(&own("uid_map")?))?;
        return write(&process.join("gid_map"), &identity(&own("gid_map")?));
    }
    // A single group may be mapped only by who has given up the right to drop groups.
    match fs::write(process.join("setgroups"), "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Trouble::step("denying setgroups")(error));
        }
        _ => {}
    }
    write(&process.join("uid_map"), &format!("{} {} 1\n", inside.uid, outside.uid))?;
    write(&process.join("gid_map"), &format!("{} {} 1\n", inside.gid, outside.gid))
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn identity_keeps_ranges() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 100000 65536\n70000 7 1\n"), "0 0 65536\n70000 70000 1\n");
    }
}
