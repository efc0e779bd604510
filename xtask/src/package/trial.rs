//! Program and package, used where nothing else is.
//!
//! A clean root is made in a temporary directory and entered in a mount and process namespace of its
//! own, so that nothing of this machine is there and nothing is left behind. That needs root; without
//! it this is a failure that says so, as a missing tool is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::test::command::{Environment, run};
use crate::test::tools::debian;

/// Makes the directory of the first argument the root and runs the rest in it. Not by chroot, in which the
/// kernel makes no user namespaces. The machine's own root hangs at /old, which no program looks into.
const ENTER: &str = r#"set -e
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mkdir -p proc dev tmp old
mount -t proc proc proc
mount --rbind /dev dev
pivot_root . old
exec "$@"
"#;

/// The program alone: no library, no shell, no file of names. Its own words must do.
pub fn of_program(environment: &Environment, program: &Path) -> Result<(), String> {
    let root = Root::new("program")?;
    let copied = fs::copy(program, root.path.join("provault"));
    copied.map_err(|e| format!("{}: {e}", program.display()))?;
    put(&root.path.join("password"), "a password of the trial\n")?;
    put(&root.path.join("source/file"), "what is backed up\n")?;
    let repository = ["repository", "--repo", "/repository", "--password-file", "/password"];
    for command in [
        &["init"][..],
        &["backup", "/source"],
        &["check", "--read-data"],
        &["restore", "latest:/source", "/restored"],
    ] {
        root.enter(environment, "/provault", &[&repository[..], command].concat())?;
    }
    let restored = root.path.join("restored/file");
    let text = fs::read_to_string(&restored).map_err(|e| format!("{}: {e}", restored.display()))?;
    if text != "what is backed up\n" {
        return Err(format!("{} was restored as {text:?}", restored.display()));
    }
    root.enter(environment, "/provault", &["lab", "--once", "--json", "--data-dir", "/lab"])
}

/// The package in a Debian of its own: installed, used, removed.
pub fn of_package(environment: &Environment, package: &Path) -> Result<(), String> {
    debian::install_missing(environment, &["debootstrap"])?;
    let root = Root::new("package")?;
    let format = ["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"];
    let indexes = environment.output("apt-get", &format).unwrap_or_default();
    let (archive, release) = indexes
        .lines()
        .find_map(|line| line.split_once(' '))
        .ok_or("apt-get names no archive to make a Debian from")?;
    let mut command = environment.command("debootstrap");
    run(command.args(["--variant=minbase", release]).arg(&root.path).arg(archive))?;
    let copied = fs::copy(package, root.path.join("provault.deb"));
    copied.map_err(|e| format!("{}: {e}", package.display()))?;
    // Keeps what a purge must not touch.
    let script = "set -e
umount -l /old
export HOME=/root
dpkg --install /provault.deb
provault --version
for file in /usr/share/man/man1/provault-serve.1.gz /usr/lib/systemd/system/provault.service \\
    /usr/share/bash-completion/completions/provault /usr/share/doc/provault/copyright; do
    test -s $file
done
provault lab --once --json
sed -i 's,^# listen = .*,listen = \"127.0.0.1:0\",' /etc/provault/provault.toml
provault serve --config /etc/provault/provault.toml 2>/tmp/log &
server=$!
for try in 1 2 3 4 5 6 7 8 9 10; do
    if provault --data-dir /var/lib/provault vault list; then break; fi
    test $try -lt 10
    sleep 1
done
kill $server
wait $server
dpkg --install /provault.deb
grep -q 127.0.0.1:0 /etc/provault/provault.toml
dpkg --purge provault
test ! -e /usr/bin/provault
test ! -e /etc/provault/provault.toml
test -s /var/lib/provault/catalog.db
";
    put(&root.path.join("trial.sh"), script)?;
    root.enter(environment, "/bin/sh", &["/trial.sh"])
}

/// A directory to be a root, removed at the end.
struct Root {
    path: PathBuf,
}

impl Root {
    fn new(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("provault-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self { path })
    }

    /// Runs a program of this root in it. It ends with all it started.
    fn enter(&self, environment: &Environment, program: &str, args: &[&str]) -> Result<(), String> {
        if environment.output("id", &["-u"]).as_deref() != Some("0") {
            return Err("a clean root is entered as root; run this step with sudo".to_owned());
        }
        let mut command = environment.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]);
        command.arg(&self.path).arg(program).args(args);
        // Nothing of this machine's settings: they name files that are not there.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/");
        run(&mut command).map_err(|e| format!("in {}: {e}", self.path.display()))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Nothing is mounted there: mounts ended with the namespace they were made in.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} is left: {error}", self.path.display());
        }
    }
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|e| format!("{}: {e}", path.display()))
}
