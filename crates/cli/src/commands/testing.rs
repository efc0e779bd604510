//! `… testing`: whether restore tests follow backups, and within which budgets.

use std::str::FromStr;

use provault_wire::provault::{PutTestingInput, TestWindow, Testing};
use serde_json::Value;

use super::resource::body;
use super::{Context, gone};
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, epoch};

/// What is to be said; shows what is said where none of it is given.
#[derive(Debug, clap::Args)]
pub struct TestingArgs {
    /// Run a restore test after every completed backup; options that are not given go back to their
    /// defaults
    #[arg(long, group = "word")]
    on: bool,
    /// Run none, whatever the plan says (or, of a resource, plan and selection)
    #[arg(long, group = "word")]
    off: bool,
    /// Say nothing: what a selection leaves open its plan says, what a resource leaves open both
    #[arg(long, group = "word")]
    unset: bool,
    /// Test only this share of each resource's recovery points, in turn: 25% is every fourth [default:
    /// 100%]
    #[arg(long, value_name = "PERCENT", requires = "on", conflicts_with_all = ["off", "unset"])]
    share: Option<Share>,
    /// Begin tests only in this part of the day, such as 01:00-05:00 or 22:00-04:00; of a resource's tests
    /// that wait for it only the newest is made
    #[arg(long, value_name = "HH:MM-HH:MM", requires = "on", conflicts_with_all = ["off", "unset"])]
    between: Option<Between>,
    /// Time zone of --between, such as Europe/Berlin [default: Etc/UTC]
    #[arg(long, value_name = "ZONE", requires = "between")]
    timezone: Option<String>,
    /// Run at most so many of these tests at a time; the server's own limit holds too
    #[arg(long, value_name = "N", requires = "on", conflicts_with_all = ["off", "unset"])]
    at_once: Option<u32>,
}

/// `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        match digits.parse() {
            Ok(percent) if (1..=100).contains(&percent) && !digits.starts_with('+') => {
                Ok(Self(percent))
            }
            _ => Err(format!("'{text}' is no share; write 1% to 100%")),
        }
    }
}

/// `01:00-05:00`; the server says what is wrong with the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between {
    from: String,
    to: String,
}

impl FromStr for Between {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text
            .split_once('-')
            .ok_or_else(|| format!("'{text}' is no part of a day; write it as 01:00-05:00"))?;
        Ok(Self { from: from.trim().to_owned(), to: to.trim().to_owned() })
    }
}

impl TestingArgs {
    /// Says it, or shows what is said, of `what`, whose setting has this path.
    pub(super) fn run(
        self,
        context: &Context<'_>,
        what: &str,
        path: &str,
    ) -> Result<Exit, CliError> {
        if self.unset {
            context.client.own::<Value>("DELETE", path, &[], None)?;
            return gone(context, &format!("{what} says nothing about restore tests any more"));
        }
        let said: Answer<Testing> = if self.on || self.off {
            let zone = self.timezone;
            let input = PutTestingInput {
                test_after_backup: self.on,
                share_percent: self.share.map(|Share(percent)| percent),
                window: self.between.map(|Between { from, to }| TestWindow {
                    from,
                    to,
                    timezone: zone,
                }),
                tests_at_once: self.at_once,
            };
            context.client.own("PUT", path, &[], Some(&body(&input)?))?
        } else {
            context.client.own("GET", path, &[], None)?
        };
        context.out.show(&said.json, || {
            let view = View::fields().field("Test after backup", word(Some(&said.typed)));
            let changed = said.typed.change_date.filter(|at| *at > 0.0);
            vec![budgets(view, Some(&said.typed)).field("Since", changed.map(epoch))]
        })?;
        Ok(Exit::Done)
    }
}

/// On, off, or nothing.
pub(super) fn word(said: Option<&Testing>) -> String {
    match said.and_then(|said| said.test_after_backup) {
        Some(true) => "on",
        Some(false) => "off",
        None => "not said",
    }
    .to_owned()
}

/// The budgets that are set, as fields.
pub(super) fn budgets(view: View, said: Option<&Testing>) -> View {
    let share = said.and_then(|said| said.share_percent).map(|percent| format!("{percent} %"));
    let window = said.and_then(|said| said.window.as_ref()).map(|window| {
        let zone = window.timezone.as_deref().unwrap_or("Etc/UTC");
        format!("{}-{} {zone}", window.from, window.to)
    });
    let at_once = said.and_then(|said| said.tests_at_once).map(|limit| limit.to_string());
    view.field("Share tested", share).field("Tests between", window).field("Tests at once", at_once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_windows_are_read() {
        assert_eq!("25%".parse(), Ok(Share(25)));
        assert_eq!("100".parse(), Ok(Share(100)));
        for text in ["0%", "101%", "", "%", "-5%", "+5%", "a quarter", "25%%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        let night = Between { from: "22:00".to_owned(), to: "04:00".to_owned() };
        assert_eq!("22:00-04:00".parse(), Ok(night));
        assert!("22:00".parse::<Between>().is_err());
    }
}
