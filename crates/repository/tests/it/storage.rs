//! What every storage promises, tried on each of them; and repositories in a bucket.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use provault_repository::{
    Bounds, CancelFlag, CheckLevel, LiveBounds, LocalStorage, Repository, S3Options, Storage,
    StorageErrorKind, StorageOptions, open_directory, open_storage,
};
use provault_testkit::S3Server;

use crate::proxy::{Manners, Proxy};
use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, restore, walk,
};

/// The promises of [`Storage`]. Where answers get lost, a put whose own content is there already
/// cannot be told from one that was done.
fn conforms(storage: &Arc<dyn Storage>, answers_get_lost: bool) {
    let kind = |result: Result<(), provault_repository::StorageError>| result.unwrap_err().kind;
    let id = |letter: char| letter.to_string().repeat(64);
    let (pack, index) = (format!("data/ab/{}", id('a')), format!("index/{}", id('b')));

    // Nothing is there, and saying so is no trouble.
    assert!(!storage.exists("config").unwrap());
    assert!(storage.list("data").unwrap().is_empty());
    assert!(storage.get(&pack).unwrap_err().is_not_found());
    assert!(storage.get_range(&pack, 0, 1).unwrap_err().is_not_found());
    assert!(storage.size(&pack).unwrap_err().is_not_found());
    assert_eq!(storage.reap_leftovers(Duration::ZERO).unwrap(), 0);

    // What is put is there, whole.
    let content = Bytes::from(noise(7, 300_000));
    storage.put("config", Bytes::from_static(b"config")).unwrap();
    storage.put(&pack, content.clone()).unwrap();
    storage.put(&index, Bytes::new()).unwrap();
    assert_eq!(storage.get(&pack).unwrap(), content);
    assert_eq!(storage.size(&pack).unwrap(), 300_000);
    assert_eq!((storage.get(&index).unwrap().len(), storage.size(&index).unwrap()), (0, 0));
    assert!(storage.exists("config").unwrap());

    // Any range of it.
    for (offset, length) in [(0, 1), (5, 0), (0, 300_000), (299_999, 1), (123_456, 65_536)] {
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
        assert_eq!(storage.get_range(&pack, offset, length).unwrap(), content.slice(range));
    }
    for (offset, length) in [(299_990, 20), (100, u64::MAX), (300_000, 1), (u64::MAX, 1)] {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = offset.saturating_add(length);
        let range = storage.get_range(&pack, offset, length);
        assert_eq!(range.unwrap(), content.slice(from..), "{offset}..{end}");
    }
    assert!(storage.get_range(&index, 0, 10).unwrap().is_empty());

    // It is never overwritten, by whomever.
    let other = Bytes::from_static(b"other");
    assert_eq!(kind(storage.put(&pack, other)), StorageErrorKind::AlreadyExists);
    if !answers_get_lost {
        assert_eq!(kind(storage.put(&pack, content.clone())), StorageErrorKind::AlreadyExists);
    }
    let racers = ["one", "two", "three", "four"];
    let won: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = racers
            .iter()
            .map(|racer| scope.spawn(|| storage.put("keys/race", Bytes::from(*racer)).is_ok()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winner = won.iter().position(|won| *won).unwrap();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    assert_eq!(storage.get("keys/race").unwrap(), racers[winner]);
    assert_eq!(storage.get(&pack).unwrap(), content);

    // It is listed, below whole names of directories only.
    let mut listed = storage.list("data").unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = listed.iter().map(|o| (o.name.as_str(), o.size)).collect();
    assert_eq!(names, [(pack.as_str(), 300_000)]);
    assert_eq!(storage.list("data/ab").unwrap(), listed);
    assert!(storage.list("dat").unwrap().is_empty() && storage.list("data/a").unwrap().is_empty());

    // It is deleted for good, and may be put again.
    storage.delete(&pack).unwrap();
    assert!(storage.get(&pack).unwrap_err().is_not_found());
    // Not every storage can tell that there was nothing to delete.
    assert!(storage.delete(&pack).map_or_else(|error| error.is_not_found(), |()| true));
    storage.put(&pack, Bytes::from_static(b"again")).unwrap();
    let many: Vec<String> = (0..5).map(|n| format!("data/{n:02x}/{}", id('c'))).collect();
    for name in &many {
        storage.put(name, Bytes::from_static(b"x")).unwrap();
    }
    let gone = format!("data/ff/{}", id('d'));
    storage.delete_many(&[many.clone(), vec![gone]].concat()).unwrap();
    storage.delete_many(&[]).unwrap();
    assert_eq!(storage.list("data").unwrap().len(), 1);

    // Names that would lead out are nobody's.
    for name in ["../config", "/etc/passwd", "data//x", "", "data/../config"] {
        assert!(storage.put(name, Bytes::new()).is_err(), "{name:?}");
        assert!(storage.get(name).is_err_and(|error| !error.is_not_found()), "{name:?}");
    }

    // From many threads at a time.
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                for number in 0..5_u8 {
                    let name = format!("data/{thread:02x}/{}", hex(&[thread, number]));
                    storage.put(&name, Bytes::from(vec![number; 1000])).unwrap();
                    assert_eq!(storage.get_range(&name, 10, 10).unwrap(), vec![number; 10]);
                }
            });
        }
    });
    assert_eq!(storage.list("data").unwrap().len(), 21);
}

