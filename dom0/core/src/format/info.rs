//! `xl info`: `key : value` lines.

use core::fmt::{self, Display, Write};

use hypercall_abi::control::PlatformInfo;

/// What `xl info` shows besides the microkernel's own words.
#[derive(Debug, Clone, Copy)]
pub struct HostInfo<'a> {
    /// The machine.
    pub platform: &'a PlatformInfo,
    /// Name of the host.
    pub host: &'a str,
    /// This project's version.
    pub version: &'a str,
    /// The microkernel's command line.
    pub commandline: &'a str,
}

/// Pages of 4 KiB in a MiB.
const PAGES_PER_MIB: u64 = 256;

/// Writes all lines.
///
/// # Errors
/// Those of `out`.
pub fn info(out: &mut impl Write, host: &HostInfo<'_>) -> fmt::Result {
    let platform = host.platform;
    let khz = platform.counter_hz / 1000;
    let mut line = |key: &str, value: &dyn Display| writeln!(out, "{key:<23}: {value}");
    line("host", &host.host)?;
    line("release", &host.version)?;
    line("version", &"Xenolith")?;
    line("machine", &"aarch64")?;
    line("nr_cpus", &platform.pcpus)?;
    line("max_cpu_id", &platform.pcpus.saturating_sub(1))?;
    line("nr_nodes", &1)?;
    line("cores_per_socket", &platform.pcpus)?;
    line("threads_per_core", &1)?;
    line("cpu_mhz", &format_args!("{}.{:03}", khz / 1000, khz % 1000))?;
    line("hw_caps", &"00000000:00000000:00000000:00000000:00000000:00000000:00000000:00000000")?;
    line("virt_caps", &"hvm hap gnttab-v1")?;
    line("total_memory", &(platform.total_pages / PAGES_PER_MIB))?;
    line("free_memory", &(platform.free_pages / PAGES_PER_MIB))?;
    line("sharing_freed_memory", &0)?;
    line("sharing_used_memory", &0)?;
    line("outstanding_claims", &0)?;
    line("free_cpus", &0)?;
    // The Xen version whose ABI guests see, and whose tools' formats these are.
    line("xen_major", &4)?;
    line("xen_minor", &17)?;
    line("xen_extra", &format_args!(".0-xenolith-{}", host.version))?;
    line("xen_version", &format_args!("4.17.0-xenolith-{}", host.version))?;
    line("xen_caps", &"xen-3.0-aarch64")?;
    line("xen_scheduler", &"fair")?;
    line("xen_pagesize", &4096)?;
    line("platform_params", &format_args!("virt_start={:#x}", platform.image_base))?;
    line("xen_changeset", &"")?;
    line("xen_commandline", &host.commandline)?;
    line("xend_config_format", &4)
}
