//! A guest that breaks the rules on purpose, one rule per attack.
//!
//! `attack=NAME` on its command line chooses one, `attack=NAME,NAME` several, `attack=all` runs every attack that is survived, one after the
//! other. Each says `hostile: NAME survived` through the hypervisor's console, which works whatever the attack did to
//! the domain's rings. Some attacks have no end, or end the domain; what shows that they failed is that everybody else
//! goes on.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod block;
mod calls;
mod events;
mod frames;
mod gic;
mod gicv2;
mod grants;
mod hammer;
mod instructions;
mod last;
mod memory;
mod net;
mod processor;
mod race;
mod random;
mod rings;
mod store;
#[allow(unsafe_code)]
mod sys;

use core::fmt::Write;

use pv_guest_lib::hypercall;
use pv_guest_lib::shutdown::poweroff;
use pv_guest_lib::{BootInfo, entry};

use crate::random::Random;
use crate::sys::Scratch;

entry!(main);

/// What an attack works with.
pub struct Attacker {
    /// The same numbers in each run.
    pub random: Random,
    /// Where instructions are put.
    pub code: Scratch,
    /// Memory to be handed to whoever asks for some.
    pub scratch: Scratch,
}

/// An attack: does its worst and returns a number that says what was answered.
type Attack = fn(&mut Attacker) -> u64;

/// Attacks after which the domain goes on.
const SURVIVED: &[(&str, Attack)] = &[
    ("every_call_with_every_odd_argument", calls::every_number),
    ("random_calls", calls::random),
    ("nested_and_endless_multicalls", calls::multicalls),
    ("registrations_everywhere", calls::registrations),
    ("every_system_register", instructions::registers),
    ("random_instructions", instructions::random),
    ("random_instructions_at_el0", instructions::random_at_el0),
    ("every_register_of_the_distributor", gic::distributor),
    ("every_register_of_the_redistributors", gic::redistributors),
    ("sgis_to_odd_affinities", gic::sgis),
    ("interrupts_taken_and_ended_at_random", gic::churn),
    ("page_tables_anywhere", calls::page_tables),
    ("loads_and_stores_at_random_addresses", memory::random_addresses),
    ("frames_given_back_twice", memory::balloon),
    ("a_page_given_back_while_granted", grants::balloon),
    ("grant_entries_rewritten_while_mapped", grants::rewrite),
    ("grants_mapped_from_oneself_and_nobody", grants::map),
    ("ports_by_the_thousand", events::ports),
    ("a_million_events_at_dom0", events::storm),
    ("odd_firmware_calls", processor::firmware_calls),
    ("waiting_in_storms", processor::waiting),
    ("caches_by_set_and_way", processor::caches),
    ("a_race_of_two_vcpus", race::run),
    ("garbage_in_the_console_ring", rings::console),
    ("blocks_from_a_broken_ring", block::run),
    ("frames_from_broken_rings", net::run),
    ("frames_of_wrong_shapes", frames::shapes),
    ("a_flood_of_addresses", frames::addresses),
    ("garbage_in_the_control_ring", frames::control_requests),
    ("garbage_for_the_store", store::garbage),
    ("a_tree_of_the_greatest_depth", store::deep_tree),
    ("quotas_of_the_store", store::quotas),
    ("a_broken_store_ring", rings::store),
    ("a_store_ring_broken_over_and_over", rings::reconnect),
    // Closes the ports of store and console.
    ("queues_of_events_spoiled_by_two_vcpus", race::fifo),
];

/// Attacks from which the domain does not come back.
const LAST: &[(&str, Attack)] = &[
    ("vectors_nowhere", last::vectors_nowhere),
    ("a_jump_to_nowhere", last::jump_nowhere),
    ("an_image_that_eats_itself", last::eat_itself),
    ("a_stack_without_end", last::deep_stack),
    ("an_odd_shutdown", last::odd_shutdown),
    ("all_memory_given_back", last::give_all_back),
    ("a_loop_with_everything_masked", last::spin),
    ("a_timer_interrupt_never_ended", last::timer_never_ended),
    ("a_timer_interrupt_never_taken", last::timer_never_taken),
    ("hammers_yields", hammer::yields),
    ("hammers_polls", hammer::polls),
    ("hammers_interrupts", hammer::interrupts),
    ("hammers_past_timers", hammer::past_timers),
    ("hammers_on_and_off", hammer::on_and_off),
    ("hammers_store", hammer::store),
];

/// How long before the time `from=MS` of the machine's clock an attack begins for which there is one, in milliseconds.
const BEFORE: u64 = 200;

fn main(boot: BootInfo) -> ! {
    let word = |key: &str| boot.arguments().split_whitespace().find_map(|word| word.strip_prefix(key));
    let wanted = word("attack=").unwrap_or("all");
    let (Some(code), Some(scratch)) = (Scratch::take(4), Scratch::take(256)) else { poweroff() };
    sys::open_up();
    if let Some(from) = word("from=").and_then(|from| from.parse().ok()) {
        hammer::wait(from, BEFORE);
    }
    let mut attacker = Attacker { random: Random::new(0x05EE_D0FE_E10F), code, scratch };
    for (name, attack) in SURVIVED {
        if wanted == "all" || wanted.split(',').any(|one| one == *name) {
            say(format_args!("hostile: {name} begins"));
            let answer = attack(&mut attacker);
            say(format_args!("hostile: {name} survived ({answer:#x})"));
        }
    }
    for (name, attack) in LAST {
        if wanted == *name {
            say(format_args!("hostile: {name} begins"));
            let answer = attack(&mut attacker);
            say(format_args!("hostile: {name} was left ({answer:#x})"));
        }
    }
    poweroff()
}

/// Prints a line, after a while in which the domain earns the right to one.
fn say(text: core::fmt::Arguments<'_>) {
    wait(50);
    let mut line = Line { bytes: [0; 160], length: 0 };
    // A line that is too long is cut.
    let _ = writeln!(line, "\n{text}");
    let _ = hypercall::console_write(line.bytes.get(..line.length).unwrap_or(&[]));
}

/// Lets milliseconds pass.
fn wait(milliseconds: u64) {
    let until = sys::now() + milliseconds * sys::millisecond();
    while sys::now() < until {
        hypercall::yield_now();
    }
}

struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.length).ok_or(core::fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}