fn hex(bytes: &[u8]) -> String {
    format!("{:064x}", u64::from_be_bytes([0, 0, 0, 0, 0, 0, bytes[0], bytes[1]]))
}

#[test]
fn a_local_directory_conforms() {
    let sandbox = Sandbox::new();
    conforms(&(Arc::new(LocalStorage::local(&sandbox.path("raw")).unwrap()) as _), false);
    let bounded = StorageOptions {
        bounds: LiveBounds::new(Bounds {
            concurrency: NonZeroUsize::new(2),
            upload: std::num::NonZeroU64::new(1 << 30),
            download: std::num::NonZeroU64::new(1 << 30),
        }),
        ..StorageOptions::default()
    };
    // Two levels of directories are missing.
    conforms(&open_directory(&sandbox.path("a/b"), &bounded).unwrap(), false);
    // Only the owner sees what is there.
    let mode = |name: &str| fs::metadata(sandbox.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/data/ab")), (0o700, 0o700, 0o700));
    assert_eq!(mode("a/b/config"), 0o600);
}

#[test]
fn what_is_odd_in_a_local_directory() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("repo");
    let storage = LocalStorage::local(&root).unwrap();
    // Looking makes nothing.
    assert!(!storage.exists("config").unwrap() && !root.exists());
    storage.put("config", Bytes::from_static(b"config")).unwrap();
    let id = "e".repeat(64);
    storage.put(&format!("data/ee/{id}"), Bytes::from_static(b"pack")).unwrap();
    // A part on another disk, and a link that leads round.
    fs::rename(root.join("data"), sandbox.path("elsewhere")).unwrap();
    symlink(sandbox.path("elsewhere"), root.join("data")).unwrap();
    symlink("..", root.join("data/ee/round")).unwrap();
    let listed = storage.list("data").unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    storage.put(&format!("data/00/{id}"), Bytes::from_static(b"pack")).unwrap();
    // A pipe does not hold anybody up, and is no object.
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(storage.get("pipe").unwrap_err().kind, StorageErrorKind::Other);
    // A directory that went away is made again.
    fs::remove_dir(root.join("data/77")).unwrap();
    storage.put(&format!("data/77/{id}"), Bytes::from_static(b"pack")).unwrap();

    // An unmounted disk is told from lost data, and not written to.
    fs::rename(&root, sandbox.path("unmounted")).unwrap();
    let unmounted = |error: provault_repository::StorageError| {
        assert_eq!(error.kind, StorageErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("mounted"), "{error}");
    };
    for empty in [false, true] {
        if empty {
            fs::create_dir(&root).unwrap();
        }
        unmounted(storage.get(&format!("data/ee/{id}")).unwrap_err());
        unmounted(storage.list("index").unwrap_err());
        unmounted(storage.put(&format!("data/ee/{id}"), Bytes::new()).unwrap_err());
        unmounted(storage.delete(&format!("data/ee/{id}")).unwrap_err());
        assert_eq!(root.exists(), empty);
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);

    fs::write(sandbox.path("file"), "").unwrap();
    assert!(LocalStorage::local(&sandbox.path("file")).is_err());
}

