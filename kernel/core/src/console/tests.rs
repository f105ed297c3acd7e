//! Tests of the log: lines, prefixes, the limit, and what a reader sees.

use hypercall_abi::ids::VcpuId;
use hypercall_abi::nr::CONSOLE_IO;

use super::*;
use crate::addr::PAGE_SIZE;
use crate::fake::{Fake, GUEST_RAM, Shared, World, poke_bytes, with};

type Dom = Shared<Domain<Fake>>;

fn print(world: &mut World, domain: &Dom, text: &[u8]) -> i64 {
    poke_bytes(domain, GUEST_RAM, text);
    world.call(domain, CONSOLE_IO, &[0, text.len() as u64, GUEST_RAM])
}

/// The whole log.
fn log(world: &World) -> String {
    let mut all = vec![0; LOG_SIZE];
    let (_, count) = world.kernel.console.lock().read(0, &mut all);
    all.truncate(count);
    String::from_utf8(all).expect("only text comes into the log")
}

#[test]
fn whole_lines_come_with_the_domains_id_and_pieces_wait_for_their_end() {
    let (mut world, dom0) = World::new();
    let guest = world.domain(2);
    assert_eq!(print(&mut world, &guest, b"hello, "), 0);
    assert_eq!(print(&mut world, &dom0, b"other\n"), 0);
    assert_eq!(log(&world), "(d0) other\n");
    assert_eq!(print(&mut world, &guest, b"world\r\nnext\n\nrest"), 0);
    assert_eq!(log(&world), "(d0) other\n(d1) hello, world\n(d1) next\n(d1) \n");
}

#[test]
fn control_characters_do_not_reach_the_users_terminal() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(2);
    print(&mut world, &guest, b"a\x1b[2J\x07\x00\x7f\x08\xff\tb~\n");
    assert_eq!(log(&world), "(d1) a.[2J.....\tb~\n");
}

#[test]
fn a_long_line_is_broken_and_one_that_just_fits_is_not() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(2);
    let full = "x".repeat(LINE);
    print(&mut world, &guest, format!("{full}\r\n{full}y\n").as_bytes());
    assert_eq!(log(&world), format!("(d1) {full}\n(d1) {full}\n(d1) y\n"));
}

#[test]
fn a_domain_that_floods_the_log_loses_lines_and_is_told_how_many() {
    let (mut world, _dom0) = World::new();
    let (loud, quiet) = (world.domain(2), world.domain(2));
    for _ in 0..5 {
        print(&mut world, &loud, "flood\n".repeat(100).as_bytes());
    }
    assert_eq!(log(&world).matches("flood").count(), 100);
    print(&mut world, &quiet, b"here\n");
    assert!(log(&world).ends_with("(d2) here\n"), "the limit is each domain's own");
    with(|s| s.now += ticks::<Fake>(3 * REFILL_NS));
    print(&mut world, &loud, "later\n".repeat(9).as_bytes());
    assert_eq!(log(&world).matches("(d1) 400 lines dropped\n(d1) later").count(), 1);
    assert_eq!(log(&world).matches("later").count(), 3, "one line for each period");
}

#[test]
fn a_large_buffer_is_taken_in_rounds_and_a_bad_one_is_a_fault() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(8);
    let text = "0123456\n".repeat(3 * 512);
    print(&mut world, &guest, text.as_bytes());
    assert!(world.rounds > 1);
    assert_eq!(log(&world).matches("0123456").count(), 100);
    for (count, at) in
        [(8, 0x1000), (u64::from(u32::MAX), GUEST_RAM), (PAGE_SIZE, GUEST_RAM + 8 * PAGE_SIZE - 16), (2, u64::MAX)]
    {
        assert_eq!(world.call(&guest, CONSOLE_IO, &[0, count, at]), XenError::Fault as i64, "{count} at {at:#x}");
    }
    assert_eq!(world.call(&guest, CONSOLE_IO, &[0, 0, u64::MAX]), 0);
    assert_eq!(world.call(&guest, CONSOLE_IO, &[1, 100, GUEST_RAM]), 0, "there is no input");
    assert_eq!(world.call(&guest, CONSOLE_IO, &[2, 0, 0]), XenError::NoSys as i64);
}

#[test]
fn a_reader_finds_what_is_new_and_skips_what_is_gone() {
    let (world, _dom0) = World::new();
    let read = |at, out: &mut [u8]| world.kernel.console.lock().read(at, out);
    world.kernel.log(format_args!("one"));
    let mut part = [0; 12];
    assert_eq!(read(0, &mut part), (12, 12));
    assert_eq!(&part, b"(xenolith) o");
    assert_eq!(read(12, &mut part), (15, 3));
    assert_eq!(read(15, &mut part), (15, 0));
    assert_eq!(read(u64::MAX, &mut part), (15, 0), "the future is empty");
    for n in 0..2000 {
        world.kernel.log(format_args!("{n:08}"));
    }
    let end = 15 + 2000 * 20;
    let mut all = vec![0; LOG_SIZE + 1];
    assert_eq!(read(0, &mut all), (end, LOG_SIZE), "the oldest that is kept");
    assert!(all[..LOG_SIZE].ends_with(b"(xenolith) 00001999\n"));
}

#[test]
fn the_uart_shows_the_log_until_dom0_reads_it_and_what_nobody_read_at_the_end() {
    let (world, dom0) = World::new();
    world.kernel.log(format_args!("early"));
    assert_eq!(with(|s| core::mem::take(&mut s.console)), b"(xenolith) early\n");
    // Dom0 binds the interrupt of the log.
    let port = dom0.events.open(evtchn::Binding::Virq(Virq::ConRing as u32), VcpuId(0)).unwrap();
    world.kernel.log(format_args!("late"));
    assert_eq!(with(|s| s.console.len()), 0);
    assert!(evtchn::is_pending(&dom0, port), "dom0 is told");
    world.kernel.show_unread();
    world.kernel.show_unread();
    assert_eq!(with(|s| core::mem::take(&mut s.console)), b"(xenolith) late\n");
}
