//! From an operation to the function that carries it out.

use std::future::Future;

use provault_app::{App, AppError, Caller};
use provault_wire::{Operation, OperationInput, RouteMatch, ServiceError};

use crate::answer::{Answer, refusal, unwritable};
use crate::operations::{
    backup_job, notification, plan, protected_resource, recovery_point, restore_job,
    restore_testing_plan, restore_testing_selection, selection, tag, vault,
};

/// A request whose route is known.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    pub(crate) caller: &'a Caller,
    pub(crate) route: RouteMatch,
    pub(crate) raw_query: &'a str,
    pub(crate) body: &'a [u8],
}

/// Decodes, validates, asks, encodes.
async fn run<'a, I, W, F>(call: &Call<'a>, work: W) -> Result<Answer, ServiceError>
where
    I: OperationInput,
    W: FnOnce(&'a App, &'a Caller, I) -> F,
    F: Future<Output = Result<I::Output, AppError>>,
{
    let input = I::decode(&call.route, call.raw_query, call.body)?;
    input.validate()?;
    let output = work(call.app, call.caller, input).await.map_err(refusal)?;
    let body = I::encode_output(&output).map_err(|error| unwritable(&error))?;
    Ok(Answer::of_json(I::OPERATION.success_status(), body))
}

macro_rules! operations {
    ($($operation:ident => $work:path;)*) => {
        /// The operations with behaviour.
        #[cfg(test)]
        const IMPLEMENTED: &[Operation] = &[$(Operation::$operation),*];

        /// Carries out an operation, or says that it has no behaviour.
        pub(crate) async fn dispatch(call: Call<'_>) -> Result<Answer, ServiceError> {
            match call.route.operation {
                $(Operation::$operation => run(&call, $work).await,)*
                other => Err(ServiceError::not_implemented(other)),
            }
        }
    };
}

operations! {
    CreateBackupPlan => plan::create;
    CreateBackupSelection => selection::create;
    CreateBackupVault => vault::create;
    CreateRestoreTestingPlan => restore_testing_plan::create;
    CreateRestoreTestingSelection => restore_testing_selection::create;
    DeleteBackupPlan => plan::delete;
    DeleteBackupSelection => selection::delete;
    DeleteBackupVault => vault::delete;
    DeleteBackupVaultNotifications => notification::delete;
    DeleteRecoveryPoint => recovery_point::delete;
    DeleteRestoreTestingPlan => restore_testing_plan::delete;
    DeleteRestoreTestingSelection => restore_testing_selection::delete;
    DescribeBackupJob => backup_job::describe;
    DescribeBackupVault => vault::describe;
    DescribeProtectedResource => protected_resource::describe;
    DescribeRecoveryPoint => recovery_point::describe;
    DescribeRestoreJob => restore_job::describe;
    GetBackupPlan => plan::get;
    GetBackupSelection => selection::get;
    GetBackupVaultNotifications => notification::get;
    GetRecoveryPointRestoreMetadata => recovery_point::restore_metadata;
    GetRestoreTestingInferredMetadata => recovery_point::inferred_metadata;
    GetRestoreTestingPlan => restore_testing_plan::get;
    GetRestoreTestingSelection => restore_testing_selection::get;
    ListBackupJobs => backup_job::list;
    ListBackupPlanVersions => plan::list_versions;
    ListBackupPlans => plan::list;
    ListBackupSelections => selection::list;
    ListBackupVaults => vault::list;
    ListProtectedResources => protected_resource::list;
    ListRecoveryPointsByBackupVault => recovery_point::list_by_vault;
    ListRecoveryPointsByResource => recovery_point::list_by_resource;
    ListRestoreJobs => restore_job::list;
    ListRestoreJobsByProtectedResource => restore_job::list_by_resource;
    ListRestoreTestingPlans => restore_testing_plan::list;
    ListRestoreTestingSelections => restore_testing_selection::list;
    ListTags => tag::list;
    PutBackupVaultNotifications => notification::put;
    PutRestoreValidationResult => restore_job::validation_result;
    StartBackupJob => backup_job::start;
    StartRestoreJob => restore_job::start;
    StopBackupJob => backup_job::stop;
    TagResource => tag::tag;
    UntagResource => tag::untag;
    UpdateBackupPlan => plan::update;
    UpdateRestoreTestingPlan => restore_testing_plan::update;
    UpdateRestoreTestingSelection => restore_testing_selection::update;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dispatched_and_what_is_listed_as_not_implemented_are_all_operations_once() {
        let listed = provault_wire::not_implemented();
        for operation in Operation::ALL {
            let name = operation.name();
            let dispatched = IMPLEMENTED.contains(&operation);
            let missing = listed.contains(&name);
            assert!(
                dispatched != missing,
                "{name}: dispatched {dispatched}, in model/not-implemented.txt {missing}"
            );
        }
        assert_eq!(IMPLEMENTED.len() + listed.len(), Operation::ALL.len());
    }
}
