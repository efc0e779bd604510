//! `ls`: what is in a snapshot.

use provault_repository::{Entry, EntryKind, NodeKind};
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::pick::{Filter, Wanted};

/// List what is in a snapshot.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// The snapshot: its id, the beginning of it, or latest; with :PATH, a directory in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Wanted,
    /// Only what is at or below this path
    #[arg(value_name = "PATH")]
    below: Option<String>,
    /// Tell modes, owners, sizes and times too
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(args: &LsArgs, context: &Context<'_>) -> Result<(), Failure> {
    let repository = context.open()?;
    let warn = |text: &str| context.warn(text);
    let snapshot = args.snapshot.find(&repository, &args.filter, &warn)?;
    let below = args.snapshot.join(args.below.as_deref())?;
    let reader = repository.reader()?;
    let mut damaged = 0_u64;
    let found = reader.entry(&snapshot, below.as_bytes())?;
    let is_directory = found.kind == EntryKind::Directory;
    // For anything but a directory the walk yields that one entry, under its own name.
    let prefix = match below.rsplit_once('/') {
        _ if is_directory => below.clone(),
        Some((parent, _)) => parent.to_owned(),
        None => String::new(),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut first = true;
    if context.out.is_json() {
        write(&mut out, "[")?;
    }
    for entry in reader.entries(&snapshot, below.as_bytes())? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.is_damage() => {
                context.warn(&error.to_string());
                damaged += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let name = String::from_utf8_lossy(&entry.path);
        let path = if prefix.is_empty() { format!("/{name}") } else { format!("/{prefix}/{name}") };
        if context.out.is_json() {
            let comma = if first { "\n  " } else { ",\n  " };
            write(&mut out, &format!("{comma}{}", as_json(&entry, &path)))?;
        } else if args.long {
            write(&mut out, &format!("{}\n", as_line(&entry, &path)))?;
        } else {
            write(&mut out, &format!("{}\n", provault_cli::clean(&path)))?;
        }
        first = false;
    }
    if context.out.is_json() {
        write(&mut out, if first { "]\n" } else { "\n]\n" })?;
    }
    std::io::Write::flush(&mut out)?;
    if damaged == 0 {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "{damaged} directories or entries are damaged and are not listed; 'provault repository \
         check' tells more"
    )))
}

fn write(out: &mut impl std::io::Write, text: &str) -> Result<(), Failure> {
    Ok(out.write_all(text.as_bytes())?)
}

fn kind(entry: &Entry) -> (&'static str, char) {
    match &entry.kind {
        EntryKind::Directory => ("dir", 'd'),
        EntryKind::File => ("file", '-'),
        EntryKind::Other(NodeKind::Symlink { .. }) => ("symlink", 'l'),
        EntryKind::Other(NodeKind::BlockDevice { .. }) => ("dev", 'b'),
        EntryKind::Other(NodeKind::CharDevice { .. }) => ("chardev", 'c'),
        EntryKind::Other(NodeKind::Fifo) => ("fifo", 'p'),
        EntryKind::Other(NodeKind::Socket) => ("socket", 's'),
    }
}

fn target(entry: &Entry) -> Option<String> {
    match &entry.kind {
        EntryKind::Other(NodeKind::Symlink { target }) => {
            Some(String::from_utf8_lossy(target).into_owned())
        }
        _ => None,
    }
}

fn time(entry: &Entry) -> jiff::Timestamp {
    let time = entry.metadata.mtime;
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or_default();
    jiff::Timestamp::new(time.seconds, nanoseconds).unwrap_or_default()
}

fn as_json(entry: &Entry, path: &str) -> serde_json::Value {
    let metadata = &entry.metadata;
    let mut value = json!({
        "path": path,
        "type": kind(entry).0,
        "mode": metadata.mode,
        "uid": metadata.uid,
        "gid": metadata.gid,
        "mtime": time(entry).to_string(),
    });
    if entry.kind == EntryKind::File {
        value["size"] = metadata.size.into();
    }
    if let Some(target) = target(entry) {
        value["linktarget"] = target.into();
    }
    value
}

fn as_line(entry: &Entry, path: &str) -> String {
    let metadata = &entry.metadata;
    let mut mode = String::from(kind(entry).1);
    for (shift, special, letters) in
        [(6, 0o4000, ('s', 'S')), (3, 0o2000, ('s', 'S')), (0, 0o1000, ('t', 'T'))]
    {
        let bits = metadata.mode >> shift;
        mode.push(if bits & 4 == 0 { '-' } else { 'r' });
        mode.push(if bits & 2 == 0 { '-' } else { 'w' });
        mode.push(match (metadata.mode & special != 0, bits & 1 == 1) {
            (true, true) => letters.0,
            (true, false) => letters.1,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    let who = |name: &str, id: u32| if name.is_empty() { id.to_string() } else { name.to_owned() };
    let arrow = target(entry).map(|target| format!(" -> {target}")).unwrap_or_default();
    provault_cli::clean(&format!(
        "{mode} {:>8} {:>8} {:>12} {} {path}{arrow}",
        who(&metadata.user, metadata.uid),
        who(&metadata.group, metadata.gid),
        metadata.size,
        time(entry).strftime("%Y-%m-%d %H:%M:%S"),
    ))
}
