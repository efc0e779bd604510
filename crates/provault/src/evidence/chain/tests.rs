//! An exported chain is verified as it was written, and in no other way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufReader, Cursor};

use serde_json::{Value, json};

use super::*;

const ACCOUNT: &str = "111122223333";

fn wire(evidence: &Evidence) -> EvidenceRecord {
    EvidenceRecord {
        account: evidence.account.to_string(),
        sequence: evidence.sequence,
        recorded_at: evidence.recorded_at.to_string(),
        body: evidence.body.clone(),
        previous_hash: evidence.previous_hash.clone(),
        hash: evidence.hash.clone(),
    }
}

fn next(previous: &str, sequence: i64, body: Value) -> Evidence {
    let at = format!("2026-03-01T12:{:02}:{:02}.5Z", sequence / 60 % 60, sequence % 60);
    let account = ACCOUNT.parse().unwrap();
    Evidence::chain(account, sequence, previous.to_owned(), at.parse().unwrap(), body)
}

/// The lines of an export, each with its end, the last line of all included.
fn export(count: i64) -> Vec<String> {
    let mut head = provault_domain::evidence::GENESIS.to_owned();
    let mut lines = Vec::new();
    for n in 1..=count {
        let body = json!({
            "verdict": "PASSED", "n": n, "reason": "é \u{9b} \"quoted\"\n",
            "findings": { "probes": [{ "label": "tcp:25", "millis": 7, "output": "220 x\r\n" }] },
        });
        let evidence = next(&head, n, body);
        lines.push(serde_json::to_string(&wire(&evidence)).unwrap() + "\n");
        head = evidence.hash;
    }
    lines.push(serde_json::to_string(&EvidenceEnd { records: count, head }).unwrap() + "\n");
    lines
}

fn verify(text: &[u8]) -> Result<Chain, Broken> {
    let mut chain = Chain::default();
    match chain.read(&mut Cursor::new(text)) {
        Ok(()) => Ok(chain),
        Err(Unverified::Broken(broken)) => Err(broken),
        Err(Unverified::Unreadable(error)) => panic!("{error}"),
    }
}

fn broken(lines: &[String]) -> Broken {
    verify(lines.concat().as_bytes()).unwrap_err()
}

#[test]
fn what_was_exported_is_verified() {
    for count in [0, 1, 5] {
        let chain = verify(export(count).concat().as_bytes()).unwrap();
        assert_eq!(chain.records(), count);
        assert_eq!(
            chain.account().map(ToString::to_string),
            (count > 0).then(|| ACCOUNT.to_owned())
        );
        assert!(chain.end(None).is_ok());
    }
    let chain = verify(export(5).concat().as_bytes()).unwrap();
    assert_eq!(chain.span(), Some(("2026-03-01T12:00:01.5Z", "2026-03-01T12:00:05.5Z")));
}

/// Every byte counts: none can be changed to anything else.
#[test]
fn any_changed_byte_is_found_in_its_record() {
    let lines = export(3);
    let text = lines.concat().into_bytes();
    let mut line = 0;
    let mut ends: Vec<usize> = lines.iter().map(String::len).collect();
    for n in 1..ends.len() {
        ends[n] += ends[n - 1];
    }
    for at in 0..text.len() {
        if at >= ends[line] {
            line += 1;
        }
        for other in [text[at] ^ 1, b' ', b'\n', b'"', b'0'] {
            if other == text[at] {
                continue;
            }
            let mut changed = text.clone();
            changed[at] = other;
            let broken = verify(&changed).map(|_| ()).expect_err("a changed byte");
            let expected = i64::try_from(line).unwrap() + 1;
            assert_eq!(broken.record, expected, "byte {at} to {other}: {broken}");
        }
    }
}

