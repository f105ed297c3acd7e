//! Two vCPUs at the same handles, ports and pages.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::grant::{GNTMAP_HOST_MAP, GTF_PERMIT_ACCESS};
use pv_guest_lib::abi::memory::MemoryOp;
use pv_guest_lib::abi::nr;
use pv_guest_lib::abi::vcpu::VcpuOp;

use crate::Attacker;
use crate::events::{self, operation};
use crate::grants::{WINDOW, map_one, own_id, table, unmap_one};
use crate::random::Random;
use crate::sys::{Scratch, firmware, hypercall, millisecond, now, second_entry};

const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0xC400_0003;
/// Ports that the race may close: those of store and console are below.
const PORTS: u64 = 16;
/// The first of the pages that both give back and ask for.
const PAGES: u64 = 200;

static STOP: AtomicBool = AtomicBool::new(false);
/// Whether it is the queues of events that are raced for.
static FIFO: AtomicBool = AtomicBool::new(false);
/// This domain's id.
static OWN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// Uses the FIFO ABI with spoiled words, then does so while the other vCPU does the same.
pub fn fifo(attacker: &mut Attacker) -> u64 {
    let refused = events::fifo(attacker);
    events::go_over(attacker.scratch);
    FIFO.store(true, Ordering::Release);
    refused << 48 | run(attacker)
}

/// Starts the second vCPU, if the domain has one, and races it for three seconds.
pub fn run(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let own = own_id(scratch).unwrap_or(0);
    OWN.store(own, Ordering::Release);
    if let Some(table) = table(scratch) {
        for gref in 8..16 {
            let frame = (scratch.base() >> 12) + PAGES + gref;
            table.set(gref * 8, u64::from(GTF_PERMIT_ACCESS) | own << 16 | frame << 32);
        }
    }
    scratch.share();
    STOP.store(false, Ordering::Release);
    let stack = scratch.base() + 255 * 4096;
    if firmware(false, [CPU_ON, 1, second_entry(), stack]) != 0 {
        return u64::MAX;
    }
    let until = now() + 3000 * millisecond();
    let mut rounds = 0;
    while now() < until {
        step(scratch, &mut attacker.random, 0);
        rounds += 1;
    }
    STOP.store(true, Ordering::Release);
    crate::wait(200);
    rounds << 32 | DONE.load(Ordering::Relaxed)
}

/// The other vCPU.
pub fn second() -> ! {
    let mut random = Random::new(0x0DD);
    if let Some(scratch) = Scratch::shared() {
        while !STOP.load(Ordering::Acquire) {
            step(scratch, &mut random, 1);
            DONE.fetch_add(1, Ordering::Relaxed);
        }
    }
    loop {
        firmware(false, [CPU_OFF, 0, 0, 0]);
    }
}

/// One call on something that the other vCPU uses as well.
fn step(scratch: Scratch, random: &mut Random, vcpu: u64) {
    // Each has structures of its own, since it is the objects that are raced for.
    let own = (6 + vcpu * 12) * 4096;
    if FIFO.load(Ordering::Acquire) {
        return events::fifo_step(scratch, random, own);
    }
    let port = 8 + random.below(PORTS);
    let address = WINDOW + random.below(8) * 4096;
    match random.below(12) {
        0 => drop(operation(scratch, EvtchnOp::AllocUnbound, own, [0x7FF0 | 0x7FF0 << 16, 0, 0])),
        1 => drop(operation(scratch, EvtchnOp::Close, own, [port, 0, 0])),
        2 => drop(operation(scratch, EvtchnOp::BindInterdomain, own, [0x7FF0 | port << 32, 0, 0])),
        3 => drop(operation(scratch, EvtchnOp::BindVcpu, own, [port | random.below(2) << 32, 0, 0])),
        4 => drop(operation(scratch, EvtchnOp::Send, own, [port, 0, 0])),
        5 => drop(operation(scratch, EvtchnOp::BindIpi, own, [random.below(2), 0, 0])),
        6 | 7 => {
            let _ = map_one(scratch, own, OWN.load(Ordering::Relaxed), 8 + random.below(8), address, GNTMAP_HOST_MAP);
        }
        8 => drop(unmap_one(scratch, own, random.below(16), address)),
        9 | 10 => {
            scratch.set(own, (scratch.base() >> 12) + PAGES + random.below(16));
            scratch.set(own + 64, scratch.base() + own);
            scratch.set(own + 72, 1);
            scratch.set(own + 80, 0);
            scratch.set(own + 88, 0x7FF0);
            let command =
                random.pick(&[MemoryOp::DecreaseReservation, MemoryOp::PopulatePhysmap].map(|op| u64::from(op.raw())));
            hypercall(u64::from(nr::MEMORY_OP), [command, scratch.base() + own + 64, 0, 0, 0, 0]);
        }
        _ => {
            scratch.set(own, (scratch.base() >> 12) + PAGES + random.below(32));
            scratch.set(own + 8, random.below(64) * 64);
            let register = u64::from(VcpuOp::RegisterVcpuInfo.raw());
            hypercall(u64::from(nr::VCPU_OP), [register, random.below(2), scratch.base() + own, 0, 0, 0]);
        }
    }
}
