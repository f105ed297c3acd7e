//! Where the time of each vCPU went, what its exits were and cost, and how long wake-ups waited for a pCPU.

use std::collections::BTreeMap;
use std::fmt;

use hypercall_abi::control::{self, Op};
use hypercall_abi::nr::Hypercall;
use hypercall_abi::trace::ExitKind;
use hypercall_abi::vcpu::Runstate;

use super::{Event, Trace, Who};

/// Ticks that a vCPU has spent in each state, by [`Runstate`], and its wake-ups.
#[derive(Clone, Debug, Default)]
pub struct VcpuTimes {
    /// By the number of the state.
    pub spent: [u64; 4],
    /// Ticks from each wake-up until it ran, in rising order.
    pub waits: Vec<u64>,
    state: Option<(Runstate, u64)>,
    woken: Option<u64>,
}

/// What was counted of one kind of exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// How many.
    pub count: u64,
    /// Ticks, together.
    pub total: u64,
    /// Ticks of the longest.
    pub max: u64,
}

/// A trace in numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Each vCPU's times.
    pub vcpus: BTreeMap<Who, VcpuTimes>,
    /// Exits by vCPU and reason, the pCPU's sleep taken off.
    pub exits: BTreeMap<(Who, String), Span>,
    /// Injections by vCPU and interrupt.
    pub injections: BTreeMap<(Who, u32), u64>,
    /// Ticks that the trace covers.
    pub length: u64,
    hz: f64,
    names: BTreeMap<u16, String>,
    lost: u64,
}

/// Sums a trace up.
pub fn summarise(trace: &Trace) -> Summary {
    let (start, end) =
        trace.entries.first().zip(trace.entries.last()).map_or((0, 0), |(first, last)| (first.time, last.time));
    let mut summary = Summary {
        length: end - start,
        hz: trace.hz as f64,
        names: trace.entries.iter().map(|entry| (entry.who.0, trace.name(entry.who.0))).collect(),
        lost: trace.lost.values().fold(0, |all, lost| all.saturating_add(*lost)),
        ..Summary::default()
    };
    let idle = idle_times(trace, end);
    for entry in &trace.entries {
        let (who, mut exit) = (entry.who, None);
        match entry.event {
            Event::State { from, to, .. } => {
                let vcpu = summary.vcpus.entry(who).or_default();
                vcpu.enter(from, to, entry.time, start);
            }
            Event::Exit { kind, esr, span } => exit = Some((reason(kind, esr), span)),
            Event::Hypercall { number, command, span } => exit = Some((hypercall(number, command), span)),
            Event::Injection(irq) => *summary.injections.entry((who, irq & 0x3FF)).or_default() += 1,
        }
        if let Some((reason, span)) = exit {
            // A vCPU that never leaves its pCPU shows in its exits alone.
            let vcpu = summary.vcpus.entry(who).or_default();
            vcpu.state.get_or_insert((Runstate::Running, start));
            let span = span.saturating_sub(asleep(&idle, entry.pcpu, entry.time, entry.time.saturating_add(span)));
            let sum = summary.exits.entry((who, reason)).or_default();
            *sum = Span { count: sum.count + 1, total: sum.total.saturating_add(span), max: sum.max.max(span) };
        }
    }
    for vcpu in summary.vcpus.values_mut() {
        vcpu.end(end);
    }
    summary
}

impl VcpuTimes {
    fn enter(&mut self, from: Runstate, to: Runstate, now: u64, start: u64) {
        // What it was in before the first record of it, it was in from the start.
        let (_, since) = self.state.unwrap_or((from, start));
        self.spent[from as usize & 3] += now.saturating_sub(since);
        self.state = Some((to, now));
        match (from, to) {
            (Runstate::Blocked | Runstate::Offline, Runstate::Runnable) => self.woken = Some(now),
            (_, Runstate::Running) => self.waits.extend(self.woken.take().map(|woken| now.saturating_sub(woken))),
            _ => {}
        }
    }

    fn end(&mut self, end: u64) {
        if let Some((state, since)) = self.state {
            self.spent[state as usize & 3] += end.saturating_sub(since);
        }
        self.waits.sort_unstable();
    }

    /// The wait that so many per cent of all do not exceed.
    pub fn percentile(&self, percent: usize) -> Option<u64> {
        let last = self.waits.len().checked_sub(1)?;
        self.waits.get(last * percent / 100).copied()
    }
}

