//! Tags.

use provault_app::{App, AppError, Caller};
use provault_wire::NoOutput;
use provault_wire::types::{ListTagsInput, ListTagsOutput, TagResourceInput, UntagResourceInput};

use crate::convert::{needed, paging};

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListTagsInput,
) -> Result<ListTagsOutput, AppError> {
    let resource = needed("ResourceArn", input.resource_arn)?;
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_tags(caller, &resource, &paging).await?;
    Ok(ListTagsOutput {
        next_token: listing.next_token,
        tags: Some(listing.items.into_iter().collect()),
    })
}

pub(crate) async fn tag(
    app: &App,
    caller: &Caller,
    input: TagResourceInput,
) -> Result<NoOutput, AppError> {
    let resource = needed("ResourceArn", input.resource_arn)?;
    app.tag_resource(caller, &resource, &needed("Tags", input.tags)?).await?;
    Ok(NoOutput {})
}

pub(crate) async fn untag(
    app: &App,
    caller: &Caller,
    input: UntagResourceInput,
) -> Result<NoOutput, AppError> {
    let resource = needed("ResourceArn", input.resource_arn)?;
    app.untag_resource(caller, &resource, &needed("TagKeyList", input.tag_key_list)?).await?;
    Ok(NoOutput {})
}
