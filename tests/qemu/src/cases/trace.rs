//! What the hypervisor's traces say, held against what it and a guest say themselves.

use anyhow::{Context, Result, ensure};
use hypercall_abi::nr::XEN_VERSION;
use hypercall_abi::vcpu::Runstate;
use hypercall_abi::version::VersionOp;

use super::alone;
use super::linux::{LONG, inside, leave, start};
use super::net::enter;
use crate::files;
use crate::machine::Machine;
use crate::suite::{Case, Lab};
use crate::trace::{Event, Summary, Trace, chrome, summarise};

pub(super) const CASES: &[Case] =
    &[alone("a_trace_agrees_with_the_times_of_the_vcpus_and_the_time_stolen_from_linux", agrees)];

/// Keeps both vCPUs busy for four seconds and more, and looks before and after at what Linux knows to be stolen. It adds to
/// that in the ticks of a vCPU, so that both are busy from before the first look until after the last. Around each look are
/// hypercalls that nothing else makes, which is where the trace has it; there are several, since a look in whose middle
/// the vCPU has to wait is not of one time. The shell does all that itself, since to start a program takes time.
const BUSY: &str = "m=/sys/hypervisor/version/extra; looks() { for i in 1 2 3 4 5 6; do read -r _ <$m; \
    read -r _ _ _ _ _ _ _ _ n _ </proc/stat; read -r _ <$m; echo stolen $n; done; }; \
    p=; for i in 1 2; do while :; do :; done & p=\"$p $!\"; done; sleep 1; looks; sleep 4; looks; kill $p; wait";

/// Linux's domain id.
const LINUX: u16 = 1;

/// Two vCPUs of Linux share one pCPU, and another guest comes and goes on the other one.
fn agrees(lab: &Lab) -> Result<()> {
    let image = lab.store.with_extension("traced.img");
    std::fs::copy(&lab.store, &image).with_context(|| format!("cannot write {}", image.display()))?;
    let mut config = lab.config();
    for disk in &mut config.disks {
        (disk.file, disk.snapshot) = (image.clone(), false);
    }
    let mut machine = Machine::boot(&config)?;
    machine.fails("xl trace stop", &["no trace is being made"])?;
    machine.fails("xl trace start /nowhere", &["only files in /store"])?;
    machine.fails("xl trace start /store/linux.cfg", &["/store/linux.cfg: ", "is no trace"])?;
    machine.ok("cat /store/linux.cfg")?;
    start(&mut machine, "vcpus=2 cpus=1")?;
    leave(&mut machine)?;
    let before = times(&mut machine)?;
    machine.ok("xl trace start /store/trace")?;
    machine.fails("xl trace start /store/other", &["being made already"])?;
    let status = machine.ok("xl trace status")?;
    ensure!(status.contains("/store/trace: ") && status.contains(" records, "), "{status}");
    machine.ok("xl create /store/hello.cfg")?;
    enter(&mut machine, "linux")?;
    let looks = inside(&mut machine, BUSY)?;
    leave(&mut machine)?;
    machine.ok("xl destroy hello")?;
    let said = machine.ok("xl trace stop")?;
    let after = times(&mut machine)?;
    ensure!(machine.ok("xl trace status")?.contains("no trace is being made"), "the trace goes on");
    machine.send("poweroff\r")?;
    machine.end(LONG)?;

    let trace = Trace::read(&files::read(&image, "/store/trace")?)?;
    ensure!(said.contains(&format!("{} records", trace.entries.len())) && said.contains(" 0 lost"), "{said}");
    let switches = trace.check_switches()?;
    ensure!(switches > 400, "there are {switches} switches alone");
    let summary = summarise(&trace);
    let spent = |summary: &Summary, state: Runstate| {
        let of_linux = summary.vcpus.iter().filter(|(who, _)| who.0 == LINUX);
        let ticks = of_linux.map(|(_, vcpu)| vcpu.spent.get(state as usize).copied().unwrap_or(0)).sum();
        trace.duration_us(ticks) / 1e6
    };
    let (running, ran) = (spent(&summary, Runstate::Running), after - before);
    // Each of the two lists gives tenths, and the console was left and entered outside of the trace.
    ensure!(
        (running - ran).abs() < 0.4,
        "Linux ran {running:.3} s in the trace, and {ran:.1} s by the list:\n{summary}"
    );
    let (between, stolen) = between_looks(&trace, &looks)?;
    let between = summarise(&between);
    let waiting = spent(&between, Runstate::Runnable);
    ensure!(
        waiting > 3.0 && (waiting - stolen).abs() < 0.02 * waiting,
        "Linux waited {waiting:.3} s in the trace, and knows of {stolen:.2} s:\n{between}"
    );
    let text = summary.to_string();
    for words in ["hellov0", "linuxv1", "EventChannelOp 4", "WFI", "control DomainCreate"] {
        ensure!(text.contains(words), "the summary lacks {words}:\n{text}");
    }
    ensure!(chrome(&trace)["traceEvents"].as_array().is_some_and(|events| events.len() > trace.entries.len() / 4));
    std::fs::remove_file(&image).with_context(|| format!("cannot remove {}", image.display()))
}

/// Seconds that Linux's vCPUs have run, by `xl vcpu-list`.
fn times(machine: &mut Machine) -> Result<f64> {
    let list = machine.ok("xl vcpu-list linux")?;
    let times = list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(5)?.parse::<f64>().ok());
    Ok(times.sum())
}

/// What the trace has between a look before and one after, the shortest ones, and how many seconds were stolen there by
/// what the guest `said`.
fn between_looks(trace: &Trace, said: &str) -> Result<(Trace, f64)> {
    const EXTRAVERSION: u32 = VersionOp::Extraversion.raw();
    let call = |event| matches!(event, Event::Hypercall { number: XEN_VERSION, command: EXTRAVERSION, .. });
    let calls = trace.entries.iter().filter(|entry| entry.who.0 == LINUX && call(entry.event));
    let times: Vec<u64> = calls.map(|entry| entry.time).collect();
    let stolen = said.lines().filter_map(|line| line.trim().strip_prefix("stolen ")?.parse::<f64>().ok());
    let looks: Vec<([u64; 2], f64)> = times.as_chunks().0.iter().copied().zip(stolen).collect();
    ensure!(looks.len() == 12 && times.len() == 24, "the trace has {} hypercalls of looks:\n{said}", times.len());
    let (before, after) = looks.split_at(6);
    let shortest = |looks: &[([u64; 2], f64)]| looks.iter().copied().min_by_key(|([start, end], _)| end - start);
    let (([_, from], before), ([until, _], after)) = shortest(before).zip(shortest(after)).context("no looks")?;
    let mut between = trace.clone();
    between.entries.retain(|entry| (from..=until).contains(&entry.time));
    // The unit is USER_HZ.
    Ok((between, (after - before) / 100.0))
}
