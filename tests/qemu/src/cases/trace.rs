//! What the hypervisor's traces say, held against what it and a guest say themselves.

use anyhow::{Context, Result, ensure};

use super::alone;
use super::linux::{LONG, inside, leave, start};
use super::net::enter;
use crate::files;
use crate::machine::Machine;
use crate::suite::{Case, Lab};
use crate::trace::{Trace, chrome, summarise};

pub(super) const CASES: &[Case] = &[alone("a_trace_agrees_with_the_times_of_the_vcpus", agrees)];

/// Keeps both vCPUs busy for so many seconds.
fn busy(seconds: u32) -> String {
    format!("p=; for i in 1 2; do while :; do :; done & p=\"$p $!\"; done; sleep {seconds}; kill $p; wait")
}

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
    start(&mut machine, "vcpus=2 cpus=1")?;
    leave(&mut machine)?;
    let before = times(&mut machine)?;
    machine.ok("xl trace start /store/trace")?;
    machine.fails("xl trace start /store/other", &["being made already"])?;
    machine.ok("xl create /store/hello.cfg")?;
    enter(&mut machine, "linux")?;
    inside(&mut machine, &busy(4))?;
    leave(&mut machine)?;
    machine.ok("xl destroy hello")?;
    let said = machine.ok("xl trace stop")?;
    let after = times(&mut machine)?;
    machine.ok("xl trace status")?;
    machine.send("poweroff\r")?;
    machine.end(LONG)?;

    let trace = Trace::read(&files::read(&image, "/store/trace")?)?;
    ensure!(said.contains(&format!("{} records", trace.entries.len())) && said.contains(" 0 lost"), "{said}");
    let switches = trace.check_switches()?;
    ensure!(switches > 400, "there are {switches} switches alone");
    let summary = summarise(&trace);
    let of_linux = summary.vcpus.iter().filter(|(who, _)| who.0 == 1);
    let ticks = of_linux.map(|(_, vcpu)| vcpu.spent.first().copied().unwrap_or(0)).sum();
    let (running, ran) = (trace.duration_us(ticks) / 1e6, after - before);
    // Each of the two lists gives tenths, and the console was left and entered outside of the trace.
    ensure!(
        (running - ran).abs() < 0.4,
        "Linux ran {running:.3} s in the trace, and {ran:.1} s by the list:\n{summary}"
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
