//! Every machine that is promised boots to Dom0's prompt with all its pCPUs and its memory.

use anyhow::{Context, Result, ensure};

use super::case;
use super::guests::{STEP, watch};
use super::life::wait_gone;
use crate::machine::Machine;
use crate::parse;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("boots_on_cortex_a53", |lab| on_cpu(lab, "cortex-a53")),
    case("boots_on_cortex_a57", |lab| on_cpu(lab, "cortex-a57").and_then(|()| on_gicv2(lab, "cortex-a57"))),
    case("boots_on_cortex_a72", |lab| on_cpu(lab, "cortex-a72")),
    case("boots_on_cortex_a76", |lab| on_cpu(lab, "cortex-a76")),
    case("boots_on_max", |lab| on_cpu(lab, "max")),
    case("one_to_eight_pcpus_are_brought_up", pcpus),
    case("memory_from_512_mib_to_16_gib_is_found", memory),
    case("dom0_gets_the_memory_that_it_is_to_have", dom0_memory),
    case("two_runs_under_icount_reach_the_prompt", icount),
    case("poweroff_ends_the_machine", poweroff),
];

fn on_cpu(lab: &Lab, cpu: &str) -> Result<()> {
    let mut config = lab.config();
    config.cpu = cpu.to_owned();
    let mut machine = Machine::boot(&config)?;
    let domains = parse::list(&machine.ok("xl list")?)?;
    ensure!(
        domains.len() == 1 && domains.iter().all(|domain| domain.id == 0 && domain.name == "Domain-0"),
        "{domains:?}"
    );
    Ok(())
}

const ON_GICV2: &[&str] = &[
    "every_register_of_the_distributor",
    "every_register_of_the_redistributors",
    "sgis_to_odd_affinities",
    "interrupts_taken_and_ended_at_random",
];

/// QEMU's own choice of a machine has a GICv2: interrupts between pCPUs and vCPUs, of devices and of timers come by that.
fn on_gicv2(lab: &Lab, cpu: &str) -> Result<()> {
    let mut config = lab.config();
    (config.cpu, config.gic) = (cpu.to_owned(), 2);
    let mut machine = Machine::boot(&config)?;
    watch(&mut machine, "parallel.cfg", "parallel: PASS cpus=2")?;
    machine.fails("xl create /store/hello.cfg vcpus=9", &["key 'vcpus'", "GICv2", "8 at most"])?;
    let said = watch(&mut machine, "conform.cfg", " broken=0")?;
    let kept = said.matches(": ok").count();
    ensure!(said.contains("conform: PASS interrupts=1020 ") && kept >= 66, "rules do not hold or are missing:\n{said}");
    // Attacks on the distributor, and on the CPU interface, which is the hardware's own.
    machine.ok(&format!("xl create /store/hostile.cfg extra=attack={}", ON_GICV2.join(",")))?;
    for attack in ON_GICV2 {
        machine.expect(&format!("hostile: {attack} survived"), STEP)?;
    }
    wait_gone(&mut machine, "hostile")?;
    Ok(())
}

fn pcpus(lab: &Lab) -> Result<()> {
    for smp in 1..=8 {
        let mut config = lab.config();
        config.smp = smp;
        let mut machine = Machine::boot(&config).with_context(|| format!("with {smp} pCPUs"))?;
        let info = machine.ok("xl info")?;
        let found: u32 = parse::info(&info, "nr_cpus")?.parse()?;
        ensure!(found == smp, "xl info says {found} pCPUs of {smp}");
    }
    Ok(())
}

fn memory(lab: &Lab) -> Result<()> {
    for (mem, mib) in [("512M", 512), ("1G", 1024), ("3G", 3072), ("4G", 4096), ("16G", 16384)] {
        let mut config = lab.config();
        config.mem = mem.to_owned();
        let mut machine = Machine::boot(&config).with_context(|| format!("with {mem}"))?;
        let info = machine.ok("xl info")?;
        let found: u64 = parse::info(&info, "total_memory")?.parse()?;
        // The image, the modules and the frame table itself are not for domains.
        ensure!(found <= mib && found + found / 32 + 64 >= mib, "xl info says {found} MiB of {mem}");
    }
    Ok(())
}

fn dom0_memory(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.mem = "8G".to_owned();
    config.cmdline = "dom0_mem=3G".to_owned();
    let domains = parse::list(&Machine::boot(&config)?.ok("xl list")?)?;
    ensure!(domains.iter().any(|domain| domain.id == 0 && domain.mem == 3072), "{domains:?}");
    Ok(())
}

fn icount(lab: &Lab) -> Result<()> {
    for _ in 0..2 {
        let mut config = lab.config();
        config.smp = 1;
        config.icount = true;
        Machine::boot(&config)?.ok("xl list")?;
    }
    Ok(())
}

fn poweroff(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.send("poweroff\r")?;
    machine.end(std::time::Duration::from_secs(20))
}
