//! The evidence chain: any single change is found, at the record that was changed.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_domain::Evidence;
use provault_domain::evidence::{ChainVerifier, GENESIS, verify_chain};
use serde_json::json;

fn chain(length: i64) -> Vec<Evidence> {
    let begin: Timestamp = "2026-03-01T12:00:00.5Z".parse().unwrap();
    let mut previous = GENESIS.to_owned();
    (1..=length)
        .map(|n| {
            let record = Evidence::chain(
                "111122223333".parse().unwrap(),
                n,
                previous.clone(),
                begin + SignedDuration::from_secs(n),
                json!({"verdict": "PASSED", "n": n, "steps": [{"name": "restore", "millis": 7}]}),
            );
            previous.clone_from(&record.hash);
            record
        })
        .collect()
}

/// Worked out with Python's hashlib from the description in the module: length-prefixed parts,
/// sorted keys. It would change if a build ever kept JSON keys in another order, which would make
/// every stored record look forged.
#[test]
fn the_hash_is_what_it_has_always_been() {
    let record = Evidence::chain(
        "111122223333".parse().unwrap(),
        1,
        GENESIS.to_owned(),
        "2026-03-01T12:00:00.5Z".parse().unwrap(),
        serde_json::from_str(r#"{"b": [1, true, null], "a": {"z": "é", "y": ""}}"#).unwrap(),
    );
    assert_eq!(record.hash, "239310158004c917e2498779e857974b9f3828d6777add40e7879f831062fac9");
}

#[test]
fn an_untouched_chain_holds_and_survives_storage() {
    assert!(verify_chain(&[]).is_ok());
    let records = chain(5);
    assert!(verify_chain(&records).is_ok());
    let text = serde_json::to_string(&records).unwrap();
    let back: Vec<Evidence> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, records);
    assert!(verify_chain(&back).is_ok());
    // What a chain alone cannot show: that its newest records are missing.
    assert!(verify_chain(&records[..3]).is_ok());
}

#[test]
fn removal_repetition_and_reordering_are_found() {
    for n in 0..4 {
        let mut removed = chain(5);
        removed.remove(n);
        assert_eq!(verify_chain(&removed).unwrap_err().sequence, i64::try_from(n).unwrap() + 1);
        let mut swapped = chain(5);
        swapped.swap(n, n + 1);
        assert!(verify_chain(&swapped).is_err());
        let mut repeated = chain(5);
        repeated.insert(n, repeated[n].clone());
        assert!(verify_chain(&repeated).is_err());
    }
}

/// A record made anew with a fitting hash still breaks the link to the one after it.
#[test]
fn a_forged_record_breaks_the_next_link() {
    let mut records = chain(5);
    let old = records[2].clone();
    records[2] = Evidence::chain(
        old.account,
        old.sequence,
        old.previous_hash,
        old.recorded_at,
        json!({"verdict": "FAILED"}),
    );
    assert_eq!(verify_chain(&records).unwrap_err().sequence, 4);
}

/// Whole in itself, and still not a record of this chain.
#[test]
fn a_record_of_another_account_is_found() {
    let mut records = chain(3);
    let last = records.pop().unwrap();
    let other = "999999999999".parse().unwrap();
    let (previous, at) = (last.previous_hash, last.recorded_at);
    records.push(Evidence::chain(other, last.sequence, previous, at, last.body));
    let broken = verify_chain(&records).unwrap_err();
    assert_eq!((broken.sequence, broken.why), (3, "it is of another account"));
}

#[test]
fn a_verifier_tells_the_head_of_what_it_took() {
    let records = chain(4);
    let mut verifier = ChainVerifier::default();
    assert_eq!((verifier.records(), verifier.head(), verifier.account()), (0, GENESIS, None));
    for record in &records {
        verifier.take(record).unwrap();
        assert_eq!((verifier.records(), verifier.head()), (record.sequence, record.hash.as_str()));
    }
    assert_eq!(verifier.account(), Some(&records[0].account));
    // What is refused changes nothing.
    let before = verifier.clone();
    assert!(verifier.take(&records[3]).is_err());
    assert_eq!(verifier, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_single_change_is_found(at in 0..6usize, what in 0..9u8, by in 1..1000i64, digit in 0..64usize) {
        let mut records = chain(6);
        let record = &mut records[at];
        match what {
            0 => record.account = "999999999999".parse().unwrap(),
            1 => record.sequence += by,
            2 => record.sequence -= by,
            3 => record.recorded_at += SignedDuration::from_nanos(by),
            4 => record.body["n"] = json!(by + 100),
            5 => record.body["steps"][0]["millis"] = json!(7.0),
            6 => { record.body.as_object_mut().unwrap().remove("verdict"); }
            7 => flip(&mut record.previous_hash, digit),
            _ => flip(&mut record.hash, digit),
        }
        let broken = verify_chain(&records).unwrap_err();
        prop_assert_eq!(broken.sequence, i64::try_from(at).unwrap() + 1);
    }

    /// No two different records run into the same text.
    #[test]
    fn parts_do_not_run_into_each_other(a in 0..2000i64, b in 0..2000i64) {
        let make = |sequence: i64, body: i64| {
            Evidence::chain(
                "111122223333".parse().unwrap(), sequence, GENESIS.to_owned(), Timestamp::UNIX_EPOCH,
                json!(body),
            ).hash
        };
        prop_assert_eq!(make(a, b) == make(b, a), a == b);
        prop_assert_ne!(make(a, b), make(a, b + 1));
    }
}

fn flip(hash: &mut String, digit: usize) {
    let old = &hash[digit..=digit];
    let new = if old == "0" { "1" } else { "0" };
    hash.replace_range(digit..=digit, new);
}
