//! `docs/openapi.json`: our own operations for tools, made of the table above and of the types.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::*;

/// The table of operations stands in the documentation of the module.
const TABLE: &str = include_str!("../provault.rs");
/// The document, from this crate's directory.
const DOCUMENT: &str = "../../docs/openapi.json";
/// Set to write the document instead of comparing it.
const WRITE: &str = "PROVAULT_WRITE_OPENAPI";

/// One row of the table.
struct Row<'a> {
    method: &'a str,
    path: String,
    /// Labels of the path, with what may stand in their place.
    labels: Vec<(String, &'a str)>,
    query: Vec<&'a str>,
    /// What it is called.
    name: &'a str,
    /// The action it needs.
    action: &'a str,
    input: Option<&'a str>,
    output: Option<&'a str>,
}

impl<'a> Row<'a> {
    /// `` | `GET /path?query=` | `provault:Action` as `Name` | [`Input`] → [`Output`] | ``, where `` as `Name` ``
    /// is left out when the action has the same name.
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<&str> =
            line.strip_prefix("//! | `")?.trim_end().trim_end_matches('|').split(" | ").collect();
        let [asked, action, types] = cells[..] else { panic!("three cells: {line}") };
        let (method, path) = asked.trim_end_matches('`').split_once(' ').unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut labels = Vec::new();
        let mut plain = String::new();
        for part in path.split_inclusive('/') {
            let segment = part.trim_end_matches('/');
            let Some(label) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                plain += part;
                continue;
            };
            let word = label.split(' ').next().unwrap().to_lowercase();
            let _ = write!(plain, "{{{word}}}{}", &part[segment.len()..]);
            labels.push((word, label));
        }
        let named =
            |text: &'a str| text.split_once("[`").and_then(|(_, t)| Some(t.split_once("`]")?.0));
        let (input, output) = types.split_once('→').unwrap_or((types, ""));
        let (action, other) = action.split_once(" as ").unwrap_or((action, action));
        let action = action.trim_matches('`');
        let name = other.trim_matches('`').trim_start_matches("provault:");
        Some(Self {
            method,
            path: plain,
            labels,
            query: query
                .split('&')
                .map(|q| q.trim_end_matches('='))
                .filter(|q| !q.is_empty())
                .collect(),
            name,
            action,
            input: named(input),
            output: named(output),
        })
    }

    fn document(&self, schemas: &Map<String, Value>) -> Value {
        let reference = |name: &str| {
            assert!(schemas.contains_key(name), "{name}: add it to `schemas` in openapi.rs");
            json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } })
        };
        let mut parameters: Vec<Value> = Vec::new();
        for (name, meaning) in &self.labels {
            parameters.push(json!({ "name": name, "in": "path", "required": true,
                "description": meaning, "schema": { "type": "string" } }));
        }
        for name in &self.query {
            parameters.push(json!({ "name": name, "in": "query", "schema": { "type": "string" } }));
        }
        let content = match self.output {
            Some(output) => reference(output),
            None => {
                json!({ "application/json": { "schema": { "type": "object", "maxProperties": 0 } } })
            }
        };
        let mut operation = json!({
            "operationId": self.name,
            "description": format!("Needs the action `{}`.", self.action),
            "x-provault-action": self.action,
            "responses": {
                "200": { "description": "Done.", "content": content },
                "default": { "$ref": "#/components/responses/Error" },
            },
        });
        if !parameters.is_empty() {
            operation["parameters"] = Value::from(parameters);
        }
        if let Some(input) = self.input {
            operation["requestBody"] = json!({ "required": true, "content": reference(input) });
        }
        operation
    }
}

/// The schemas of all inputs and outputs, and of what they are made of.
fn schemas() -> Map<String, Value> {
    fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
        let _ = generator.subschema_for::<T>();
    }
    macro_rules! all {
        ($generator:ident: $($name:ident)*) => { $(add::<$name>(&mut $generator);)* };
    }
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    all! { generator:
        ServerInfo ReloadedSettings Status Health Discovery AddResourceInput UpdateResourceInput Resource ResourceList
        ChangeTagsInput ExemptResourceInput UpdateRetentionInput PutTestingInput Testing
        PointRetention AddNameInput Named NamedList AddUserInput User UserList UpdateUserInput
        CreatedAccessKey UpdateAccessKeyInput AccessKey AuditRecordList SubscribeInput
        Subscription SubscriptionList SubscriptionTest DeliveryList Delivery JobLog
        PreviewRestoreInput RestorePreview StartRestoreTestInput RestoreTest RestoreTestList
        EvidenceList EvidencePage Repository ExportedPassword ImportVaultInput CareRun
        ExportRecoveryKitInput RecoveryKit StartCareRunInput CareRunList VaultCare
        UpdateVaultCareInput
    }
    generator.take_definitions(true)
}

fn document() -> Value {
    let schemas = schemas();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let rows: Vec<Row> = TABLE.lines().filter_map(Row::parse).collect();
    for row in &rows {
        let operation = row.document(&schemas);
        let methods = paths.entry(row.path.clone()).or_default();
        let earlier = methods.insert(row.method.to_lowercase(), operation);
        assert!(earlier.is_none(), "{} {} stands in the table twice", row.method, row.path);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Provault's own operations",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
            "description": "What AWS Backup has no words for. The AWS Backup API itself, which the same \
                server answers, is described by AWS's service model. Times are seconds since 1970. An \
                unknown member is refused.",
        },
        "servers": [{ "url": "/provault/v1" }],
        "security": [{ "sigv4": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "Refused, and nothing was changed. The name of the error stands in \
                        X-Amzn-Errortype.",
                    "headers": { "X-Amzn-Errortype": { "schema": { "type": "string" } } },
                    "content": { "application/json": { "schema": {
                        "type": "object",
                        "properties": { "Message": { "type": "string" } },
                    } } },
                },
            },
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4 for the service `backup` and the server's region.",
                },
            },
        },
    })
}

#[test]
fn the_document_is_that_of_the_table_and_the_types() {
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let line = committed.lines().zip(text.lines()).take_while(|(a, b)| a == b).count() + 1;
    assert!(
        committed == text,
        "docs/openapi.json differs from line {line} on; {WRITE}=1 cargo test -p provault-wire openapi \
         writes it"
    );
}

#[test]
fn a_row_is_read_as_it_is_written() {
    let row = "//! | `POST /topics/{name or ARN}/subscriptions?since=&limit=` | `provault:Subscribe` | [`In`] → [`Out`] |";
    let row = Row::parse(row).unwrap();
    assert_eq!((row.method, &*row.path), ("POST", "/topics/{name}/subscriptions"));
    assert_eq!(row.labels, [("name".to_owned(), "name or ARN")]);
    assert_eq!(row.query, ["since", "limit"]);
    assert_eq!((row.name, row.input, row.output), ("Subscribe", Some("In"), Some("Out")));
    assert_eq!(row.action, "provault:Subscribe");
    let row = Row::parse("//! | `DELETE /roles/{id}` | `provault:RemoveRole` | |").unwrap();
    assert_eq!((row.input, row.output), (None, None));
    let row = "//! | `GET /a/pieces` | `provault:ListAll` as `ListPieces` | → [`Out`] |";
    let row = Row::parse(row).unwrap();
    assert_eq!((row.name, row.action), ("ListPieces", "provault:ListAll"));
    assert!(Row::parse("//! | method and path | action | input → output |").is_none());
    assert!(Row::parse("//! |---|---|---|").is_none());
}