/// Each member, changed by somebody who writes proper lines.
#[test]
fn any_changed_member_is_found_in_its_record() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("Account", |line| line["Account"] = json!("999999999999")),
        ("Sequence", |line| line["Sequence"] = json!(7)),
        ("RecordedAt", |line| line["RecordedAt"] = json!("2026-03-01T13:00:00Z")),
        ("Body", |line| line["Body"]["verdict"] = json!("FAILED")),
        ("Body, deep", |line| line["Body"]["findings"]["probes"][0]["millis"] = json!(8)),
        ("Body, removed", |line| {
            line["Body"].as_object_mut().unwrap().remove("n");
        }),
        ("PreviousHash", |line| line["PreviousHash"] = json!("1".repeat(64))),
        ("Hash", |line| line["Hash"] = json!("1".repeat(64))),
        ("Account, no account", |line| line["Account"] = json!("x")),
    ];
    for at in 0..3 {
        for (what, change) in changes {
            let mut lines = export(3);
            let mut value: Value = serde_json::from_str(&lines[at]).unwrap();
            change(&mut value);
            let record: EvidenceRecord = serde_json::from_value(value).unwrap();
            lines[at] = serde_json::to_string(&record).unwrap() + "\n";
            let broken = broken(&lines);
            assert_eq!(broken.record, i64::try_from(at).unwrap() + 1, "{what}: {broken}");
        }
    }
}

/// Made anew with a fitting hash, a record still breaks the link to the next one; and the last one
/// of all does not fit the head that was noted.
#[test]
fn a_forged_record_is_found_by_the_next_link_or_by_the_noted_head() {
    let mut lines = export(3);
    let records: Vec<EvidenceRecord> =
        lines[..3].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let forged = |n: usize| {
        let body = json!({ "verdict": "PASSED", "forged": true });
        wire(&next(&records[n].previous_hash, records[n].sequence, body))
    };
    lines[1] = serde_json::to_string(&forged(1)).unwrap() + "\n";
    assert_eq!(broken(&lines).record, 3);
    let mut lines = export(3);
    let last = forged(2);
    lines[2] = serde_json::to_string(&last).unwrap() + "\n";
    assert!(broken(&lines).why.contains("the last line tells of 3 records"));
    let end = EvidenceEnd { records: 3, head: last.hash.clone() };
    lines[3] = serde_json::to_string(&end).unwrap() + "\n";
    let chain = verify(lines.concat().as_bytes()).unwrap();
    assert!(chain.end(Some(&last.hash)).is_ok());
    let noted = &records[2].hash;
    assert!(chain.end(Some(noted)).unwrap_err().why.contains(noted.as_str()));
}

#[test]
fn removal_repetition_and_reordering_are_found() {
    for at in 0..4_usize {
        let number = i64::try_from(at).unwrap() + 1;
        let mut removed = export(4);
        removed.remove(at);
        assert_eq!(broken(&removed).record, number, "without {number}");
        let mut repeated = export(4);
        repeated.insert(at, repeated[at].clone());
        assert_eq!(broken(&repeated).record, number + 1, "{number} twice");
        let mut swapped = export(4);
        swapped.swap(at, at + 1);
        // The last line too early: what it tells of is not there.
        assert_eq!(broken(&swapped).record, number, "{number} behind the next");
    }
}

#[test]
fn a_file_that_was_cut_off_is_not_whole() {
    let text = export(2).concat();
    for length in 0..text.len() {
        let broken = verify(&text.as_bytes()[..length]).map(|_| ()).expect_err("a cut file");
        let lines = text.as_bytes()[..length].split(|byte| *byte == b'\n').count();
        assert_eq!(broken.record, i64::try_from(lines).unwrap(), "{length}: {broken}");
    }
    // Somebody who also makes a new last line is found by the head that was noted.
    let (short, long) = (export(1), export(2));
    let chain = verify(short.concat().as_bytes()).unwrap();
    let head = verify(long.concat().as_bytes()).unwrap().head().to_owned();
    assert!(chain.end(Some(&head)).is_err());
}

