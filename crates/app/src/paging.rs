//! Lists in pages.

use provault_catalog::{Cursor, Listed, Page};

use crate::{App, AppError, Caller, Result};

/// The page size where the caller names none, and the largest there is: AWS's.
const PAGE_SIZE: i64 = 1000;

/// Which page of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paging {
    /// At most so many, 1 to 1000; 1000 when absent.
    pub max_results: Option<i64>,
    /// Where the last page ended.
    pub next_token: Option<String>,
}

/// One page, in the order of creation.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// For the next page; absent on the last.
    pub next_token: Option<String>,
}

impl<T> Listing<T> {
    /// The same page with every item made into something else.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Listing<U> {
        Listing { items: self.items.into_iter().map(each).collect(), next_token: self.next_token }
    }

    /// An empty list.
    pub(crate) fn empty() -> Self {
        Self { items: Vec::new(), next_token: None }
    }
}

/// A list as page tokens know it: account, operation and filter.
pub(crate) struct List(String);

impl List {
    pub(crate) fn new(caller: &Caller, operation: &str, filter: &impl std::fmt::Debug) -> Self {
        Self(format!("{} {operation} {filter:?}", caller.account()))
    }
}

impl Paging {
    pub(crate) fn limit(&self) -> Result<u32> {
        let wanted = self.max_results.unwrap_or(PAGE_SIZE);
        u32::try_from(wanted)
            .ok()
            .filter(|limit| (1..=PAGE_SIZE).contains(&i64::from(*limit)))
            .ok_or_else(|| {
                AppError::invalid(
                    "MaxResults",
                    format!("{wanted} is not between 1 and {PAGE_SIZE}."),
                )
            })
    }
}

impl App {
    pub(crate) fn page(&self, list: &List, paging: &Paging) -> Result<Page> {
        let after = match &paging.next_token {
            Some(token) => Some(self.inner.tokens.read(&list.0, token)?),
            None => None,
        };
        Ok(Page { after, limit: paging.limit()? })
    }

    pub(crate) fn listing<T>(&self, list: &List, listed: Listed<T>) -> Result<Listing<T>> {
        let next_token = listed.next.map(|after| self.token(list, after)).transpose()?;
        Ok(Listing { items: listed.items, next_token })
    }

    pub(crate) fn token(&self, list: &List, after: Cursor) -> Result<String> {
        self.inner.tokens.issue(&list.0, after)
    }
}
