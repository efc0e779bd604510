//! REPAIR: putting back what is damaged or missing, as far as it can be had.

use std::fmt::Write as _;

use std::sync::Arc;

use provault_domain::care::CareReport;
use provault_repository::{RepairOptions, RepairReport};

use crate::care::{Done, Work};
use crate::care_check::{findings, still_damaged};
use crate::care_report::{count, figures, hurt, of_check};
use crate::missing::{gone, points_of};
use crate::shared::blocking;
use crate::verification::sync;
use crate::{EngineError, Result};

/// Repairs a vault, and marks the recovery points that are still hurt, or no longer.
pub(crate) async fn repair(work: &Work) -> Result<Done> {
    let shared = &work.shared;
    let others = match &work.run.options.from_vault {
        None => Vec::new(),
        Some(name) => {
            let other = shared.catalog.vault(&work.run.account, name).await?.ok_or_else(|| {
                EngineError::Refused(format!("the vault {name} does not exist any more."))
            })?;
            vec![shared.repository(&other).await?]
        }
    };
    let repository = shared.repository(&work.vault).await?;
    let points = points_of(shared, &work.vault).await?;
    sync(shared, &work.vault, &repository).await?;
    let progress = Arc::clone(&work.progress);
    let options = RepairOptions {
        read_data: work.run.options.read_data,
        // What checks and verification found is not looked for anew.
        suspects: still_damaged(work, &repository).await?,
        cancel: work.cancel_flag(),
        progress: Some(Arc::new(move |done, total| progress.set(done, Some(total)))),
        ..RepairOptions::default()
    };
    let mended = {
        let repository = repository.clone();
        blocking(move || repository.repair(&others, &options))
            .await?
            .map_err(|error| work.failed(error))?
    };
    // The damaged packs are out of the index, and no longer among those that are verified.
    sync(shared, &work.vault, &repository).await?;
    if let Some(reason) = not_done(&mended) {
        return Err(EngineError::Refused(reason));
    }
    let missing = gone(shared, &work.vault, &repository, &points).await?;
    let hurt = hurt(&mended.check, &points, &missing);
    let checked = of_check(&mended.check, hurt, false);
    let changes = findings(work, &points, &mended.check, &checked, !missing.is_empty(), false);
    Ok((of_repair(&mended, checked), changes))
}

/// Why nothing was taken out of the index, which is no success.
fn not_done(mended: &RepairReport) -> Option<String> {
    if mended.out_of_space {
        return Some(
            "the storage is too full to mend the vault; nothing was taken out of the index. Make \
             room, then repair again."
                .to_owned(),
        );
    }
    (!mended.postponed.is_empty()).then(|| {
        format!(
            "other programs are at work in the vault's repository, and nothing was taken out of its \
             index: {}. Repair again when they have ended.",
            mended.postponed.join("; ")
        )
    })
}

/// The report of a repair: what it did, and how the vault is afterwards.
fn of_repair(mended: &RepairReport, checked: CareReport) -> CareReport {
    let damaged = mended.damaged_packs.len() as u64;
    let lost = mended.lost_blobs.len() as u64;
    let did_nothing =
        damaged + mended.index_files + mended.listed_packs + mended.fetched_blobs == 0;
    let mut summary = if did_nothing {
        "There was nothing to put back.".to_owned()
    } else {
        format!(
            "Put back: {} listed again, {} saved from {}, {} from another place.",
            count(mended.listed_packs, "pack"),
            count(mended.rescued_blobs, "blob"),
            count(damaged, "damaged pack"),
            count(mended.fetched_blobs, "blob"),
        )
    };
    if lost > 0 {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " {} lost: back up the same resources, which reads again what they still have, then \
             check.",
            if lost == 1 { "1 blob is".to_owned() } else { format!("{lost} blobs are") }
        );
    }
    summary.push(' ');
    summary.push_str(&checked.summary);
    let mut all = figures(&[
        ("damagedPacks", damaged),
        ("damagedIndexFiles", mended.index_files),
        ("listedPacks", mended.listed_packs),
        ("rescuedBlobs", mended.rescued_blobs),
        ("fetchedBlobs", mended.fetched_blobs),
        ("lostBlobs", lost),
    ]);
    all.extend(checked.figures);
    CareReport { summary, figures: all, ..checked }
}