#[test]
fn nothing_may_stand_beside_the_chain() {
    let text = export(2).concat();
    for behind in ["\n", " ", "{}\n", &text] {
        assert!(verify(format!("{text}{behind}").as_bytes()).is_err(), "{behind:?}");
    }
    for before in ["\n", "\u{feff}", "# a comment\n"] {
        let broken = verify(format!("{before}{text}").as_bytes()).unwrap_err();
        assert_eq!(broken.record, 1, "{before:?}");
    }
    // A member that is not hashed, and one that is there twice.
    for added in [r#"{"Note":"x","#, r#"{"Account":"111122223333","#] {
        let broken = verify(text.replacen('{', added, 1).as_bytes()).unwrap_err();
        assert_eq!(broken.record, 1, "{added}: {broken}");
    }
    let twice = text.replacen(r#""Body":{"#, r#""Body":{"verdict":"FAILED","#, 1);
    assert!(verify(twice.as_bytes()).unwrap_err().why.contains("not written as"));
}

#[test]
fn what_is_no_export_is_told_as_that() {
    for wrong in ["hello\n", "{}\n", "[]\n", "\u{0}\u{1}\n", "{\"Chain\":\"VERIFIED\"}\n"] {
        let broken = verify(wrong.as_bytes()).unwrap_err();
        assert_eq!(broken.record, 1);
        assert!(broken.why.contains("provault evidence export"), "{broken}");
    }
    let broken = verify(b"\xff\xfe\n").unwrap_err();
    assert!(broken.why.contains("no record"), "{broken}");
    let deep = "[".repeat(100_000) + "\n";
    assert_eq!(verify(deep.as_bytes()).unwrap_err().record, 1);
    assert!(verify(b"").unwrap_err().why.contains("cut off"));
}

#[test]
fn what_was_noted_must_be_there() {
    let text = export(4).concat();
    let hashes: Vec<String> = text
        .lines()
        .take(4)
        .map(|line| serde_json::from_str::<EvidenceRecord>(line).unwrap().hash)
        .collect();
    let end = |wanted: &[&String]| {
        let mut chain = Chain::including(wanted.iter().map(|hash| (*hash).clone()).collect());
        chain.read(&mut Cursor::new(&text)).unwrap();
        chain.end(None)
    };
    assert!(end(&[&hashes[0], &hashes[3], &hashes[3]]).is_ok());
    let other = "f".repeat(64);
    let broken = end(&[&hashes[1], &other]).unwrap_err();
    assert!(broken.why.contains(&other), "{broken}");
}

/// A file that is made while it is read: as large as one likes, and never there as a whole.
struct Endless {
    head: String,
    sequence: i64,
    last: i64,
    line: Cursor<Vec<u8>>,
    longest: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.line.read(buffer)?;
        if read > 0 || self.sequence > self.last {
            return Ok(read);
        }
        self.sequence += 1;
        let mut line = if self.sequence > self.last {
            let end = EvidenceEnd { records: self.last, head: self.head.clone() };
            serde_json::to_vec(&end).unwrap()
        } else {
            let evidence = next(&self.head, self.sequence, json!({ "text": "x".repeat(100_000) }));
            self.head.clone_from(&evidence.hash);
            serde_json::to_vec(&wire(&evidence)).unwrap()
        };
        line.push(b'\n');
        self.longest = self.longest.max(line.len());
        self.line = Cursor::new(line);
        self.line.read(buffer)
    }
}

#[test]
fn a_large_file_is_read_a_line_at_a_time() {
    let head = provault_domain::evidence::GENESIS.to_owned();
    let line = Cursor::new(Vec::new());
    let endless = Endless { head, sequence: 0, last: 300, line, longest: 0 };
    let mut input = BufReader::new(endless);
    let mut chain = Chain::default();
    chain.read(&mut input).unwrap();
    assert_eq!(chain.records(), 300);
    // Nothing was read ahead of what is needed: the buffer never held more than a piece of a line.
    assert!(input.capacity() < input.get_ref().longest);
}

#[test]
fn a_line_without_an_end_is_given_up() {
    let mut chain = Chain::default();
    let error = chain.read(&mut BufReader::new(io::repeat(b'x'))).unwrap_err();
    assert!(error.to_string().contains("longer than 16777216 bytes"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_no_broken_chain() {
    struct Refuses;
    impl Read for Refuses {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
    let error = Chain::default().read(&mut BufReader::new(Refuses)).unwrap_err();
    assert!(matches!(error, Unverified::Unreadable(_)), "{error}");
}
