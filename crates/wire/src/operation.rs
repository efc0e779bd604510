//! What is known of an operation, and which ones have behaviour.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::ErrorShape;
use crate::generated::operations::{OPERATIONS, Operation};
use crate::schema::Structure;

/// What the model says of one operation.
#[derive(Debug)]
pub struct OperationInfo {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static [PathSegment],
    pub(crate) literal_query: Option<&'static str>,
    pub(crate) success_status: u16,
    pub(crate) errors: &'static [&'static ErrorShape],
    pub(crate) input: &'static Structure,
    pub(crate) output: Option<&'static Structure>,
    pub(crate) result_key: Option<&'static str>,
}

/// One part of a path between slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathSegment {
    /// This text.
    Literal(&'static str),
    /// Any text that is not empty, for the label of this name.
    Label(&'static str),
}

/// The output of an operation that answers with an empty body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoOutput {}

/// A name that is no operation's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an operation of AWS Backup")]
pub struct UnknownOperation(String);

impl Operation {
    fn info(self) -> &'static OperationInfo {
        &OPERATIONS[self as usize]
    }

    /// The name, as in `CreateBackupVault`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The HTTP method.
    pub fn method(self) -> &'static str {
        self.info().method
    }

    /// The path, without a slash at its end.
    pub fn path(self) -> &'static [PathSegment] {
        self.info().path
    }

    /// A key the query must hold, as in `?delete`.
    pub fn literal_query(self) -> Option<&'static str> {
        self.info().literal_query
    }

    /// The HTTP status of an answer that is no error.
    pub fn success_status(self) -> u16 {
        self.info().success_status
    }

    /// The errors the model allows. [`crate::errors::ACCESS_DENIED`] and its like may come from any
    /// operation.
    pub fn errors(self) -> &'static [&'static ErrorShape] {
        self.info().errors
    }

    /// The members of the input.
    pub fn input(self) -> &'static Structure {
        self.info().input
    }

    /// The members of the output; none where the body of an answer is empty.
    pub fn output(self) -> Option<&'static Structure> {
        self.info().output
    }

    /// The member of the output that holds one page of results, for the operations that the model
    /// lists as paginated. The token is `NextToken` and the page size `MaxResults` in all of them.
    pub fn result_key(self) -> Option<&'static str> {
        self.info().result_key
    }

    /// Whether the server has behaviour for it.
    pub fn is_implemented(self) -> bool {
        not_implemented().binary_search(&self.name()).is_err()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(name: &str) -> Result<Self, UnknownOperation> {
        // The table is sorted by name and in the order of the variants.
        OPERATIONS
            .binary_search_by_key(&name, |info| info.name)
            .map(|index| Self::ALL[index])
            .map_err(|_| UnknownOperation(name.to_owned()))
    }
}

/// The operations without behaviour, from `model/not-implemented.txt`, sorted: the server answers
/// them with [`crate::ServiceError::not_implemented`].
pub fn not_implemented() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| include_str!("../../../model/not-implemented.txt").lines().collect());
    &NAMES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_variants() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
            assert_eq!(format!("{operation:?}"), operation.name());
            assert_eq!(operation.name().parse(), Ok(operation));
        }
        assert!(OPERATIONS.is_sorted_by_key(|info| info.name));
        assert!("createBackupVault".parse::<Operation>().is_err());
    }

    #[test]
    fn the_list_of_what_is_not_implemented_names_operations_once_and_sorted() {
        assert!(not_implemented().is_sorted_by(|a, b| a < b));
        for name in not_implemented() {
            assert!(name.parse::<Operation>().is_ok(), "{name}");
        }
        let implemented = Operation::ALL.into_iter().filter(|op| op.is_implemented()).count();
        assert_eq!(implemented + not_implemented().len(), Operation::ALL.len());
        assert!(Operation::CreateBackupVault.is_implemented());
    }

    #[test]
    fn every_paginated_operation_has_token_page_size_and_results() {
        let has = |structure: &Structure, name| structure.members.iter().any(|m| m.name == name);
        let mut paginated = 0;
        for operation in Operation::ALL {
            let Some(key) = operation.result_key() else { continue };
            let output = operation.output().unwrap();
            assert!(has(operation.input(), "NextToken"), "{operation}");
            assert!(has(operation.input(), "MaxResults"), "{operation}");
            assert!(has(output, "NextToken") && has(output, key), "{operation}");
            paginated += 1;
        }
        assert_eq!(paginated, 25);
    }
}
