//! The chain of evidence.

use serde::{Deserialize, Serialize};

message! {
    /// One record of the chain.
    ///
    /// The hash is SHA-256, in hexadecimal, over these five texts, each after its length in bytes as
    /// eight bytes, big-endian: previous hash, account, sequence, time, and the body as JSON with
    /// sorted keys and no blanks.
    EvidenceRecord {
        /// Whose chain it is a record of.
        account: String,
        /// 1, 2, 3, ….
        sequence: i64,
        /// RFC 3339, exactly as hashed.
        recorded_at: String,
        /// The finished test, exactly as hashed.
        body: serde_json::Value,
        /// Hash of the record before; 64 zeros for the first one.
        previous_hash: String,
        /// Hash of this record.
        hash: String,
    }
}

message! {
    /// The chain of evidence, or the part of one resource.
    EvidenceList {
        /// In order.
        records: Vec<EvidenceRecord>,
        /// Whether the account's whole chain verifies; else where it breaks.
        chain: String,
    }
}

message! {
    /// The next records of the account's chain.
    EvidencePage {
        /// In order, beginning with the first one after the number asked about; none at the end.
        records: Vec<EvidenceRecord>,
    }
}

message! {
    /// The last line of an exported chain; each line before it is an [`EvidenceRecord`].
    EvidenceEnd {
        /// How many records there are.
        records: i64,
        /// The hash of the last one; 64 zeros where there is none.
        head: String,
    }
}
