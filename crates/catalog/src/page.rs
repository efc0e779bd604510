//! Lists in pages, and the queries behind them.
//!
//! A page is found by the key of the last row before it (`created_at`, id), never by an offset:
//! the millionth row costs as much as the first, and rows that come or go in between neither
//! repeat nor hide others.

use jiff::Timestamp;
use provault_domain::{AccountId, Arn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use crate::error::{CatalogError, Result};

/// Where a page ended: the last row's place in the order of creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// When that row was created; kept to the microsecond.
    pub created_at: Timestamp,
    /// Its id, which decides between rows created in the same microsecond.
    pub id: String,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Only what comes after this place.
    pub after: Option<Cursor>,
    /// At most so many; 0 is taken as 1.
    pub limit: u32,
}

impl Page {
    /// The whole list.
    pub fn all() -> Self {
        Self { after: None, limit: u32::MAX }
    }

    /// The first `limit` rows.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

/// One page of a list in the order of creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where to go on; only when there are more rows.
    pub next: Option<Cursor>,
}

/// A moment as the database keeps it.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A moment out of the database.
pub(crate) fn moment(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| CatalogError::Corrupt {
        what: format!("the moment {micros}"),
        message: error.to_string(),
    })
}

/// A domain value as the database keeps it.
pub(crate) fn to_body<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| CatalogError::Corrupt {
        what: std::any::type_name::<T>().to_owned(),
        message: format!("it cannot be written as JSON: {error}"),
    })
}

/// A domain value out of the database.
pub(crate) fn from_body<T: DeserializeOwned>(body: &str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| {
        let name = std::any::type_name::<T>();
        let name = name.rsplit("::").next().unwrap_or(name);
        let start: String = body.chars().take(120).collect();
        CatalogError::Corrupt { what: format!("a {name} ({start}…)"), message: error.to_string() }
    })
}

/// The `body` column of a row.
pub(crate) fn body<T: DeserializeOwned>(row: &AnyRow) -> Result<T> {
    from_body(row.try_get::<&str, _>("body")?)
}

/// The `body` column of a row that may not be there.
pub(crate) fn body_of<T: DeserializeOwned>(row: Option<&AnyRow>) -> Result<Option<T>> {
    row.map(body).transpose()
}

/// What the rows say, without those that cannot be read: what looks after everything as time passes
/// must not stop for one of them.
pub(crate) fn readable<T>(
    rows: &[AnyRow],
    what: &'static str,
    read: impl Fn(&AnyRow) -> Result<T>,
) -> Vec<T> {
    let told =
        |error: &CatalogError| tracing::error!(%error, "{what} cannot be read and is passed over");
    rows.iter().filter_map(|row| read(row).inspect_err(told).ok()).collect()
}

/// A parameter.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Text(String),
    Int(i64),
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<&String> for Arg {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}
impl From<&AccountId> for Arg {
    fn from(value: &AccountId) -> Self {
        value.as_str().into()
    }
}
impl From<&Arn> for Arg {
    fn from(value: &Arn) -> Self {
        value.as_str().into()
    }
}
impl From<Timestamp> for Arg {
    fn from(value: Timestamp) -> Self {
        Self::Int(micros(value))
    }
}
impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// A query whose conditions depend on the question. Its text is put together from pieces of this
/// crate alone; whatever comes from outside is a parameter.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) sql: String,
    args: Vec<Arg>,
    conditions: usize,
}

impl Select {
    /// `SELECT … FROM …` without conditions.
    pub(crate) fn new(head: &'static str) -> Self {
        Self { sql: head.to_owned(), args: Vec::new(), conditions: 0 }
    }

    /// A parameter that the head names: `$1` the first, before all others.
    pub(crate) fn given(mut self, value: impl Into<Arg>) -> Self {
        self.args.push(value.into());
        self
    }

    fn condition(&mut self) {
        self.sql.push_str(if self.conditions == 0 { " WHERE " } else { " AND " });
        self.conditions += 1;
    }

    fn argument(&mut self, value: Arg) {
        self.args.push(value);
        self.sql.push('$');
        self.sql.push_str(&self.args.len().to_string());
    }

    /// A condition without a parameter.
    pub(crate) fn only(mut self, condition: &'static str) -> Self {
        self.condition();
        self.sql.push_str(condition);
        self
    }

