//! The regions of a server: each has a catalog, an engine, keys and vaults of its own, so that trouble of one
//! is not trouble of another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::Flock;
use provault_app::{App, BootstrapError, Settings, Setup, region_of};
use provault_catalog::{Catalog, SoleUse};
use provault_domain::{AccountId, Region};
use provault_driver::Driver;
use provault_driver_filesystem::FilesystemDriver;
use provault_driver_volume::VolumeDriver;
use provault_engine::{Engine, Parts, Running, TestsAtWork, VaultPlace};
use provault_proof::HelperCommand;

use crate::clock::SystemClock;
use crate::instance::{InstanceOptions, StartError, hold, hostname, vault_directories};

/// Where further regions lie below the data directory, each under its name.
pub(crate) const SITES: &str = "sites";

/// Where hooks of resources lie below the data directory, each resource's in a directory of its own name
/// or one that it shares. Nobody but the server's user may write there.
pub(crate) const HOOKS: &str = "hooks";

/// A further region of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteOptions {
    /// Its name.
    pub region: Region,
    /// Where its new vaults are made; nothing for `vaults` below its own directory.
    pub vault_storage: Option<VaultPlace>,
}

/// A region that is served.
pub struct Site {
    /// What works in it.
    pub engine: Engine,
    /// The use cases over it.
    pub app: App,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// The right to its catalog, until somebody waits for its loss.
    sole_use: Option<SoleUse>,
    /// Held as long as the region is served.
    _lock: Flock<std::fs::File>,
}

/// A region whose catalog is open.
struct Opened {
    data_dir: PathBuf,
    region: Option<Region>,
    vault_storage: Option<VaultPlace>,
    catalog: Catalog,
    sole_use: SoleUse,
    lock: Flock<std::fs::File>,
}

impl Site {
    /// Opens all regions, the first one of `options` before those of `sites`; none of them works yet.
    /// The driver is that of directories, which learns of places to keep out of.
    pub async fn open_all(
        options: &InstanceOptions,
    ) -> Result<(Vec<Self>, FilesystemDriver), StartError> {
        let mut opened = vec![
            Opened::of(
                &options.data_dir,
                options.catalog.as_deref(),
                options.region.clone(),
                options.vault_storage.clone(),
            )
            .await?,
        ];
        let below = opened[0].data_dir.join(SITES);
        let home = region_of(&opened[0].catalog, options.region.as_ref()).await;
        let home = home.map_err(|error| StartError::new("the catalog", error))?;
        if options.sites.iter().any(|site| site.region.as_str() == home) {
            let message =
                format!("{home} is the server's own region already; a region is one site.");
            return Err(StartError::new("--site", message));
        }
        for site in &options.sites {
            let data_dir = below.join(site.region.as_str());
            let storage = site.vault_storage.clone();
            opened.push(Opened::of(&data_dir, None, Some(site.region.clone()), storage).await?);
        }
        tell_of_others(&below, &options.sites);
        // A directory of vaults is nobody's source and nobody's target, whichever region it is of.
        let mut reserved = Vec::new();
        for site in &opened {
            let storage = site.vault_storage.as_ref();
            let found = vault_directories(&site.catalog, storage, &options.storage).await;
            reserved.extend(found.map_err(|error| StartError::new("the catalog", error))?);
        }
        let data_dirs = vec![opened[0].data_dir.clone()];
        let files = FilesystemDriver::reserving(data_dirs).and_by_name(reserved);
        let hooks = opened[0].data_dir.join(HOOKS);
        let volumes = VolumeDriver::reserving(files.reserved()).with_hooks(hooks);
        let drivers: [Arc<dyn Driver>; 2] = [Arc::new(files.clone()), Arc::new(volumes)];
        // They restore to one machine: a limit for each would be none for it.
        let at_work = Arc::<TestsAtWork>::default();
        let mut sites: Vec<Self> = Vec::new();
        for site in opened {
            let made =
                site.made(options, &drivers, &at_work, sites.first().map(|home| &home.app)).await?;
            sites.push(made);
        }
        Ok((sites, files))
    }

    /// Returns once another server has taken its catalog.
    pub fn lost(&mut self) -> impl Future<Output = ()> + use<> {
        let sole_use = self.sole_use.take();
        async {
            match sole_use {
                Some(sole_use) => sole_use.lost().await,
                // Somebody waits for it already.
                None => std::future::pending().await,
            }
        }
    }

    /// Lets it work.
    pub async fn start(&self) -> Result<Running, StartError> {
        let started = self.engine.start(true).await;
        started.map_err(|error| StartError::new("the engine", error))
    }
}

impl Opened {
    async fn of(
        data_dir: &Path,
        catalog: Option<&str>,
        region: Option<Region>,
        vault_storage: Option<VaultPlace>,
    ) -> Result<Self, StartError> {
        let (data_dir, lock) = hold(data_dir)?;
        let wrong = |error| StartError::new("the catalog", error);
        let url = catalog.map_or_else(
            || format!("sqlite:{}", data_dir.join("catalog.db").display()),
            str::to_owned,
        );
        let sole_use = Catalog::claim_sole_use(&url).await.map_err(wrong)?;
        let catalog = Catalog::open(&url).await.map_err(wrong)?;
        Ok(Self { data_dir, region, vault_storage, catalog, sole_use, lock })
    }

    async fn made(
        self,
        options: &InstanceOptions,
        drivers: &[Arc<dyn Driver>],
        at_work: &Arc<TestsAtWork>,
        home: Option<&App>,
    ) -> Result<Site, StartError> {
        let engine = Engine::new(Parts {
            catalog: self.catalog,
            data_dir: self.data_dir.clone(),
            clock: Arc::new(SystemClock::new()),
            drivers: drivers.to_vec(),
            helper: HelperCommand::this_program(["__isolate"]),
            hostname: hostname(),
            storage: options.storage.clone(),
            vault_storage: self.vault_storage,
            command_subscriptions: options.command_subscriptions,
            tests: options.tests,
            at_work: Arc::clone(at_work),
        })
        .map_err(|error| StartError::new("the engine", error))?;
        let account: Option<AccountId> =
            home.map_or_else(|| options.account_id.clone(), |home| Some(home.account().clone()));
        let setup = Setup {
            engine: engine.clone(),
            data_dir: self.data_dir.clone(),
            account,
            region: self.region,
            settings: Settings {
                missing_vault_is_access_denied: !options.missing_vault_not_found,
                ..Settings::default()
            },
        };
        let app: Result<App, BootstrapError> = match home {
            None => App::open(setup).await,
            Some(home) => App::open_site(setup, home).await,
        };
        let app = app.map_err(|error| StartError::new("the first records", error))?;
        let sole_use = Some(self.sole_use);
        Ok(Site { engine, app, data_dir: self.data_dir, sole_use, _lock: self.lock })
    }
}

/// Says of regions that are there and not configured: nothing in them is backed up.
fn tell_of_others(below: &Path, sites: &[SiteOptions]) {
    let Ok(found) = std::fs::read_dir(below) else { return };
    for region in found.flatten().map(|entry| entry.file_name()) {
        if !sites.iter().any(|site| region == site.region.as_str()) {
            tracing::error!(
                region = %region.to_string_lossy(),
                "a region is in the data directory and no --site names it: nothing in it is backed up or tested"
            );
        }
    }
}
