//! `backup-volume`, `restore-volume` and `nbd`: block devices and raw images.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use provault_cli::Output;
use provault_driver::BrokenOff;
use provault_repository::{
    BackupOptions, Metadata, NbdAddress, NbdExport, NbdLimits, NbdServer, Options, RawImage,
    RawTarget, Reader, Repository, RootComponent, Snapshot, VOLUME_SUFFIX, VolumeOptions,
    VolumeReader, VolumeRestoreOptions, VolumeSource,
};
use serde_json::json;

use super::context::{Context, PROGRAM, repository_flag};
use super::failure::Failure;
use super::new_image::NewImage;
use super::pick::{Filter, Wanted};
use super::progress::Progress;
use super::{signals, usage};

/// Back up a block device or a raw image as a volume.
///
/// It is read once, but for its holes, and must not change meanwhile: take a snapshot of it, or
/// stop what writes to it. What an earlier snapshot holds is not stored again.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupVolumeArgs {
    /// The block device or raw image
    device: PathBuf,
    /// Tag the snapshot; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Host to record [default: this machine's name]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// KiB in a block: 64, 128, 256, 512 or 1024 [default: as the volume had before, else 256]
    #[arg(long, value_name = "KIB")]
    block_size: Option<u32>,
    /// zstd level
    #[arg(long, value_name = "LEVEL", default_value_t = 3,
        value_parser = clap::value_parser!(i32).range(1..=19))]
    compression_level: i32,
}

/// Restore a volume to a new image, or onto a block device.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreVolumeArgs {
    /// The snapshot, and the volume in it if there are several: ID, latest, ID:/dev/vg0/disk
    snapshot: Wanted,
    /// A file that does not exist yet, or a block device with --overwrite
    target: PathBuf,
    /// Replace what the target holds: a block device, or an image that is large enough
    #[arg(long)]
    overwrite: bool,
}

/// Serve the volumes of a snapshot over NBD, read-only, until Ctrl-C.
///
/// A machine can boot from one, and nbdcopy or qemu-img can read it, before anything is restored.
#[derive(Debug, clap::Args)]
pub(crate) struct NbdArgs {
    /// The snapshot, and a volume in it: ID, latest, ID:/dev/vg0/disk [default: all its volumes]
    snapshot: Wanted,
    /// Listen on a Unix socket at this path, for its owner only
    #[arg(long, value_name = "PATH", required_unless_present = "listen")]
    socket: Option<PathBuf>,
    /// Listen on a loopback address, for all users of this machine; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "socket")]
    listen: Option<SocketAddr>,
}

pub(crate) fn backup(args: &BackupVolumeArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let trouble = |error| usage(format!("{}: {error}", args.device.display()));
    let path = std::path::absolute(&args.device).map_err(trouble)?;
    let source = RawImage::open(&path).map_err(trouble)?;
    let mut names: Vec<Vec<u8>> = path
        .components()
        .filter_map(|component| match component {
            std::path::Component::Normal(name) => Some(name.as_bytes().to_vec()),
            _ => None,
        })
        .collect();
    let name = names.pop().ok_or_else(|| usage("the root directory is no volume"))?;
    let block_size = args.block_size.map(|size| size.saturating_mul(1024));

    let options = Options { compression_level: args.compression_level, ..Options::default() };
    let (user, host) = (options.username.clone(), options.hostname.clone());
    let host = args.host.clone().unwrap_or(host);
    let repository = context.open_as(options)?;
    let shown = path.display().to_string();
    let all = repository.snapshots()?.snapshots;
    let parent = all.iter().rev().find(|s| s.hostname == host && s.paths == [shown.clone()]);
    let plain = Metadata { mode: 0o755, ..Metadata::default() };
    let progress = Arc::new(Progress::start(context, "backing up"));
    let (heard, size) = (Arc::clone(&progress), source.size());
    let options = BackupOptions {
        parent: parent.map(|snapshot| snapshot.id),
        root_path: names
            .into_iter()
            .map(|name| RootComponent { name, metadata: plain.clone() })
            .collect(),
        paths: vec![shown],
        hostname: host,
        username: user,
        tags: args.tag.clone(),
        time: jiff::Timestamp::now(),
        program_version: PROGRAM.to_owned(),
        cancel: repository_flag(&cancel),
        progress: Some(Arc::new(move |stats| heard.set(stats.bytes_read, Some(size)))),
    };
    let volume = VolumeOptions { name, block_size, ..VolumeOptions::default() };
    let (committed, stats) = repository.backup_volume(options, volume, &source, None)?;
    drop(progress);
    let (id, seconds) = (committed.id.to_string(), began.elapsed().as_secs_f64());
    let value = json!({
        "message_type": "summary",
        "snapshot_id": id,
        "total_bytes_processed": stats.size,
        "bytes_read": stats.bytes_read,
        "block_size": stats.block_size,
        "blocks_new": stats.blocks_new,
        "data_added": committed.stats.bytes_added,
        "data_added_packed": committed.stats.bytes_stored,
        "total_duration": seconds,
    });
    let text = format!(
        "snapshot {}: a volume of {} bytes; {} read, {} new blocks, {} bytes stored in {seconds:.1} s",
        &id[..8],
        stats.size,
        stats.bytes_read,
        stats.blocks_new,
        committed.stats.bytes_stored,
    );
    context.out.show_line(&value, &text)?;
    Ok(())
}

