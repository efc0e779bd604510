//! Names: from the model's to Rust's.

/// Splits `SNSTopicArn` into `SNS`, `Topic`, `Arn`.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (i, &c) in chars.iter().enumerate() {
        if matches!(c, '_' | '-' | '.' | ' ') {
            words.push(String::new());
            continue;
        }
        let starts = i == 0
            || c.is_ascii_uppercase()
                && (!chars[i - 1].is_ascii_uppercase()
                    || chars.get(i + 1).is_some_and(char::is_ascii_lowercase));
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The field of a member: `BackupVaultName` becomes `backup_vault_name`, `Type` becomes `type_`.
pub fn field(member: &str) -> String {
    let name = words(member).join("_").to_ascii_lowercase();
    if matches!(name.as_str(), "type" | "match" | "move" | "ref" | "use" | "where" | "in") {
        return name + "_";
    }
    name
}

/// What serde's `rename_all = "PascalCase"` makes of a field.
pub fn serde_pascal(field: &str) -> String {
    field.split('_').map(capital).collect()
}

/// The static of a shape: `BackupVaultName` becomes `BACKUP_VAULT_NAME`.
pub fn screaming(shape: &str) -> String {
    words(shape).join("_").to_ascii_uppercase()
}

/// The variant of an enum value: `TIMED_OUT` becomes `TimedOut`.
pub fn variant(value: &str) -> String {
    value.split(['_', '-', '.', '/', ' ']).map(|word| capital(&word.to_ascii_lowercase())).collect()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_words_in_them() {
        assert_eq!(field("BackupVaultName"), "backup_vault_name");
        assert_eq!(field("SNSTopicArn"), "sns_topic_arn");
        assert_eq!(field("ManagedByAWSBackupOnly"), "managed_by_aws_backup_only");
        assert_eq!(field("Type"), "type_");
        assert_eq!(serde_pascal("type_"), "Type");
        assert_eq!(screaming("GetBackupPlanFromJSONInput"), "GET_BACKUP_PLAN_FROM_JSON_INPUT");
        assert_eq!(variant("S3_BACKUP_OBJECT_FAILED"), "S3BackupObjectFailed");
    }
}
