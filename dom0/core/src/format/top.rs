//! `xl top`: the columns of `xentop -b`.

use core::fmt::{self, Write};

use super::{StateFlags, letter};

/// A line of `xl top`.
#[derive(Debug, Clone, Copy)]
pub struct TopRow<'a> {
    /// Name.
    pub name: &'a str,
    /// State.
    pub state: StateFlags,
    /// Time its vCPUs ran, nanoseconds.
    pub cpu_ns: u64,
    /// Share of one pCPU since the picture before, in tenths of a percent.
    pub cpu_permille: u64,
    /// Memory it has, KiB.
    pub memory_kib: u64,
    /// Memory it may have, KiB; `None` for Dom0, which has no limit.
    pub max_memory_kib: Option<u64>,
    /// vCPUs online.
    pub vcpus: u32,
    /// Network interfaces.
    pub nets: u32,
    /// KiB that they sent and received.
    pub net_kib: [u64; 2],
    /// A line of each is wanted as well.
    pub interfaces: &'a [NetworkCounters],
    /// Block devices.
    pub vbds: u32,
    /// Requests that waited for want of a free slot, reads, writes; sectors read and written.
    pub vbd: [u64; 5],
}

/// What an interface of the domain has received or sent, in the domain's directions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Frames.
    pub packets: u64,
    /// Frames that could not be passed on.
    pub errors: u64,
    /// Frames that nobody had room for.
    pub dropped: u64,
}

/// The counters of an interface.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkCounters {
    /// Its number.
    pub number: u32,
    /// Received.
    pub rx: Traffic,
    /// Sent.
    pub tx: Traffic,
    /// Events that the back end has sent to the domain.
    pub events: u64,
}

/// Headings and widths.
const FIELDS: [(&str, usize); 19] = [
    ("NAME", 10),
    ("STATE", 6),
    ("CPU(sec)", 10),
    ("CPU(%)", 6),
    ("MEM(k)", 10),
    ("MEM(%)", 6),
    ("MAXMEM(k)", 10),
    ("MAXMEM(%)", 9),
    ("VCPUS", 5),
    ("NETS", 4),
    ("NETTX(k)", 8),
    ("NETRX(k)", 8),
    ("VBDS", 4),
    ("VBD_OO", 8),
    ("VBD_RD", 8),
    ("VBD_WR", 8),
    ("VBD_RSECT", 10),
    ("VBD_WSECT", 10),
    ("SSID", 4),
];

/// Writes heading and lines; `total_kib` is the machine's memory.
///
/// # Errors
/// Those of `out`.
pub fn top<'a>(out: &mut impl Write, rows: impl IntoIterator<Item = TopRow<'a>>, total_kib: u64) -> fmt::Result {
    for (index, (heading, width)) in FIELDS.into_iter().enumerate() {
        let blank = if index == 0 { "" } else { " " };
        write!(out, "{blank}{heading:>width$}")?;
    }
    out.write_str("\n")?;
    rows.into_iter().try_for_each(|row| line(out, &row, total_kib))
}

fn line(out: &mut impl Write, row: &TopRow<'_>, total_kib: u64) -> fmt::Result {
    let share = |kib: u64| kib.saturating_mul(1000).checked_div(total_kib).unwrap_or(0);
    let state = row.state;
    write!(
        out,
        "{:>10} {}{}{}{}{}{} {:>10} {} {:>10} {} ",
        row.name,
        letter(state.dying, 'd'),
        letter(state.shutdown.is_some(), 's'),
        letter(state.blocked, 'b'),
        letter(state.shutdown == Some(CRASHED), 'c'),
        letter(state.paused, 'p'),
        letter(state.running, 'r'),
        row.cpu_ns / 1_000_000_000,
        Permille { value: row.cpu_permille, width: 6 },
        row.memory_kib,
        Permille { value: share(row.memory_kib), width: 6 },
    )?;
    match row.max_memory_kib {
        Some(kib) => write!(out, "{kib:>10} {}", Permille { value: share(kib), width: 9 })?,
        None => write!(out, "{:>10} {:>9}", "no limit", "n/a")?,
    }
    let [net_tx, net_rx] = row.net_kib;
    let [waited, reads, writes, sectors_read, sectors_written] = row.vbd;
    writeln!(
        out,
        " {:>5} {:>4} {net_tx:>8} {net_rx:>8} {:>4} {waited:>8} {reads:>8} {writes:>8} {sectors_read:>10} {sectors_written:>10} {:>4}",
        row.vcpus, row.nets, row.vbds, 0
    )?;
    row.interfaces.iter().try_for_each(|interface| network(out, interface))
}

/// An interface's line of `xentop -n`, with the events behind it.
fn network(out: &mut impl Write, interface: &NetworkCounters) -> fmt::Result {
    let NetworkCounters { number, rx, tx, events } = interface;
    write!(out, "Net{number}")?;
    for (direction, Traffic { bytes, packets, errors, dropped }) in [("RX", rx), ("TX", tx)] {
        write!(out, " {direction}: {bytes:>8}bytes {packets:>8}pkts {errors:>8}err {dropped:>8}drop ")?;
    }
    writeln!(out, " {events:>8}events")
}

/// `SHUTDOWN_crash` (Xen public/sched.h).
const CRASHED: u32 = 3;

/// Tenths of a percent as a percentage with one decimal.
struct Permille {
    value: u64,
    width: usize,
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>width$}.{}", self.value / 10, self.value % 10, width = self.width.saturating_sub(2))
    }
}
