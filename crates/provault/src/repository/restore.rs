//! `restore`: a snapshot, or a part of one, to a new place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use provault_driver::{
    ContentSink, Driver as _, DriverError, Entry, RestoreRequest, Source, SourceError, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::offline;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::progress::Progress;
use super::{bytes_text, signals, usage};

/// Restore a snapshot, or a part of one, to a new place.
///
/// Everything comes back as it was: owners (as root), modes, times, attributes, links, holes. Every
/// byte is verified on its way. The target is complete or absent, and nothing is ever written over.
///
/// Without a path, the target gets the whole tree: TARGET/srv/app/... With SNAPSHOT:/srv/app it
/// gets what is in that directory.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot: its id, the beginning of it, or latest; with :PATH, a directory in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Wanted,
    /// A directory that does not exist yet, or is empty
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Only this path (relative to the snapshot, or to :PATH) and what is below it; may be given
    /// several times
    #[arg(short, long, value_name = "PATH")]
    include: Vec<String>,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(args: &RestoreArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let metadata = order(&args.target, &args.include)?;
    // Reserving nothing: a restore beside or into anything is the operator's to say.
    let driver = FilesystemDriver::new();
    driver.check_restore(&metadata).map_err(|invalid| usage(invalid.message))?;
    let repository = context.open()?;
    let warn = |text: &str| context.warn(text);
    let snapshot = args.snapshot.find(&repository, &args.filter, &warn)?;
    let source = offline::source(&repository, &snapshot, &args.snapshot.path, &cancel)?;
    let source = WithoutRecord { source, whole: args.snapshot.path.is_empty() };
    let outcome = {
        let progress = Progress::start(context, "restoring");
        let tell = |done: u64, total: Option<u64>| progress.set(done, total);
        let context = WorkContext { cancel: &cancel, progress: &tell };
        let job = uuid::Uuid::new_v4().to_string();
        let request = RestoreRequest { job_id: &job, metadata: &metadata };
        driver.restore(&request, &source, &context)?
    };
    for note in &outcome.notes {
        context.note(note);
    }
    let id = snapshot.id.to_string();
    let seconds = began.elapsed().as_secs_f64();
    let value = json!({
        "message_type": "summary",
        "snapshot_id": id,
        "target": metadata.get("targetPath"),
        "files_restored": outcome.files,
        "bytes_restored": outcome.bytes,
        "seconds_elapsed": seconds,
        "notes": outcome.notes,
    });
    let text = format!(
        "restored {} files, {} of snapshot {} to {} in {seconds:.1} s",
        outcome.files,
        bytes_text(outcome.bytes),
        &id[..8],
        args.target.display(),
    );
    Ok(context.out.show_line(&value, &text)?)
}

/// What is asked of the driver.
fn order(target: &Path, include: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let shown = target.display();
    let target = std::path::absolute(target)
        .map_err(|error| usage(format!("'{shown}' is no usable path: {error}")))?;
    let plain: PathBuf = target.components().collect();
    let Some(target) = plain.to_str() else {
        return Err(usage(format!("'{shown}' is not UTF-8; choose another target")));
    };
    let mut metadata = BTreeMap::from([
        ("file-system-id".to_owned(), "fs-00000000000000000".to_owned()),
        ("targetPath".to_owned(), target.to_owned()),
    ]);
    if !include.is_empty() {
        metadata.insert("ItemsToRestore".to_owned(), json!(include).to_string());
    }
    Ok(metadata)
}

/// A snapshot without what the server records in it.
struct WithoutRecord {
    source: Box<dyn Source>,
    /// Whether it is the whole snapshot, so that the record lies at its root.
    whole: bool,
}

impl Source for WithoutRecord {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        let record = provault_repository::RECORD_DIRECTORY;
        let is_record = move |path: &[u8]| {
            path.strip_prefix(record).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let whole = self.whole;
        let entries = self.source.entries()?;
        Ok(Box::new(entries.filter(move |entry| {
            !(whole && entry.as_ref().is_ok_and(|entry| is_record(&entry.path)))
        })))
    }

    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        self.source.copy_contents(files, out)
    }
}
