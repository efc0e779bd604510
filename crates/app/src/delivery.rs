//! Deliveries: what became of notifications.

use provault_catalog::{Delivery, DeliveryState};

use crate::{App, AppError, Caller, Result};

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
    fn of(delivery: Delivery) -> Self {
        let message = provault_engine::render(&delivery.notification);
        Self { delivery, subject: message.subject, message: message.text }
    }
}

impl App {
    /// `provault:ListDeliveries`: all, or those of one job, or those in one state.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        job_id: Option<&str>,
        state: Option<&str>,
    ) -> Result<Vec<DeliveryView>> {
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
        let found = self.catalog().list_deliveries(caller.account(), job_id, state).await?;
        Ok(found.into_iter().map(DeliveryView::of).collect())
    }

    /// `provault:DescribeDelivery`.
    pub async fn describe_delivery(&self, caller: &Caller, id: &str) -> Result<DeliveryView> {
        self.permit(caller, "provault:DescribeDelivery", "*")?;
        Ok(DeliveryView::of(self.delivery_with_id(caller, id).await?))
    }

    /// `provault:SendDeliveryAgain`: a DEAD delivery is tried again from now on, as often as a new
    /// one and under the same id.
    pub async fn send_delivery_again(&self, caller: &Caller, id: &str) -> Result<DeliveryView> {
        const ACTION: &str = "provault:SendDeliveryAgain";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            let delivery = self.delivery_with_id(caller, id).await?;
            if delivery.state != DeliveryState::Dead {
                return Err(AppError::refused(format!(
                    "Delivery {id} is {}; only a DEAD one is sent again.",
                    delivery.state.as_str()
                )));
            }
            if self.catalog().subscription(&delivery.subscription_id).await?.is_none() {
                return Err(AppError::refused(format!(
                    "The receiver of delivery {id}, subscription {}, was removed.",
                    delivery.subscription_id
                )));
            }
            let now = self.now();
            let again = self.catalog().send_delivery_again(caller.account(), id, now).await?;
            self.engine().wake();
            Ok(DeliveryView::of(again))
        })
        .await
    }

    async fn delivery_with_id(&self, caller: &Caller, id: &str) -> Result<Delivery> {
        let found = self.catalog().delivery(caller.account(), id).await?;
        found.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no delivery '{id}'; see `provault delivery list` for those there are."
            ))
        })
    }
}
