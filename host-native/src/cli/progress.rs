//! Progress bars: on standard error, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar moves by itself.
const TICK: Duration = Duration::from_millis(200);

/// A bar for a known number of bytes.
pub(crate) fn bytes_bar() -> ProgressBar {
    styled(
        ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()),
        "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )
}

/// A counter for what nobody knows the end of.
pub(crate) fn spinner() -> ProgressBar {
    styled(
        ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
        "{spinner} {bytes} {bytes_per_sec} {wide_msg}",
    )
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
