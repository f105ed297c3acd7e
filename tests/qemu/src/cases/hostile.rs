//! A guest that breaks every rule harms only itself.
//!
//! What must hold after each attack: the hypervisor and Dom0 answer, a victim domain answers, and when the attacker is
//! destroyed every frame and every node of XenStore is back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::alone;
use super::guests::watch;
use super::life::{listed, resources};
use super::linux::LONG;
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    alone("a_guest_that_breaks_every_rule_harms_only_itself", in_turn),
    alone("attacks_that_do_not_end_are_ended_by_destroy", at_once),
    alone("two_guests_hear_each_other_while_a_third_attacks_their_network", networks),
];

/// Attacks through a network interface, which go on for some seconds.
const NETWORK: &[&str] = &["frames_of_wrong_shapes", "a_flood_of_addresses", "garbage_in_the_control_ring"];

/// Mean time of an echo between others during such an attack, in microseconds, on a busy host.
const ECHO_US: u64 = 100_000;

/// Attacks that come to an end by themselves.
const ENDING: &[&str] = &[
    "every_call_with_every_odd_argument",
    "random_calls",
    "nested_and_endless_multicalls",
    "registrations_everywhere",
    "every_system_register",
    "random_instructions",
    "random_instructions_at_el0",
    "every_register_of_the_distributor",
    "every_register_of_the_redistributors",
    "sgis_to_odd_affinities",
    "interrupts_taken_and_ended_at_random",
    "page_tables_anywhere",
    "loads_and_stores_at_random_addresses",
    "frames_given_back_twice",
    "a_page_given_back_while_granted",
    "grant_entries_rewritten_while_mapped",
    "grants_mapped_from_oneself_and_nobody",
    "ports_by_the_thousand",
    "a_million_events_at_dom0",
    "queues_of_events_spoiled_by_two_vcpus",
    "odd_firmware_calls",
    "waiting_in_storms",
    "caches_by_set_and_way",
    "a_race_of_two_vcpus",
    "garbage_in_the_console_ring",
    "blocks_from_a_broken_ring",
    "frames_from_broken_rings",
    "garbage_for_the_store",
    "a_tree_of_the_greatest_depth",
    "quotas_of_the_store",
    "a_broken_store_ring",
    "a_store_ring_broken_over_and_over",
];

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

/// How long an attack may go on before it is destroyed, in tenths of a second.
const PATIENCE: u32 = 100;

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

fn in_turn(lab: &Lab) -> Result<()> {
    let (mut machine, before) = start(lab)?;
    for attack in ENDING {
        machine.ok(&format!("xl create /store/hostile.cfg extra=attack={attack}"))?;
        until_it_ends(&mut machine).with_context(|| format!("attack={attack}"))?;
    }
    // What Dom0 had to say of the last one would have used up the lines that it may print.
    machine.send("xl dmesg\r")?;
    let said = machine.expect(" were left out", ANSWER)?;
    machine.prompt(ANSWER)?;
    let count = said.matches("xenstored: d").count();
    ensure!(count < 20, "{count} messages about one attacker:\n{said}");
    finish(&mut machine, &before)
}

/// Watches an attacker, and destroys it when it has not ended in time.
fn until_it_ends(machine: &mut Machine) -> Result<()> {
    for _ in 0..PATIENCE {
        machine.sh_within("sleep 0.1", ANSWER)?;
        if machine.sh_within("xl domid hostile", ANSWER)?.status != 0 {
            return Ok(());
        }
    }
    destroy(machine, "hostile")
}

/// One joins the other until all go on at once, and then for as long as each may. None has the disk, which is for one alone.
fn at_once(lab: &Lab) -> Result<()> {
    let (mut machine, before) = start(lab)?;
    for attack in ENDLESS {
        machine.ok(&format!("xl create /store/hostile.cfg name={attack} disk=[] extra=attack={attack}"))?;
        machine.sh_within("sleep 0.5", ANSWER).with_context(|| format!("attack={attack}"))?;
    }
    for _ in 0..PATIENCE {
        machine.sh_within("sleep 0.1", ANSWER)?;
    }
    for attack in ENDLESS {
        destroy(&mut machine, attack).with_context(|| format!("attack={attack}"))?;
    }
    finish(&mut machine, &before)
}

/// Destroys an attacker that may have ended.
fn destroy(machine: &mut Machine, name: &str) -> Result<()> {
    let done = machine.sh_within(&format!("xl destroy {name}"), ANSWER)?;
    let gone = listed(machine, name)?.is_none();
    ensure!(gone, "{name} is listed after its destruction: {}", done.text);
    Ok(())
}

fn networks(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/hello.cfg name=victim")?;
    watch(&mut machine, "httpd.cfg extra=\"ip=10.0.0.80/24\" \"vif=['bridge=lan0']\"", "httpd: http://10.0.0.80:80/")?;
    machine.ok("xl create -p /store/hostile.cfg \"vif=['bridge=lan0']\"")?;
    machine.ok("xl destroy hostile")?;
    let before = resources(&mut machine)?;
    for attack in NETWORK {
        machine.ok(&format!("xl create /store/hostile.cfg \"vif=['bridge=lan0']\" extra=attack={attack}"))?;
        let extra = "extra=\"ip=10.0.0.81/24 to=10.0.0.80 count=100 every=20\"";
        machine.send(&format!("xl create -c /store/ping.cfg \"vif=['bridge=lan0']\" {extra}\r"))?;
        // The console ends with the guest.
        let said = machine.expect(" us", LONG).with_context(|| format!("attack={attack}"))?;
        machine.prompt(LONG)?;
        destroy(&mut machine, "hostile")?;
        let average = said.rsplit_once("average=").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        ensure!(said.contains("received=100"), "attack={attack}: {said}");
        ensure!(average.is_some_and(|average: u64| average <= ECHO_US), "attack={attack}: {said}");
    }
    finish(&mut machine, &before)
}
