//! The service model, read into types; everything the generator does not know is refused here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The parts of the service model that matter on the wire.
#[derive(Debug)]
pub struct Model {
    pub operations: BTreeMap<String, Operation>,
    pub shapes: BTreeMap<String, Shape>,
    pub errors: BTreeMap<String, ErrorShape>,
}

/// One operation.
#[derive(Debug)]
pub struct Operation {
    pub method: String,
    pub path: Vec<Segment>,
    pub literal_query: Option<String>,
    pub status: u64,
    pub input: Option<String>,
    pub output: Option<String>,
    pub errors: Vec<String>,
    /// The member of the output that holds the page, where the model names a paginator.
    pub result_key: Option<String>,
}

/// One part of a path between slashes.
#[derive(Debug, PartialEq)]
pub enum Segment {
    Literal(String),
    Label(String),
}

/// An error the model names.
#[derive(Debug)]
pub struct ErrorShape {
    pub status: u64,
}

/// A shape that is no error.
#[derive(Debug, PartialEq)]
pub enum Shape {
    String { min: Option<u64>, max: Option<u64>, pattern: Option<String>, sensitive: bool },
    Enum(Vec<String>),
    Integer { min: Option<i64>, max: Option<i64> },
    Long { min: Option<i64>, max: Option<i64> },
    Boolean,
    Timestamp,
    List { member: String, min: Option<u64>, max: Option<u64>, sensitive: bool },
    Map { key: String, value: String, min: Option<u64>, max: Option<u64>, sensitive: bool },
    Structure(BTreeMap<String, Member>),
}

/// A member of a structure.
#[derive(Debug, PartialEq)]
pub struct Member {
    pub shape: String,
    pub required: bool,
    pub location: Location,
}

/// Where a member travels.
#[derive(Debug, PartialEq)]
pub enum Location {
    Body,
    Uri(String),
    Query(String),
}

type Object = Map<String, Value>;

