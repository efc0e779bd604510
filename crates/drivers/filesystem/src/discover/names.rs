//! Names to register things under.

use std::collections::BTreeSet;

/// The longest name a resource may have.
const LONGEST: usize = 64;

/// Names that are taken.
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Those that resources have already.
    pub fn beside<'a>(registered: impl Iterator<Item = &'a String>) -> Self {
        Self(registered.cloned().collect())
    }

    /// A name for the directory `path` that nothing else has: its parts, joined.
    pub fn suggest(&mut self, path: &str) -> String {
        let plain: String =
            path.chars().map(|c| if is_plain(c) { c } else { '-' }).collect::<String>();
        let plain = plain.trim_matches(['-', '.', '_']);
        // The end of a path tells more than its beginning.
        let tail = &plain[plain.len().saturating_sub(LONGEST - 4)..];
        let tail = tail.trim_start_matches(['-', '.', '_']);
        let base = if tail.is_empty() { "host" } else { tail };
        let mut name = base.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || ['-', '.', '_'].contains(&c)
}

#[cfg(test)]
mod tests {
    use provault_domain::resource::validate_name;

    use super::*;

    #[test]
    fn every_path_has_a_name_of_its_own() {
        let taken = ["etc".to_owned()];
        let mut names = Names::beside(taken.iter());
        let long = format!("/srv/{}", "deep/".repeat(40));
        let paths =
            ["/etc", "/home/ann", "/home-ann", "/", "/srv/Ärger & Co", "/srv/.hidden", &long];
        let names: Vec<String> = paths.iter().map(|path| names.suggest(path)).collect();
        assert_eq!(names[..4], ["etc-2", "home-ann", "home-ann-2", "host"]);
        for name in &names {
            validate_name("Name", name).unwrap();
        }
    }
}
