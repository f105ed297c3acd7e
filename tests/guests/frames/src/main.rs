//! Measures what the switch spends on a frame of 64 bytes: its way from one port's `put` to another's, look-up, learning and
//! counters included, and a commit after each burst.
//!
//! It is built as Dom0 is, and meant for QEMU's `-icount shift=0`, where an instruction takes a nanosecond. The ports are
//! stand-ins that take everything, so that neither rings nor copies count. The result is a line as those of `paths`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::task::{Context, Poll};

use driver_api::net::{Copy, CopyGrants, Frame, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{BusAddr, DmaMemory};
use embassy_time::Instant;
use pv_guest_lib::{Guest, heap, pages, println};
use vswitch::{Bridge, PortConfig};

/// Frames between two commits, as a back end takes at most off a ring in one pass.
const BURST: u32 = 32;
/// Bursts of a measurement.
const BURSTS: u32 = 500;
/// Measurements, of which the quickest counts: somebody's timer may fall into the others.
const TIMES: u32 = 8;

/// Takes everything, and copies nothing.
struct Nowhere;

impl Port for Nowhere {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        black_box(frame.len);
        Ok(())
    }

    fn commit(&self) {}

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl CopyGrants for Nowhere {
    fn copy(&self, _: &[Copy], _: &mut Vec<bool>) {}
}

impl DmaMemory for Nowhere {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(0)
    }

    fn len(&self) -> usize {
        0
    }

    fn copy_out(&self, _: usize, _: &mut [u8]) {}

    fn copy_in(&self, _: usize, _: &[u8]) {}

    fn load_u16(&self, _: usize) -> u16 {
        0
    }

    fn store_u16(&self, _: usize, _: u16) {}

    fn load_u32(&self, _: usize) -> u32 {
        0
    }

    fn store_u64(&self, _: usize, _: u64) {}

    fn full_barrier(&self) {}
}

#[pv_guest_lib::main]
async fn main(_: Guest) {
    if heap::init(pages::free_pages()).is_err() {
        println!("paths: switch_forward failed: no memory for a heap");
        return;
    }
    // Ticks are microseconds.
    println!("paths: hz 1000000");
    let bridge = Bridge::new(Nowhere, Nowhere, 0x0123_4567_89AB_CDEF, || Instant::now().as_secs());
    let plugs: Vec<_> =
        (0..8).map(|_| bridge.attach("port".into(), Rc::new(Nowhere) as _, PortConfig::default())).collect();
    let [Some(left), Some(right)] = [plugs.first(), plugs.last()] else { return };
    let (there, back) = (head(1, 2), head(2, 1));
    send(right, &back);
    let quickest = |port: &dyn Port| (0..TIMES).map(|_| micros(port, &there)).min().unwrap_or(u64::MAX);
    // What the sender itself spends on a frame is not the switch's.
    let (forwarded, alone) = (quickest(left), quickest(&Nowhere));
    let rounds = BURST * BURSTS;
    let sent = bridge.ports().last().map_or(0, |(_, stats)| stats.sent);
    if sent == u64::from(rounds * TIMES) {
        println!("paths: switch_forward {} {rounds}", forwarded.saturating_sub(alone));
    } else {
        println!("paths: switch_forward failed: {sent} frames came to the other port");
    }
    println!("paths: end");
}

/// A head as back ends have it, where words can be read at once.
#[repr(align(8))]
struct Head([u8; HEAD]);

/// A frame of 64 bytes from one station to another.
fn head(to: u8, from: u8) -> Head {
    let mut bytes = [0; HEAD];
    let header = [2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0];
    bytes.iter_mut().zip(header).for_each(|(byte, value)| *byte = value);
    Head(bytes)
}

fn send(port: &dyn Port, head: &Head) {
    let pieces = [Piece { page: PageRef::Own(BusAddr::new(0)), offset: 0, len: 64 }];
    let head = head.0.get(..64).unwrap_or_default();
    // What the bridge makes of it is counted by the bridge.
    let _ = port.put(black_box(&Frame { head, pieces: &pieces, len: 64, offload: Offload::default(), source: 0 }));
}

fn micros(port: &dyn Port, head: &Head) -> u64 {
    let start = Instant::now();
    for _ in 0..BURSTS {
        (0..BURST).for_each(|_| send(port, head));
        port.commit();
    }
    start.elapsed().as_micros()
}
