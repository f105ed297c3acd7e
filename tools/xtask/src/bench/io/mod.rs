//! `cargo xtask bench io`: what disks and networks do for one Linux, on Xen and on Xenolith.
//!
//! The same kernel with the same initial file system runs on both, in QEMU with `-icount shift=0,sleep=off` and one
//! pCPU: a nanosecond is an instruction, or time in which nobody had anything to do. What is measured against Dom0
//! measures Dom0 too: on Xen that is Debian's Linux with its iperf3, on Xenolith our Dom0 with its own.

mod guest;
mod xen;
mod xenolith;

use std::collections::BTreeMap;

use anyhow::Result;

use self::guest::DISK_MIB;
use super::{Options, beside_xen, record};
use crate::paths::Paths;
use crate::setup;
use crate::ui;

/// What was found of one hypervisor.
struct Found {
    /// By name, in the units of the table.
    figures: BTreeMap<String, f64>,
    /// Which hypervisor it is.
    about: Vec<String>,
    /// All that the first guest said.
    said: String,
}

/// One line of the table.
struct Row {
    /// The name, in the guest's output and in the record.
    name: &'static str,
    /// In a person's words, with the unit.
    title: &'static str,
    /// What turns the guest's unit into the table's.
    scale: f64,
    /// The goal, where there is one.
    goal: Option<f64>,
    /// Whether more is better.
    more: bool,
}

/// Less is better.
const fn cost(name: &'static str, title: &'static str, scale: f64, goal: Option<f64>) -> Row {
    Row { name, title, scale, goal, more: false }
}

/// More is better.
const fn rate(name: &'static str, title: &'static str, goal: Option<f64>) -> Row {
    Row { name, title, scale: 1e-3, goal, more: true }
}

/// Requests of 4 KiB that are timed.
const SMALL: f64 = 4000.0;

/// The table.
const ROWS: &[Row] = &[
    cost("create", "xl create to return, s", 1e-6, Some(0.02)),
    cost("userspace", "guest userspace up (its uptime), s", 1.0, Some(0.80)),
    cost("read_4k", "4 KiB direct read, RAM-backed disk, us", 1e6 / SMALL, Some(20.0)),
    cost("write_4k", "4 KiB direct write, us", 1e6 / SMALL, None),
    cost("read_1m", "1 MiB direct read, us", 1e6 / DISK_MIB as f64, None),
    cost("write_1m", "1 MiB direct write, us", 1e6 / DISK_MIB as f64, None),
    cost("ping", "ping guest to Dom0, average, us", 1e3, Some(30.0)),
    rate("to_dom0", "iperf3 guest to Dom0, Gbit/s", Some(4.0)),
    rate("from_dom0", "iperf3 Dom0 to guest, Gbit/s", Some(4.0)),
    rate("to_guest", "iperf3 guest to guest, Gbit/s", None),
];

/// The rows of a guest's figures, in the table's units.
fn scaled(found: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    ROWS.iter().filter_map(|row| Some((row.name.to_owned(), found.get(row.name)? * row.scale))).collect()
}

/// Measures, and prints the table.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    setup::qemu()?;
    let guest = guest::prepare(paths)?;
    let ours = xenolith::measure(paths, &options.cpu, &guest)?;
    complain("Xenolith", &ours);
    let xen = || {
        let theirs = xen::measure(paths, &options.cpu, &guest)?;
        complain("Xen", &theirs);
        Ok((theirs.figures, theirs.about))
    };
    let record = beside_xen(paths, options, record::IO, ours.figures, xen)?;
    print!("{}", table(&record.xen, &record.xenolith));
    Ok(())
}

/// Says which rows are missing, with what the guest said instead.
fn complain(hypervisor: &str, found: &Found) {
    let missing: Vec<_> = ROWS.iter().map(|row| row.name).filter(|name| !found.figures.contains_key(*name)).collect();
    if !missing.is_empty() {
        ui::say("bench", &format!("{hypervisor}: no figure for {}; it said:\n{}", missing.join(", "), found.said));
    }
}

/// The table, with Xen's figures where they are known. A ratio above 1 says how many times better Xenolith does.
fn table(xen: &BTreeMap<String, f64>, ours: &BTreeMap<String, f64>) -> String {
    let width = ROWS.iter().map(|row| row.title.len()).max().unwrap_or_default();
    let mut text = format!("{:width$}  {:>8}  {:>8}  {:>6}  {:>7}  ok\n", "", "Xen", "Xenolith", "ratio", "goal");
    for row in ROWS {
        let (theirs, own) = (xen.get(row.name).copied(), ours.get(row.name).copied());
        let ratio = theirs.zip(own).map(|(theirs, own)| if row.more { own / theirs } else { theirs / own });
        let reaches = |goal: f64, own: f64| if row.more { own >= goal } else { own <= goal };
        // Without a number of its own the goal is not to be slower than Xen.
        let ok = match (own, row.goal.or(theirs)) {
            (Some(own), Some(goal)) if reaches(goal, own) => "yes",
            (Some(_), Some(_)) => "NO",
            (_, _) => "-",
        };
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let goal = row.goal.map_or_else(
            || "as Xen".to_owned(),
            |goal| if row.more { format!(">= {goal}") } else { format!("<= {goal}") },
        );
        text += &format!(
            "{:width$}  {:>8}  {:>8}  {:>6}  {goal:>7}  {ok}\n",
            row.title,
            cell(theirs),
            cell(own),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        );
    }
    text
}

/// A figure with three digits that count.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{scaled, table};

    fn figures(read: f64, rate: f64) -> BTreeMap<String, f64> {
        scaled(&BTreeMap::from([("read_4k".to_owned(), read), ("to_dom0".to_owned(), rate)]))
    }

    #[test]
    fn the_guests_units_become_the_tables() {
        assert_eq!(figures(0.2, 2460.0).into_values().collect::<Vec<_>>(), [50.0, 2.46]);
    }

    #[test]
    fn less_is_better_for_times_and_more_for_rates() {
        let text = table(&figures(0.2, 2000.0), &figures(0.05, 5000.0));
        let line = |words: &str| text.lines().find(|line| line.starts_with(words)).unwrap_or_default().to_owned();
        assert!(line("4 KiB direct read").ends_with("50.0      12.5    4.00    <= 20  yes"), "{text}");
        assert!(line("iperf3 guest to Dom0").ends_with("2.00      5.00    2.50     >= 4  yes"), "{text}");
        let text = table(&figures(0.05, 5000.0), &figures(0.2, 2000.0));
        assert_eq!(text.matches("NO").count(), 2, "{text}");
    }
}
