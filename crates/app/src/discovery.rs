//! What stands on the server's host and could be registered.

use std::time::{Duration, Instant};

use provault_catalog::Page;
use provault_domain::{Exemption, Kind, Resource};
use provault_driver::{CancelFlag, Coverage, DiscoverRequest, Discovered};

use crate::restore_job::blocking;
use crate::{App, AppError, Caller, Result};

/// How long a look takes at most, unless the caller says it.
const SECONDS: u64 = 20;
/// The longest look: shorter than clients wait for an answer.
const MAX_SECONDS: u64 = 45;
/// Names that are looked at, of each kind: some minutes' work, so that the time is the limit on most
/// hosts, and memory has one.
const MAX_ENTRIES: u64 = 5_000_000;
/// What nobody knows by its place is told from here on: 1 GiB.
const LARGE_BYTES: u64 = 1 << 30;

/// What was found on the host.
#[derive(Debug, Clone, Default)]
pub struct DiscoveryView {
    /// What could be registered, or is.
    pub found: Vec<DiscoveredView>,
    /// Why not everything was looked at, where it was not.
    pub cut: Vec<String>,
    /// What could not be offered, and why.
    pub notes: Vec<String>,
}

/// Something that was found.
#[derive(Debug, Clone)]
pub struct DiscoveredView {
    /// Which driver would capture it.
    pub kind: Kind,
    /// What the driver says of it.
    pub found: Discovered,
    /// The exemption of the resource that it is, or lies in, while it holds.
    pub exemption: Option<Exemption>,
}

/// Ends the look when nobody waits for it any more.
struct RaiseOnDrop(CancelFlag);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl App {
    /// `provault:DiscoverResources`: looks over the host for `seconds` at most, 20 if that is not
    /// said. Changes nothing.
    pub async fn discover(&self, caller: &Caller, seconds: Option<u64>) -> Result<DiscoveryView> {
        self.permit(caller, "provault:DiscoverResources", "*")?;
        let seconds = seconds.unwrap_or(SECONDS);
        if !(1..=MAX_SECONDS).contains(&seconds) {
            return Err(AppError::invalid(
                "seconds",
                format!("{seconds} is not from 1 to {MAX_SECONDS}."),
            ));
        }
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut resources =
            self.catalog().list_resources(caller.account(), Page::all()).await?.items;
        // What is known from imported vaults alone may have lived on another host.
        resources.retain(|resource| !resource.imported);
        let mut exemptions = self.catalog().list_exemptions(caller.account()).await?;
        exemptions.retain(|exemption| exemption.until > self.now());
        let cancel = RaiseOnDrop(CancelFlag::new());
        let mut view = DiscoveryView::default();
        for kind in Kind::ALL {
            let Ok(driver) = self.engine().driver(kind) else { continue };
            let (flag, of_kind) = (cancel.0.clone(), of_kind(&resources, kind));
            let look = move || {
                let request = DiscoverRequest {
                    registered: &of_kind,
                    deadline,
                    max_entries: MAX_ENTRIES,
                    large_bytes: LARGE_BYTES,
                };
                driver.discover(&request, &flag)
            };
            let discovery = blocking(look).await?.map_err(|error| AppError::fault(&error))?;
            view.cut.extend(discovery.cut);
            view.notes.extend(discovery.notes);
            for found in discovery.found {
                let exemption = exemption_of(&found, &resources, &exemptions);
                view.found.push(DiscoveredView { kind, found, exemption });
            }
        }
        Ok(view)
    }
}

/// The exemption of the resource that something is, or lies in.
fn exemption_of(
    found: &Discovered,
    resources: &[Resource],
    exemptions: &[Exemption],
) -> Option<Exemption> {
    let (Coverage::Registered(name) | Coverage::Inside(name)) = &found.coverage else {
        return None;
    };
    let resource = resources.iter().find(|resource| resource.name == *name)?;
    exemptions.iter().find(|exemption| exemption.resource_arn == resource.arn).cloned()
}

fn of_kind(resources: &[Resource], kind: Kind) -> Vec<Resource> {
    resources.iter().filter(|resource| resource.kind == kind).cloned().collect()
}
