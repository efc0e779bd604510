//! Between wire types and domain types: what more than one noun needs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provault_app::{AppError, Listing, Paging};
use provault_domain::backup_job::CreatedBy;
use provault_domain::{Arn, Lifecycle};
use provault_wire::types;

/// A time as the API writes it; none outside the years 0 to 9999.
pub(crate) fn time(at: Timestamp) -> Option<provault_wire::Timestamp> {
    provault_wire::Timestamp::from_epoch_millis(at.as_millisecond())
}

/// A time as our own operations write it.
pub(crate) fn epoch(at: Timestamp) -> f64 {
    // Milliseconds of any year people write are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let millis = at.as_millisecond() as f64;
    millis / 1000.0
}

/// A time of the API, as the domain has it.
pub(crate) fn moment(
    member: &str,
    at: Option<provault_wire::Timestamp>,
) -> Result<Option<Timestamp>, AppError> {
    at.map(|at| {
        Timestamp::from_millisecond(at.epoch_millis())
            .map_err(|error| AppError::invalid(member, format!("{error}.")))
    })
    .transpose()
}

/// A member that validation has seen to be there.
pub(crate) fn needed<T>(member: &str, value: Option<T>) -> Result<T, AppError> {
    value.ok_or_else(|| provault_domain::Invalid::missing(member).into())
}

/// Refuses a setting that this server cannot honour, when it is given.
pub(crate) fn unsupported(member: impl Into<String>, given: bool) -> Result<(), AppError> {
    if given { Err(AppError::not_supported(member)) } else { Ok(()) }
}

/// Whether a list is given and not empty.
pub(crate) fn filled<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// Which page is asked for.
pub(crate) fn paging(max_results: Option<i32>, next_token: Option<String>) -> Paging {
    Paging { max_results: max_results.map(i64::from), next_token }
}

/// The items of a page in wire form, and its token.
pub(crate) fn page<T, U>(
    listing: Listing<T>,
    each: impl FnMut(T) -> U,
) -> (Option<Vec<U>>, Option<String>) {
    let listing = listing.map(each);
    (Some(listing.items), listing.next_token)
}

/// A size; none that does not fit 64 bits.
pub(crate) fn size(bytes: u64) -> Option<i64> {
    i64::try_from(bytes).ok()
}

/// An ARN's text; members of an output are all optional.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn arn(arn: &Arn) -> Option<String> {
    Some(arn.to_string())
}

/// Tags and the like that may be absent.
pub(crate) fn map(map: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default()
}

/// A percentage as AWS writes it.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn percent(done: f64) -> Option<String> {
    Some(format!("{done:.1}"))
}

/// A lifecycle out of a request; `prefix` is what stands before `Lifecycle` there.
pub(crate) fn lifecycle(
    prefix: &str,
    wire: Option<types::Lifecycle>,
) -> Result<Lifecycle, AppError> {
    let Some(wire) = wire else { return Ok(Lifecycle::default()) };
    if wire.delete_after_event.is_some() {
        return Err(AppError::invalid(
            format!("{prefix}Lifecycle.DeleteAfterEvent"),
            "it is not valid as an input; use DeleteAfterDays.",
        ));
    }
    Ok(Lifecycle {
        delete_after_days: wire.delete_after_days,
        move_to_cold_storage_after_days: wire.move_to_cold_storage_after_days,
        opt_in_to_archive: wire.opt_in_to_archive_for_supported_resources,
    })
}

/// A lifecycle for an answer; none where nothing was set.
pub(crate) fn wire_lifecycle(lifecycle: &Lifecycle) -> Option<types::Lifecycle> {
    (*lifecycle != Lifecycle::default()).then_some(types::Lifecycle {
        delete_after_days: lifecycle.delete_after_days,
        delete_after_event: None,
        move_to_cold_storage_after_days: lifecycle.move_to_cold_storage_after_days,
        opt_in_to_archive_for_supported_resources: lifecycle.opt_in_to_archive,
    })
}

/// The plan and rule behind a job or recovery point.
pub(crate) fn creator(created_by: Option<&CreatedBy>) -> Option<types::RecoveryPointCreator> {
    created_by.map(|by| types::RecoveryPointCreator {
        backup_plan_arn: arn(&by.plan_arn),
        backup_plan_id: Some(by.plan_id.clone()),
        backup_plan_name: Some(by.plan_name.clone()),
        backup_plan_version: Some(by.plan_version.clone()),
        backup_rule_cron: Some(by.rule_cron.clone()),
        backup_rule_id: Some(by.rule_id.clone()),
        backup_rule_name: Some(by.rule_name.clone()),
        backup_rule_timezone: Some(by.rule_timezone.clone()),
    })
}
