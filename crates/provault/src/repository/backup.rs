//! `backup`: directories and files into a new snapshot.

use std::path::{Path, PathBuf};
use std::time::Instant;

use provault_domain::{Arn, Invalid, Kind, Resource, RetentionSettings};
use provault_driver::{CancelFlag, CaptureReport, Driver as _, WorkContext};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::offline;
use provault_repository::{
    BackupOptions, CommittedSnapshot, Metadata, Options, Repository, SnapshotId, SnapshotWriter,
};
use serde_json::json;

use super::context::{Context, PROGRAM, repository_flag};
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::progress::Progress;
use super::sources::{Sources, Walk};
use super::{bytes_text, signals, usage};

/// Back up directories and files into a new snapshot.
///
/// Everything is kept: owners, modes, times, extended attributes and ACLs, hard links, holes,
/// devices. What looks unchanged since the newest snapshot of the same host and paths is not read
/// again. A repository that lies in a path leaves itself out.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// What to back up
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Leave out what matches: a name at any depth (*.tmp, cache/), or a whole path (/srv/*/log)
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches a line of this file; lines with # in front are comments
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave other file systems that are mounted below as empty directories
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Tag of the snapshot; may be given several times
    #[arg(long, value_name = "TAG[,TAG]", value_delimiter = ',')]
    tag: Vec<String>,
    /// Host of the snapshot [default: this machine's name]
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Option<String>,
    /// Compare with this snapshot [default: the newest of the same host and paths]
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    parent: Option<Wanted>,
    /// Read every file, also those that look unchanged
    #[arg(short, long)]
    force: bool,
    /// An empty directory is meant to be empty, and not a disk that was not mounted
    #[arg(long)]
    allow_empty: bool,
    /// zstd level, 1 (fast) to 22 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = Options::default().compression_level,
          value_parser = clap::value_parser!(i32).range(1..=22))]
    compression_level: i32,
}

pub(crate) fn run(args: &BackupArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let sources = Sources::of(&args.paths)?;
    let mut exclude = args.exclude.clone();
    for file in &args.exclude_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| usage(format!("--exclude-file {}: {error}", file.display())))?;
        let lines = text.lines().map(str::trim);
        exclude.extend(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned));
    }
    let location = context.location()?;
    // Every pattern is looked at before anything is done.
    let plan = |walk| {
        let own = location.directory().map(|repo| own_glob(repo, walk, context)).transpose()?;
        let own = own.flatten();
        let config = walk.config(&exclude, own, args.one_file_system, args.allow_empty)?;
        Ok((walk, config))
    };
    let plans = sources.walks.iter().map(plan).collect::<Result<Vec<_>, Failure>>()?;
    if let Some(tag) = args.tag.iter().find(|tag| tag.trim().is_empty()) {
        return Err(usage(format!("--tag '{tag}' is empty")));
    }

    let options = Options { compression_level: args.compression_level, ..Options::default() };
    let (user, this_host) = (options.username.clone(), options.hostname.clone());
    let repository = context.open_as(options)?;
    let host = args.host.clone().unwrap_or(this_host);
    let parent = parent(args, context, &repository, &host, &sources.paths)?;

    let time = jiff::Timestamp::now();
    let mut writer = repository.backup(BackupOptions {
        parent,
        paths: sources.paths.clone(),
        hostname: host,
        username: user,
        tags: args.tag.iter().map(|tag| tag.trim().to_owned()).collect(),
        time,
        program_version: PROGRAM.to_owned(),
        cancel: repository_flag(&cancel),
        ..BackupOptions::default()
    })?;
    let report = {
        let progress = Progress::start(context, "backing up");
        read(&plans, &FilesystemDriver::new(), &mut writer, &cancel, &progress)?
    };
    let committed = writer.finish(None)?;
    tell(context, &report, &committed, parent, began)
}

/// What leaves a local repository out of its own backup, where it lies in this walk's directory.
fn own_glob(repo: &Path, walk: &Walk, context: &Context<'_>) -> Result<Option<String>, Failure> {
    let (Ok(repo), Ok(directory)) =
        (repo.canonicalize(), Path::new(&walk.directory).canonicalize())
    else {
        // What is missing is told by whoever opens it.
        return Ok(None);
    };
    if directory.starts_with(&repo) {
        return Err(usage(format!(
            "{} is, or lies in, the repository itself; choose another path",
            walk.directory
        )));
    }
    let Ok(below) = repo.strip_prefix(&directory) else { return Ok(None) };
    let Some(below) = below.to_str() else {
        return Err(usage("the repository's own path is not UTF-8 and cannot be left out"));
    };
    context.note(&format!("the repository itself, {}, is left out", repo.display()));
    Ok(Some(super::patterns::literal(below)))
}

/// The snapshot to compare with.
fn parent(
    args: &BackupArgs,
    context: &Context<'_>,
    repository: &Repository,
    host: &str,
    paths: &[String],
) -> Result<Option<SnapshotId>, Failure> {
    if args.force {
        return Ok(None);
    }
    if let Some(wanted) = &args.parent {
        let warn = |text: &str| context.warn(text);
        return Ok(Some(wanted.find(repository, &Filter::default(), &warn)?.id));
    }
    let all = repository.snapshots()?.snapshots;
    let newest = all.into_iter().rev().find(|snapshot| {
        let mut theirs: Vec<&String> = snapshot.paths.iter().collect();
        theirs.sort();
        let mut ours: Vec<&String> = paths.iter().collect();
        ours.sort();
        snapshot.hostname == host && theirs == ours
    });
    Ok(newest.map(|snapshot| snapshot.id))
}

/// Reads every walk into the writer. What is above several of them is entered once.
fn read(
    plans: &[(&Walk, serde_json::Value)],
    driver: &FilesystemDriver,
    writer: &mut SnapshotWriter,
    cancel: &CancelFlag,
    progress: &Progress,
) -> Result<CaptureReport, Failure> {
    let mut whole = CaptureReport::default();
    let mut open: Vec<Vec<u8>> = Vec::new();
    let plain = Metadata { mode: 0o755, ..Metadata::default() };
    for (walk, config) in plans {
        let (above, root) = offline::place_in_tree(&walk.directory);
        let above: Vec<Vec<u8>> = above.into_iter().map(|component| component.name).collect();
        let same = open.iter().zip(&above).take_while(|(a, b)| a == b).count();
        for _ in same..open.len() {
            writer.end_dir()?;
        }
        for name in &above[same..] {
            writer.begin_dir(name, &plain)?;
        }
        open = above;
        let capture = driver.capture(&resource(config.clone())?, cancel)?;
        let done_before = whole.bytes;
        let single = plans.len() == 1;
        let tell = |done: u64, total: Option<u64>| {
            progress.set(done_before + done, total.filter(|_| single));
        };
        let context = WorkContext { cancel, progress: &tell };
        let report = offline::read_into(capture, writer, root, &context)?;
        whole.bytes += report.bytes;
        whole.files += report.files;
        whole.skipped.extend(report.skipped.into_iter().map(|mut skipped| {
            skipped.path = format!("{}/{}", walk.directory.trim_end_matches('/'), skipped.path);
            skipped
        }));
        whole.notes.extend(report.notes);
    }
    for _ in open {
        writer.end_dir()?;
    }
    Ok(whole)
}

/// A resource as the driver takes it; only its settings matter here.
fn resource(config: serde_json::Value) -> Result<Resource, Invalid> {
    let (account, region) = ("000000000000".parse()?, "local-1".parse()?);
    Ok(Resource {
        arn: Arn::resource_of(Kind::Filesystem, &region, &account, "00000000000000000"),
        account,
        region,
        kind: Kind::Filesystem,
        name: "repository".to_owned(),
        config,
        tags: provault_domain::Tags::default(),
        service: None,
        probes: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        testing: None,
        retention: RetentionSettings::default(),
        imported: false,
        created_at: jiff::Timestamp::now(),
    })
}

fn tell(
    context: &Context<'_>,
    report: &CaptureReport,
    committed: &CommittedSnapshot,
    parent: Option<SnapshotId>,
    began: Instant,
) -> Result<(), Failure> {
    let stats = &committed.stats;
    for note in &report.notes {
        context.note(note);
    }
    for skipped in &report.skipped {
        context.warn(&format!("not in the snapshot: {}: {}", skipped.path, skipped.reason));
    }
    let skipped: Vec<_> = report
        .skipped
        .iter()
        .map(|skipped| json!({ "path": skipped.path, "reason": skipped.reason }))
        .collect();
    let id = committed.id.to_string();
    let seconds = began.elapsed().as_secs_f64();
    // restic's names, and ours for what it does not tell.
    let value = json!({
        "message_type": "summary",
        "snapshot_id": id,
        "parent": parent.map(|id| id.to_string()),
        "files_new": stats.files_new,
        "files_changed": stats.files_changed,
        "files_unmodified": stats.files_unchanged,
        "directories": stats.directories,
        "others": stats.others,
        "data_blobs": stats.data_blobs,
        "tree_blobs": stats.tree_blobs,
        "data_added": stats.bytes_added,
        "data_added_packed": stats.bytes_stored,
        "bytes_read": stats.bytes_read,
        "total_files_processed": report.files,
        "total_bytes_processed": report.bytes,
        "total_duration": seconds,
        "skipped": skipped,
        "notes": report.notes,
    });
    let text = format!(
        "snapshot {}: {} files, {}; {} new, {} changed, {} unchanged; {} read, {} added ({} stored) in {seconds:.1} s",
        &id[..8],
        report.files,
        bytes_text(report.bytes),
        stats.files_new,
        stats.files_changed,
        stats.files_unchanged,
        bytes_text(stats.bytes_read),
        bytes_text(stats.bytes_added),
        bytes_text(stats.bytes_stored),
    );
    context.out.show_line(&value, &text)?;
    if report.skipped.is_empty() {
        return Ok(());
    }
    let count = report.skipped.len();
    Err(Failure::Incomplete(if count == 1 {
        "one path that could not be read".to_owned()
    } else {
        format!("{count} paths that could not be read")
    }))
}
