//! Samples of every structure, made from the schema, and calls by operation.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.
#![allow(dead_code)] // Each test file uses its share.

use provault_wire::{
    DecodeError, EncodeError, EncodedRequest, Location, NoOutput, Operation, OperationInput,
    RouteMatch, Shape, Structure, ValidationError, types::*,
};
use serde_json::{Map, Value, json};

/// Texts that trip a careless encoder: separators, escapes, signs of queries, other scripts.
const TEXTS: &[&str] = &[
    "plain",
    "arn:aws:backup:us-east-1:123456789012:recovery-point:1/2",
    "a/b//c",
    "50%2F %",
    "x?y&z=1+1 #end",
    "Zoë 備份 🗄",
    "\"quoted\" \\ back",
];

/// A text for each pattern of the model.
pub fn fitting(pattern: &str) -> &'static str {
    match pattern {
        r"^[a-zA-Z0-9\-\_\.]{1,50}$" => "a.B-c_9",
        r".*\S.*" => "a description",
        "[a-zA-Z][_a-zA-Z0-9]*" => "frame_work1",
        "^[0-9]{12}$" => "123456789012",
        r"^[a-zA-Z0-9\-\_]{2,50}$" => "Vault_1-x",
        r"^(\*|[a-zA-Z0-9\-\_]{2,50})$" => "*",
        "^[a-zA-Z0-9_]{1,200}$" => "tier_1",
        r"(arn:aws[a-z-]*:[a-z-\d]+:[a-z-\d]+:).+" => "arn:aws-cn:ec2:eu-west-1::snapshot/snap-0 1",
        r"(arn:aws[a-z-]*:[a-z-\d]+:).+" => "arn:aws:s3:::bucket/with%2Fodd",
        other if other.starts_with("(arn") => {
            "arn:aws:backup:us-east-1:123456789012:accesspoint/point-1"
        }
        other if other.starts_with(r"[\da-z]{1}") => "point-1",
        other => panic!("no sample for the pattern {other}"),
    }
}

/// Makes values of shapes; each call differs from the one before.
pub struct Samples(usize);

impl Samples {
    pub fn new(seed: usize) -> Self {
        Self(seed)
    }

    pub fn structure(
        &mut self,
        structure: &Structure,
        keep: impl Fn(bool) -> bool + Copy,
    ) -> Value {
        let members = structure.members.iter().filter(|member| keep(member.required));
        let members: Map<String, Value> = members
            .map(|member| (member.name.to_owned(), self.value(member.shape, keep)))
            .collect();
        Value::Object(members)
    }

    fn value(&mut self, shape: &Shape, keep: impl Fn(bool) -> bool + Copy) -> Value {
        self.0 += 1;
        let turn = self.0;
        let number = |min: Option<i64>, max: Option<i64>, free: [i64; 3]| match (min, max) {
            (None, None) => free[turn % 3],
            (min, max) => [min, max][turn % 2].or(min).or(max).unwrap_or_default(),
        };
        match shape {
            Shape::String { pattern: Some(pattern), .. } => json!(fitting(pattern.text)),
            Shape::String { .. } => json!(TEXTS[turn % TEXTS.len()]),
            Shape::Enum(known) => json!(known[turn % known.len()]),
            Shape::Integer(range) => {
                json!(number(range.min, range.max, [i32::MAX.into(), i32::MIN.into(), 0]))
            }
            Shape::Long(range) => json!(number(range.min, range.max, [i64::MAX, i64::MIN, 0])),
            Shape::Boolean => json!(turn.is_multiple_of(2)),
            Shape::Timestamp => [json!(1_709_209_815), json!(1_709_209_815.25)][turn % 2].clone(),
            Shape::List { member, .. } => {
                Value::Array((0..2).map(|_| self.value(member, keep)).collect())
            }
            Shape::Map { key, value, .. } => {
                let entries = (0..2).map(|_| {
                    let key = self.value(key, keep).as_str().unwrap_or_default().to_owned();
                    (key, self.value(value, keep))
                });
                Value::Object(entries.collect())
            }
            Shape::Structure(structure) => self.structure(structure, keep),
        }
    }
}

/// An input in its JSON form, and what validation says of it.
pub type Decoded = (Value, Result<(), ValidationError>);

/// What a test does with the input type of an operation.
pub struct Calls {
    pub operation: Operation,
    /// Decodes, and gives the input back in its JSON form with what validation says of it.
    pub decode: fn(&RouteMatch, &str, &[u8]) -> Result<Decoded, DecodeError>,
    /// Encodes the input of this JSON form.
    pub encode: fn(Value) -> Result<EncodedRequest, EncodeError>,
    /// Makes an answer of the output of this JSON form.
    pub respond: fn(Value) -> Vec<u8>,
    /// Reads an answer back into its JSON form.
    pub read: fn(&[u8]) -> Value,
}

fn calls_of<I: OperationInput>() -> Calls {
    Calls {
        operation: I::OPERATION,
        decode: |route, query, body| {
            let input = I::decode(route, query, body)?;
            let validated = input.validate();
            Ok((serde_json::to_value(input).unwrap(), validated))
        },
        encode: |value| serde_json::from_value::<I>(value).unwrap().encode(),
        respond: |value| {
            let output = serde_json::from_value::<I::Output>(value).unwrap();
            I::encode_output(&output).unwrap()
        },
        read: |body| serde_json::to_value(I::decode_output(body).unwrap()).unwrap(),
    }
}

macro_rules! table {
    ($($operation:ident: $input:ident => $output:ident;)*) => {
        vec![$({
            // The two names must belong together.
            let _: Option<<$input as OperationInput>::Output> = None::<$output>;
            calls_of::<$input>()
        }),*]
    };
}

/// The calls of every operation.
pub fn calls() -> Vec<Calls> {
    provault_wire::for_each_operation!(table)
}

/// The calls of one operation.
pub fn calls_for(operation: Operation) -> Calls {
    calls().into_iter().find(|calls| calls.operation == operation).unwrap()
}

/// Whether a member of the input stands in the body.
pub fn in_body(operation: Operation, name: &str) -> bool {
    operation.input().members.iter().any(|m| m.name == name && m.location == Location::Body)
}
