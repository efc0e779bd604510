//! Registered resources.

use jiff::Timestamp;
use provault_catalog::{CatalogError, Page, PointFilter};
use provault_domain::RetentionSettings;
use provault_domain::resource::validate_tags;
use provault_domain::{
    Arn, BackupTesting, Kind, Probe, RecoveryPoint, Resource, ServiceSpec, Tags,
};

use crate::paging::List;
use crate::restore_job::blocking;
use crate::{
    App, AppError, Caller, Listing, Paging, ResourceView, Result, RetentionUpdate, new_id,
};

/// A resource as its owner registers it.
#[derive(Debug, Clone)]
pub struct NewResource {
    /// `filesystem`.
    pub kind: String,
    /// Name for people.
    pub name: String,
    /// Settings of the kind.
    pub config: serde_json::Value,
    /// Tags that selections look at.
    pub tags: Tags,
    /// Application of a restored copy.
    pub service: Option<ServiceSpec>,
    /// Questions of a restore test.
    pub probes: Vec<Probe>,
    /// Recovery point objective, seconds.
    pub rpo_seconds: Option<u64>,
    /// Recovery time objective, seconds.
    pub rto_seconds: Option<u64>,
    /// Whether a restore test follows every completed backup; `None` to leave that to the selection and
    /// the plan.
    pub test_after_backup: Option<bool>,
    /// How its recovery points are kept; what is absent is at its default.
    pub retention: RetentionUpdate,
}

/// What is to change of a resource; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ResourceUpdate {
    /// Another name.
    pub name: Option<String>,
    /// Another application of a restored copy, or none any more.
    pub service: Option<Option<ServiceSpec>>,
    /// All questions of a restore test from now on.
    pub probes: Option<Vec<Probe>>,
    /// Another recovery point objective in seconds, or none any more.
    pub rpo_seconds: Option<Option<u64>>,
    /// Another recovery time objective in seconds, or none any more.
    pub rto_seconds: Option<Option<u64>>,
}

impl ResourceUpdate {
    fn applied_to(self, mut resource: Resource) -> Resource {
        resource.name = self.name.unwrap_or(resource.name);
        resource.service = self.service.unwrap_or(resource.service);
        resource.probes = self.probes.unwrap_or(resource.probes);
        resource.rpo_seconds = self.rpo_seconds.unwrap_or(resource.rpo_seconds);
        resource.rto_seconds = self.rto_seconds.unwrap_or(resource.rto_seconds);
        resource
    }
}

