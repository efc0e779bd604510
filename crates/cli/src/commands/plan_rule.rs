//! One rule of a plan, from options.

use std::str::FromStr;

use provault_wire::types::{BackupRule, BackupRuleInput, Lifecycle};

use crate::duration::{Days, Minutes};
use crate::error::CliError;
use crate::words::{Pair, to_map};

/// `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    hour: u8,
    minute: u8,
}

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no time of day; write HH:MM, such as 05:00");
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str, below: u8| {
            let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u8>().ok().filter(|n| plain && *n < below).ok_or_else(wrong)
        };
        Ok(Self { hour: number(hour, 24)?, minute: number(minute, 60)? })
    }
}

/// A day of the week as cron names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weekday(String);

impl FromStr for Weekday {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        if ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"].contains(&upper.as_str()) {
            Ok(Self(upper))
        } else {
            Err(format!(
                "'{text}' is no day of the week; write SUN, MON, TUE, WED, THU, FRI or SAT"
            ))
        }
    }
}

/// A day of the month: 1 to 31, or `L` for the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monthday(String);

impl FromStr for Monthday {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("l") {
            return Ok(Self("L".to_owned()));
        }
        match text.parse::<u8>() {
            Ok(day) if (1..=31).contains(&day) => Ok(Self(day.to_string())),
            _ => Err(format!("'{text}' is no day of a month; write 1 to 31, or L for the last")),
        }
    }
}

/// When, where to and for how long: the options of one rule.
#[derive(Debug, Default, clap::Args)]
#[group(id = "rule", multiple = true)]
pub struct RuleArgs {
    /// The rule's name [default: the plan's only rule, or "default" in a new plan]
    #[arg(long, value_name = "NAME")]
    pub rule_name: Option<String>,
    /// The vault that recovery points go to
    #[arg(long)]
    pub vault: Option<String>,
    /// When, as an AWS cron expression: 'cron(MINUTE HOUR DAY MONTH WEEKDAY YEAR)'
    #[arg(long, value_name = "CRON", group = "when", conflicts_with = "at")]
    pub schedule: Option<String>,
    /// Every hour, at the minute of --at
    #[arg(long, group = "when")]
    pub hourly: bool,
    /// Twice a day, at the time of --at and 12 hours from it
    #[arg(long, group = "when")]
    pub every_12_hours: bool,
    /// Every day [the default in a new plan]
    #[arg(long, group = "when")]
    pub daily: bool,
    /// Every week, on SUN or the day given as --weekly=MON
    #[arg(long, group = "when", value_name = "DAY", num_args = 0..=1, require_equals = true,
          default_missing_value = "SUN")]
    pub weekly: Option<Weekday>,
    /// Every month, on the 1st or the day given as --monthly=15 (L for the last)
    #[arg(long, group = "when", value_name = "DAY", num_args = 0..=1, require_equals = true,
          default_missing_value = "1")]
    pub monthly: Option<Monthday>,
    /// Time of day for --hourly to --monthly [default: 05:00]
    #[arg(long, value_name = "HH:MM")]
    pub at: Option<Clock>,
    /// The time zone of the schedule, such as Europe/Berlin [default: Etc/UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// How long recovery points are kept, in whole days: 30d [default: for ever]
    #[arg(long, value_name = "TIME")]
    pub keep: Option<Days>,
    /// How long a job may wait for its start, at least 60m [default: 8h]
    #[arg(long, value_name = "TIME")]
    pub start_window: Option<Minutes>,
    /// How long a job may take from its start [default: 7d]
    #[arg(long, value_name = "TIME")]
    pub completion_window: Option<Minutes>,
    /// Tag KEY=VALUE for the recovery points; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub point_tag: Vec<Pair>,
}

