//! `xl top`: who uses the machine, one picture after the other.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use dom0_core::format::{NetworkCounters, StateFlags, TopRow, Traffic, top};
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Timer};
use hypercall_abi::ids::DomId;
use pv_guest_lib::control::{self, DomainInfo, PlatformInfo};

use super::{Failure, Outcome, Shell};

const KIB_PER_PAGE: u64 = 4;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// What the picture before showed: when it was, and how long each domain's vCPUs had run.
#[derive(Default)]
struct Before {
    uptime_ns: u64,
    cpu_ns: BTreeMap<DomId, u64>,
}

impl Shell {
    /// `xl top`. Pictures follow one another with `batch`, else each is painted over the one before.
    pub(super) async fn top(&self, batch: bool, networks: bool, delay_ms: u64, iterations: Option<u64>) -> Outcome {
        let mut before = Before::default();
        let mut shown = 0;
        if !batch {
            // To the first line, and nothing is left below.
            self.terminal.print("\x1b[H\x1b[J").await;
        }
        while iterations.is_none_or(|most| shown < most) {
            if shown > 0 {
                let pause = Timer::after(Duration::from_millis(delay_ms));
                if let Either::Second(()) = select(pause, self.terminal.interrupted()).await {
                    break;
                }
            }
            let picture = self.picture(&mut before, batch, networks)?;
            self.terminal.print(&picture).await;
            shown += 1;
        }
        Ok(())
    }

    fn picture(&self, before: &mut Before, batch: bool, networks: bool) -> Result<String, Failure> {
        let platform = control::platform_info()?;
        let infos = self.toolstack.infos();
        let elapsed = platform.uptime_ns.saturating_sub(before.uptime_ns);
        let register = self.toolstack.register.borrow();
        let interfaces: Vec<Vec<NetworkCounters>> =
            infos.iter().map(|(domid, _)| if networks { self.interfaces(*domid) } else { Vec::new() }).collect();
        let rows = infos.iter().zip(&interfaces).map(|((domid, info), interfaces)| {
            let ran = before.cpu_ns.get(domid).map_or(0, |earlier| info.cpu_ns.saturating_sub(*earlier));
            TopRow {
                cpu_permille: ran.saturating_mul(1000).checked_div(elapsed).unwrap_or(0),
                interfaces,
                ..self.row(register.name(*domid).unwrap_or_default(), *domid, info)
            }
        });
        let mut text = String::new();
        if !batch {
            summary(&mut text, &platform, infos.iter().map(|(_, info)| info))?;
        }
        top(&mut text, rows, platform.total_pages.saturating_mul(KIB_PER_PAGE))?;
        let cpu_ns = infos.iter().map(|(domid, info)| (*domid, info.cpu_ns)).collect();
        *before = Before { uptime_ns: platform.uptime_ns, cpu_ns };
        Ok(if batch { text } else { over(&text) })
    }

    /// The counters of a domain's network interfaces.
    fn interfaces(&self, domid: DomId) -> Vec<NetworkCounters> {
        let counters = |(number, net): (u32, netback::Stats)| NetworkCounters {
            number,
            rx: Traffic {
                bytes: net.rx_bytes,
                packets: net.rx_packets,
                errors: net.rx_errors,
                dropped: net.rx_dropped,
            },
            tx: Traffic {
                bytes: net.tx_bytes,
                packets: net.tx_packets,
                errors: net.tx_errors,
                dropped: net.tx_dropped,
            },
            events: net.notifications,
        };
        self.toolstack.nets.stats(domid).into_iter().map(counters).collect()
    }

    /// A domain's line, but for its share of the machine.
    fn row<'a>(&self, name: &'a str, domid: DomId, info: &DomainInfo) -> TopRow<'a> {
        let disks = self.toolstack.blocks.stats(domid);
        let mut vbd = [0_u64; 5];
        for (_, disk) in &disks {
            let counters = [disk.oo_req, disk.rd_req, disk.wr_req, disk.rd_sect, disk.wr_sect];
            for (sum, counter) in vbd.iter_mut().zip(counters) {
                *sum = sum.saturating_add(counter);
            }
        }
        let nets = self.toolstack.nets.stats(domid);
        let net_bytes = nets.iter().fold([0, 0], |[tx, rx], (_, net)| [tx + net.tx_bytes, rx + net.rx_bytes]);
        TopRow {
            name,
            state: StateFlags::from(info),
            cpu_ns: info.cpu_ns,
            cpu_permille: 0,
            memory_kib: info.pages.saturating_mul(KIB_PER_PAGE),
            max_memory_kib: (domid != DomId::DOM0).then_some(info.max_pages.saturating_mul(KIB_PER_PAGE)),
            vcpus: info.online_vcpus,
            nets: u32::try_from(nets.len()).unwrap_or(u32::MAX),
            net_kib: net_bytes.map(|bytes: u64| bytes / 1024),
            interfaces: &[],
            vbds: u32::try_from(disks.len()).unwrap_or(u32::MAX),
            vbd,
        }
    }
}

/// The lines above the table.
fn summary<'a>(
    out: &mut String,
    platform: &PlatformInfo,
    infos: impl Iterator<Item = &'a DomainInfo> + Clone,
) -> Result<(), Failure> {
    let states = infos.map(StateFlags::from);
    let count = |is: fn(&StateFlags) -> bool| states.clone().filter(is).count();
    let [total, free] = [platform.total_pages, platform.free_pages].map(|pages| pages.saturating_mul(KIB_PER_PAGE));
    let seconds = platform.uptime_ns / NS_PER_SECOND;
    writeln!(out, "xl top - up {}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    writeln!(
        out,
        "{} domains: {} running, {} blocked, {} paused, {} shut down, {} dying",
        count(|_| true),
        count(|state| state.running),
        count(|state| state.blocked),
        count(|state| state.paused),
        count(|state| state.shutdown.is_some()),
        count(|state| state.dying),
    )?;
    let used = total.saturating_sub(free);
    Ok(writeln!(out, "Mem: {total}k total, {used}k used, {free}k free    CPUs: {}", platform.pcpus)?)
}

/// The text such that it covers what the screen showed before, without the flicker of clearing it first.
fn over(text: &str) -> String {
    let mut painted = String::from("\x1b[H");
    for line in text.lines() {
        painted.push_str(line);
        painted.push_str("\x1b[K\n");
    }
    painted.push_str("\x1b[J");
    painted
}
