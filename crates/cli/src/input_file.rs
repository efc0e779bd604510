//! Files given to a command: plans and selections in JSON, documents, secrets.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::CliError;
use crate::words::Pair;

/// Reads a file, or standard input for `-`.
pub(crate) fn text(path: &Path) -> Result<String, CliError> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|e| CliError::usage(format!("cannot read {}: {e}", path.display())))
}

/// Reads a JSON file, or standard input for `-`.
pub(crate) fn load(path: &Path) -> Result<Value, CliError> {
    let shown = path.display();
    let text = text(path)?;
    serde_json::from_str(&text).map_err(|e| CliError::usage(format!("{shown} is not JSON: {e}")))
}

/// The first line of a file that holds a secret, or of standard input for `-`.
pub(crate) fn first_line(path: &Path) -> Result<String, CliError> {
    let shown = path.display();
    match text(path)?.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(CliError::usage(format!("{shown} is empty; its first line is taken"))),
    }
}

/// The `KEY=VALUE` lines of a file, or of standard input for `-`. No error says what stands in a line: it may
/// be a secret.
pub(crate) fn pairs(path: &Path) -> Result<Vec<Pair>, CliError> {
    let text = text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    let pair = |(index, line): (usize, &str)| {
        line.parse().map_err(|_: String| {
            CliError::usage(format!("{}, line {}: write KEY=VALUE", path.display(), index + 1))
        })
    };
    lines.map(pair).collect()
}

/// Takes `value` as a `T` of the API. A member that `T` does not have is refused by its name: it
/// would be forgotten.
pub(crate) fn typed<T: DeserializeOwned + Serialize>(
    path: &Path,
    value: &Value,
) -> Result<T, CliError> {
    let wrong = |why: String| CliError::usage(format!("{}: {why}", path.display()));
    let typed: T = serde_json::from_value(value.clone()).map_err(|e| wrong(e.to_string()))?;
    let kept = serde_json::to_value(&typed).map_err(|e| wrong(e.to_string()))?;
    match forgotten(value, &kept, "") {
        None => Ok(typed),
        Some(member) => Err(wrong(format!(
            "there is no member {member}; names are written as in AWS Backup's API, such as \
             BackupPlanName"
        ))),
    }
}

/// The path of the first member of `given` that is not in `kept`.
fn forgotten(given: &Value, kept: &Value, at: &str) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), kept) => given.iter().find_map(|(key, value)| {
            let dot = if at.is_empty() { "" } else { "." };
            let at = format!("{at}{dot}{key}");
            match kept.get(key) {
                // Null is an absent member.
                None if value.is_null() => None,
                None => Some(at),
                Some(kept) => forgotten(value, kept, &at),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => {
            given.iter().zip(kept).enumerate().find_map(|(index, (given, kept))| {
                forgotten(given, kept, &format!("{at}[{index}]"))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use provault_wire::types::BackupPlanInput;
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_taken_as_they_stand_and_an_error_shows_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            pairs(&path)
                .map(|all| all.into_iter().map(|pair| (pair.key, pair.value)).collect::<Vec<_>>())
        };
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let text =
            "# of the application\n\nURL=postgres://u:p=w@h/#d \r\n  # more\nQUOTED=\"x\"\nNONE=";
        let expected =
            vec![own("URL", "postgres://u:p=w@h/#d "), own("QUOTED", "\"x\""), own("NONE", "")];
        assert_eq!(read(text).unwrap(), expected);
        for wrong in ["A=1\nhush\n", "A=1\n=hush\n"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("line 2") && !error.contains("hush"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(pairs(&path).is_err());
    }

    #[test]
    fn a_misspelt_member_is_named() {
        let path = Path::new("plan.json");
        let good = json!({"BackupPlanName": "p", "Rules": [
            {"RuleName": "r", "TargetBackupVaultName": "v", "Lifecycle": {"DeleteAfterDays": 3}},
        ]});
        let plan: BackupPlanInput = typed(path, &good).unwrap();
        assert_eq!(serde_json::to_value(&plan).unwrap(), good);
        let mut wrong = good;
        wrong["Rules"][0]["Lifecycle"]["DeleteAfterDay"] = 3.into();
        let error = typed::<BackupPlanInput>(path, &wrong).unwrap_err().to_string();
        assert!(error.contains("Rules[0].Lifecycle.DeleteAfterDay;"), "{error}");
    }
}
