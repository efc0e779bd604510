//! Deliveries: what became of notifications.

use provault_catalog::{Delivery, DeliveryState};

use crate::paging::List;
use crate::subscription::{TRUSTED, without_quotes};
use crate::{App, AppError, Caller, Listing, Paging, Result};

/// A notification on its way to one receiver, in words.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// The delivery.
    pub delivery: Delivery,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub message: String,
}

impl DeliveryView {
    fn of(mut delivery: Delivery, trusted: bool) -> Self {
        if !trusted {
            delivery.last_error = delivery.last_error.as_deref().map(without_quotes);
        }
        let message = provault_engine::render(&delivery.notification);
        Self { delivery, subject: message.subject, message: message.text }
    }
}

impl App {
    /// `provault:ListDeliveries`: all, or those of one job, or those in one state; a page of them.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        job_id: Option<&str>,
        state: Option<&str>,
        paging: &Paging,
    ) -> Result<Listing<DeliveryView>> {
        self.permit(caller, "provault:ListDeliveries", "*")?;
        let named = |name: &str| {
            DeliveryState::named(name).ok_or_else(|| {
                AppError::invalid(
                    "state",
                    format!("'{name}' is no state; use WAITING, DELIVERED or DEAD."),
                )
            })
        };
        let state = state.map(named).transpose()?;
        let list = List::new(caller, "ListDeliveries", &(job_id, state));
        let page = self.page(&list, paging)?;
        let (catalog, account) = (self.catalog(), caller.account());
        let listed = catalog.page_of_deliveries(account, job_id, state, page).await?;
        Ok(self.listing(&list, listed)?.map(|delivery| self.delivery_view(caller, delivery)))
    }

    /// How many deliveries are in each state, for who may read the metrics.
    pub async fn count_deliveries(&self) -> Result<Vec<(DeliveryState, u64)>> {
        Ok(self.catalog().count_deliveries(self.account()).await?)
    }

    /// `provault:DescribeDelivery`.
    pub async fn describe_delivery(&self, caller: &Caller, id: &str) -> Result<DeliveryView> {
        let found = self.permitted_delivery(caller, "provault:DescribeDelivery", id).await?;
        Ok(self.delivery_view(caller, found))
    }

    /// `provault:SendDeliveryAgain`: a DEAD delivery is tried again from now on, as often as a new
    /// one and under the same id.
    pub async fn send_delivery_again(&self, caller: &Caller, id: &str) -> Result<DeliveryView> {
        const ACTION: &str = "provault:SendDeliveryAgain";
        self.audited(caller, ACTION, id, async {
            let delivery = self.permitted_delivery(caller, ACTION, id).await?;
            if delivery.state != DeliveryState::Dead {
                return Err(AppError::refused(format!(
                    "Delivery {id} is {}; only a DEAD one is sent again.",
                    delivery.state.as_str()
                )));
            }
            if self.catalog().subscription(&delivery.subscription_id).await?.is_none() {
                return Err(AppError::refused(format!(
                    "The receiver of delivery {id}, subscription {}, was removed; `provault delivery \
                     forget {id}` removes the delivery as well.",
                    delivery.subscription_id
                )));
            }
            let now = self.now();
            let again = self.catalog().send_delivery_again(caller.account(), id, now).await?;
            self.engine().wake();
            Ok(self.delivery_view(caller, again))
        })
        .await
    }

    /// `provault:ForgetDelivery`: removes a DEAD delivery for good.
    pub async fn forget_delivery(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:ForgetDelivery";
        self.audited(caller, ACTION, id, async {
            let delivery = self.permitted_delivery(caller, ACTION, id).await?;
            if delivery.state != DeliveryState::Dead {
                return Err(AppError::refused(format!(
                    "Delivery {id} is {}; only a DEAD one is forgotten.",
                    delivery.state.as_str()
                )));
            }
            Ok(self.catalog().forget_delivery(caller.account(), id).await?)
        })
        .await
    }

    fn delivery_view(&self, caller: &Caller, delivery: Delivery) -> DeliveryView {
        DeliveryView::of(delivery, self.may(caller, TRUSTED, "*"))
    }

    /// A delivery by a topic to which the caller may do `action`.
    async fn permitted_delivery(
        &self,
        caller: &Caller,
        action: &str,
        id: &str,
    ) -> Result<Delivery> {
        let found = self.catalog().delivery(caller.account(), id).await?;
        let found = found.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no delivery '{id}'; see `provault delivery list` for those there are."
            ))
        });
        self.permit_found(caller, action, id, found, |found| vec![found.topic_arn.to_string()])
    }
}
