//! What the person sees: one plain line per step, and a bar while something long runs.
//!
//! All but what was asked for ([`print`]) goes to stderr, because `run --script` promises stdout to the console of the
//! machine. Bars appear only on a terminal; a log file gets the plain lines alone.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// Says one thing that is being done or was found.
pub fn say(topic: &str, text: &str) {
    eprintln!("{topic:>9}  {text}");
}

/// Prints what was asked for. Whoever has seen enough of it may close the pipe.
pub fn print(text: &impl Display) -> Result<()> {
    match write!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// True when a person watches, so that bars and cargo's own progress are wanted.
pub fn interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar of `total` steps; hidden when nobody watches.
pub fn bar(topic: &str, text: &str, total: u64) -> ProgressBar {
    if !interactive() {
        say(topic, text);
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>9}  {msg} [{bar:30}] {percent:>3}%") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(topic.to_owned());
    bar.set_message(text.to_owned());
    bar
}

/// A spinner for work whose length is unknown; hidden when nobody watches.
pub fn spinner(topic: &str, text: &str) -> ProgressBar {
    if !interactive() {
        say(topic, text);
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{prefix:>9}  {msg} {spinner} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_prefix(topic.to_owned());
    spinner.set_message(text.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A size in the unit that a person would choose.
pub fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    if bytes < 10 * KIB {
        format!("{bytes} B")
    } else if bytes < 10 * KIB * KIB {
        format!("{} KiB", bytes.div_ceil(KIB))
    } else {
        format!("{} MiB", bytes.div_ceil(KIB * KIB))
    }
}
