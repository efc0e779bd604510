//! Writes a document as TOML that people read: names first, short lists on a line, tables last.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A line longer than this is broken into one item a line.
const WIDTH: usize = 96;

/// The object as a TOML document. Nulls are left out: TOML has none.
pub(super) fn write(document: &Map<String, Value>) -> String {
    let mut out = String::new();
    table(&mut out, "", document);
    out
}

/// Members of a table: what fits on lines, then tables, then lists of tables.
fn table(out: &mut String, at: &str, members: &Map<String, Value>) {
    let (tables, plain): (Vec<_>, Vec<_>) = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .partition(|(_, value)| is_table(value) || is_tables(value));
    let is_name = |key: &str| key == "Name" || key.ends_with("Name");
    let (names, others): (Vec<_>, Vec<_>) = plain.into_iter().partition(|(key, _)| is_name(key));
    for (name, value) in names.into_iter().chain(others) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} = {}", key(name), inline_wide(name.len(), value));
    }
    let (lists, single): (Vec<_>, Vec<_>) = tables.into_iter().partition(|(_, v)| is_tables(v));
    for (name, value) in single {
        let Value::Object(members) = value else { continue };
        let at = below(at, name);
        let _ = writeln!(out, "\n[{at}]");
        table(out, &at, members);
    }
    for (name, value) in lists {
        let Value::Array(items) = value else { continue };
        let at = below(at, name);
        for item in items {
            let Value::Object(members) = item else { continue };
            let _ = writeln!(out, "\n[[{at}]]");
            table(out, &at, members);
        }
    }
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() { key(name) } else { format!("{at}.{}", key(name)) }
}

/// A table of its own; one that is short and holds nothing but texts and numbers stays on its line.
fn is_table(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.values().any(|value| value.is_object() || value.is_array())
                || inline(value).len() > WIDTH / 2
        }
        _ => false,
    }
}

fn is_tables(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(Value::is_object),
        _ => false,
    }
}

fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { text(name) }
}

/// A value on one line, or a list on several where it is long.
fn inline_wide(used: usize, value: &Value) -> String {
    let line = inline(value);
    match value {
        Value::Array(items) if used + line.len() > WIDTH && items.len() > 1 => {
            let lines: Vec<String> =
                items.iter().map(|item| format!("    {},\n", inline(item))).collect();
            format!("[\n{}]", lines.concat())
        }
        _ => line,
    }
}

fn inline(value: &Value) -> String {
    match value {
        // Left out by whoever calls; within a list there is nothing else to say it with.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(value) => text(value),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let members: Vec<String> =
                members.map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            if members.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", members.join(", "))
            }
        }
    }
}

/// A basic string: every control character escaped.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        super::super::tree::parse(Path::new("f"), text)
            .unwrap_or_else(|e| panic!("{e}\n{text}"))
            .to_value()
    }

    #[test]
    fn names_come_first_and_tables_last() {
        let value = json!({ "Plans": [{ "Rules": [{ "Lifecycle": { "DeleteAfterDays": 3 },
            "RuleName": "r" }], "BackupPlanName": "p", "Tags": { "a b": "c" } }], "A": null });
        let text = write(value.as_object().unwrap());
        assert_eq!(
            text,
            "\n[[Plans]]\nBackupPlanName = \"p\"\nTags = { \"a b\" = \"c\" }\n\n[[Plans.Rules]]\n\
             RuleName = \"r\"\nLifecycle = { DeleteAfterDays = 3 }\n"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,60}".prop_map(Value::from),
            "[\u{0}-\u{7f}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ -~é]{0,5}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(members in prop::collection::btree_map("[A-Z a-z.]{0,6}", values(), 0..5)) {
            let members: Map<String, Value> = members.into_iter().collect();
            prop_assert_eq!(read(&format!("# a comment\n{}", write(&members))), Value::Object(members));
        }
    }
}
