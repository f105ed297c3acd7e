//! `xl sched-credit2` and `xl cpupool-list`.

use core::fmt::{self, Write};

use crate::config::CpuSet;
use crate::pool::Pool;

/// A line of `xl sched-credit2`.
#[derive(Debug, Clone, Copy)]
pub struct ShareRow<'a> {
    /// The domain's name.
    pub name: &'a str,
    /// The domain's id.
    pub domid: u16,
    /// Its weight.
    pub weight: u32,
    /// Its cap, in per cent of a pCPU; 0 is none.
    pub cap: u32,
}

/// Writes the domains of one pool, or of one domain when no pool is named.
///
/// # Errors
/// Those of `out`.
pub fn share_list<'a>(
    out: &mut impl Write,
    pool: Option<&str>,
    rows: impl IntoIterator<Item = ShareRow<'a>>,
) -> fmt::Result {
    if let Some(pool) = pool {
        writeln!(out, "Cpupool {pool}: ratelimit=0us")?;
    }
    writeln!(out, "{:<33} {:>4} {:>6} {:>4}", "Name", "ID", "Weight", "Cap")?;
    for ShareRow { name, domid, weight, cap } in rows {
        writeln!(out, "{name:<33} {domid:>4} {weight:>6} {cap:>4}")?;
    }
    Ok(())
}

/// Writes pools with the number of domains of each, or with their pCPUs.
///
/// # Errors
/// Those of `out`.
pub fn pool_list<'a>(
    out: &mut impl Write,
    pools: impl IntoIterator<Item = (&'a Pool, usize)>,
    cpus: bool,
) -> fmt::Result {
    let rest = if cpus { "CPU list" } else { "CPUs   Sched     Active   Domain count" };
    writeln!(out, "{:<19}{rest}", "Name")?;
    for (pool, domains) in pools {
        write!(out, "{:<19}", pool.name)?;
        if cpus {
            let mut before = "";
            for cpu in (0..=CpuSet::MAX_CPU).filter(|cpu| pool.cpus & 1 << cpu != 0) {
                write!(out, "{before}{cpu}")?;
                before = ",";
            }
            writeln!(out)?;
        } else {
            let (count, scheduler) = (pool.cpus.count_ones(), pool.scheduler.name());
            writeln!(out, "{count:>3} {scheduler:>9}       y       {domains:>4}")?;
        }
    }
    Ok(())
}
