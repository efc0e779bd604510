//! A chain that is being read: from the server or from the lines of a file.

use std::io::{self, BufRead, Read};

use provault_domain::evidence::ChainVerifier;
use provault_domain::{AccountId, Evidence};
use provault_wire::provault::{EvidenceEnd, EvidenceRecord};

/// The longest line that is taken. A record is some kilobytes.
const LONGEST: u64 = 16 << 20;

/// Why a chain does not hold: the first record that is wrong, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record}: {why}")]
pub struct Broken {
    /// 1, 2, 3, …; after the last one where something is missing.
    pub record: i64,
    /// What is wrong.
    pub why: String,
}

/// Why a file was not verified.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// It was read, and does not hold.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It could not be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

/// Takes record after record and keeps none.
#[derive(Debug, Default)]
pub struct Chain {
    verifier: ChainVerifier,
    /// Hashes that were noted elsewhere and have not been seen yet.
    wanted: Vec<String>,
    /// When the first and the last record were made.
    span: Option<(String, String)>,
}

impl Chain {
    /// A chain that must hold a record with each of these hashes.
    pub fn including(hashes: Vec<String>) -> Self {
        Self { wanted: hashes, ..Self::default() }
    }

    /// The next record.
    pub fn take(&mut self, record: EvidenceRecord) -> Result<(), Broken> {
        let at = record.recorded_at.clone();
        let evidence = as_hashed(record).map_err(|why| self.broken(why))?;
        self.verifier.take(&evidence).map_err(|broken| self.broken(format!("{}.", broken.why)))?;
        self.wanted.retain(|hash| *hash != evidence.hash);
        let first = self.span.take().map_or_else(|| at.clone(), |(first, _)| first);
        self.span = Some((first, at));
        Ok(())
    }

    /// After the last record: whether the chain ends with the hash that was expected, if one was,
    /// and everything wanted was there.
    pub fn end(&self, expected: Option<&str>) -> Result<(), Broken> {
        let (records, head) = (self.verifier.records(), self.head());
        if let Some(expected) = expected
            && expected != head
        {
            let why = format!(
                "the last one that is here is record {records} with the hash {head}, not \
                 {expected}: records are missing, were added, or all was made anew."
            );
            return Err(self.broken(why));
        }
        match self.wanted.first() {
            None => Ok(()),
            Some(hash) => Err(self.broken(format!(
                "none of the {records} records has the hash {hash}: records are missing, or were \
                 made anew."
            ))),
        }
    }

    /// Takes an exported chain to the end of its last line, a line at a time.
    pub fn read(&mut self, input: &mut impl BufRead) -> Result<(), Unverified> {
        loop {
            let line = self.line(input)?.ok_or_else(|| {
                self.broken(
                    "it is not there, nor the last line of an export: the file was cut off.",
                )
            })?;
            if let Ok(end) = serde_json::from_slice::<EvidenceEnd>(&line) {
                self.end_line(&end, &line)?;
                if self.line(input)?.is_some() {
                    return Err(self.broken("there is more behind the last line.").into());
                }
                return Ok(());
            }
            let record: EvidenceRecord = serde_json::from_slice(&line).map_err(|error| {
                self.broken(format!(
                    "its line is no record of evidence ({error}). Is this a file that `provault \
                     evidence export` wrote?"
                ))
            })?;
            self.as_written(&record, &line)?;
            self.take(record)?;
        }
    }

    /// A line without its end; `None` at the end of the file.
    fn line(&self, input: &mut impl BufRead) -> Result<Option<Vec<u8>>, Unverified> {
        let mut line = Vec::new();
        input.take(LONGEST).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) if line.len() as u64 + 1 == LONGEST => {
                Err(self.broken(format!("its line is longer than {LONGEST} bytes.")).into())
            }
            Some(_) => Err(self.broken("its line is cut off: the file is not complete.").into()),
        }
    }

    fn end_line(&self, end: &EvidenceEnd, line: &[u8]) -> Result<(), Broken> {
        let fits = end.records == self.verifier.records() && end.head == self.head();
        if !fits {
            let why = format!(
                "it is not there: the last line tells of {} records and the head {}.",
                end.records, end.head
            );
            return Err(self.broken(why));
        }
        self.as_written(end, line)
    }

    /// What is read twice in different ways, or beside what was hashed, is no evidence.
    fn as_written(&self, read: &impl serde::Serialize, line: &[u8]) -> Result<(), Broken> {
        match serde_json::to_vec(read) {
            Ok(written) if written == line => Ok(()),
            _ => Err(self.broken(
                "its line is not written as it was exported: something was added, or another \
                 program wrote it again.",
            )),
        }
    }

    fn broken(&self, why: impl Into<String>) -> Broken {
        Broken { record: self.verifier.records() + 1, why: why.into() }
    }

    /// How many records were taken.
    pub fn records(&self) -> i64 {
        self.verifier.records()
    }

    /// The hash of the last one; 64 zeros before the first.
    pub fn head(&self) -> &str {
        self.verifier.head()
    }

    /// Whose chain it is.
    pub fn account(&self) -> Option<&AccountId> {
        self.verifier.account()
    }

    /// When the first and the last record were made.
    pub fn span(&self) -> Option<(&str, &str)> {
        self.span.as_ref().map(|(first, last)| (first.as_str(), last.as_str()))
    }
}

/// The record that was hashed, provided its texts are those.
fn as_hashed(record: EvidenceRecord) -> Result<Evidence, String> {
    let EvidenceRecord { account, sequence, recorded_at, body, previous_hash, hash } = record;
    let evidence = Evidence {
        account: account.parse().map_err(|error| format!("its account: {error}"))?,
        sequence,
        recorded_at: recorded_at.parse().map_err(|error| format!("its time: {error}"))?,
        body,
        previous_hash,
        hash,
    };
    if evidence.recorded_at.to_string() == recorded_at {
        Ok(evidence)
    } else {
        Err(format!("its time, {recorded_at}, is not written as it was hashed."))
    }
}

#[cfg(test)]
mod tests;