impl RuleArgs {
    /// Whether no option of a rule is given.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            rule_name,
            vault,
            schedule,
            hourly,
            every_12_hours,
            daily,
            weekly,
            monthly,
            at,
            timezone,
            keep,
            start_window,
            completion_window,
            point_tag,
        } = self;
        rule_name.is_none()
            && vault.is_none()
            && schedule.is_none()
            && !(*hourly || *every_12_hours || *daily)
            && weekly.is_none()
            && monthly.is_none()
            && at.is_none()
            && timezone.is_none()
            && keep.is_none()
            && start_window.is_none()
            && completion_window.is_none()
            && point_tag.is_empty()
    }

    /// The schedule asked for. `None` where no option says when.
    fn cron(&self) -> Option<String> {
        let at = self.at.unwrap_or(Clock { hour: 5, minute: 0 });
        let (minute, hour) = (at.minute, at.hour);
        if self.schedule.is_some() {
            return self.schedule.clone();
        }
        if self.hourly {
            return Some(format!("cron({minute} * ? * * *)"));
        }
        if self.every_12_hours {
            // Counted from the earlier of the two, for `17/12` would fire once a day.
            return Some(format!("cron({minute} {}/12 ? * * *)", hour % 12));
        }
        if let Some(Weekday(day)) = &self.weekly {
            return Some(format!("cron({minute} {hour} ? * {day} *)"));
        }
        if let Some(Monthday(day)) = &self.monthly {
            return Some(format!("cron({minute} {hour} {day} * ? *)"));
        }
        (self.daily || self.at.is_some()).then(|| format!("cron({minute} {hour} ? * * *)"))
    }

    /// The rule of a new plan.
    pub(crate) fn new_rule(&self) -> Result<BackupRuleInput, CliError> {
        if self.vault.is_none() {
            return Err(CliError::usage(
                "a rule needs a vault: give --vault NAME (or the whole plan with --file)",
            ));
        }
        let mut rule = BackupRuleInput {
            rule_name: Some(self.rule_name.clone().unwrap_or_else(|| "default".to_owned())),
            // AWS Backup's own default, made visible.
            schedule_expression: Some("cron(0 5 ? * * *)".to_owned()),
            ..BackupRuleInput::default()
        };
        self.apply(&mut rule)?;
        Ok(rule)
    }

    /// Changes what options were given for, and nothing else.
    pub(crate) fn apply(&self, rule: &mut BackupRuleInput) -> Result<(), CliError> {
        if let Some(vault) = &self.vault {
            rule.target_backup_vault_name = Some(vault.clone());
        }
        if let Some(cron) = self.cron() {
            rule.schedule_expression = Some(cron);
        }
        if let Some(zone) = &self.timezone {
            rule.schedule_expression_timezone = Some(zone.clone());
        }
        if let Some(Days(days)) = self.keep {
            let lifecycle = rule.lifecycle.get_or_insert_default();
            lifecycle.delete_after_days = Some(days);
        }
        if let Some(Minutes(minutes)) = self.start_window {
            rule.start_window_minutes = Some(minutes);
        }
        if let Some(Minutes(minutes)) = self.completion_window {
            rule.completion_window_minutes = Some(minutes);
        }
        if !self.point_tag.is_empty() {
            rule.recovery_point_tags = Some(to_map("--point-tag", &self.point_tag)?);
        }
        Ok(())
    }
}

/// A rule as it was answered, to be sent again: all but the id, which the server keeps by name.
pub(crate) fn as_input(rule: BackupRule) -> BackupRuleInput {
    let BackupRule {
        completion_window_minutes,
        copy_actions,
        enable_continuous_backup,
        index_actions,
        lifecycle,
        recovery_point_tags,
        rule_id: _,
        rule_name,
        scan_actions,
        schedule_expression,
        schedule_expression_timezone,
        start_window_minutes,
        target_backup_vault_name,
        target_logically_air_gapped_backup_vault_arn,
    } = rule;
    BackupRuleInput {
        completion_window_minutes,
        copy_actions,
        enable_continuous_backup,
        index_actions,
        lifecycle,
        recovery_point_tags,
        rule_name,
        scan_actions,
        schedule_expression,
        schedule_expression_timezone,
        start_window_minutes,
        target_backup_vault_name,
        target_logically_air_gapped_backup_vault_arn,
    }
}

/// How long recovery points are kept, for people.
pub(crate) fn kept(lifecycle: Option<&Lifecycle>) -> String {
    match lifecycle.and_then(|lifecycle| lifecycle.delete_after_days) {
        Some(days) if days >= 0 => format!("{days}d"),
        _ => "for ever".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_forms_are_aws_cron_expressions() {
        let at = |text: &str| Some(text.parse::<Clock>().unwrap());
        let cron = |args: RuleArgs| args.cron().unwrap_or_default();
        let none = RuleArgs::default;
        assert_eq!(cron(none()), "");
        assert_eq!(cron(RuleArgs { daily: true, ..none() }), "cron(0 5 ? * * *)");
        assert_eq!(cron(RuleArgs { at: at("23:45"), ..none() }), "cron(45 23 ? * * *)");
        assert_eq!(cron(RuleArgs { hourly: true, at: at("0:30"), ..none() }), "cron(30 * ? * * *)");
        assert_eq!(
            cron(RuleArgs { every_12_hours: true, at: at("17:00"), ..none() }),
            "cron(0 5/12 ? * * *)"
        );
        let weekly = Some("mon".parse().unwrap());
        assert_eq!(cron(RuleArgs { weekly, ..none() }), "cron(0 5 ? * MON *)");
        let monthly = Some("l".parse().unwrap());
        assert_eq!(cron(RuleArgs { monthly, at: at("03:00"), ..none() }), "cron(0 3 L * ? *)");
        for wrong in ["24:00", "5", "05:60", "+5:00", "5:", "005:00"] {
            assert!(wrong.parse::<Clock>().is_err(), "{wrong}");
        }
        assert!("MOON".parse::<Weekday>().is_err());
        assert!("32".parse::<Monthday>().is_err() && "0".parse::<Monthday>().is_err());
    }

    #[test]
    fn an_update_changes_only_what_is_given() {
        let mut rule = BackupRuleInput {
            rule_name: Some("r".into()),
            target_backup_vault_name: Some("v".into()),
            schedule_expression: Some("cron(0 3 1 * ? *)".into()),
            lifecycle: Some(Lifecycle {
                delete_after_days: Some(180),
                move_to_cold_storage_after_days: Some(30),
                ..Lifecycle::default()
            }),
            ..BackupRuleInput::default()
        };
        let mut expected = rule.clone();
        RuleArgs::default().apply(&mut rule).unwrap();
        assert_eq!(rule, expected);
        let keep = Some(Days(365));
        RuleArgs { keep, ..RuleArgs::default() }.apply(&mut rule).unwrap();
        expected.lifecycle.as_mut().unwrap().delete_after_days = Some(365);
        assert_eq!(rule, expected);
    }
}
