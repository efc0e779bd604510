//! The lab's sample application in a directory of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::executable;

/// How many notes the application has.
pub const NOTES: usize = 25;

/// A small web application: program and data in one directory. It is naive on purpose: without its
/// data it answers 200 and shows nothing.
pub struct SampleApp {
    /// Where it lies.
    pub directory: PathBuf,
}

impl SampleApp {
    /// Writes it.
    pub fn write(directory: &Path) -> Self {
        fs::create_dir_all(directory.join("bin")).unwrap();
        fs::create_dir_all(directory.join("data")).unwrap();
        let app = Self { directory: directory.to_owned() };
        // Without symbols it is a third as large. Without `strip` it is the same program.
        let stripped =
            Command::new("strip").arg("-o").arg(app.program()).arg(executable()).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(executable(), app.program()).unwrap();
        }
        let now = jiff::Timestamp::now();
        let notes: Vec<Value> = (0..NOTES)
            .map(|n| {
                let age = jiff::SignedDuration::from_mins(i64::try_from(n).unwrap());
                json!({ "at": (now - age).to_string(), "text": format!("note {n}") })
            })
            .collect();
        fs::write(app.data(), serde_json::to_vec(&notes).unwrap()).unwrap();
        fs::write(directory.join("README.txt"), "A sample application.\n").unwrap();
        app
    }

    /// Its program.
    pub fn program(&self) -> PathBuf {
        self.directory.join("bin/myapp")
    }

    /// Its data.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data/notes.json")
    }

    /// The resource as it is registered over HTTP: an answer with status 200, every note there,
    /// the newest of them fresh.
    pub fn resource(&self, name: &str) -> Value {
        json!({
            "Kind": "filesystem",
            "Name": name,
            "Config": { "path": self.directory },
            "Tags": { "workload": "myapp" },
            "Service": { "Command": ["bin/myapp", "__sample-app"], "StartTimeoutSeconds": 30 },
            "Probes": [
                {
                    "Type": "Http", "Port": 8080, "Path": "/",
                    "Assertions": [{ "Type": "Status", "Equals": 200 }],
                },
                {
                    "Type": "Http", "Port": 8080, "Path": "/health",
                    "Assertions": [
                        { "Type": "JsonAtLeast", "Pointer": "/notes", "Minimum": NOTES },
                        { "Type": "JsonNewerThan", "Pointer": "/newest", "MaxAgeSeconds": 3600 },
                    ],
                },
            ],
        })
    }
}
