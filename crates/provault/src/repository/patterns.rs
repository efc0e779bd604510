//! Patterns of paths as options of the command line; what they mean is the file system driver's to say.

use provault_domain::Invalid;
use provault_driver_filesystem::patterns;
pub(crate) use provault_driver_filesystem::patterns::{Patterns, is_pattern, literal, upwards};

use super::failure::Failure;
use super::usage;

/// Refuses what cannot be a pattern, by the name of its option.
pub(crate) fn of_option(option: &str, patterns: &[String]) -> Result<Patterns, Failure> {
    Patterns::new(option, patterns).map_err(|invalid| told(option, &invalid))
}

/// The globs, relative to the directory `root` (absolute, without a trailing slash), that mean what
/// `pattern` means below it. Refuses what cannot be a pattern, by the name of its option.
pub(crate) fn below(option: &str, pattern: &str, root: &str) -> Result<Vec<String>, Failure> {
    patterns::below(option, pattern, root).map_err(|invalid| told(option, &invalid))
}

/// In the words of the command line.
fn told(option: &str, invalid: &Invalid) -> Failure {
    let message = invalid.message.strip_prefix(option).unwrap_or(&invalid.message);
    usage(format!("{option} {}", message.trim_start_matches([':', ' ']).trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_pattern_is_refused_by_the_name_of_its_option() {
        let refused = of_option("--include", &["[a".to_owned()]).unwrap_err().to_string();
        assert!(refused.starts_with("--include '[a' is no pattern"), "{refused}");
        assert!(matches!(below("--exclude", "../x", "/srv"), Err(Failure::Usage(_))));
    }
}
