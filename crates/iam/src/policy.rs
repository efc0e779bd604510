//! Identity policies: a small part of the IAM policy language, and nothing of it half-understood.

mod glob;
mod json;

pub use json::PolicyError;

use crate::action::{ACTIONS, Scope};

/// A parsed identity policy.
///
/// Understood: `Version`, `Id`, `Statement` (one or a list), `Sid`, `Effect`, `Action` or
/// `NotAction`, `Resource` or `NotResource`, with the wildcards `*` and `?`. Refused when parsing,
/// so that no policy means less than it says: `Condition`, `Principal`, policy variables (`${…}`)
/// and any member that IAM does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Patterns,
    resources: Patterns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Patterns {
    /// `NotAction`, `NotResource`: everything that none of the patterns matches.
    negated: bool,
    patterns: Vec<String>,
}

/// What policies say about one action on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// At least one statement allows it, none denies it.
    Allowed,
    /// A statement denies it; this wins over every Allow.
    ExplicitlyDenied,
    /// No statement speaks about it.
    ImplicitlyDenied,
}

impl Policy {
    /// Evaluates several policies together, as IAM does: an explicit deny wins, and what nothing
    /// allows is denied. Actions compare without case, resources with.
    pub fn evaluate<'p>(
        policies: impl IntoIterator<Item = &'p Self>,
        action: &str,
        resource_arn: &str,
    ) -> Decision {
        let mut decision = Decision::ImplicitlyDenied;
        for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
            let speaks = statement.actions.hit(|pattern| glob::action(pattern, action))
                && statement.resources.hit(|pattern| glob::resource(pattern, resource_arn));
            match (speaks, statement.allow) {
                (true, false) => return Decision::ExplicitlyDenied,
                (true, true) => decision = Decision::Allowed,
                (false, _) => {}
            }
        }
        decision
    }
}

impl Policy {
    /// Refuses statements that mean less than they seem to: an action of this server that is decided on
    /// the account as a whole beside a resource, or an action of ours that there is not. To be asked when
    /// a policy is attached; one that was attached before still says what it says.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (at, statement) in self.statements.iter().enumerate() {
            let on_account = statement.resources.hit(|pattern| glob::resource(pattern, "*"));
            let named = statement.actions.patterns.iter().filter(|_| !statement.actions.negated);
            for action in named {
                let place = format!("Statement[{at}]");
                let mut meant =
                    ACTIONS.iter().filter(|(name, _)| glob::action(action, name)).peekable();
                if meant.peek().is_none() {
                    if action.to_ascii_lowercase().starts_with("provault:") {
                        return Err(PolicyError::NoSuchAction { place, action: action.clone() });
                    }
                    continue;
                }
                if !on_account && meant.all(|(_, scopes)| *scopes == [Scope::Account]) {
                    return Err(PolicyError::NeverDecided { place, action: action.clone() });
                }
            }
        }
        Ok(())
    }
}

impl Patterns {
    fn hit(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern)) != self.negated
    }
}
