//! Following a job to its end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::Context;
use crate::error::CliError;

/// The first wait between two looks; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Looks that may fail in a row before watching is given up: a server may restart meanwhile, and
/// its jobs go on afterwards.
const PATIENCE: u32 = 15;

/// What one look at a job saw.
pub(crate) struct Seen {
    pub state: String,
    /// 0 to 100, where known.
    pub percent: Option<f64>,
    /// Beside the state, such as bytes done or the reason of a failure.
    pub detail: String,
    pub ended: bool,
}

/// A job to follow.
pub(crate) struct Watched<'a> {
    /// Such as `backup job 1234`.
    pub what: &'a str,
    /// The id, for the hints on Ctrl-C.
    pub id: &'a str,
}

/// Looks until the job has ended; gives what the last look saw. Progress goes to standard error:
/// a bar on a terminal, else one line for each change of state.
pub(crate) fn follow<T>(
    context: &Context<'_>,
    watched: &Watched<'_>,
    mut look: impl FnMut() -> Result<(Seen, T), CliError>,
) -> Result<T, CliError> {
    let bar = if context.out.live { ProgressBar::new(1000) } else { ProgressBar::hidden() };
    if context.out.live {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_prefix(watched.what.to_owned());
        bar.set_style(style("{spinner} {prefix} {msg}"));
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    let mut last_state = String::new();
    let mut wait = FIRST_WAIT;
    let mut failures = 0;
    loop {
        match look() {
            Ok((seen, value)) => {
                failures = 0;
                if context.out.live {
                    draw(&bar, &seen);
                } else if seen.state != last_state {
                    let space = if seen.detail.is_empty() { "" } else { ": " };
                    let line = format!(
                        "{}: {}{space}{}",
                        watched.what,
                        seen.state,
                        seen.detail.replace('\n', " ")
                    );
                    context.out.note(&line)?;
                }
                if seen.ended {
                    bar.finish_and_clear();
                    return Ok(value);
                }
                if seen.state != last_state {
                    wait = FIRST_WAIT;
                }
                last_state = seen.state;
            }
            Err(error @ (CliError::Unreachable { .. } | CliError::Torn { .. })) => {
                failures += 1;
                if failures > PATIENCE {
                    bar.finish_and_clear();
                    return Err(error);
                }
                if failures == 1 {
                    let text = "the server does not answer; still trying";
                    if context.out.live {
                        bar.set_message(text);
                    } else {
                        context.out.note(&format!("{}: {text}", watched.what))?;
                    }
                }
            }
            Err(error) => {
                bar.finish_and_clear();
                return Err(error);
            }
        }
        if (context.sleep)(wait) {
            bar.finish_and_clear();
            let id = watched.id;
            return Err(CliError::Interrupted(format!(
                "stopped watching; {} goes on. `provault jobs show {id} --watch` watches it again, \
                 `provault jobs stop {id}` stops it.",
                watched.what
            )));
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants here; were one wrong, the plain bar would do.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn draw(bar: &ProgressBar, seen: &Seen) {
    let detail = seen.detail.replace(char::is_control, " ");
    if let Some(percent) = seen.percent {
        bar.set_style(style("{spinner} {prefix} [{bar:24}] {msg}"));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 1000.
        bar.set_position((percent.clamp(0.0, 100.0) * 10.0) as u64);
        bar.set_message(format!("{percent:>3.0} % {} {detail}", seen.state));
    } else {
        bar.set_style(style("{spinner} {prefix} {msg}"));
        bar.set_message(format!("{} {detail}", seen.state));
    }
}

/// `PercentDone` as the API writes it, with or without the sign.
pub(crate) fn percent(text: Option<&str>) -> Option<f64> {
    text?.trim().trim_end_matches('%').trim_end().parse().ok().filter(|p: &f64| p.is_finite())
}
