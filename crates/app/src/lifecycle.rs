//! What of AWS's lifecycles this server can keep.

use provault_domain::Lifecycle;

use crate::{AppError, Result};

/// Checks a lifecycle and refuses what would be promised and not kept. `prefix` is what stands
/// before `Lifecycle` in the caller's input, with a dot at its end, or nothing.
pub(crate) fn check(prefix: &str, lifecycle: &Lifecycle) -> Result<()> {
    lifecycle.validate().map_err(|invalid| match prefix.strip_suffix('.') {
        Some(prefix) => invalid.within(prefix),
        None => invalid,
    })?;
    if lifecycle.cold_days().is_some() {
        return Err(AppError::invalid(
            format!("{prefix}Lifecycle.MoveToColdStorageAfterDays"),
            "is not supported by this server yet, it has no cold storage; leave it out or set -1.",
        ));
    }
    if lifecycle.opt_in_to_archive == Some(true) {
        return Err(AppError::not_supported(format!(
            "{prefix}Lifecycle.OptInToArchiveForSupportedResources"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        let lifecycle = |cold, delete, archive| Lifecycle {
            delete_after_days: delete,
            move_to_cold_storage_after_days: cold,
            opt_in_to_archive: archive,
        };
        assert!(check("", &lifecycle(Some(-1), Some(-1), Some(false))).is_ok());
        for (given, member) in [
            (lifecycle(Some(1), Some(91), None), "Rules[0].Lifecycle.MoveToColdStorageAfterDays"),
            (
                lifecycle(None, None, Some(true)),
                "Rules[0].Lifecycle.OptInToArchiveForSupportedResources",
            ),
            (lifecycle(Some(30), Some(90), None), "Rules[0].Lifecycle.DeleteAfterDays"),
            (lifecycle(None, Some(0), None), "Rules[0].Lifecycle.DeleteAfterDays"),
        ] {
            let error = check("Rules[0].", &given).unwrap_err();
            assert_eq!(error.member.as_deref(), Some(member), "{error}");
        }
    }
}
