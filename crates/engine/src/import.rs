//! IMPORT: entering the snapshots of a vault that the catalog does not know.
//!
//! A snapshot of ours says in its record what it is: the same recovery point comes of it as the
//! job that made it would have entered. One that stock restic made becomes a point of an imported
//! resource, named by the host and the paths that its snapshot tells. Importing twice enters
//! nothing twice: what a snapshot becomes is fixed by the snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use provault_catalog::{Page, PointFilter};
use provault_domain::care::CareReport;
use provault_domain::resource::validate_name;
use provault_domain::role::DEFAULT_ROLE;
use provault_domain::{
    Arn, BackupVault, Kind, Lifecycle, Payload, RecoveryPoint, RecoveryPointStatus, Resource,
    RetentionSettings, Tags,
};
use provault_driver::Driver;
use provault_repository::{EntryKind, Id, Reader, Repository, Snapshot, Totals, TreeTotals};

use crate::backup::{PointRecord, recovery_point};
use crate::care::{Done, Work};
use crate::care_report::{count, snapshot_of};
use crate::catalog_backup::TAG;
use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Snapshots of the vault.
    pub snapshots: u64,
    /// Recovery points entered now.
    pub points: u64,
    /// Resources registered now.
    pub resources: u64,
    /// What could not be read, for people.
    pub problems: Vec<String>,
}

/// What a snapshot is.
enum Found {
    /// Made by a backup job.
    Ours(Box<PointRecord>),
    /// Made by another program.
    Foreign { tree_path: String, totals: TreeTotals },
}

/// Runs an import as a care run.
pub(crate) async fn import(work: &Work) -> Result<Done> {
    let imported =
        into_catalog(&work.shared, &work.vault, work.run.options.own, Some(work)).await?;
    let summary = format!(
        "{} entered of {}; {} registered.",
        count(imported.points, "recovery point"),
        count(imported.snapshots, "snapshot"),
        count(imported.resources, "resource"),
    );
    let figures = [
        ("snapshots", imported.snapshots),
        ("recoveryPoints", imported.points),
        ("resources", imported.resources),
    ];
    let report = CareReport {
        clean: imported.problems.is_empty(),
        summary,
        figures: figures.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        problems_total: imported.problems.len() as u64,
        problems: imported.problems.into_iter().take(100).collect(),
        hurt: Vec::new(),
    };
    Ok((report, Vec::new()))
}

