//! A document as it was written: values, and the line of each.

use std::path::Path;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::error::CliError;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// From 1; 0 where the form of the file does not tell (JSON).
    pub line: usize,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Keys in the order of the file, each with its line.
    Map(Vec<(String, usize, Node)>),
    List(Vec<Node>),
    /// A text, a number, true or false.
    Leaf(Value),
}

/// Reads TOML, or JSON where the text begins with a brace.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node, CliError> {
    let wrong = |why: &dyn std::fmt::Display| {
        CliError::usage(format!("{}: {why}", path.display()).trim_end())
    };
    if text.trim_start().starts_with('{') {
        let value: Value =
            serde_json::from_str(text).map_err(|error| wrong(&format!("is not JSON: {error}")))?;
        return Ok(Node::from(value));
    }
    let table = DeTable::parse(text).map_err(|error| wrong(&error))?;
    let lines = Lines::of(text);
    let map = map(table.get_ref(), &lines).map_err(|error| wrong(&error))?;
    Ok(Node { line: 1, content: map })
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at)
    }
}

fn map(table: &DeTable<'_>, lines: &Lines) -> Result<Content, String> {
    let mut members: Vec<(String, usize, Node)> = Vec::new();
    for (key, value) in table {
        let line = lines.line(key.span().start);
        let mut node = node(value.get_ref(), lines.line(value.span().start), lines)?;
        // A table's own span may be that of a key within it.
        node.line = node.line.max(1);
        members.push((key.get_ref().to_string(), line, node));
    }
    members.sort_by_key(|(_, line, _)| *line);
    Ok(Content::Map(members))
}

fn node(value: &DeValue<'_>, line: usize, lines: &Lines) -> Result<Node, String> {
    let content = match value {
        DeValue::String(text) => Content::Leaf(Value::String(text.to_string())),
        DeValue::Boolean(value) => Content::Leaf(Value::Bool(*value)),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            let parsed = i64::from_str_radix(&digits, number.radix())
                .map_err(|_| format!("line {line}: {digits} is too large a number"))?;
            Content::Leaf(Value::Number(parsed.into()))
        }
        DeValue::Float(number) => {
            let parsed: Option<Number> =
                number.as_str().replace('_', "").parse().ok().and_then(Number::from_f64);
            Content::Leaf(Value::Number(parsed.ok_or_else(|| {
                format!("line {line}: {} is no number that JSON has", number.as_str())
            })?))
        }
        // A moment may be written with quotes or without.
        DeValue::Datetime(time) => Content::Leaf(Value::String(time.to_string())),
        DeValue::Array(list) => {
            let nodes =
                list.iter().map(|item| node(item.get_ref(), lines.line(item.span().start), lines));
            Content::List(nodes.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => map(table, lines)?,
    };
    Ok(Node { line, content })
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        let content = match value {
            Value::Object(members) => Content::Map(
                members.into_iter().map(|(key, value)| (key, 0, Self::from(value))).collect(),
            ),
            Value::Array(items) => Content::List(items.into_iter().map(Self::from).collect()),
            leaf => Content::Leaf(leaf),
        };
        Self { line: 0, content }
    }
}

impl Node {
    /// The value without its lines.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Map(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, _, node)| (key.clone(), node.to_value()))
                    .collect::<Map<_, _>>(),
            ),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Leaf(value) => value.clone(),
        }
    }

    /// A member of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(members) => {
                members.iter().find(|(name, _, _)| name == key).map(|(_, _, node)| node)
            }
            _ => None,
        }
    }

    /// The line of the first key of this name, here or deeper.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        match &self.content {
            Content::Map(members) => members
                .iter()
                .find(|(name, _, _)| name == key)
                .map(|(_, line, _)| *line)
                .or_else(|| members.iter().find_map(|(_, _, node)| node.line_of(key))),
            Content::List(items) => items.iter().find_map(|node| node.line_of(key)),
            Content::Leaf(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_and_their_lines() {
        let text = "# first\nA = 1_000\n\n[[List]]\nName = \"x\"\n[List.Tags]\nk = \"v\"\n\n\
                    [[List]]\nName = 'y'\nUntil = 2030-01-01T00:00:00Z\nFlag = true\nHex = 0xff\n";
        let node = parse(Path::new("f"), text).unwrap();
        assert_eq!(
            node.to_value(),
            json!({ "A": 1000, "List": [{ "Name": "x", "Tags": { "k": "v" } },
                { "Name": "y", "Until": "2030-01-01T00:00:00Z", "Flag": true, "Hex": 255 }] })
        );
        assert_eq!((node.line_of("A"), node.line_of("k")), (Some(2), Some(7)));
        let Content::List(items) = &node.get("List").unwrap().content else { panic!("a list") };
        assert_eq!((items[1].line_of("Name"), items[1].line_of("k")), (Some(10), None));
    }

    #[test]
    fn what_is_neither_toml_nor_json_is_refused_with_its_line() {
        let error = |text: &str| parse(Path::new("f.toml"), text).unwrap_err().to_string();
        assert!(error("A = 1\nB = \n").contains("line 2"), "{}", error("A = 1\nB = \n"));
        assert!(error("A = 1\nA = 2\n").contains("f.toml"));
        assert!(error("A = 99999999999999999999").contains("too large"));
        assert!(error("A = nan").contains("no number"));
        assert!(error("{ \"a\": }").contains("is not JSON"));
        assert_eq!(parse(Path::new("f"), " {\"a\": [1]}").unwrap().to_value(), json!({ "a": [1] }));
    }
}
