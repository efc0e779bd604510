//! Evidence: the append-only record of every verdict, chained by hashes.
//!
//! Each record's hash covers the hash before it, so that a record cannot be changed, removed or
//! put between others without every later hash giving it away. An account has one chain.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::AccountId;

/// The `previous_hash` of the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Tenant.
    pub account: AccountId,
    /// 1, 2, 3, … without gaps.
    pub sequence: i64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What was found: the finished [`crate::RestoreTest`] as JSON.
    pub body: serde_json::Value,
    /// The `hash` of the record before, or [`GENESIS`].
    pub previous_hash: String,
    /// SHA-256 over all the above, in hexadecimal.
    pub hash: String,
}

impl Evidence {
    /// The record that follows the one with `previous_hash`.
    pub fn chain(
        account: AccountId,
        sequence: i64,
        previous_hash: String,
        recorded_at: Timestamp,
        body: serde_json::Value,
    ) -> Self {
        let mut record =
            Self { account, sequence, recorded_at, body, previous_hash, hash: String::new() };
        record.hash = record.computed_hash();
        record
    }

    /// What `hash` must be. Serialising a [`serde_json::Value`] sorts its keys, so the text is
    /// the same wherever it is computed.
    pub fn computed_hash(&self) -> String {
        let mut sha = Sha256::new();
        for part in [
            self.previous_hash.as_str(),
            self.account.as_str(),
            &self.sequence.to_string(),
            &self.recorded_at.to_string(),
            &self.body.to_string(),
        ] {
            // Lengths keep one part from running into the next.
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part.as_bytes());
        }
        hex::encode(sha.finalize())
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} does not follow from the one before it: {why}")]
pub struct BrokenChain {
    /// The first record that is wrong.
    pub sequence: i64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Checks a chain record by record, from its first one on, and keeps nothing of them but the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainVerifier {
    account: Option<AccountId>,
    records: i64,
    head: String,
}

impl Default for ChainVerifier {
    fn default() -> Self {
        Self { account: None, records: 0, head: GENESIS.to_owned() }
    }
}

impl ChainVerifier {
    /// Takes the next record. After an error no further one fits.
    pub fn take(&mut self, record: &Evidence) -> Result<(), BrokenChain> {
        let expected = self.records + 1;
        let broken = |why| BrokenChain { sequence: expected, why };
        if record.sequence != expected {
            return Err(broken("its sequence number is not the next one"));
        }
        if record.previous_hash != self.head {
            return Err(broken("it names another predecessor"));
        }
        if record.hash != record.computed_hash() {
            return Err(broken("its hash does not fit its content"));
        }
        if self.account.as_ref().is_some_and(|account| *account != record.account) {
            return Err(broken("it is of another account"));
        }
        self.account.get_or_insert_with(|| record.account.clone());
        self.records = expected;
        self.head.clone_from(&record.hash);
        Ok(())
    }

    /// How many records were taken.
    pub fn records(&self) -> i64 {
        self.records
    }

    /// The hash of the last one, or [`GENESIS`]: who has noted it finds every change of what led
    /// up to it.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Whose chain it is, once there was a record.
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }
}

/// Checks a whole chain from its first record on.
pub fn verify_chain(records: &[Evidence]) -> Result<(), BrokenChain> {
    let mut verifier = ChainVerifier::default();
    records.iter().try_for_each(|record| verifier.take(record))
}
