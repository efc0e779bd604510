//! Care of vaults: runs, settings, alarms.

use provault_app::{CareUpdate, ImportVault, VaultCareReport};
use provault_domain::CareRun;
use provault_domain::care::{CareOptions, CareReport};
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn start(call: &Call<'_>, vault: &str) -> Answered {
    let input: wire::StartCareRunInput = call.input()?;
    let options = CareOptions {
        read_data: input.read_data,
        dry_run: input.dry_run,
        from_vault: input.from_vault,
        own: false,
    };
    let started = call.app.start_care_run(call.caller, vault, &input.operation, options).await;
    Answer::json(&run(Call::done(started)?))
}

pub(super) async fn import(call: &Call<'_>, vault: &str) -> Answered {
    let input: wire::ImportVaultInput = call.input()?;
    let ask = ImportVault {
        name: vault.to_owned(),
        location: input.location,
        password: input.password,
        encryption_key_arn: input.encryption_key_arn,
    };
    Answer::json(&run(Call::done(call.app.import_vault(call.caller, ask).await)?))
}

pub(super) async fn list(call: &Call<'_>) -> Answered {
    let vault = call.query.get("vaultName");
    let runs = Call::done(call.app.list_care_runs(call.caller, vault).await)?;
    Answer::json(&wire::CareRunList { care_runs: runs.into_iter().map(run).collect() })
}

pub(super) async fn describe(call: &Call<'_>, id: &str) -> Answered {
    Answer::json(&run(Call::done(call.app.describe_care_run(call.caller, id).await)?))
}

pub(super) async fn stop(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.stop_care_run(call.caller, id).await)
}

pub(super) async fn of_vault(call: &Call<'_>, vault: &str) -> Answered {
    let report = Call::done(call.app.describe_vault_care(call.caller, vault).await)?;
    Answer::json(&care(call, report))
}

pub(super) async fn update(call: &Call<'_>, vault: &str) -> Answered {
    let input: wire::UpdateVaultCareInput = call.input()?;
    let update = CareUpdate {
        prune_every_days: input.prune_every_days,
        check_every_days: input.check_every_days,
        verify_within_days: input.verify_within_days,
        verify_max_bytes_per_second: input.verify_max_bytes_per_second,
        catalog_backup_every_days: input.catalog_backup_every_days,
    };
    let report = Call::done(call.app.update_vault_care(call.caller, vault, update).await)?;
    Answer::json(&care(call, report))
}

pub(super) fn run(run: CareRun) -> wire::CareRun {
    wire::CareRun {
        percent_done: run.percent_done(),
        care_run_id: run.id,
        backup_vault_name: run.vault_name,
        operation: run.operation.to_string(),
        trigger: run.trigger.to_string(),
        state: run.state.to_string(),
        status_message: run.status_message,
        stop_requested: run.stop_requested.is_some(),
        read_data: run.options.read_data,
        dry_run: run.options.dry_run,
        from_vault: run.options.from_vault,
        report: run.report.map(report),
        creation_date: epoch(run.created_at),
        start_date: run.started_at.map(epoch),
        completion_date: run.completed_at.map(epoch),
    }
}

fn report(report: CareReport) -> wire::CareReport {
    let hurt = report.hurt.into_iter().map(|hurt| wire::HurtPoint {
        recovery_point_arn: hurt.recovery_point_arn.map(|arn| arn.to_string()),
        snapshot_id: hurt.snapshot_id,
        gone: hurt.gone,
        files: hurt.files,
        files_total: hurt.files_total,
    });
    wire::CareReport {
        clean: report.clean,
        summary: report.summary,
        figures: report.figures,
        problems: report.problems,
        problems_total: report.problems_total,
        hurt: hurt.collect(),
    }
}

fn care(call: &Call<'_>, report: VaultCareReport) -> wire::VaultCare {
    let VaultCareReport { vault, view } = report;
    let told = view.coverage;
    let age = told.oldest_at.map(|at| call.app.now().duration_since(at).as_secs());
    let days = |days: Option<u32>| days.unwrap_or(0);
    let alarms = view.care.alarms.into_iter().map(|(alarm, note)| wire::Alarm {
        alarm: alarm.to_string(),
        since: epoch(note.since),
        message: note.message,
    });
    wire::VaultCare {
        backup_vault_name: vault.name,
        prune_every_days: days(vault.care.prune_every_days),
        check_every_days: days(vault.care.check_every_days),
        verify_within_days: days(vault.care.verify_within_days),
        verify_max_bytes_per_second: vault.care.verify_max_bytes_per_second,
        catalog_backup_every_days: days(vault.care.catalog_backup_every_days),
        verification: wire::Verification {
            packs: told.packs,
            bytes: told.bytes,
            verified_packs: told.verified_packs,
            verified_bytes: told.verified_bytes,
            never_verified_packs: told.never_verified_packs,
            overdue_packs: told.overdue_packs,
            damaged_packs: told.damaged_packs,
            oldest_age_seconds: age.and_then(|age| u64::try_from(age).ok()),
            bytes_per_second: told.bytes_per_second,
            needed_bytes_per_second: told.needed_bytes_per_second,
            kept: view.promise.map(|promise| told.keeps(promise)),
        },
        alarms: alarms.collect(),
        imported: vault.imported,
    }
}