/// Reaches the bucket `bucket` at an endpoint, and does not wait long.
fn s3(endpoint: &str) -> StorageOptions {
    let options = [
        ("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
    ];
    let s3 = options
        .iter()
        .fold(S3Options::default(), |s3, (name, value)| s3.with(name, value).unwrap());
    StorageOptions { first_pause: Duration::from_millis(1), s3, ..StorageOptions::default() }
}

/// A store that refuses to overwrite, one that does not, and one that answers badly.
#[test]
fn buckets_conform() {
    let server = S3Server::start().unwrap();
    server.create_bucket("bucket").unwrap();
    let open = |location: &str, endpoint: &str| open_storage(location, &s3(endpoint)).unwrap();

    let whole = open("s3://bucket", &server.endpoint());
    conforms(&whole, false);
    conforms(&open("s3://bucket/a/prefix", &server.endpoint()), false);
    // The probe is gone.
    assert!(whole.list("provault").unwrap().is_empty());

    // The conditional put is ignored, and so overwriting is looked for instead. Nobody can then
    // keep several writers of one name apart.
    let proxy = Proxy::start(server.address(), Manners::IgnoresConditions);
    let weak = open("s3://bucket/weak", &proxy.endpoint());
    weak.put("keys/x", Bytes::from_static(b"one")).unwrap();
    let error = weak.put("keys/x", Bytes::from_static(b"two")).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::AlreadyExists);
    assert_eq!(weak.get("keys/x").unwrap(), "one");
    assert!(weak.list("provault").unwrap().is_empty());

    // Busy, cutting answers short, losing them after the work is done: all of it passes.
    let proxy = Proxy::start(server.address(), Manners::Bad);
    conforms(&open("s3://bucket/bad", &proxy.endpoint()), true);
    println!("{} requests were answered badly", proxy.answered_badly());
    assert!(proxy.answered_badly() > 20);

    // A missing bucket is not an empty one.
    let missing = open("s3://no-such-bucket", &server.endpoint());
    for error in
        [missing.list("data").unwrap_err(), missing.put("config", Bytes::new()).unwrap_err()]
    {
        assert_eq!(error.kind, StorageErrorKind::Invalid, "{error}");
    }

    // A key that is not believed any more is told for every operation, and nothing is missing.
    server.believe(false).unwrap();
    for error in [
        whole.list("data").unwrap_err(),
        whole.get("config").unwrap_err(),
        whole.size("config").unwrap_err(),
        whole.put("keys/new", Bytes::new()).unwrap_err(),
        whole.delete("config").unwrap_err(),
    ] {
        assert_eq!(error.kind, StorageErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("these credentials access"), "{error}");
    }
    server.believe(true).unwrap();

    // Nobody answers: told after the retries, and not as something missing.
    let nobody =
        StorageOptions { retry_for: Duration::from_millis(20), ..s3("http://127.0.0.1:1") };
    let error = open_storage("s3://bucket", &nobody).unwrap().get("config").unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Unavailable, "{error}");
    // A server that accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let impatient = StorageOptions {
        timeout: Duration::from_millis(50),
        retry_for: Duration::from_millis(20),
        ..s3(&endpoint)
    };
    let error = open_storage("s3://bucket", &impatient).unwrap().get("config").unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::TimedOut, "{error}");

    // Without credentials nothing is tried; no message tells a secret.
    let none = S3Options::default().with("AWS_ENDPOINT_URL", &server.endpoint()).unwrap();
    let error = open_storage("s3://bucket", &StorageOptions { s3: none, ..s3("") }).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Invalid, "{error}");
    assert!(S3Options::default().with("AWS_PROFILE", "x").is_err());
    let shown = format!("{:?} {whole:?} {missing:?}", s3("http://localhost"));
    assert!(!shown.contains(S3Server::SECRET_ACCESS_KEY), "{shown}");
}

