//! Protected resources: what there is a recovery point of.

use provault_catalog::ProtectedResource;
use provault_domain::Arn;

use crate::paging::List;
use crate::{App, AppError, Caller, Listing, Paging, Result};

impl App {
    /// `ListProtectedResources`.
    pub async fn list_protected_resources(
        &self,
        caller: &Caller,
        paging: &Paging,
    ) -> Result<Listing<ProtectedResource>> {
        self.permit(caller, "backup:ListProtectedResources", "*")?;
        let list = List::new(caller, "ListProtectedResources", &());
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_protected_resources(caller.account(), page).await?;
        self.listing(&list, listed)
    }

    /// `DescribeProtectedResource`.
    pub async fn describe_protected_resource(
        &self,
        caller: &Caller,
        resource: &str,
    ) -> Result<ProtectedResource> {
        let unknown = || {
            AppError::not_found(format!(
                "There is no recovery point of '{resource}': back it up first, and see \
                 list-protected-resources for what is protected."
            ))
        };
        let arn: Arn = resource.parse().map_err(|_| unknown())?;
        self.permit(caller, "backup:DescribeProtectedResource", &arn)?;
        self.catalog().protected_resource(caller.account(), &arn).await?.ok_or_else(unknown)
    }
}