pub(crate) fn restore(args: &RestoreVolumeArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let repository = context.open()?;
    let (snapshot, paths) = find(&repository, &args.snapshot, context)?;
    let [path] = paths.as_slice() else {
        let names: Vec<_> = paths.iter().map(|path| name_of(path)).collect();
        return Err(usage(format!(
            "the snapshot holds several volumes; name one of them, as {}:/{}: {}",
            args.snapshot.name,
            names[0],
            names.join(", ")
        )));
    };
    let volume = VolumeReader::open(Arc::new(repository.reader()?), &snapshot, path)?;
    let wrong = |error| usage(target_text(&args.target, &error));
    let progress = Progress::start(context, "restoring");
    let hear = |done, total| progress.set(done, Some(total));
    let cancel = repository_flag(&cancel);
    let options = VolumeRestoreOptions { threads: None, cancel, progress: Some(&hear) };
    let outcome = if args.overwrite {
        let target = RawTarget::overwrite(&args.target, volume.size()).map_err(wrong)?;
        let restored = volume.restore(&target, &options);
        restored.map_err(|error| partly_written(&args.target, error.into()))?
    } else {
        let image = NewImage::create(&args.target, volume.size()).map_err(wrong)?;
        let outcome = volume.restore(image.target(), &options)?;
        image.put_in_place().map_err(|error| Failure::Failed(target_text(&args.target, &error)))?;
        outcome
    };
    drop(progress);
    for damaged in &outcome.damaged {
        context.warn(&format!(
            "not restored: {} bytes from {}: {}",
            damaged.range.length, damaged.range.offset, damaged.error
        ));
    }
    let seconds = began.elapsed().as_secs_f64();
    let value = json!({
        "message_type": "summary",
        "total_bytes": volume.size(),
        "bytes_restored": outcome.bytes_written,
        "bytes_zero": outcome.bytes_zero,
        "bytes_damaged": outcome.bytes_damaged,
        "total_duration": seconds,
    });
    let text = format!(
        "restored {} bytes of data and {} bytes of holes to {} in {seconds:.1} s",
        outcome.bytes_written,
        outcome.bytes_zero,
        args.target.display()
    );
    context.out.show_line(&value, &text)?;
    if outcome.is_whole() {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "{} bytes are damaged and were not restored; all others were. They are listed above",
        outcome.bytes_damaged
    )))
}

pub(crate) fn nbd(args: &NbdArgs, context: &Context<'_>) -> Result<(), Failure> {
    let cancel = signals::install();
    let repository = context.open()?;
    let (snapshot, paths) = find(&repository, &args.snapshot, context)?;
    let reader = Arc::new(repository.reader()?);
    let address = match (&args.socket, args.listen) {
        (Some(path), _) => NbdAddress::Unix(path.clone()),
        (None, Some(address)) => NbdAddress::Tcp(address),
        (None, None) => return Err(usage("--socket or --listen says where")),
    };
    serve(&reader, &snapshot, &paths, &address, context.out, &repository_flag(&cancel))
}