/// Enters what the catalog does not know. `own`: the snapshots are this server's, so their
/// resources can be backed up on and their retention goes on.
pub(crate) async fn into_catalog(
    shared: &Arc<Shared>,
    vault: &BackupVault,
    own: bool,
    work: Option<&Work>,
) -> Result<Imported> {
    let failed = EngineError::repository(&vault.name);
    let filter = PointFilter {
        account: Some(vault.account.clone()),
        vault_name: Some(vault.name.clone()),
        ..PointFilter::default()
    };
    let known = shared.catalog.list_recovery_points(&filter, Page::all()).await?.items;
    let known: HashSet<String> = known.iter().map(|point| snapshot_of(point).to_owned()).collect();
    let repository = shared.repository(vault).await?;
    let listing = repository.clone();
    let listed = blocking(move || listing.snapshots()).await?.map_err(&failed)?;
    let mut imported = Imported {
        snapshots: (listed.snapshots.len() + listed.damaged.len()) as u64,
        problems: listed.damaged.iter().map(|(id, why)| format!("snapshot {id}: {why}")).collect(),
        ..Imported::default()
    };
    let mut names = Names::of(shared, vault).await?;
    let mut totals = Totals::default();
    let mut grown = BTreeSet::new();
    let new = listed.snapshots.into_iter();
    let new = new.filter(|s| !known.contains(&s.id.to_string()) && !s.has_tag(TAG));
    for snapshot in new {
        if work.is_some_and(|work| work.cancel.is_raised()) {
            return Err(failed(provault_repository::Error::Cancelled));
        }
        let (opened, asked) = (repository.clone(), snapshot.clone());
        // The counts of trees are kept from one snapshot to the next.
        let (found, kept) =
            blocking(move || (look_into(&opened, &asked, &mut totals), totals)).await?;
        totals = kept;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.is_damage() => {
                imported.problems.push(format!("snapshot {}: {error}", snapshot.id));
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let (point, tags, resource) = match found {
            Found::Ours(record) => ours(shared, vault, &snapshot, *record, own),
            Found::Foreign { tree_path, totals } => {
                foreign(shared, vault, &repository, &snapshot, tree_path, totals)?
            }
        };
        let resource = names.unique(resource);
        let entered = shared.catalog.enter_imported(&point, &tags, resource.as_ref()).await?;
        if own && entered.point {
            grown.insert(point.resource_arn.clone());
        }
        imported.points += u64::from(entered.point);
        imported.resources += u64::from(entered.resource);
    }
    // A source that was emptied before the catalog was lost is still empty.
    for resource in grown {
        shared.catalog.judge_points(&vault.account, &resource).await?;
    }
    shared.bell.notify_waiters();
    Ok(imported)
}

fn look_into(
    repository: &Repository,
    snapshot: &Snapshot,
    totals: &mut Totals,
) -> provault_repository::Result<Found> {
    let reader = repository.reader()?;
    if let Some(json) = reader.recovery_point_record(snapshot)?
        && let Ok(record) = serde_json::from_slice(&json)
    {
        return Ok(Found::Ours(Box::new(record)));
    }
    let tree_path = tree_path(&reader, snapshot)?;
    let totals = totals.at(&reader, snapshot, tree_path.as_bytes())?;
    Ok(Found::Foreign { tree_path, totals })
}

/// Where the tree begins: at the one directory that was backed up, else at the snapshot's root,
/// below which all that was backed up lies under its own path.
fn tree_path(reader: &Reader, snapshot: &Snapshot) -> provault_repository::Result<String> {
    let [only] = snapshot.paths.as_slice() else { return Ok(String::new()) };
    let path = only.trim_matches('/');
    match reader.entry(snapshot, path.as_bytes()) {
        Ok(entry) if entry.kind == EntryKind::Directory => Ok(path.to_owned()),
        Ok(_) | Err(provault_repository::Error::PathNotFound(_)) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

type Entered = (RecoveryPoint, Tags, Option<(Resource, String)>);

/// The point of a snapshot that a backup job made, under this account and region.
fn ours(
    shared: &Shared,
    vault: &BackupVault,
    snapshot: &Snapshot,
    mut record: PointRecord,
    own: bool,
) -> Entered {
    let here = |arn: &Arn| match arn.resource().rsplit_once("fs-") {
        Some((_, id)) => Arn::resource_of(Kind::Filesystem, &vault.region, &vault.account, id),
        None => arn.clone(),
    };
    let moved = record.job.account != vault.account || record.job.region != vault.region;
    if moved {
        record.resource.arn = here(&record.resource.arn);
        record.job.resource_arn = record.resource.arn.clone();
        record.job.role_arn = Arn::role(&vault.account, DEFAULT_ROLE);
    }
    for (account, region) in [
        (&mut record.job.account, &mut record.job.region),
        (&mut record.resource.account, &mut record.resource.region),
    ] {
        account.clone_from(&vault.account);
        region.clone_from(&vault.region);
    }
    let mut point = recovery_point(&record, &snapshot.id.to_string(), vault, record.captured_at);
    if !own {
        // Whoever adopts a repository has not agreed that anything in it goes by itself.
        point.lifecycle = Lifecycle::default();
        point.created_by = None;
    }
    let mut tags = record.resource.tags.clone();
    tags.extend(record.job.recovery_point_tags.clone());
    let mut resource = record.resource;
    resource.imported = !own;
    if !own {
        resource.testing = None;
        resource.retention = RetentionSettings::default();
        // A selection by tags must not take it for one of this host's.
        resource.tags = Tags::new();
        // Nor is a program started that somebody else's repository names.
        resource.service = None;
        resource.probes = Vec::new();
        // What its recovery takes there is no aim here.
        (resource.rpo_seconds, resource.rto_seconds) = (None, None);
    }
    let identity = match shared.driver(resource.kind) {
        Ok(driver) if own => driver.identity(&resource.config),
        _ => format!("imported:{}", resource.arn),
    };
    (point, tags, Some((resource, identity)))
}

/// The point of a snapshot that another program made.
fn foreign(
    shared: &Shared,
    vault: &BackupVault,
    repository: &Repository,
    snapshot: &Snapshot,
    tree_path: String,
    totals: TreeTotals,
) -> Result<Entered> {
    let repository_id = repository.config().id.to_string();
    let source = format!("{repository_id}\n{}\n{}", snapshot.hostname, snapshot.paths.join("\n"));
    let id = Id::hash(source.as_bytes()).to_string();
    let arn = Arn::resource_of(Kind::Filesystem, &vault.region, &vault.account, &id[..17]);
    let kind = Kind::Filesystem;
    let resource = Resource {
        arn: arn.clone(),
        account: vault.account.clone(),
        region: vault.region.clone(),
        kind,
        name: name_of(snapshot),
        config: serde_json::json!({ "path": format!("/{tree_path}") }),
        tags: Tags::new(),
        service: None,
        probes: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        testing: None,
        retention: RetentionSettings::default(),
        created_at: snapshot.time,
        imported: true,
    };
    let driver: Arc<dyn Driver> = shared.driver(kind)?;
    let snapshot_id = snapshot.id.to_string();
    let point = RecoveryPoint {
        arn: Arn::recovery_point(&vault.region, &vault.account, &uuid_of(&snapshot_id)),
        account: vault.account.clone(),
        region: vault.region.clone(),
        vault_name: vault.name.clone(),
        vault_arn: vault.arn.clone(),
        resource_arn: arn,
        resource_name: resource.name.clone(),
        kind,
        backup_job_id: uuid_of(&snapshot_id),
        role_arn: Arn::role(&vault.account, DEFAULT_ROLE),
        created_by: None,
        encryption_key_arn: vault.encryption_key_arn.clone(),
        status: RecoveryPointStatus::Completed,
        status_message: Some(format!(
            "Imported: restic snapshot {} of {} on {}.",
            &snapshot_id[..8],
            snapshot.paths.join(", "),
            snapshot.hostname
        )),
        captured_at: snapshot.time,
        created_at: snapshot.time,
        completed_at: snapshot.time,
        backup_size_bytes: totals.bytes,
        lifecycle: Lifecycle::default(),
        payload: Payload::Stored { snapshot_id, tree_path, bytes_stored: 0, files: totals.files },
        restore_metadata: driver.restore_metadata(&resource),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    };
    let tags = BTreeMap::from([("provault:imported-from".to_owned(), vault.name.clone())]);
    Ok((point, tags, Some((resource, format!("imported:{id}")))))
}

/// A UUID that the snapshot's id fixes.
fn uuid_of(snapshot_id: &str) -> String {
    let part = |from: usize, to: usize| snapshot_id.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// A name for people: the host and the last part of the first path.
fn name_of(snapshot: &Snapshot) -> String {
    let path = snapshot.paths.first().map(String::as_str).unwrap_or_default();
    let last = path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("root");
    let text = format!("{}-{last}", snapshot.hostname);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = text.chars().map(plain).take(56).collect();
    let name = name.trim_start_matches(['.', '-', '_']).to_owned();
    if validate_name("Name", &name).is_ok() { name } else { "imported".to_owned() }
}

/// The names that resources have, so that a new one gets another.
struct Names {
    by_name: HashMap<String, Arn>,
}

impl Names {
    async fn of(shared: &Shared, vault: &BackupVault) -> Result<Self> {
        let all = shared.catalog.list_resources(&vault.account, Page::all()).await?.items;
        Ok(Self { by_name: all.into_iter().map(|r| (r.name, r.arn)).collect() })
    }

    fn unique(&mut self, resource: Option<(Resource, String)>) -> Option<(Resource, String)> {
        let (mut resource, identity) = resource?;
        let base = resource.name.clone();
        for n in 2.. {
            let taken = self.by_name.get(&resource.name).is_some_and(|arn| *arn != resource.arn);
            if !taken {
                break;
            }
            resource.name = format!("{base}-{n}");
        }
        self.by_name.insert(resource.name.clone(), resource.arn.clone());
        Some((resource, identity))
    }
}