/// Stock restic, on a repository in a bucket.
/// A server that answers each listing with a page made of its number, of 3000 pages.
fn lists(page: fn(u32) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        let mut client = BufReader::new(client);
        for number in 0..3000 {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if !client.read_line(&mut line).is_ok_and(|read| read > 0) {
                    return;
                }
            }
            let page = if number < 2999 { page(number) } else { String::new() };
            let xml = format!("<ListBucketResult><Name>b</Name>{page}</ListBucketResult>");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", xml.len());
            if client.get_mut().write_all(format!("{head}{xml}").as_bytes()).is_err() {
                return;
            }
        }
    });
    endpoint
}

#[test]
fn a_listing_that_never_ends_is_an_error() {
    fn object(key: u32) -> String {
        let time = "<LastModified>2024-01-01T00:00:00.000Z</LastModified>";
        format!("<Contents><Key>data/{key}</Key>{time}<Size>1</Size></Contents>")
    }
    fn next(token: u32) -> String {
        format!("<NextContinuationToken>{token}</NextContinuationToken>")
    }
    let rounds: [fn(u32) -> String; 4] = [
        |number| object(number) + &next(7),
        |number| object(number) + &next(number % 5),
        |number| object(3) + &next(number),
        next,
    ];
    for round in rounds {
        let storage = open_storage("s3://bucket", &s3(&lists(round))).unwrap();
        let error = storage.list("data").unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Other, "{error}");
        assert!(error.message.contains("round and round"), "{error}");
    }
    // A long one does end.
    let storage = open_storage("s3://bucket", &s3(&lists(|n| object(n) + &next(n)))).unwrap();
    assert_eq!(storage.list("data").unwrap().len(), 2999);
}

fn restic_on(server: &S3Server, prefix: &str, sandbox: &Sandbox, args: &[&str]) -> String {
    let output = Command::new("restic")
        .args(["--no-cache", "--repo", &format!("s3:{}/bucket/{prefix}", server.endpoint())])
        .args(args)
        .env("RESTIC_PASSWORD", sandbox.password.expose())
        .env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY)
        .current_dir(sandbox.root.path())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot run restic ({error}): install Debian's package `restic`")
        });
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "restic {args:?}: {text}");
    text
}

/// restic reads what we wrote to a bucket, we read what restic wrote to one.
#[test]
fn stock_restic_shares_a_bucket() {
    let server = S3Server::start().unwrap();
    server.create_bucket("bucket").unwrap();
    let sandbox = Sandbox::new();
    crate::support::small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(5, 3_000_000)).unwrap();
    let expected = describe(&sandbox.source());
    let restored = |name: &str| describe(&sandbox.path(name));
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    let storage = open_storage("s3://bucket/ours", &s3(&server.endpoint())).unwrap();
    let ours = Repository::init(storage, &sandbox.password, options()).unwrap();
    let snapshot = sandbox.backup(&ours);
    let said = restic_on(&server, "ours", &sandbox, &["check", "--read-data"]);
    assert!(said.contains("no errors were found"), "{said}");
    let target = text(&sandbox.path("by-restic"));
    let id = snapshot.id.to_string();
    restic_on(&server, "ours", &sandbox, &["restore", &id, "--target", &target]);
    assert_same(&expected, &restored("by-restic/data"));

    restic_on(&server, "theirs", &sandbox, &["init"]);
    restic_on(&server, "theirs", &sandbox, &["backup", &text(&sandbox.source())]);
    let storage = open_storage("s3://bucket/theirs", &s3(&server.endpoint())).unwrap();
    let theirs = Repository::open(storage, &sandbox.password, options()).unwrap();
    let report = theirs.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    let snapshot = theirs.snapshots().unwrap().snapshots[0].id;
    let path = text(&sandbox.source());
    restore(&theirs, snapshot, path.as_bytes(), &sandbox.path("by-us")).unwrap();
    assert_same(&expected, &restored("by-us"));
    // And we write beside it.
    let mut writer = theirs.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    writer.finish(None).unwrap();
    drop(theirs);
    let said = restic_on(&server, "theirs", &sandbox, &["check", "--read-data"]);
    assert!(said.contains("no errors were found"), "{said}");
}