/// Serves volumes of a snapshot until the flag is up; prints their addresses first.
pub(super) fn serve(
    reader: &Arc<Reader>,
    snapshot: &Snapshot,
    paths: &[Vec<u8>],
    address: &NbdAddress,
    out: &Output,
    cancel: &provault_repository::CancelFlag,
) -> Result<(), Failure> {
    let mut exports: Vec<(String, Arc<dyn NbdExport>)> = Vec::new();
    for path in paths {
        let volume = VolumeReader::open(Arc::clone(reader), snapshot, path)?;
        exports.push((name_of(path), Arc::new(volume)));
    }
    let names: Vec<String> = exports.iter().map(|(name, _)| name.clone()).collect();
    let server = NbdServer::bind(address, exports, NbdLimits::default())
        .map_err(|error| usage(format!("cannot listen: {error}")))?;
    let bound = server
        .local_address()
        .map_err(|error| Failure::Failed(format!("the socket is gone: {error}")))?;
    let uris: Vec<String> = names.iter().map(|name| uri(&bound, name)).collect();
    out.show_line(&json!({ "message_type": "listening", "uris": uris }), &uris.join("\n"))?;
    server.serve(cancel).map_err(|error| Failure::Failed(format!("the NBD server ended: {error}")))
}

/// The snapshot and the paths of the volumes that are meant: one at least.
fn find(
    repository: &Repository,
    wanted: &Wanted,
    context: &Context<'_>,
) -> Result<(Snapshot, Vec<Vec<u8>>), Failure> {
    let warn = |text: &str| context.warn(text);
    let snapshot = wanted.find(repository, &Filter::default(), &warn)?;
    let mut paths = repository.reader()?.volumes(&snapshot)?;
    if !wanted.path.is_empty() {
        paths.retain(|path| {
            path == wanted.path.as_bytes() || name_of(path).as_bytes() == wanted.path.as_bytes()
        });
    }
    if paths.is_empty() {
        return Err(Failure::Failed(format!(
            "there is no volume{} in snapshot {}",
            if wanted.path.is_empty() { String::new() } else { format!(" {}", wanted.path) },
            snapshot.id.short()
        )));
    }
    Ok((snapshot, paths))
}

/// A volume's path as it was backed up, without the slash before it.
pub(super) fn name_of(path: &[u8]) -> String {
    String::from_utf8_lossy(path.strip_suffix(VOLUME_SUFFIX).unwrap_or(path)).into_owned()
}

/// Why a restore over what existed broke off, and what that has left.
fn partly_written(target: &Path, failure: Failure) -> Failure {
    let left = BrokenOff::Writing.told(target);
    match failure {
        Failure::Failed(why) => Failure::Failed(format!("{why}. {left}")),
        other => other.after(left.trim_end_matches('.')),
    }
}

fn target_text(target: &Path, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::AlreadyExists => "; --overwrite replaces what it holds",
        _ => "",
    };
    format!("{}: {error}{advice}", target.display())
}

fn hex_digits(byte: u8) -> String {
    format!("{byte:02X}")
}

/// The address of an export as NBD's URI scheme has it.
fn uri(address: &NbdAddress, name: &str) -> String {
    let escape = |text: &[u8]| {
        let mut out = String::new();
        for byte in text {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    out.push(char::from(*byte));
                }
                other => {
                    out.push('%');
                    out.push_str(&hex_digits(*other));
                }
            }
        }
        out
    };
    let name = escape(name.as_bytes());
    match address {
        NbdAddress::Unix(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!("nbd+unix:///{name}?socket={}", escape(path.as_os_str().as_bytes()))
        }
        NbdAddress::Tcp(address) => format!("nbd://{address}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_overwritten_in_part_is_named() {
        let target = Path::new("/dev/vg0/new");
        let stopped = partly_written(target, Failure::Interrupted);
        assert_eq!(stopped.code(), 130);
        let failed = partly_written(target, Failure::Failed("no answer".to_owned()));
        for told in [stopped.to_string(), failed.to_string()] {
            assert!(told.contains("The target at /dev/vg0/new is partly written"), "{told}");
            assert!(told.contains("restore onto it again"), "{told}");
            assert!(!told.contains("nothing was changed"), "{told}");
        }
    }

    #[test]
    fn addresses_are_uris() {
        let unix = NbdAddress::Unix(PathBuf::from("/run/a b"));
        assert_eq!(uri(&unix, "dev/vg 0/é"), "nbd+unix:///dev/vg%200/%C3%A9?socket=/run/a%20b");
        let tcp = NbdAddress::Tcp("127.0.0.1:10809".parse().unwrap());
        assert_eq!(uri(&tcp, "disk"), "nbd://127.0.0.1:10809/disk");
    }
}