/// When each pCPU had no vCPU, between records that say so.
fn idle_times(trace: &Trace, end: u64) -> BTreeMap<u16, Vec<(u64, u64)>> {
    let mut idle = BTreeMap::<u16, Vec<(u64, u64)>>::new();
    for entry in &trace.entries {
        match entry.event {
            Event::State { from: Runstate::Running, .. } => idle.entry(entry.pcpu).or_default().push((entry.time, end)),
            Event::State { to: Runstate::Running, .. } => {
                if let Some((_, until)) = idle.entry(entry.pcpu).or_default().last_mut() {
                    *until = entry.time.min(*until);
                }
            }
            _ => {}
        }
    }
    idle
}

/// How long a pCPU had no vCPU between two times.
fn asleep(idle: &BTreeMap<u16, Vec<(u64, u64)>>, pcpu: u16, from: u64, to: u64) -> u64 {
    let times = idle.get(&pcpu).map_or(&[][..], Vec::as_slice);
    let later = times.get(times.partition_point(|(_, until)| *until <= from)..).unwrap_or_default();
    let inside = later.iter().take_while(|(start, _)| *start < to);
    let times = inside.map(|(start, until)| to.min(*until).saturating_sub(from.max(*start)));
    times.fold(0, u64::saturating_add)
}

/// An exit by the class in `ESR_EL2` (Arm ARM DDI 0487, section D24.2.40).
pub(super) fn reason(kind: ExitKind, esr: u64) -> String {
    let class = esr >> 26 & 0x3F;
    match (kind, class) {
        (ExitKind::Irq, _) => "interrupt".into(),
        (ExitKind::SError, _) => "SError".into(),
        (ExitKind::Sync, 0x01) => if esr & 1 == 1 { "WFE" } else { "WFI" }.into(),
        (ExitKind::Sync, 0x07) => "FP".into(),
        (ExitKind::Sync, 0x16 | 0x17) => "PSCI or SMCCC".into(),
        (ExitKind::Sync, 0x18) => "system register".into(),
        (ExitKind::Sync, 0x20) => "instruction abort".into(),
        (ExitKind::Sync, 0x24) => "data abort".into(),
        (ExitKind::Sync, _) => format!("exception class {class:#x}"),
    }
}

/// A hypercall by its name, and the number of its command where it has one.
pub(super) fn hypercall(number: u32, command: u32) -> String {
    match (Op::from_number(number), Hypercall::from_raw(number)) {
        (Some(op), _) => format!("control {op:?}"),
        (None, Some(Hypercall::Multicall)) => "Multicall".into(),
        (None, Some(call)) => format!("{call:?} {command}"),
        (None, None) if number >= control::BASE => format!("control {}", number - control::BASE),
        (None, None) => format!("hypercall {number}"),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ticks: u64| ticks as f64 * 1e3 / self.hz;
        let us = |ticks: u64| ticks as f64 * 1e6 / self.hz;
        let name = |who: Who| format!("{}v{}", self.names.get(&who.0).map_or("?", String::as_str), who.1);
        writeln!(f, "{:.3} ms, {} records lost", ms(self.length), self.lost)?;
        writeln!(f, "\n{:<20} {:>12} {:>12} {:>12} {:>12}", "vCPU, ms", "running", "runnable", "blocked", "offline")?;
        for (who, vcpu) in &self.vcpus {
            let [running, runnable, blocked, offline] = vcpu.spent.map(ms);
            writeln!(f, "{:<20} {running:>12.3} {runnable:>12.3} {blocked:>12.3} {offline:>12.3}", name(*who))?;
        }
        writeln!(
            f,
            "\n{:<20} {:>8} {:>10} {:>10} {:>10} {:>10}",
            "wake to run, us", "count", "50 %", "90 %", "99 %", "max"
        )?;
        for (who, vcpu) in self.vcpus.iter().filter(|(_, vcpu)| !vcpu.waits.is_empty()) {
            let [half, most, nearly, max] = [50, 90, 99, 100].map(|percent| us(vcpu.percentile(percent).unwrap_or(0)));
            let count = vcpu.waits.len();
            writeln!(f, "{:<20} {count:>8} {half:>10.2} {most:>10.2} {nearly:>10.2} {max:>10.2}", name(*who))?;
        }
        writeln!(
            f,
            "\n{:<20} {:<28} {:>8} {:>12} {:>10} {:>10}",
            "exits, us", "reason", "count", "total", "mean", "max"
        )?;
        for ((who, reason), span) in &self.exits {
            let (total, mean) = (us(span.total), us(span.total) / span.count.max(1) as f64);
            let (count, max) = (span.count, us(span.max));
            writeln!(f, "{:<20} {reason:<28} {count:>8} {total:>12.1} {mean:>10.2} {max:>10.2}", name(*who))?;
        }
        writeln!(f, "\n{:<20} {:<28} {:>8}", "injections", "interrupt", "count")?;
        for ((who, irq), count) in &self.injections {
            writeln!(f, "{:<20} {irq:<28} {count:>8}", name(*who))?;
        }
        Ok(())
    }
}
