//! What a hostile repository can do to who reads it: nothing but be refused.
//!
//! Every parser gets the corpus of the fuzz targets (`fuzz/corpus`) and mutations of it, which is
//! what a fuzzer does, for a bounded count; `cargo xtask fuzz` goes on from there.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

use provault_repository::fuzzing::{self, TARGETS};
use provault_repository::{
    CancelFlag, CheckLevel, Error, ObjectStorage, PackVerdict, Password, Problem, RepairOptions,
    Repository, Storage,
};

use crate::support::{Sandbox, assert_same, describe, options, small_tree};

/// Mutations of each file of the corpus.
const MUTATIONS: u64 = 60;

/// A small generator: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.number() % n as u64).unwrap()
    }
}

/// What fuzzers have learnt to put in.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"18446744073709551615",
    b"4294967296",
    b"1e999",
    b"..",
    b"\\u0000",
    b"\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
];

fn mutate(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below((bytes.len() - at).min(40) + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.splice(at..end, [])),
            2 => drop(bytes.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => {
                let repeated = bytes[at..end].repeat(1 + random.below(30));
                bytes.splice(at..at, repeated);
            }
            4 => bytes.truncate(at),
            _ => {
                let from = random.below(other.len() + 1);
                bytes.splice(at..end, other[from..].iter().take(100).copied());
            }
        }
    }
    bytes
}

