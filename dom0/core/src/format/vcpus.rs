//! `xl vcpu-list`.

use core::fmt::{self, Write};

use super::{Seconds, letter};
use crate::config::CpuSet;

/// A line of `xl vcpu-list`.
#[derive(Debug, Clone, Copy)]
pub struct VcpuRow<'a> {
    /// The domain's name.
    pub name: &'a str,
    /// The domain's id.
    pub domid: u16,
    /// The vCPU's number.
    pub vcpu: u32,
    /// The pCPU it is or was on; `None` when it is offline.
    pub pcpu: Option<u32>,
    /// It is on the pCPU now.
    pub running: bool,
    /// It waits.
    pub blocked: bool,
    /// Time it ran, nanoseconds.
    pub cpu_ns: u64,
    /// pCPUs it may use, as a mask.
    pub affinity: u64,
    /// pCPUs it prefers, as a mask.
    pub soft_affinity: u64,
}

/// Writes heading and lines; `pcpus` is how many the machine has, so that "all of them" reads `all`.
///
/// # Errors
/// Those of `out`.
pub fn vcpu_list<'a>(out: &mut impl Write, rows: impl IntoIterator<Item = VcpuRow<'a>>, pcpus: u32) -> fmt::Result {
    writeln!(
        out,
        "{:<32} {:>5} {:>5} {:>5} {:>5} {:>9} Affinity (Hard / Soft)",
        "Name", "ID", "VCPU", "CPU", "State", "Time(s)"
    )?;
    let machine = u64::MAX.checked_shr(64u32.saturating_sub(pcpus)).unwrap_or(0);
    for row in rows {
        write!(out, "{:<32} {:>5} {:>5}", row.name, row.domid, row.vcpu)?;
        match row.pcpu {
            None => out.write_str("    -   --p ")?,
            Some(pcpu) => {
                write!(out, "{pcpu:>5} {:>3}{}- ", letter(row.running, 'r'), letter(row.blocked, 'b'))?;
            }
        }
        let [hard, soft] = [row.affinity, row.soft_affinity].map(|mask| match mask & machine {
            all if all == machine => CpuSet::all(),
            some => CpuSet::from_mask(some),
        });
        writeln!(out, "{}  {hard} / {soft}", Seconds { ns: row.cpu_ns, width: 9 })?;
    }
    Ok(())
}
