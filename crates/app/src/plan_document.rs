//! What a caller writes when making or changing a plan, and the plan that comes of it.

use provault_domain::cron::CronExpression;
use provault_domain::plan::{
    BackupRule, DEFAULT_COMPLETION_WINDOW_MINUTES, DEFAULT_SCHEDULE, DEFAULT_START_WINDOW_MINUTES,
    DEFAULT_TIMEZONE,
};
use provault_domain::{Invalid, Lifecycle, Tags};

use crate::{Result, lifecycle, new_id};

/// A plan as its caller writes it.
#[derive(Debug, Clone, Default)]
pub struct PlanDocument {
    /// Name for people.
    pub name: String,
    /// Rules.
    pub rules: Vec<RuleDocument>,
}

/// A rule as its caller writes it; what is absent gets AWS's default.
#[derive(Debug, Clone, Default)]
pub struct RuleDocument {
    /// Name for people.
    pub name: String,
    /// The vault.
    pub target_vault: String,
    /// `cron(…)`.
    pub schedule: Option<String>,
    /// IANA name of a time zone.
    pub timezone: Option<String>,
    /// Minutes a job may wait to start.
    pub start_window_minutes: Option<i64>,
    /// Minutes a job may take from its start.
    pub completion_window_minutes: Option<i64>,
    /// Retention.
    pub lifecycle: Lifecycle,
    /// Tags of recovery points.
    pub recovery_point_tags: Tags,
}

impl PlanDocument {
    /// The rules with defaults filled in. A rule keeps its id while it keeps its name.
    pub(crate) fn rules(&self, old: &[BackupRule]) -> Result<Vec<BackupRule>> {
        let rules = self.rules.iter().enumerate();
        rules.map(|(index, rule)| rule.rule(&format!("BackupPlan.Rules[{index}]"), old)).collect()
    }
}

impl RuleDocument {
    fn rule(&self, path: &str, old: &[BackupRule]) -> Result<BackupRule> {
        let schedule = self.schedule.as_deref().unwrap_or(DEFAULT_SCHEDULE);
        let schedule = CronExpression::parse(schedule)
            .map_err(|why| Invalid::new(format!("{path}.ScheduleExpression"), sentence(&why)))?;
        lifecycle::check(&format!("{path}."), &self.lifecycle)?;
        let id = old.iter().find(|rule| rule.name == self.name).map(|rule| rule.id.clone());
        Ok(BackupRule {
            id: id.unwrap_or_else(new_id),
            name: self.name.clone(),
            target_vault: self.target_vault.clone(),
            schedule,
            timezone: self.timezone.clone().unwrap_or_else(|| DEFAULT_TIMEZONE.to_owned()),
            start_window_minutes: self.start_window_minutes.unwrap_or(DEFAULT_START_WINDOW_MINUTES),
            completion_window_minutes: self
                .completion_window_minutes
                .unwrap_or(DEFAULT_COMPLETION_WINDOW_MINUTES),
            lifecycle: self.lifecycle,
            recovery_point_tags: self.recovery_point_tags.clone(),
            since: None,
        })
    }
}

/// An error's text with a full stop.
pub(crate) fn sentence(why: &impl std::fmt::Display) -> String {
    let mut text = why.to_string();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// Whether two sets of rules say the same; ids and dates do not count.
pub(crate) fn same_rules(left: &[BackupRule], right: &[BackupRule]) -> bool {
    let bare = |rule: &BackupRule| BackupRule { id: String::new(), since: None, ..rule.clone() };
    left.len() == right.len() && left.iter().zip(right).all(|(a, b)| bare(a) == bare(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> RuleDocument {
        RuleDocument { name: name.into(), target_vault: "Default".into(), ..Default::default() }
    }

    #[test]
    fn absent_settings_get_awss_defaults() {
        let document = PlanDocument { name: "p".into(), rules: vec![rule("daily")] };
        let rules = document.rules(&[]).unwrap();
        assert_eq!(rules[0].schedule.as_str(), "cron(0 5 ? * * *)");
        assert_eq!(rules[0].timezone, "Etc/UTC");
        assert_eq!(rules[0].start_window_minutes, 480);
        assert_eq!(rules[0].completion_window_minutes, 10_080);
    }

    #[test]
    fn a_rule_keeps_its_id_with_its_name_and_only_then() {
        let first = PlanDocument { name: "p".into(), rules: vec![rule("a"), rule("b")] };
        let first = first.rules(&[]).unwrap();
        let second = PlanDocument { name: "p".into(), rules: vec![rule("b"), rule("c")] };
        let second = second.rules(&first).unwrap();
        assert_eq!(second[0].id, first[1].id);
        assert!(first.iter().all(|old| old.id != second[1].id));
        assert!(!same_rules(&first, &second));
        assert!(same_rules(&second, &[second[0].clone(), second[1].clone()]));
    }

    #[test]
    fn a_bad_schedule_is_refused_under_its_path() {
        let mut bad = rule("a");
        bad.schedule = Some("rate(1 day)".into());
        let document = PlanDocument { name: "p".into(), rules: vec![rule("x"), bad] };
        let error = document.rules(&[]).unwrap_err();
        assert_eq!(error.member.as_deref(), Some("BackupPlan.Rules[1].ScheduleExpression"));
    }
}
