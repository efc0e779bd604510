//! The places where things that are worth a backup stand by custom.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::mounts::Mounts;

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Files.
    Files,
    /// Directories of people, which hold caches.
    Home,
    /// Files that a running database keeps.
    Database,
    /// Disks of machines that may be running.
    Machines,
    /// Volumes of containers that may be running.
    Containers,
}

/// A place and what it is.
#[derive(Debug)]
pub(super) struct Known {
    /// Relative to the root; a `*` at its end stands for every directory there.
    place: &'static str,
    /// For people.
    pub what: &'static str,
    nature: Nature,
}

const fn files(place: &'static str, what: &'static str) -> Known {
    Known { place, what, nature: Nature::Files }
}

const fn database(place: &'static str, what: &'static str) -> Known {
    Known { place, what, nature: Nature::Database }
}

/// All of them. A directory that is one of several is what the first of them says.
pub(super) const KNOWN: &[Known] = &[
    files("etc", "settings of the host"),
    Known { place: "root", what: "home of root", nature: Nature::Home },
    Known { place: "home/*", what: "home directory", nature: Nature::Home },
    files("srv/*", "data of a service"),
    files("opt/*", "software installed by hand"),
    files("usr/local", "software and settings of this host"),
    files("var/www", "web sites"),
    files("var/mail", "mail"),
    files("var/vmail", "mail"),
    files("var/spool/mail", "mail"),
    files("var/spool/cron", "jobs of cron"),
    files("var/backups", "backups that other programs made"),
    database("var/lib/postgresql", "PostgreSQL"),
    database("var/lib/pgsql", "PostgreSQL"),
    database("var/lib/mysql", "MySQL or MariaDB"),
    database("var/lib/mariadb", "MariaDB"),
    database("var/lib/mongodb", "MongoDB"),
    database("var/lib/mongo", "MongoDB"),
    database("var/lib/redis", "Redis"),
    database("var/lib/valkey", "Valkey"),
    database("var/lib/influxdb", "InfluxDB"),
    database("var/lib/elasticsearch", "Elasticsearch"),
    database("var/lib/opensearch", "OpenSearch"),
    database("var/lib/clickhouse", "ClickHouse"),
    database("var/lib/cassandra", "Cassandra"),
    database("var/lib/couchdb", "CouchDB"),
    database("var/lib/neo4j", "Neo4j"),
    database("var/lib/etcd", "etcd"),
    database("var/lib/ldap", "OpenLDAP"),
    database("var/lib/prometheus", "Prometheus"),
    files("var/lib/grafana", "Grafana"),
    files("var/lib/gitea", "Gitea"),
    files("var/lib/forgejo", "Forgejo"),
    files("var/opt/gitlab", "GitLab"),
    files("var/lib/jenkins", "Jenkins"),
    files("var/lib/nextcloud", "Nextcloud"),
    files("var/lib/jellyfin", "Jellyfin"),
    files("var/lib/git", "Git repositories"),
    files("var/lib/samba", "Samba"),
    files("var/lib/bind", "zones of a name server"),
    files("var/lib/docker/volumes/*", "volume of Docker").in_containers(),
    files("var/lib/containers/storage/volumes/*", "volume of Podman").in_containers(),
    Known {
        place: "var/lib/libvirt/images",
        what: "disks of virtual machines",
        nature: Nature::Machines,
    },
    files("var/lib/libvirt/qemu", "definitions of virtual machines"),
    Known { place: "var/lib/vz/images", what: "disks of Proxmox", nature: Nature::Machines },
    Known { place: "var/lib/lxc/*", what: "container of LXC", nature: Nature::Containers },
];

impl Known {
    const fn in_containers(self) -> Self {
        Self { nature: Nature::Containers, ..self }
    }

    /// Whether caches are neither measured nor, by the settings offered, backed up.
    pub fn leaves_caches_out(&self) -> bool {
        self.nature == Nature::Home
    }

    /// What to know before it is registered.
    pub fn advice(&self) -> Option<&'static str> {
        match self.nature {
            Nature::Files | Nature::Home => None,
            Nature::Database => Some(
                "A copy of a running database's files is not consistent, and may not start: have the \
                 database write a dump into a directory, and register that one.",
            ),
            Nature::Machines => Some(
                "A copy of the disk of a running machine is not consistent: shut it down for the \
                 backup, or back up what is in it from within.",
            ),
            Nature::Containers => Some(
                "Where a database is in it, a copy of its files while it runs is not consistent: \
                 register a directory of its dumps.",
            ),
        }
    }

    /// The directory that holds what a `*` stands for.
    fn parent(&self) -> Option<&'static str> {
        self.place.strip_suffix("/*")
    }
}

/// Every directory of this host that is such a place, and what it is.
pub(super) fn places(root: &Path, mounts: &Mounts) -> BTreeMap<PathBuf, &'static Known> {
    let mut places = BTreeMap::new();
    for known in KNOWN {
        let Some(parent) = known.parent() else {
            let path = root.join(known.place);
            if is_open(root, known.place, mounts) && is_directory(&path) {
                places.entry(path).or_insert(known);
            }
            continue;
        };
        if !is_open(root, parent, mounts) || !is_directory(&root.join(parent)) {
            continue;
        }
        for entry in fs::read_dir(root.join(parent)).into_iter().flatten().flatten() {
            let path = entry.path();
            if !mounts.hides(&path) && is_directory(&path) {
                places.entry(path).or_insert(known);
            }
        }
    }
    places
}

/// Whether neither the place nor anything above it is a mount that is not to be touched.
fn is_open(root: &Path, place: &str, mounts: &Mounts) -> bool {
    let place = Path::new(place);
    place.ancestors().filter(|part| *part != Path::new("")).all(|part| {
        let path = root.join(part);
        // From the place upwards: the order does not matter, as hiding is told by name.
        !mounts.hides(&path)
    })
}

/// A symbolic link is none: what it leads to is told where it is.
fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Whether a directory holds such places, so that it is not one thing itself.
pub(super) fn is_crossroads(below_root: &Path) -> bool {
    KNOWN.iter().any(|known| {
        let place = Path::new(known.place);
        place != below_root && place.starts_with(below_root)
    }) || ["mnt", "media"].iter().any(|name| below_root == Path::new(name))
}

/// Directories of the system, of which nothing large is worth a backup: what is in them is installed
/// again, or gone with the next start.
pub(super) const OF_THE_SYSTEM: &[&str] = &[
    "bin",
    "boot",
    "dev",
    "gnu/store",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "lost+found",
    "nix/store",
    "proc",
    "run",
    "sbin",
    "snap",
    "sys",
    "tmp",
    "usr",
    "var/cache",
    "var/crash",
    "var/lib/apt",
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/dpkg",
    "var/lib/docker",
    "var/lib/flatpak",
    "var/lib/rpm",
    "var/lib/snapd",
    "var/lib/systemd",
    "var/log",
    "var/tmp",
];
