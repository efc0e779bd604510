//! Tags of vaults, plans, restore testing plans, recovery points and registered resources.

use jiff::Timestamp;
use provault_catalog::Cursor;
use provault_domain::resource::validate_tags;
use provault_domain::{Arn, Tags};

use crate::paging::List;
use crate::{App, AppError, Caller, ErrorKind, Listing, Paging, Result};

/// What an ARN that can be tagged names.
enum Tagged {
    /// A vault, a plan of either kind or a recovery point: tags lie beside it.
    Object,
    /// A registered resource: its tags are what selections look at.
    Resource(Tags),
}

const MAX_TAGS: usize = 50;

impl App {
    async fn tagged(&self, caller: &Caller, text: &str) -> Result<(Arn, Tagged)> {
        let unknown = || {
            AppError::not_found(format!(
                "'{text}' is no vault, plan, recovery point or registered resource of this account."
            ))
        };
        let arn: Arn = text.parse().map_err(|_| unknown())?;
        let account = caller.account();
        let catalog = self.catalog();
        if arn.service() == "backup" {
            let (kind, name) = arn.resource().split_once(':').ok_or_else(unknown)?;
            let found = match kind {
                "backup-vault" => catalog.vault(account, name).await?.map(|vault| vault.arn),
                "backup-plan" => catalog
                    .plan(account, name, None)
                    .await?
                    .filter(|plan| plan.deleted_at.is_none())
                    .map(|plan| plan.arn),
                "restore-testing-plan" => {
                    catalog.restore_testing_plan_by_arn(account, &arn).await?.map(|plan| plan.arn)
                }
                "recovery-point" => {
                    catalog.recovery_point(account, &arn).await?.map(|point| point.arn)
                }
                _ => None,
            };
            // Another region's vault of the same name is another vault.
            return match found {
                Some(found) if found == arn => Ok((arn, Tagged::Object)),
                _ => Err(unknown()),
            };
        }
        match catalog.resource(&arn).await? {
            Some(resource) if resource.account == *account => {
                Ok((arn, Tagged::Resource(resource.tags)))
            }
            _ => Err(unknown()),
        }
    }

    /// `ListTags`, in the order of the keys.
    pub async fn list_tags(
        &self,
        caller: &Caller,
        arn: &str,
        paging: &Paging,
    ) -> Result<Listing<(String, String)>> {
        self.permit_named(caller, "backup:ListTags", arn)?;
        let (arn, tagged) = self.tagged(caller, arn).await?;
        let tags = match tagged {
            Tagged::Object => self.catalog().tags(&arn).await?,
            Tagged::Resource(tags) => tags,
        };
        let list = List::new(caller, "ListTags", &arn);
        let page = self.page(&list, paging)?;
        let after = page.after.map(|cursor| cursor.id);
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut items: Vec<(String, String)> = tags
            .into_iter()
            .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_token = match items.last() {
            Some((key, _)) if more => {
                let cursor = Cursor { created_at: Timestamp::UNIX_EPOCH, id: key.clone() };
                Some(self.token(&list, cursor)?)
            }
            _ => None,
        };
        Ok(Listing { items, next_token })
    }

    /// `TagResource`: sets these tags, leaves others.
    pub async fn tag_resource(&self, caller: &Caller, arn: &str, tags: &Tags) -> Result<()> {
        const ACTION: &str = "backup:TagResource";
        self.audited(caller, ACTION, arn, async {
            self.permit_named(caller, ACTION, arn)?;
            validate_tags(tags)?;
            let (arn, tagged) = self.tagged(caller, arn).await?;
            match tagged {
                Tagged::Object => Ok(self.catalog().put_tags(&arn, tags).await?),
                Tagged::Resource(old) => self.retag(&arn, &old, tags, &[]).await.map(|_| ()),
            }
        })
        .await
    }

    /// `UntagResource`: removes the tags of these keys; absent ones are no error.
    pub async fn untag_resource(&self, caller: &Caller, arn: &str, keys: &[String]) -> Result<()> {
        const ACTION: &str = "backup:UntagResource";
        self.audited(caller, ACTION, arn, async {
            self.permit_named(caller, ACTION, arn)?;
            let (arn, tagged) = self.tagged(caller, arn).await?;
            match tagged {
                Tagged::Object => Ok(self.catalog().remove_tags(&arn, keys).await?),
                Tagged::Resource(old) => {
                    self.retag(&arn, &old, &Tags::new(), keys).await.map(|_| ())
                }
            }
        })
        .await
    }

    /// Changes the tags of a registered resource: first removes, then sets.
    pub(crate) async fn retag(
        &self,
        arn: &Arn,
        old: &Tags,
        set: &Tags,
        remove: &[String],
    ) -> Result<provault_domain::Resource> {
        let mut kept = old.keys().filter(|key| !remove.contains(key) && !set.contains_key(*key));
        let total = set.len() + kept.by_ref().count();
        if total > MAX_TAGS {
            return Err(AppError::new(
                ErrorKind::LimitExceeded,
                format!("{arn} would have {total} tags; at most {MAX_TAGS}. Remove some first."),
            ));
        }
        let (set, remove) = (set.clone(), remove.to_vec());
        let change = move |resource: &mut provault_domain::Resource| {
            resource.tags.retain(|key, _| !remove.contains(key));
            resource.tags.extend(set);
        };
        let resource = self.catalog().update_resource(arn, change).await?;
        // A selection by tag may want it now.
        self.engine().wake();
        Ok(resource)
    }
}
