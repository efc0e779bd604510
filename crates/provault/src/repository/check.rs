//! `check`: is everything there, and is it whole?

use std::path::{Path, PathBuf};
use std::time::Instant;

use provault_repository::{CheckLevel, CheckOptions, CheckReport, PackSubset, SnapshotId};
use serde_json::{Value, json};

use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::progress::Progress;
use super::{bytes_text, signals, size, usage};

/// Check that everything the snapshots need is there and whole.
///
/// Without options: keys, indexes, snapshots and all directories are read, and each chunk of each
/// file must be in a pack of the right size. With --read-data every byte is read and verified too.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Read every pack to the last byte
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read some of the packs to the last byte: part N of T (1/7 to 7/7 are all of them), or by
    /// chance P% of them, or so many bytes
    #[arg(long, value_name = "N/T|P%|SIZE", value_parser = subset)]
    read_data_subset: Option<PackSubset>,
    /// Report a problem if this snapshot (its whole id) is not there; may be given several times. A
    /// repository alone cannot tell that one was removed
    #[arg(long, value_name = "SNAPSHOT")]
    expect: Vec<SnapshotId>,
    /// The same for all ids in a file, one a line, - for standard input
    #[arg(long, value_name = "FILE")]
    expect_file: Option<PathBuf>,
}

fn subset(text: &str) -> Result<PackSubset, String> {
    if let Some((number, of)) = text.split_once('/') {
        let parts = number.parse().ok().zip(of.parse().ok());
        return parts
            .filter(|(number, of)| (1..=256).contains(of) && (1..=*of).contains(number))
            .map(|(number, of)| PackSubset::Part { number, of })
            .ok_or_else(|| format!("'{text}' is no part: N/T, with N from 1 to T, T to 256"));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 100.0);
        return percent
            .map(PackSubset::Percent)
            .ok_or_else(|| format!("'{text}' is no share: more than 0% and at most 100%"));
    }
    match size::parse(text)? {
        0 => Err("0 bytes would verify nothing".to_owned()),
        bytes => Ok(PackSubset::Bytes(bytes)),
    }
}

/// The ids in a file; empty lines and what is behind a `#` do not count.
fn ids_in(file: &Path) -> Result<Vec<SnapshotId>, Failure> {
    let shown = file.display();
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|error| Failure::Failed(format!("cannot read {shown}: {error}")))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let ids: Result<Vec<_>, _> = lines
        .zip(1..)
        .filter(|(line, _)| !line.is_empty())
        .map(|(line, number)| {
            let id = line.parse::<SnapshotId>();
            id.map_err(|error| usage(format!("{shown}, line {number}: '{line}': {error}")))
        })
        .collect();
    let ids = ids?;
    if ids.is_empty() {
        return Err(usage(format!("{shown} names no snapshot")));
    }
    Ok(ids)
}

pub(crate) fn run(args: &CheckArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let mut expected = args.expect.clone();
    if let Some(file) = &args.expect_file {
        context.one_from_stdin(file)?;
        expected.extend(ids_in(file)?);
    }
    let level = match args.read_data_subset {
        Some(subset) => CheckLevel::ReadSubset(subset),
        None if args.read_data => CheckLevel::ReadData,
        None => CheckLevel::Structure,
    };
    let repository = context.open()?;
    let report = {
        let progress = Progress::start(context, "checking");
        let heard = |done: u64, total: u64| progress.set(done, Some(total));
        let options = CheckOptions {
            level,
            expected: &expected,
            progress: Some(&heard),
            ..CheckOptions::default()
        };
        repository.check_with(&options, &repository_flag(&cancel))?
    };
    tell(context, &report, began.elapsed().as_secs_f64())
}

fn tell(context: &Context<'_>, report: &CheckReport, seconds: f64) -> Result<(), Failure> {
    let mut value = to_json(report);
    value["message_type"] = json!("summary");
    value["seconds_elapsed"] = json!(seconds);
    if !context.out.is_json() {
        list(context, report);
        if report.unreferenced_packs > 0 {
            let advice = if report.is_clean() {
                "they are left from interrupted backups and harmless, and 'prune' removes them"
            } else {
                "'repair' lists those of them again that snapshots need"
            };
            context.note(&format!("{} packs are in no index; {advice}", report.unreferenced_packs));
        }
    }
    let found = match report.problems.len() {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    let read = match report.packs_read {
        0 => "data not read".to_owned(),
        read if read == report.packs => {
            format!("all data read ({})", bytes_text(report.bytes_read))
        }
        read => format!(
            "{read} packs read ({} of {})",
            bytes_text(report.bytes_read),
            bytes_text(report.pack_bytes)
        ),
    };
    let text = format!(
        "{found}: {} snapshots, {} packs, {} blobs; {read} in {seconds:.1} s",
        report.snapshots, report.packs, report.blobs
    );
    context.out.show_line(&value, &text)?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "the repository is damaged: {found}, {} files and directories hurt. All others can be \
         restored. 'repair' mends what can be had, and a new backup stores again what is still \
         there at the source",
        report.hurt_total
    )))
}

/// What a check found, by restic's names where it has them.
pub(crate) fn to_json(report: &CheckReport) -> Value {
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| json!({ "object": problem.object, "error": problem.error.to_string() }))
        .collect();
    let hurt: Vec<_> = report
        .hurt
        .iter()
        .map(|hurt| {
            json!({
                "snapshot": hurt.snapshot.to_string(),
                "path": format!("/{}", String::from_utf8_lossy(&hurt.path)),
            })
        })
        .collect();
    json!({
        "num_errors": report.problems.len(),
        "problems": problems,
        "hurt": hurt,
        "hurt_total": report.hurt_total,
        "snapshots": report.snapshots,
        "trees": report.trees,
        "packs": report.packs,
        "blobs": report.blobs,
        "unreferenced_packs": report.unreferenced_packs,
        "pack_bytes": report.pack_bytes,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
    })
}

/// Lists for people what is wrong, and who suffers.
pub(crate) fn list(context: &Context<'_>, report: &CheckReport) {
    for problem in &report.problems {
        context.warn(&format!("{}: {}", problem.object, problem.error));
    }
    for hurt in &report.hurt {
        context.warn(&format!(
            "cannot be restored whole: snapshot {} /{}",
            &hurt.snapshot.to_string()[..8],
            String::from_utf8_lossy(&hurt.path)
        ));
    }
    let more = report.hurt_total.saturating_sub(report.hurt.len() as u64);
    if more > 0 {
        context.warn(&format!("and {more} more files and directories"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_a_part_a_share_or_a_size() {
        assert_eq!(subset("1/7"), Ok(PackSubset::Part { number: 1, of: 7 }));
        assert_eq!(subset("256/256"), Ok(PackSubset::Part { number: 256, of: 256 }));
        assert_eq!(subset("2.5%"), Ok(PackSubset::Percent(2.5)));
        assert_eq!(subset("100%"), Ok(PackSubset::Percent(100.0)));
        assert_eq!(subset("10G"), Ok(PackSubset::Bytes(10 << 30)));
        for bad in
            ["", "0/7", "8/7", "1/0", "1/257", "1/", "/7", "0%", "101%", "nan%", "%", "0", "x"]
        {
            assert!(subset(bad).is_err(), "{bad}");
        }
    }
}
