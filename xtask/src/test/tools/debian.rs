//! Debian packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::command::{Environment, run};

/// A program that tests call, and the package that holds it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { program: "restic", package: "restic" },
    Tool { program: "initdb", package: "postgresql" },
    Tool { program: "strace", package: "strace" },
    Tool { program: "setpriv", package: "util-linux" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "nbdcopy", package: "libnbd-bin" },
    Tool { program: "nbdinfo", package: "libnbd-bin" },
    Tool { program: "qemu-img", package: "qemu-utils" },
    Tool { program: "mkfs.ext4", package: "e2fsprogs" },
    Tool { program: "mkfs.xfs", package: "xfsprogs" },
    Tool { program: "mkfs.btrfs", package: "btrfs-progs" },
    Tool { program: "systemd-analyze", package: "systemd" },
    Tool { program: "fusermount3", package: "fuse3" },
];

/// Where Debian keeps the server programs of PostgreSQL, one directory a version.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// Installs the packages of all programs that are missing.
pub fn install(environment: &Environment) -> Result<(), String> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !found(environment, tool)).collect();
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    install_packages(environment, &packages)?;
    match missing.iter().find(|tool| !found(environment, tool)) {
        None => Ok(()),
        Some(tool) => Err(format!(
            "{} is still missing after the package {} was installed",
            tool.program, tool.package
        )),
    }
}

fn found(environment: &Environment, tool: &Tool) -> bool {
    // Debian keeps programs for the administrator where not everybody looks.
    let sbin = || Some(Path::new("/usr/sbin").join(tool.program)).filter(|file| file.is_file());
    let place = environment.find(tool.program).or_else(sbin).or_else(|| {
        let versions = fs::read_dir(POSTGRESQL).ok()?;
        versions
            .flatten()
            .map(|version| version.path().join("bin").join(tool.program))
            .find(|program| program.is_file())
    });
    if let Some(place) = &place {
        println!("{}: {}", tool.program, place.display());
    }
    place.is_some()
}

/// Installs those of the packages that are not installed.
pub fn install_missing(environment: &Environment, packages: &[&str]) -> Result<(), String> {
    let query = ["--show", "--showformat", "${db:Status-Status}"];
    let there = |package: &&str| {
        let args = [&query[..], &[*package]].concat();
        environment.output("dpkg-query", &args).as_deref() == Some("installed")
    };
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !there(package)).collect();
    install_packages(environment, &missing)
}

/// Installs packages as root or through sudo.
pub fn install_packages(environment: &Environment, packages: &[&str]) -> Result<(), String> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!(
            "missing: {names} (names of Debian packages); this is not Debian, so install what holds \
             these programs on your system and start again"
        ));
    }
    let root = environment.output("id", &["-u"]).as_deref() == Some("0");
    if !root && environment.find("sudo").is_none() {
        return Err(format!(
            "missing: {names}; as root: apt-get update && apt-get install {names}"
        ));
    }
    run(apt(environment, root).arg("update"))?;
    let options = ["install", "--yes", "--no-install-recommends"];
    run(apt(environment, root).args(options).args(packages))
        .map_err(|e| format!("{e}\nby hand, as root: apt-get install {names}"))
}

fn apt(environment: &Environment, root: bool) -> Command {
    // sudo drops the environment, so the variable goes through env.
    let (program, before) = if root { ("env", &[][..]) } else { ("sudo", &["env"][..]) };
    let mut command = environment.command(program);
    command.args(before).args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command
}
