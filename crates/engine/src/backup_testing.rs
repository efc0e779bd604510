//! Which restore test follows a backup: what the resource, its selection and its plan say, the most
//! specific of them first.

use jiff::Timestamp;
use provault_catalog::TestingSettings;
use provault_domain::backup_job::CreatedBy;
use provault_domain::{
    Arn, BackupJob, BackupTesting, Resource, RestoreTest, TestBudget, TestingScope,
};

use crate::Result;
use crate::backup::new_test;
use crate::shared::Shared;

/// What holds for the backups of a resource that were made by a plan, or on demand. Whether a test follows
/// stands in it.
pub(crate) fn effective<'a>(
    resource: &'a Resource,
    settings: &'a TestingSettings,
    made_by: Option<&CreatedBy>,
) -> Option<(&'a BackupTesting, TestingScope, String)> {
    if let Some(testing) = &resource.testing {
        let scope = TestingScope::Resource(resource.arn.clone());
        return Some((testing, scope, format!("resource {}", resource.name)));
    }
    let by = made_by?;
    if let Some(id) = &by.selection_id
        && let Some(testing) = settings.selections.get(id)
    {
        let said_by = format!("a selection of plan {}", by.plan_name);
        return Some((testing, TestingScope::Selection(id.clone()), said_by));
    }
    let testing = settings.plans.get(&by.plan_id)?;
    Some((testing, TestingScope::Plan(by.plan_id.clone()), format!("plan {}", by.plan_name)))
}

/// The test that follows a backup of a registered resource, if one is asked for. Whether it is the recovery
/// point's turn is decided where it is entered.
pub(crate) async fn test_after(
    shared: &Shared,
    job: &BackupJob,
    point: &Arn,
    now: Timestamp,
) -> Result<Option<RestoreTest>> {
    let Some(resource) = shared.catalog.resource(&job.resource_arn).await? else {
        return Ok(None);
    };
    let settings = shared.catalog.testing_settings(&job.account).await?;
    let Some((testing, scope, said_by)) = effective(&resource, &settings, job.created_by.as_ref())
    else {
        return Ok(None);
    };
    if !testing.enabled {
        return Ok(None);
    }
    Ok(Some(RestoreTest {
        budget: Some(TestBudget::of(testing, scope, said_by, now)),
        // Whoever listens to the vault hears of a test that never began, too.
        vault_name: Some(job.vault_name.clone()),
        ..new_test(&resource, Some(point.clone()), Some(job.id.clone()), now)
    }))
}
