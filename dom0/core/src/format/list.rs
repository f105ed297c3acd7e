//! `xl list`: one line for each domain.

use core::fmt::{self, Write};

use super::{Seconds, StateFlags, letter};
use crate::uuid::Uuid;

/// A line of `xl list`.
#[derive(Debug, Clone, Copy)]
pub struct DomainRow<'a> {
    /// Name.
    pub name: &'a str,
    /// Id.
    pub domid: u16,
    /// Memory it has, MiB.
    pub memory_mib: u64,
    /// vCPUs online.
    pub vcpus: u32,
    /// State.
    pub state: StateFlags,
    /// Time its vCPUs ran, nanoseconds.
    pub cpu_ns: u64,
    /// UUID, for `-v`.
    pub uuid: Uuid,
}

/// Letters for the reasons 0 to 5: poweroff, reboot, suspend, crash, watchdog, soft reset.
const REASONS: [char; 6] = ['-', 'r', 's', 'c', 'w', 'S'];

/// Writes heading and lines; `verbose` adds UUID and reason.
///
/// # Errors
/// Those of `out`.
pub fn domain_list<'a>(
    out: &mut impl Write,
    rows: impl IntoIterator<Item = DomainRow<'a>>,
    verbose: bool,
) -> fmt::Result {
    out.write_str("Name                                        ID   Mem VCPUs\tState\tTime(s)")?;
    if verbose {
        out.write_str("   UUID                            Reason-Code\tSecurity Label")?;
    }
    out.write_str("\n")?;
    for row in rows {
        domain(out, &row, verbose)?;
    }
    Ok(())
}

fn domain(out: &mut impl Write, row: &DomainRow<'_>, verbose: bool) -> fmt::Result {
    let state = row.state;
    let reason = state.shutdown.unwrap_or(0);
    let reason_letter = usize::try_from(reason).ok().and_then(|reason| REASONS.get(reason)).unwrap_or(&'?');
    write!(
        out,
        "{:<40} {:>5} {:>5} {:>5}     {}{}{}{}{}{}  {}",
        row.name,
        row.domid,
        row.memory_mib,
        row.vcpus,
        letter(state.running, 'r'),
        letter(state.blocked, 'b'),
        letter(state.paused, 'p'),
        letter(state.shutdown.is_some(), 's'),
        reason_letter,
        letter(state.dying, 'd'),
        Seconds { ns: row.cpu_ns, width: 8 },
    )?;
    if verbose {
        write!(out, " {}", row.uuid)?;
        match state.shutdown {
            Some(reason) => write!(out, " {reason:>8x}")?,
            None => write!(out, " {:>8}", "-")?,
        }
        write!(out, " {:>16}", "-")?;
    }
    out.write_str("\n")
}
