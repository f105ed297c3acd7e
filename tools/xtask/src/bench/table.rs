//! The paths that are measured, with what they should cost, and the table that a person reads.

use std::collections::BTreeMap;

use super::counts::{Count, Counts};

/// Instructions by the name of the path.
pub type Figures = BTreeMap<String, f64>;

/// One line of the table.
pub struct Path {
    /// The name in the guest's output and in the files.
    pub name: &'static str,
    /// In a person's words.
    pub title: &'static str,
    /// Most instructions that it should cost, when there is such a number.
    pub goal: Option<f64>,
}

const fn path(name: &'static str, title: &'static str, goal: f64) -> Path {
    Path { name, title, goal: Some(goal) }
}

/// A path that is compared with Xen's alone.
const fn without_goal(name: &'static str, title: &'static str) -> Path {
    Path { name, title, goal: None }
}

/// The paths, in the order of the table.
pub const PATHS: &[Path] = &[
    path("null_hypercall", "null hypercall (xen_version)", 105.0),
    path("psci_version", "PSCI_VERSION", 130.0),
    path("trapped_register", "trapped system register", 130.0),
    path("gicd_read", "GICD read", 210.0),
    path("gicr_write", "GICR write", 240.0),
    path("event_pending", "event send, already pending", 200.0),
    path("event_to_self", "event send + upcall to self", 365.0),
    without_goal("event_pending_fifo", "FIFO ABI: event send, already pending"),
    without_goal("event_to_self_fifo", "FIFO ABI: event send + upcall to self"),
    path("sgi_to_self", "SGI to self, with handler", 275.0),
    path("vtimer_expiry", "vtimer expiry to guest handler", 270.0),
    path("yield", "yield, nothing else to run", 300.0),
    path("vm_switch", "VM switch, one way", 600.0),
    path("round_trip", "two-VM event round trip, blocking", 2300.0),
    path("grant_copy_fixed", "grant copy, fixed part", 500.0),
    path("grant_copy_byte", "grant copy, per byte", 0.08),
    path("grant_copy_batch", "grant copy 64 B, batch of 16, per op", 170.0),
    path("grant_map_unmap", "grant map + unmap", 1000.0),
    path("port_alloc_close", "event channel alloc + close", 500.0),
    path("balloon_single", "balloon out + in, 4 KiB, single", 1100.0),
    path("balloon_batch", "balloon out + in, 4 KiB, batch of 16", 600.0),
    path("multicall_entry", "multicall, per entry", 80.0),
    path("in_flight", "extra cost of an exit, interrupt in flight", 0.0),
    path("switch_forward", "Dom0's switch, a frame of 64 B", 150.0),
];

/// Writes a figure as exactly as it repeats: whole instructions, or a byte's part of one.
pub fn figure(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}

/// The table, with Xen's figures where they are known.
pub fn table(xen: &Figures, ours: &Figures) -> String {
    let width = PATHS.iter().map(|path| path.title.len()).max().unwrap_or_default();
    let mut text = format!("{:width$}  {:>7}  {:>8}  {:>6}  {:>6}  ok\n", "path", "Xen", "Xenolith", "ratio", "goal");
    for path in PATHS {
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let (theirs, own) = (xen.get(path.name).copied(), ours.get(path.name).copied());
        let ratio = theirs.zip(own).filter(|(_, own)| *own > 0.0).map(|(theirs, own)| format!("{:.1}", theirs / own));
        let ok = match (own, path.goal) {
            (Some(own), Some(goal)) if own <= goal => "yes",
            (Some(_), Some(_)) => "NO",
            (_, _) => "-",
        };
        text += &format!(
            "{:width$}  {:>7}  {:>8}  {:>6}  {:>6}  {ok}\n",
            path.title,
            cell(theirs),
            cell(own),
            ratio.unwrap_or_else(|| "-".to_owned()),
            cell(path.goal),
        );
    }
    text
}

/// The table of what is done at EL2 on each path: for each kind Xen's number and Xenolith's.
pub fn counts(xen: &Counts, ours: &Counts) -> String {
    let width = PATHS.iter().map(|path| path.title.len()).max().unwrap_or_default();
    let kinds = Count::default().kinds().map(|(kind, _)| format!("  {kind:>15}")).concat();
    let mut text = format!("{:width$}{kinds}\n", "path (Xen/Xenolith)");
    for path in PATHS {
        let Some(own) = ours.get(path.name) else { continue };
        let theirs = xen.get(path.name).map(Count::kinds);
        let cells = own.kinds().into_iter().enumerate().map(|(index, (_, own))| {
            let theirs = theirs.map_or("-".to_owned(), |kinds| kinds[index].1.to_string());
            format!("  {:>15}", format!("{theirs}/{own}"))
        });
        text += &format!("{:width$}{}\n", path.title, cells.collect::<String>());
    }
    text
}