    /// A column and an operator, such as `account =`, with the value on its right.
    pub(crate) fn and(mut self, left: &'static str, value: impl Into<Arg>) -> Self {
        self.condition();
        self.sql.push_str(left);
        self.sql.push(' ');
        self.argument(value.into());
        self
    }

    /// The same where there is a value.
    pub(crate) fn and_if(self, left: &'static str, value: Option<impl Into<Arg>>) -> Self {
        match value {
            Some(value) => self.and(left, value),
            None => self,
        }
    }

    /// One of several values; no condition when there are none.
    pub(crate) fn and_in(mut self, column: &'static str, values: &[String]) -> Self {
        if values.is_empty() {
            return self;
        }
        self.condition();
        self.sql.push_str(column);
        self.sql.push_str(" IN (");
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.sql.push_str(", ");
            }
            self.argument(value.into());
        }
        self.sql.push(')');
        self
    }

    /// Anything behind the conditions: order, limit.
    pub(crate) fn then(mut self, tail: &'static str) -> Self {
        self.sql.push(' ');
        self.sql.push_str(tail);
        self
    }

    /// No more rows than this; behind the order.
    pub(crate) fn at_most(mut self, rows: u32) -> Self {
        self.sql.push_str(" LIMIT ");
        self.argument(Arg::Int(rows.into()));
        self
    }

    /// One page in the order of `created_at` and `id`, and one row more to know whether it goes
    /// on. The query must select `id` under the name `page_id`.
    pub(crate) fn page(mut self, id: &'static str, page: &Page) -> Self {
        if let Some(after) = &page.after {
            self.condition();
            for piece in ["(created_at, ", id, ") > ("] {
                self.sql.push_str(piece);
            }
            self.argument(after.created_at.into());
            self.sql.push_str(", ");
            self.argument((&after.id).into());
            self.sql.push(')');
        }
        for piece in [" ORDER BY created_at, ", id, " LIMIT "] {
            self.sql.push_str(piece);
        }
        self.argument(Arg::Int(i64::from(page.limit.max(1)) + 1));
        self
    }

    fn query(self) -> Query<'static, Any, AnyArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.sql));
        for arg in self.args {
            query = match arg {
                Arg::Text(text) => query.bind(text),
                Arg::Int(number) => query.bind(number),
            };
        }
        query
    }

    /// Every row.
    pub(crate) async fn rows<'e, E>(self, executor: E) -> Result<Vec<AnyRow>>
    where
        E: Executor<'e, Database = Any>,
    {
        Ok(self.query().fetch_all(executor).await?)
    }

    /// The first row, if any.
    pub(crate) async fn row<'e, E>(self, executor: E) -> Result<Option<AnyRow>>
    where
        E: Executor<'e, Database = Any>,
    {
        Ok(self.query().fetch_optional(executor).await?)
    }

    /// The `body` of every row.
    pub(crate) async fn all<'e, E, T>(self, executor: E) -> Result<Vec<T>>
    where
        E: Executor<'e, Database = Any>,
        T: DeserializeOwned,
    {
        self.rows(executor).await?.iter().map(body).collect()
    }

    /// The `body` of the first row.
    pub(crate) async fn one<'e, E, T>(self, executor: E) -> Result<Option<T>>
    where
        E: Executor<'e, Database = Any>,
        T: DeserializeOwned,
    {
        body_of(self.row(executor).await?.as_ref())
    }

    /// A page of bodies; the query must end with [`Select::page`] and select `created_at`,
    /// `page_id` and `body`.
    pub(crate) async fn listed<'e, E, T>(self, executor: E, page: &Page) -> Result<Listed<T>>
    where
        E: Executor<'e, Database = Any>,
        T: DeserializeOwned,
    {
        self.listed_as(executor, page, body).await
    }

    /// A page of whatever `read` makes of each row.
    pub(crate) async fn listed_as<'e, E, T>(
        self,
        executor: E,
        page: &Page,
        read: impl Fn(&AnyRow) -> Result<T> + Send,
    ) -> Result<Listed<T>>
    where
        E: Executor<'e, Database = Any>,
    {
        let mut rows = self.rows(executor).await?;
        let limit = usize::try_from(page.limit.max(1)).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last() {
            Some(last) if more => Some(Cursor {
                created_at: moment(last.try_get("created_at")?)?,
                id: last.try_get("page_id")?,
            }),
            _ => None,
        };
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(Listed { items, next })
    }
}
