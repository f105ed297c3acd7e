//! A guest that breaks every rule harms only itself.
//!
//! What must hold after each attack: the hypervisor and Dom0 answer, a victim domain answers, and when the attacker is
//! destroyed every frame and every node of XenStore is back.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::case;
use super::life::{listed, resources};
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("a_guest_that_breaks_every_rule_harms_only_itself", survived),
    case("attacks_that_do_not_end_are_ended_by_destroy", endless),
];

/// The last of the attacks after which the domain goes on.
const LAST_SURVIVED: &str = "a_broken_store_ring survived";

/// Attacks that end the domain, or never end.
const ENDLESS: &[&str] = &[
    "vectors_nowhere",
    "a_jump_to_nowhere",
    "an_image_that_eats_itself",
    "a_stack_without_end",
    "an_odd_shutdown",
    "all_memory_given_back",
    "a_loop_with_everything_masked",
    "a_timer_interrupt_never_ended",
    "a_timer_interrupt_never_taken",
];

/// Dom0 answers within this time, whatever a guest does.
const ANSWER: Duration = Duration::from_secs(15);

/// Boots with a victim and takes stock.
fn start(lab: &Lab) -> Result<(Machine, (String, String))> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/hello.cfg name=victim")?;
    // The first attacker may make the heap of Dom0 grow; that stays.
    machine.ok("xl create -p /store/hostile.cfg")?;
    machine.ok("xl destroy hostile")?;
    let stock = resources(&mut machine)?;
    Ok((machine, stock))
}

/// The attacker is gone: is everything as it was, and does the victim answer?
fn finish(machine: &mut Machine, before: &(String, String)) -> Result<()> {
    let after = resources(machine)?;
    ensure!(before.0 == after.0, "free memory was {} and is {}", before.0, after.0);
    ensure!(before.1 == after.1, "XenStore was\n{}\nand is\n{}", before.1, after.1);
    machine.ok("xl shutdown -w victim")?;
    ensure!(listed(machine, "victim")?.is_none(), "the victim does not obey");
    Ok(())
}

fn survived(lab: &Lab) -> Result<()> {
    let (mut machine, before) = start(lab)?;
    machine.ok("xl create /store/hostile.cfg extra=attack=all")?;
    for _ in 0..300 {
        let done = machine.sh_within("xl domid hostile", ANSWER)?;
        if done.status != 0 {
            ensure!(machine.ok("xl dmesg")?.contains(LAST_SURVIVED) || machine.said(LAST_SURVIVED), "it ended early");
            return finish(&mut machine, &before);
        }
        machine.ok("sleep 1")?;
    }
    bail!("the attacks do not end; the end of the console:\n{}", machine.last_lines())
}

fn endless(lab: &Lab) -> Result<()> {
    let (mut machine, before) = start(lab)?;
    for attack in ENDLESS {
        attack_and_destroy(&mut machine, attack).with_context(|| format!("attack={attack}"))?;
    }
    finish(&mut machine, &before)
}

fn attack_and_destroy(machine: &mut Machine, attack: &str) -> Result<()> {
    machine.ok(&format!("xl create /store/hostile.cfg extra=attack={attack}"))?;
    machine.sh_within("sleep 2", ANSWER)?;
    if machine.sh_within("xl domid hostile", ANSWER)?.status == 0 {
        let done = machine.sh_within("xl destroy hostile", ANSWER)?;
        ensure!(done.status == 0, "destroy failed: {}", done.text);
    }
    ensure!(listed(machine, "hostile")?.is_none(), "the attacker is listed after its destruction");
    Ok(())
}
