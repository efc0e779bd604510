//! The NBD server, asked by the clients that people have: libnbd's and QEMU's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use provault_repository::{
    ByteRange, CancelFlag, NbdAddress, NbdExport, NbdLimits, NbdServer, VolumeReader,
};

use crate::support::{Sandbox, noise};
use crate::volume_model::{Model, assert_file_equals, back_up, open};

const MIB: u64 = 1 << 20;

/// A server in a thread, stopped when it is dropped.
pub struct Running {
    cancel: CancelFlag,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start(server: NbdServer) -> Self {
        let cancel = CancelFlag::new();
        let stop = cancel.clone();
        let thread = Some(std::thread::spawn(move || server.serve(&stop).unwrap()));
        Self { cancel, thread }
    }

    pub fn stop(mut self) {
        self.cancel.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A volume with data, holes, and an end that is no multiple of anything.
fn sample() -> Model {
    let mut model = Model::of_size(70 * MIB + 512);
    model.write(0, &noise(1, 5 << 20));
    model.write(63 * MIB, &noise(2, 2 << 20));
    model.write(70 * MIB, &noise(3, 512));
    model
}

fn run(program: &str, package: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install Debian's package `{package}`")
    });
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

fn check_with_clients(sandbox: &Sandbox, uri: &str, qemu: &str, model: &Model, block: u64) {
    let nbdinfo = |args: &[&str]| run("nbdinfo", "libnbd-bin", &[args, &[uri]].concat());
    assert_eq!(nbdinfo(&["--size"]).trim(), model.size.to_string());
    let about = nbdinfo(&["--json"]);
    for part in ["\"is_read_only\": true", "base:allocation", "\"structured\": true"] {
        assert!(about.contains(part), "{about}");
    }
    let map = nbdinfo(&["--map"]);
    let lines: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    let types: Vec<_> = lines.iter().map(|line| line[2]).collect();
    assert_eq!(types, ["0", "3", "0", "3", "0"], "{map}");
    assert_eq!(lines[1][0], (5 * MIB).to_string(), "{map}");

    let copied = sandbox.path("copied");
    let name = copied.to_str().unwrap();
    run("nbdcopy", "libnbd-bin", &[uri, name]);
    assert_file_equals(model, &copied, block);
    let converted = sandbox.path("converted");
    let other = converted.to_str().unwrap();
    // QEMU counts in sectors, of which this volume has whole ones.
    run("qemu-img", "qemu-utils", &["convert", "-f", "raw", "-O", "raw", qemu, other]);
    assert_file_equals(model, &converted, block);
    let same = ["compare", "-f", "raw", "-F", "raw", qemu, name];
    assert!(run("qemu-img", "qemu-utils", &same).contains("identical"));
    fs::remove_file(&copied).unwrap();
    fs::remove_file(&converted).unwrap();
}

#[test]
fn libnbd_and_qemu_read_a_volume() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let model = sample();
    let (committed, _) = back_up(&repository, None, None, &model).unwrap();
    let stored = Arc::new(open(&repository, committed.id));
    let block = u64::from(stored.block_size());
    let exports = || -> Vec<(String, Arc<dyn NbdExport>)> {
        vec![("disk".to_owned(), stored.clone()), ("again".to_owned(), stored.clone())]
    };

    let socket = sandbox.path("socket");
    let address = NbdAddress::Unix(socket.clone());
    let server = NbdServer::bind(&address, exports(), NbdLimits::default()).unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(NbdServer::bind(&address, exports(), NbdLimits::default()).is_err(), "it is taken");
    let running = Running::start(server);
    let path = socket.to_str().unwrap();
    let uri = format!("nbd+unix:///disk?socket={path}");
    check_with_clients(&sandbox, &uri, &uri, &model, block);
    let list = run("nbdinfo", "libnbd-bin", &["--list", &format!("nbd+unix:///?socket={path}")]);
    assert!(list.contains("export=\"disk\"") && list.contains("export=\"again\""), "{list}");
    let missing = format!("nbd+unix:///nothing?socket={path}");
    let refused = Command::new("nbdinfo").arg(&missing).output().unwrap();
    assert!(!refused.status.success());
    running.stop();
    assert!(!socket.exists(), "the socket is taken away");

    let any = NbdAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let one: Vec<(String, Arc<dyn NbdExport>)> = vec![("disk".to_owned(), stored.clone())];
    let server = NbdServer::bind(&any, one, NbdLimits::default()).unwrap();
    let NbdAddress::Tcp(bound) = server.local_address().unwrap() else { panic!() };
    let running = Running::start(server);
    // Without a name it is the only one.
    check_with_clients(
        &sandbox,
        &format!("nbd://{bound}"),
        &format!("nbd://{bound}/disk"),
        &model,
        block,
    );
    running.stop();

    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let address = NbdAddress::Tcp(address.parse().unwrap());
        let Err(error) = NbdServer::bind(&address, Vec::new(), NbdLimits::default()) else {
            panic!("{address:?} was taken")
        };
        assert!(error.to_string().contains("not a loopback address"), "{error}");
    }
}

/// Damage in one block fails the reads that touch it, with an error and not with wrong bytes, and
/// the connection lives on.
#[test]
fn a_damaged_block_is_an_error_of_its_reads() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let mut model = Model::of_size(4 * MIB);
    model.write(0, &noise(1, 2 << 20));
    let (committed, _) = back_up(&repository, None, None, &model).unwrap();
    let stored: Arc<VolumeReader> = Arc::new(open(&repository, committed.id));
    let packs: Vec<PathBuf> = sandbox
        .repository_files()
        .into_iter()
        .filter(|name| name.starts_with("data/"))
        .map(|name| sandbox.path("repo").join(name))
        .filter(|path| fs::metadata(path).unwrap().len() > 500_000)
        .collect();
    for pack in &packs {
        fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(pack).unwrap();
        bytes[300_000] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    assert!(!packs.is_empty());
    let address = NbdAddress::Unix(sandbox.path("socket"));
    let one: Vec<(String, Arc<dyn NbdExport>)> = vec![(String::new(), stored.clone())];
    let running = Running::start(NbdServer::bind(&address, one, NbdLimits::default()).unwrap());
    let uri = format!("nbd+unix:///?socket={}", sandbox.path("socket").display());
    let copied = sandbox.path("copied");
    let output = Command::new("nbdcopy").args([&uri, copied.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("Input/output error"), "{text}");
    // All else is there, over the same server.
    let mut good = 0;
    for block in 0..16 {
        let mut bytes = vec![0; 256 << 10];
        let offset = block * 256 * 1024;
        if NbdExport::read_at(stored.as_ref(), offset, &mut bytes).is_ok() {
            assert!(bytes == model.expected(offset, bytes.len()));
            good += 1;
        }
    }
    assert_eq!(good, 16 - packs.len());
    let hole = stored.extents(ByteRange { offset: 3 * MIB, length: MIB }).unwrap();
    assert!(hole.len() == 1 && hole[0].zero);
    running.stop();
}
