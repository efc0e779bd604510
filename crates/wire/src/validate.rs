//! The constraints of the model.

use std::fmt;

use serde_json::Value;

use crate::error::ServiceError;
use crate::generated::errors;
use crate::schema::{Bounds, Shape, Structure};

/// How many violations one answer names.
const REPORTED: usize = 10;
/// How many characters of a refused value a message repeats.
const SHOWN: usize = 128;

/// One constraint that a request does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The member, such as `BackupPlan.Rules[0].TargetBackupVaultName`.
    pub path: String,
    /// The value as it came, shortened; none where the member is absent or its value sensitive.
    pub value: Option<String>,
    /// What the model demands; none where the member is required and absent.
    pub constraint: Option<String>,
}

/// A request that does not keep the constraints of the model; it names at least one violation and
/// at most ten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationError {
    /// What is wrong, in the order of the members.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, value, constraint } = self;
        match (constraint, value) {
            (None, _) => write!(f, "Missing required parameter: {path}"),
            (Some(constraint), Some(value)) => write!(
                f,
                "Value {value:?} at '{path}' failed to satisfy constraint: Member must {constraint}"
            ),
            (Some(constraint), None) => {
                write!(
                    f,
                    "Value at '{path}' failed to satisfy constraint: Member must {constraint}"
                )
            }
        }
    }
}

impl ValidationError {
    /// What is missing, or, when nothing is, what is invalid: the two are different errors.
    fn reported(&self) -> (bool, Vec<&Violation>) {
        let missing: Vec<&Violation> =
            self.violations.iter().filter(|v| v.constraint.is_none()).collect();
        if missing.is_empty() { (false, self.violations.iter().collect()) } else { (true, missing) }
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, reported) = self.reported();
        for (index, violation) in reported.into_iter().enumerate() {
            write!(f, "{}{violation}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationError {}

impl From<ValidationError> for ServiceError {
    fn from(error: ValidationError) -> Self {
        let (missing, reported) = error.reported();
        let shape = if missing {
            &errors::MISSING_PARAMETER_VALUE
        } else {
            &errors::INVALID_PARAMETER_VALUE
        };
        let context = reported.first().map(|violation| violation.path.clone());
        let error = Self::new(shape, error.to_string());
        match context {
            Some(path) => error.with_context(path),
            None => error,
        }
    }
}

/// Checks a structure in its JSON form, whose types are known to be right.
pub(crate) fn structure(structure: &Structure, value: &Value) -> Result<(), ValidationError> {
    let mut walk = Walk { path: Path::new(), sensitive: false, violations: Vec::new() };
    walk.structure(structure, value);
    if walk.violations.is_empty() {
        Ok(())
    } else {
        Err(ValidationError { violations: walk.violations })
    }
}

/// A place in a request, written as it is reached.
#[derive(Debug, Default)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn member<T>(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.enter_member(name);
        let result = inside(self);
        self.0.truncate(length);
        result
    }

    pub(crate) fn index<T>(&mut self, index: usize, inside: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.enter(&format!("[{index}]"));
        let result = inside(self);
        self.0.truncate(length);
        result
    }

    pub(crate) fn key<T>(&mut self, key: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.enter_key(key);
        let result = inside(self);
        self.0.truncate(length);
        result
    }

    fn enter(&mut self, text: &str) -> usize {
        let length = self.0.len();
        self.0.push_str(text);
        length
    }

    fn enter_member(&mut self, name: &str) -> usize {
        let length = self.0.len();
        if length > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        length
    }

    /// A map's key, in quotes, so that any text in it stays readable.
    fn enter_key(&mut self, key: &str) -> usize {
        self.enter(&format!("[{:?}]", shortened(key)))
    }
}

struct Walk {
    path: Path,
    /// Whether the walk is inside a shape the model calls sensitive.
    sensitive: bool,
    violations: Vec<Violation>,
}

impl Walk {
    fn structure(&mut self, structure: &Structure, value: &Value) {
        for member in structure.members {
            match value.get(member.name).filter(|value| !value.is_null()) {
                Some(value) => self.inside(Path::enter_member, member.name, member.shape, value),
                None if member.required => {
                    let length = self.path.enter_member(member.name);
                    self.report(None, None);
                    self.path.0.truncate(length);
                }
                None => {}
            }
        }
    }