#[test]
fn no_parser_falls_over_its_corpus_and_what_is_like_it() {
    let seed = std::env::var("PROVAULT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("PROVAULT_TEST_SEED={seed}");
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut runs = 0;
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpora.join(name))
            .unwrap_or_else(|error| panic!("the target {name} has no corpus: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() > 2, "the corpus of {name} is too small");
        let contents: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        for (number, content) in contents.iter().enumerate() {
            let mut random = Random(seed ^ number as u64);
            let other = &contents[random.below(contents.len())];
            // Some go through a whole repository, or derive a key.
            let costly = matches!(*name, "walk" | "key" | "unpacked");
            for round in 0..=if costly { MUTATIONS / 10 } else { MUTATIONS } {
                let input =
                    if round == 0 { content.clone() } else { mutate(&mut random, content, other) };
                runs += 1;
                assert!(
                    catch_unwind(|| target(&input)).is_ok(),
                    "{name} fell over mutation {round} of {}, seed {seed}: {:?}",
                    files[number].display(),
                    String::from_utf8_lossy(&input)
                );
            }
        }
    }
    println!("{runs} runs of {} targets", TARGETS.len());
}

/// Every fuzz target of ours has its program in `fuzz/`, and the other way round.
#[test]
fn the_fuzz_targets_are_all_there() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
        let source = fs::read_to_string(fuzz.join(format!("targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("fuzzing::{name}(data)")), "{name}: {source}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Small files that say they are large, or are when they are unpacked.
#[test]
fn bombs_do_not_go_off() {
    let before = peak_memory();
    // 2 GiB of blanks in 64 KiB, and ten million nodes that say nothing.
    let mut bomb = vec![2];
    let blanks = vec![b' '; 1 << 20];
    bomb.extend(compressed(b"{", &blanks, 2 << 10));
    assert!(bomb.len() < 1 << 20);
    fuzzing::unpacked(&bomb);
    let nodes = [&b"{\"nodes\":[{}"[..], &b",{}".repeat(10_000_000)].concat();
    fuzzing::tree(&nodes);
    drop(nodes);
    let grown = peak_memory() - before;
    assert!(grown < 500 << 20, "{} MiB", grown >> 20);
}

/// `head`, then `piece` so many times, compressed without ever being whole.
fn compressed(head: &[u8], piece: &[u8], times: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(head).unwrap();
    for _ in 0..times {
        encoder.write_all(piece).unwrap();
    }
    encoder.finish().unwrap()
}

fn opened(storage: &Arc<dyn Storage>) -> Repository {
    fuzzing::add_key(storage).unwrap();
    let password = Password::from_text(fuzzing::PASSWORD);
    Repository::open(Arc::clone(storage), &password, options()).unwrap()
}

fn script(lines: impl IntoIterator<Item = String>) -> Vec<u8> {
    lines.into_iter().collect::<Vec<_>>().join("\n").into_bytes()
}

fn directories(names: &[&str]) -> String {
    let nodes: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","type":"dir","subtree":"TREE:0"}}"#))
        .collect();
    format!(r#"{{"nodes":[{}]}}"#, nodes.join(","))
}

/// A hundred trees that stand for 10^100 files. Whoever walks them can stop at any time; a check
/// reads each tree once, and ends also where the one file in them is hurt.
#[test]
fn a_billion_laughs() {
    let ten = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for (leaf, clean) in [
        (r#"{"nodes":[{"name":"x","type":"file","size":1,"content":["DATA:1"]}]}"#, true),
        (r#"{"nodes":[{"name":"x","type":"file","size":2,"content":["DATA:1"]}]}"#, false),
    ] {
        let script =
            script([leaf.to_owned()].into_iter().chain((0..100).map(|_| directories(&ten))));
        let (storage, id) = fuzzing::hostile(&script).unwrap();
        let repository = opened(&storage);
        let before = peak_memory();
        let reader = repository.reader().unwrap();
        let snapshot = repository.snapshot(id).unwrap();
        let walked = reader.entries(&snapshot, b"").unwrap().take(20_000).map(Result::unwrap);
        assert_eq!(walked.count(), 20_000);
        // Cancelled, it ends at once; left alone, it ends too.
        let cancel = CancelFlag::new();
        cancel.cancel();
        let cancelled = repository.check(CheckLevel::Structure, &cancel);
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
        assert_eq!((report.is_clean(), report.trees), (clean, 101));
        assert_eq!(report.hurt.is_empty(), clean);
        assert_eq!(report.hurt_total, if clean { 0 } else { 100_000 });
        let grown = peak_memory() - before;
        assert!(grown < 200 << 20, "{} MiB", grown >> 20);
    }
}

/// One directory in the other, deeper than any file system goes.
#[test]
fn a_bottomless_tree() {
    let (storage, id) = fuzzing::hostile(&fuzzing::deep(20_000)).unwrap();
    let repository = opened(&storage);
    let reader = repository.reader().unwrap();
    let snapshot = repository.snapshot(id).unwrap();
    let mut entries = reader.entries(&snapshot, b"").unwrap();
    let error = entries.find_map(Result::err).expect("the walk came to the bottom");
    assert!(error.is_damage() && error.to_string().contains("above one another"), "{error}");
    assert!(entries.next().is_none());
    drop(entries);
    drop(reader);
    let report = repository.check(CheckLevel::Structure, &CancelFlag::new()).unwrap();
    // The one at the bottom names a tree that is not there.
    assert_eq!(report.trees, 20_001);
}

/// Files that grew beyond what any program writes are not read into memory.
#[test]
fn absurdly_large_files_are_refused_unread() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let before = peak_memory();
    for (directory, opens) in [("keys", true), ("index", true), ("snapshots", true), ("", false)] {
        let name = if directory.is_empty() { "config".to_owned() } else { "a".repeat(64) };
        let path = sandbox.path("repo").join(directory).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let sparse = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        sparse.unwrap().set_len(1 << 40).unwrap();
        match sandbox.try_open() {
            Ok(repository) => {
                assert!(opens);
                let report = repository.check(CheckLevel::ReadData, &CancelFlag::new());
                let problems = report.unwrap().problems;
                assert!(!problems.is_empty(), "{directory}");
                fs::remove_file(&path).unwrap();
            }
            Err(error) => assert!(!opens && error.is_damage(), "{directory}: {error}"),
        }
    }
    assert!(ObjectStorage::local(&sandbox.path("repo")).is_ok());
    let grown = peak_memory() - before;
    assert!(grown < 400 << 20, "{} MiB", grown >> 20);
}

/// A pack that grew beyond all bounds, by damage or by malice, is not read into memory by anybody
/// who looks at packs; what is whole in it is saved.
#[test]
fn a_pack_larger_than_memory_is_damaged_and_no_more() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let committed = sandbox.backup(&repository);
    let before = peak_memory();
    let verifier = repository.verifier().unwrap();
    let packs = verifier.packs().unwrap();
    assert!(packs.len() > 1);
    for (id, size) in &packs {
        let path = sandbox.path(&format!("repo/data/{}/{id}", &id.to_string()[..2]));
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
        match verifier.verify(*id).unwrap() {
            PackVerdict::Damaged { reason, .. } => {
                assert!(reason.contains(&size.to_string()), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    let name = format!("data/{}/{}", &packs[0].0.to_string()[..2], packs[0].0);
    let error = sandbox.storage().get(&name).unwrap_err();
    assert!(error.message.contains("more than this machine has room for"), "{error}");
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert_eq!(report.problems.len(), packs.len(), "{:?}", report.problems);
    let all = RepairOptions { read_data: true, ..RepairOptions::default() };
    let report = repository.repair(&[], &all).unwrap();
    assert_eq!(report.damaged_packs.len(), packs.len(), "{report:?}");
    assert!(report.lost_blobs.is_empty() && report.check.is_clean(), "{report:?}");
    let restored = sandbox.restore(&repository, committed.id, "out");
    assert_same(&describe(&sandbox.source()), &describe(&restored));
    let grown = peak_memory() - before;
    assert!(grown < 400 << 20, "{} MiB", grown >> 20);
}

/// Two listings of one pack: as long as they say the same, both are true.
#[test]
fn an_index_that_contradicts_itself_is_never_clean() {
    let leaf = r#"{"nodes":[{"name":"x","type":"file","size":1,"content":["DATA:1"]}]}"#;
    let (storage, _) = fuzzing::hostile(leaf.as_bytes()).unwrap();
    let repository = opened(&storage);
    let index = |storage: &Arc<dyn Storage>| -> Vec<String> {
        storage.list("index").unwrap().into_iter().map(|object| object.name).collect()
    };
    fuzzing::relist(&storage, &[false, false]).unwrap();
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    let before = index(&storage);
    fuzzing::relist(&storage, &[true]).unwrap();
    for level in [CheckLevel::Structure, CheckLevel::ReadData] {
        let report = repository.check(level, &CancelFlag::new()).unwrap();
        let is_named = |name: &String| {
            let names = |problem: &Problem| problem.error.to_string().contains(name.as_str());
            report.problems.iter().any(names)
        };
        let mut added = index(&storage);
        added.retain(|name| !before.contains(name));
        // And one of those that it contradicts.
        assert_eq!(added.len(), 1);
        assert!(is_named(&added[0]), "{:?}", report.problems);
        assert!(before.iter().any(is_named), "{:?}", report.problems);
    }
    // Listed in one file, first the lie and then the truth: all that is in the pack is in the index.
    let (storage, _) = fuzzing::hostile(leaf.as_bytes()).unwrap();
    let repository = opened(&storage);
    let truth = index(&storage);
    fuzzing::relist(&storage, &[true, false]).unwrap();
    storage.delete(&truth[0]).unwrap();
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    let contradicts = |problem: &Problem| problem.error.to_string().contains("in itself");
    assert!(report.problems.iter().any(contradicts), "{:?}", report.problems);
    // That the blob is listed does not make it be there.
    let object = format!("data blob {}", fuzzing::MADE_UP);
    assert!(report.problems.iter().any(|problem| problem.object == object));
}