impl App {
    /// A registered resource by name or ARN.
    pub(crate) async fn resource_named(&self, caller: &Caller, name: &str) -> Result<Resource> {
        if name.starts_with("arn:") {
            return self.registered(caller, name).await;
        }
        self.catalog().resource_by_name(caller.account(), name).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no resource '{name}'; see `provault resource list` for those there are."
            ))
        })
    }

    /// A registered resource by name or ARN to which the caller may do `action`.
    pub(crate) async fn permitted_resource(
        &self,
        caller: &Caller,
        action: &str,
        name: &str,
    ) -> Result<Resource> {
        let found = self.resource_named(caller, name).await;
        self.permit_found(caller, action, name, found, |resource| vec![resource.arn.to_string()])
    }

    /// The newest good point: mostly the newest there is.
    pub(crate) async fn last_good(
        &self,
        resource: &Resource,
        newest: Option<&RecoveryPoint>,
    ) -> Result<Option<(Arn, Timestamp)>> {
        let told = |point: &RecoveryPoint| (point.arn.clone(), point.captured_at);
        let Some(newest) = newest else { return Ok(None) };
        if newest.is_good() {
            return Ok(Some(told(newest)));
        }
        let filter = PointFilter {
            account: Some(resource.account.clone()),
            resource_arn: Some(resource.arn.clone()),
            restorable_only: true,
            ..PointFilter::default()
        };
        let points = self.catalog().list_recovery_points(&filter, Page::all()).await?.items;
        let now = self.now();
        let good = points.iter().filter(|p| p.is_good() && !p.is_from_the_future(now));
        Ok(good.max_by_key(|point| point.captured_at).map(told))
    }

    /// `provault:AddResource`.
    pub async fn add_resource(&self, caller: &Caller, new: NewResource) -> Result<ResourceView> {
        const ACTION: &str = "provault:AddResource";
        self.audited(caller, ACTION, &new.name, async {
            self.permit(caller, ACTION, "*")?;
            let kind: Kind = new.kind.parse()?;
            let driver = self.engine().driver(kind)?;
            // AWS's ids of file systems: `fs-` and 17 hexadecimal digits.
            let id = new_id().replace('-', "");
            let mut resource = Resource {
                arn: Arn::resource_of(kind, self.region(), caller.account(), &id[..17]),
                account: caller.account().clone(),
                region: self.region().clone(),
                kind,
                name: new.name.clone(),
                config: serde_json::Value::Null,
                tags: new.tags.clone(),
                service: new.service.clone(),
                probes: new.probes.clone(),
                rpo_seconds: new.rpo_seconds,
                rto_seconds: new.rto_seconds,
                testing: new.test_after_backup.map(|on| BackupTesting::plain(on, self.now())),
                retention: new.retention.applied_to(RetentionSettings::default()),
                created_at: self.now(),
                imported: false,
            };
            resource.validate()?;
            let asked = new.config.clone();
            let (config, identity) = blocking(move || {
                let config = driver.check_config(&asked)?;
                let identity = driver.identity(&config);
                Ok::<_, provault_domain::Invalid>((config, identity))
            })
            .await?
            .map_err(|invalid| invalid.within("Config"))?;
            resource.config = config;
            if let Some(other) =
                self.catalog().resource_by_name(caller.account(), &resource.name).await?
            {
                return Err(AppError::exists(
                    format!(
                        "A resource '{}' exists already: {}. Choose another name.",
                        other.name, other.arn
                    ),
                    Some(other.arn),
                ));
            }
            match self.catalog().insert_resource(&resource, &identity).await {
                Ok(()) => self.resource_view(caller, resource).await,
                Err(CatalogError::AlreadyExists { what }) => Err(AppError::exists(
                    format!(
                        "{what} exists already: the same {kind} ({identity}) is registered under \
                         another name, see `provault resource list`."
                    ),
                    None,
                )),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// `provault:ListResources`.
    pub async fn list_resources(
        &self,
        caller: &Caller,
        paging: &Paging,
    ) -> Result<Listing<ResourceView>> {
        self.permit(caller, "provault:ListResources", "*")?;
        let list = List::new(caller, "ListResources", &());
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_resources(caller.account(), page).await?;
        let listing = self.listing(&list, listed)?;
        let promises = self.engine().promises(caller.account()).await?;
        let mut items = Vec::with_capacity(listing.items.len());
        for resource in listing.items {
            items.push(self.shown(caller, self.judged(&promises, resource).await?));
        }
        Ok(Listing { items, next_token: listing.next_token })
    }

    /// `provault:DescribeResource`, by name or ARN.
    pub async fn describe_resource(&self, caller: &Caller, name: &str) -> Result<ResourceView> {
        let resource = self.permitted_resource(caller, "provault:DescribeResource", name).await?;
        self.resource_view(caller, resource).await
    }

    /// `provault:UpdateResource`, by name or ARN. What it is a resource of stays. Negative controls are not
    /// carried over: they are kept by what the service and the probes are.
    pub async fn update_resource(
        &self,
        caller: &Caller,
        name: &str,
        update: ResourceUpdate,
    ) -> Result<ResourceView> {
        const ACTION: &str = "provault:UpdateResource";
        self.audited(caller, ACTION, name, async {
            let resource = self.permitted_resource(caller, ACTION, name).await?;
            let arn = resource.arn.clone();
            let wanted = update.clone().applied_to(resource);
            wanted.validate()?;
            if let Some(other) =
                self.catalog().resource_by_name(caller.account(), &wanted.name).await?
                && other.arn != arn
            {
                return Err(AppError::exists(
                    format!(
                        "A resource '{}' exists already: {}. Choose another name.",
                        other.name, other.arn
                    ),
                    Some(other.arn),
                ));
            }
            let mut refused = None;
            // Somebody may have changed it in between: what is written is looked at as a whole.
            let change = |resource: &mut Resource| {
                let wanted = update.clone().applied_to(resource.clone());
                match wanted.validate() {
                    Ok(()) => *resource = wanted,
                    Err(invalid) => refused = Some(invalid),
                }
            };
            let resource = self.catalog().update_resource(&arn, change).await?;
            if let Some(invalid) = refused {
                return Err(invalid.into());
            }
            self.resource_view(caller, resource).await
        })
        .await
    }

    /// `provault:TagResource`: first removes keys, then sets tags.
    pub async fn change_resource_tags(
        &self,
        caller: &Caller,
        name: &str,
        set: &Tags,
        remove: &[String],
    ) -> Result<ResourceView> {
        const ACTION: &str = "provault:TagResource";
        self.audited(caller, ACTION, name, async {
            let resource = self.permitted_resource(caller, ACTION, name).await?;
            validate_tags(set)?;
            let resource = self.retag(&resource.arn, &resource.tags, set, remove).await?;
            self.resource_view(caller, resource).await
        })
        .await
    }

    /// `provault:RemoveResource`, by name or ARN. Its recovery points stay and can be restored.
    pub async fn remove_resource(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "provault:RemoveResource";
        self.audited(caller, ACTION, name, async {
            let resource = self.permitted_resource(caller, ACTION, name).await?;
            Ok(self.catalog().delete_resource(&resource.arn).await?)
        })
        .await
    }
}
