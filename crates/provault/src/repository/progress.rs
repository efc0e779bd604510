//! A line that shows how far a command is, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::Context;

/// A progress line. Where nobody watches it costs nothing.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins with what is being done, such as `reading`.
    pub(crate) fn start(context: &Context<'_>, doing: &'static str) -> Self {
        if context.options.quiet || context.out.is_json() || !context.out.is_live() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_message(doing);
        bar.set_style(style("{spinner} {msg} {bytes}  {binary_bytes_per_sec}  {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So many things are done (packs, directories), of so many where that is known.
    pub(crate) fn count(&self, doing: &'static str, done: u64, total: Option<u64>) {
        let line = match total {
            Some(total) => {
                self.0.set_length(total);
                style("{spinner} {msg} [{bar:30}] {human_pos} of {human_len}  {elapsed}")
            }
            None => style("{spinner} {msg} {human_pos}  {elapsed}"),
        };
        self.0.set_style(line);
        self.0.set_message(doing);
        self.0.set_position(done);
    }

    /// So many bytes are done, of so many where that is known.
    pub(crate) fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total
            && self.0.length() != Some(total)
        {
            self.0.set_length(total);
            self.0.set_style(style(
                "{spinner} {msg} [{bar:30}] {percent}%  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left",
            ));
        }
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