    fn shape(&mut self, shape: &Shape, value: &Value) {
        match shape {
            Shape::String { length, pattern, sensitive } => {
                let Some(text) = value.as_str() else { return };
                let shown = (!sensitive).then_some(text);
                let broken = length_constraint(*length, text.chars().count());
                if let Some(constraint) = broken {
                    self.report(shown, Some(constraint));
                } else if let Some(pattern) = pattern
                    && !(pattern.matches)(text)
                {
                    let constraint =
                        format!("satisfy regular expression pattern: {}", pattern.text);
                    self.report(shown, Some(constraint));
                }
            }
            Shape::Enum(known) => {
                let Some(text) = value.as_str() else { return };
                if !known.contains(&text) {
                    let constraint = format!("satisfy enum value set: [{}]", known.join(", "));
                    self.report(Some(text), Some(constraint));
                }
            }
            Shape::Integer(range) | Shape::Long(range) => {
                let Some(number) = value.as_i64() else { return };
                if !range.contain(number) {
                    let constraint = format!("have value {}", limits(range));
                    self.report(Some(&number.to_string()), Some(constraint));
                }
            }
            Shape::List { member, length, sensitive } => {
                let Some(elements) = value.as_array() else { return };
                self.length(*length, elements.len());
                self.within(*sensitive, |walk| {
                    for (index, element) in elements.iter().enumerate() {
                        walk.inside(Path::enter, &format!("[{index}]"), member, element);
                    }
                });
            }
            Shape::Map { key, value: inner, length, sensitive } => {
                let Some(entries) = value.as_object() else { return };
                self.length(*length, entries.len());
                for (name, entry) in entries {
                    // A key is not secret: it is the only way to say which entry is meant.
                    self.inside(Path::enter_key, name, key, &Value::from(name.as_str()));
                    self.within(*sensitive, |walk| {
                        walk.inside(Path::enter_key, name, inner, entry);
                    });
                }
            }
            Shape::Structure(structure) => self.structure(structure, value),
            Shape::Boolean | Shape::Timestamp => {}
        }
    }

    fn inside(
        &mut self,
        enter: fn(&mut Path, &str) -> usize,
        name: &str,
        shape: &Shape,
        value: &Value,
    ) {
        let length = enter(&mut self.path, name);
        self.shape(shape, value);
        self.path.0.truncate(length);
    }

    fn within(&mut self, sensitive: bool, walk: impl FnOnce(&mut Self)) {
        let outer = self.sensitive;
        self.sensitive |= sensitive;
        walk(self);
        self.sensitive = outer;
    }

    fn length(&mut self, bounds: Bounds<u64>, length: usize) {
        if let Some(constraint) = length_constraint(bounds, length) {
            self.report(None, Some(format!("{constraint}, not {length}")));
        }
    }

    fn report(&mut self, value: Option<&str>, constraint: Option<String>) {
        // What is missing outranks what is invalid and must not be crowded out by it.
        if self.violations.len() >= REPORTED {
            match (&constraint, self.violations.iter().rposition(|v| v.constraint.is_some())) {
                (None, Some(index)) => {
                    self.violations.remove(index);
                }
                _ => return,
            }
        }
        let value = value.filter(|_| !self.sensitive).map(shortened);
        self.violations.push(Violation { path: self.path.0.clone(), value, constraint });
    }
}

/// The constraint on a length that is broken, if it is.
fn length_constraint(bounds: Bounds<u64>, length: usize) -> Option<String> {
    // A length always fits into 64 bits.
    let fits = u64::try_from(length).is_ok_and(|length| bounds.contain(length));
    (!fits).then(|| format!("have length {}", limits(&bounds)))
}

fn limits<T: fmt::Display>(bounds: &Bounds<T>) -> String {
    match (&bounds.min, &bounds.max) {
        (Some(min), Some(max)) => format!("between {min} and {max}"),
        (Some(min), None) => format!("greater than or equal to {min}"),
        (None, Some(max)) => format!("less than or equal to {max}"),
        (None, None) => "of any size".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