impl Model {
    /// Reads the model file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
        let service = object(&root["service"], "service")?;
        let protocol = &service["metadata"]["protocol"];
        if protocol != "rest-json" {
            return Err(format!("protocol {protocol}: only rest-json is known"));
        }
        let mut model =
            Self { operations: BTreeMap::new(), shapes: BTreeMap::new(), errors: BTreeMap::new() };
        for (name, shape) in object(&service["shapes"], "shapes")? {
            let shape = object(shape, name)?;
            if flag(shape, "exception") {
                model.errors.insert(name.clone(), error_shape(shape));
            } else {
                let parsed = parse_shape(shape).map_err(|e| format!("shape {name}: {e}"))?;
                model.shapes.insert(name.clone(), parsed);
            }
        }
        let pages = &root["paginators"]["pagination"];
        for (name, operation) in object(&service["operations"], "operations")? {
            let operation = object(operation, name)
                .and_then(|o| parse_operation(o, &pages[name]))
                .map_err(|e| format!("operation {name}: {e}"))?;
            model.operations.insert(name.clone(), operation);
        }
        model.check_references()?;
        Ok(model)
    }

    /// The members of a structure; empty for any other shape.
    pub fn members(&self, structure: &str) -> impl Iterator<Item = (&String, &Member)> {
        match self.shapes.get(structure) {
            Some(Shape::Structure(members)) => Some(members),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    /// Whether a value of `from` can hold, without a list or a map between, a value of `to`: such
    /// a member needs a box.
    pub fn holds_inline(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut pending = vec![from];
        while let Some(name) = pending.pop() {
            if name == to {
                return true;
            }
            if seen.insert(name) {
                pending.extend(self.members(name).map(|(_, member)| member.shape.as_str()));
            }
        }
        false
    }

    /// Every name that is referred to exists, and members outside the body stand in inputs only.
    fn check_references(&self) -> Result<(), String> {
        let known = |name: &String, by: &str| {
            if self.shapes.contains_key(name) {
                Ok(())
            } else {
                Err(format!("{by}: no shape {name}"))
            }
        };
        let mut inputs = BTreeSet::new();
        for (name, operation) in &self.operations {
            for shape in operation.input.iter().chain(&operation.output) {
                known(shape, name)?;
            }
            if let Some(input) = &operation.input
                && !inputs.insert(input)
            {
                return Err(format!("{name}: the input {input} belongs to another operation too"));
            }
            if let Some(error) = operation.errors.iter().find(|e| !self.errors.contains_key(*e)) {
                return Err(format!("{name}: no error {error}"));
            }
        }
        for (name, shape) in &self.shapes {
            match shape {
                Shape::List { member, .. } => known(member, name)?,
                Shape::Map { key, value, .. } => known(key, name).and(known(value, name))?,
                Shape::Structure(members) => {
                    for (member, detail) in members {
                        known(&detail.shape, name)?;
                        if detail.location != Location::Body && !inputs.contains(name) {
                            return Err(format!(
                                "{name}.{member} travels outside the body of a \
                                 response or of a nested structure: teach gen_wire this"
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn error_shape(shape: &Object) -> ErrorShape {
    let fallback = if flag(shape, "fault") { 500 } else { 400 };
    let status = shape.get("error").and_then(|e| e["httpStatusCode"].as_u64()).unwrap_or(fallback);
    ErrorShape { status }
}

fn parse_operation(operation: &Object, page: &Value) -> Result<Operation, String> {
    let http = object(operation.get("http").unwrap_or(&Value::Null), "http")?;
    let uri = string(http, "requestUri")?;
    let (path, query) = uri.split_once('?').map_or((uri.as_str(), None), |(p, q)| (p, Some(q)));
    if query.is_some_and(|query| query.contains(['=', '&'])) {
        return Err(format!("literal query in {uri}: only a bare key is known"));
    }
    let path = path.trim_matches('/').split('/').map(segment).collect::<Result<_, _>>()?;
    let reference = |key: &str| operation.get(key).map(|v| referred(v, key)).transpose();
    let errors = operation.get("errors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut errors = errors.iter().map(|e| referred(e, "errors")).collect::<Result<Vec<_>, _>>()?;
    errors.sort();
    let result_key = if page.is_null() {
        None
    } else {
        for (key, wanted) in [
            ("input_token", "NextToken"),
            ("output_token", "NextToken"),
            ("limit_key", "MaxResults"),
        ] {
            if page[key] != wanted {
                return Err(format!("paginator: {key} is {}, only {wanted} is known", page[key]));
            }
        }
        Some(page["result_key"].as_str().ok_or("paginator without result_key")?.to_owned())
    };
    Ok(Operation {
        method: string(http, "method")?,
        path,
        literal_query: query.map(str::to_owned),
        status: http.get("responseCode").and_then(Value::as_u64).unwrap_or(200),
        input: reference("input")?,
        output: reference("output")?,
        errors,
        result_key,
    })
}

fn segment(text: &str) -> Result<Segment, String> {
    match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(label) if label.ends_with('+') => Err(format!("greedy label {text} is not known")),
        Some(label) => Ok(Segment::Label(label.to_owned())),
        None if text.is_empty() || text.contains(['{', '}', '%']) => {
            Err(format!("path segment {text:?} is not known"))
        }
        None => Ok(Segment::Literal(text.to_owned())),
    }
}

fn parse_shape(shape: &Object) -> Result<Shape, String> {
    const KNOWN: &[&str] = &[
        "type",
        "min",
        "max",
        "pattern",
        "enum",
        "sensitive",
        "box",
        "member",
        "key",
        "value",
        "members",
        "required",
    ];
    if let Some(key) = shape.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("trait {key:?} is not known: teach gen_wire what it means"));
    }
    let sensitive = flag(shape, "sensitive");
    let (low, high) = (bound(shape, "min")?, bound(shape, "max")?);
    let size = |bound: Option<i64>| bound.map(u64::try_from).transpose().map_err(|e| e.to_string());
    let (min, max) = (low, high);
    Ok(match string(shape, "type")?.as_str() {
        "string" => match shape.get("enum").and_then(Value::as_array) {
            Some(values) => {
                Shape::Enum(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            None => Shape::String {
                min: size(low)?,
                max: size(high)?,
                pattern: shape.get("pattern").and_then(Value::as_str).map(str::to_owned),
                sensitive,
            },
        },
        "integer" => Shape::Integer { min, max },
        "long" => Shape::Long { min, max },
        "boolean" => Shape::Boolean,
        "timestamp" => Shape::Timestamp,
        "list" => Shape::List {
            member: referred(&shape["member"], "member")?,
            min: size(low)?,
            max: size(high)?,
            sensitive,
        },
        "map" => Shape::Map {
            key: referred(&shape["key"], "key")?,
            value: referred(&shape["value"], "value")?,
            min: size(low)?,
            max: size(high)?,
            sensitive,
        },
        "structure" => Shape::Structure(members(shape)?),
        other => {
            return Err(format!("type {other} is not known: teach gen_wire and the crate wire"));
        }
    })
}

fn members(shape: &Object) -> Result<BTreeMap<String, Member>, String> {
    let required: BTreeSet<&str> = shape
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut members = BTreeMap::new();
    for (name, member) in object(&shape["members"], "members")? {
        let member = object(member, name)?;
        // An idempotency token is filled in by clients; to a server it is a plain member.
        let known = ["shape", "location", "locationName", "idempotencyToken"];
        if let Some(key) = member.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("member {name}: trait {key:?} is not known"));
        }
        let location = match member.get("location").and_then(Value::as_str) {
            None if member.contains_key("locationName") => {
                return Err(format!(
                    "member {name}: a body member under another name is not known"
                ));
            }
            None => Location::Body,
            Some("uri") => Location::Uri(string(member, "locationName")?),
            Some("querystring") => Location::Query(string(member, "locationName")?),
            Some(other) => return Err(format!("member {name}: location {other} is not known")),
        };
        let required = required.contains(name.as_str());
        members
            .insert(name.clone(), Member { shape: string(member, "shape")?, required, location });
    }
    Ok(members)
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Object, String> {
    value.as_object().ok_or_else(|| format!("{what} is not an object"))
}

fn string(object: &Object, key: &str) -> Result<String, String> {
    object
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("no string {key}"))
}

fn referred(value: &Value, what: &str) -> Result<String, String> {
    value["shape"].as_str().map(str::to_owned).ok_or_else(|| format!("{what} refers to no shape"))
}

fn flag(object: &Object, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn bound(object: &Object, key: &str) -> Result<Option<i64>, String> {
    object
        .get(key)
        .map(|v| v.as_i64().ok_or_else(|| format!("{key} is not an integer")))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy(shapes: &str) -> Result<Model, String> {
        Model::parse(&format!(
            r#"{{"service": {{"metadata": {{"protocol": "rest-json"}}, "operations": {{}}, "shapes": {shapes}}}}}"#
        ))
    }

    #[test]
    fn unknown_constructs_are_refused_by_name() {
        let error = toy(r#"{"B": {"type": "blob"}}"#).unwrap_err();
        assert!(error.contains("shape B: type blob"), "{error}");
        let error = toy(r#"{"S": {"type": "string", "deprecated": true}}"#).unwrap_err();
        assert!(error.contains("deprecated"), "{error}");
        let error = toy(r#"{"S": {"type": "string"}, "O": {"type": "structure",
                "members": {"A": {"shape": "S", "location": "header", "locationName": "x-a"}}}}"#)
        .unwrap_err();
        assert!(error.contains("location header"), "{error}");
        let error = toy(r#"{"L": {"type": "list", "member": {"shape": "Gone"}}}"#).unwrap_err();
        assert!(error.contains("no shape Gone"), "{error}");
    }

    #[test]
    fn recursion_is_seen_only_where_nothing_on_the_heap_lies_between() {
        let model = toy(
            r#"{"Tree": {"type": "structure", "members": {"Left": {"shape": "Branch"}, "All": {"shape": "Trees"}}},
                "Branch": {"type": "structure", "members": {"Tip": {"shape": "Tree"}}},
                "Trees": {"type": "list", "member": {"shape": "Tree"}}}"#,
        )
        .unwrap();
        assert!(model.holds_inline("Branch", "Tree"));
        assert!(!model.holds_inline("Trees", "Tree"));
    }
}
