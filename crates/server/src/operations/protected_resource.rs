//! Protected resources.

use provault_app::{App, AppError, Caller};
use provault_wire::types::{
    DescribeProtectedResourceInput, DescribeProtectedResourceOutput, ListProtectedResourcesInput,
    ListProtectedResourcesOutput, ProtectedResource,
};

use crate::convert::{arn, needed, page, paging, time};

pub(crate) async fn describe(
    app: &App,
    caller: &Caller,
    input: DescribeProtectedResourceInput,
) -> Result<DescribeProtectedResourceOutput, AppError> {
    let resource = needed("ResourceArn", input.resource_arn)?;
    let found = app.describe_protected_resource(caller, &resource).await?;
    Ok(DescribeProtectedResourceOutput {
        last_backup_time: time(found.last_backup_at),
        last_backup_vault_arn: arn(&found.last_vault_arn),
        last_recovery_point_arn: arn(&found.last_recovery_point_arn),
        resource_arn: arn(&found.resource_arn),
        resource_name: Some(found.resource_name),
        resource_type: Some(found.kind.resource_type().to_owned()),
        ..DescribeProtectedResourceOutput::default()
    })
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListProtectedResourcesInput,
) -> Result<ListProtectedResourcesOutput, AppError> {
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_protected_resources(caller, &paging).await?;
    let (results, next_token) = page(listing, |found| ProtectedResource {
        last_backup_time: time(found.last_backup_at),
        last_backup_vault_arn: arn(&found.last_vault_arn),
        last_recovery_point_arn: arn(&found.last_recovery_point_arn),
        resource_arn: arn(&found.resource_arn),
        resource_name: Some(found.resource_name),
        resource_type: Some(found.kind.resource_type().to_owned()),
    });
    Ok(ListProtectedResourcesOutput { next_token, results })
}
