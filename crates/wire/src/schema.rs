//! The shapes of the model as data.
//!
//! Routing, decoding, encoding and validation walk along these; the values are generated.

/// A structure of the model.
#[derive(Debug)]
pub struct Structure {
    /// The model's name of it.
    pub name: &'static str,
    /// Its members, by name.
    pub members: &'static [Member],
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// The name in JSON.
    pub name: &'static str,
    /// Whether a request without it is refused.
    pub required: bool,
    /// Where in a request it travels.
    pub location: Location,
    /// What it holds.
    pub shape: &'static Shape,
}

/// Where in a request a member travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In the JSON body, under the member's name.
    Body,
    /// In the path, as the label of this name.
    Uri(&'static str),
    /// In the query, under this key.
    Query(&'static str),
}

/// What a member may hold.
#[derive(Debug)]
pub enum Shape {
    /// Text.
    String {
        /// Allowed number of characters.
        length: Bounds<u64>,
        /// What the text must look like.
        pattern: Option<Pattern>,
        /// Whether the value must not be repeated in messages.
        sensitive: bool,
    },
    /// One of these texts.
    Enum(&'static [&'static str]),
    /// A whole number of 32 bits within these bounds.
    Integer(Bounds<i64>),
    /// A whole number of 64 bits within these bounds.
    Long(Bounds<i64>),
    /// True or false.
    Boolean,
    /// A point in time.
    Timestamp,
    /// A list.
    List {
        /// What each element holds.
        member: &'static Shape,
        /// Allowed number of elements.
        length: Bounds<u64>,
        /// Whether elements must not be repeated in messages.
        sensitive: bool,
    },
    /// A map.
    Map {
        /// What each key holds: text.
        key: &'static Shape,
        /// What each value holds.
        value: &'static Shape,
        /// Allowed number of entries.
        length: Bounds<u64>,
        /// Whether values must not be repeated in messages.
        sensitive: bool,
    },
    /// A structure.
    Structure(&'static Structure),
}

/// Least and greatest allowed value, both included.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<T> {
    /// The least, where there is one.
    pub min: Option<T>,
    /// The greatest, where there is one.
    pub max: Option<T>,
}

/// A regular expression of the model with its hand-written check; the whole text must match.
#[derive(Debug)]
pub struct Pattern {
    /// As the model writes it, for messages.
    pub text: &'static str,
    /// Whether a text matches.
    pub matches: fn(&str) -> bool,
}

impl<T: Copy + PartialOrd> Bounds<T> {
    /// Everything is allowed.
    pub const NONE: Self = Self { min: None, max: None };

    /// Whether a value lies within.
    pub fn contain(&self, value: T) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// A required member of the body.
pub(crate) const fn req(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: true, location: Location::Body, shape }
}

/// An optional member of the body.
pub(crate) const fn opt(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: false, location: Location::Body, shape }
}

/// A path label: always required.
pub(crate) const fn uri(name: &'static str, label: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: true, location: Location::Uri(label), shape }
}

/// A member of the query.
pub(crate) const fn query(
    name: &'static str,
    key: &'static str,
    required: bool,
    shape: &'static Shape,
) -> Member {
    Member { name, required, location: Location::Query(key), shape }
}
