//! Tracing: for each pCPU a ring of records in pages of Dom0's. What a record says is told in [`hypercall_abi::trace`].
//!
//! While tracing is off it costs a load and a branch where a vCPU's state changes, and a load at the end of an exit:
//! while a pCPU traces, it has other vectors, which call [`begin`], and another way back from them, which calls [`end`].
//! Nothing is ever read from the rings here, so Dom0 hurts nobody by writing to them.

#[cfg(test)]
mod tests;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, VcpuId};
use hypercall_abi::trace::{Kind, MAX_PAGES, PER_PAGE, Record};
use hypercall_abi::vcpu::Runstate;
use spin::mutex::SpinMutex;
use zerocopy::IntoBytes;

use crate::addr::{Ipa, PAGE_SIZE};
use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::exit::{HYPERCALL, TRACE_SGI};
use crate::frame::FrameRef;
use crate::hw::{Hw, MAX_PCPUS, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::p2m::check_range;
use crate::runstate::Run;
use crate::sync::{AtomicU32, Ordering};
use crate::vcpu::Vcpu;
use crate::vgic;

/// The rings of all pCPUs. Each lock guards where one pCPU writes, which itself takes it and whoever changes the ring.
/// Nothing but frames is taken under it.
pub type Rings = [SpinMutex<Ring>; MAX_PCPUS];

/// No rings, for a static.
pub const fn no_rings() -> Rings {
    [const { SpinMutex::new(Ring { pages: heapless::Vec::new(), slots: 0, count: 0 }) }; MAX_PCPUS]
}

/// Where a pCPU writes: nowhere while there are no slots.
pub struct Ring {
    pages: heapless::Vec<FrameRef, MAX_PAGES>,
    slots: u64,
    /// Records ever written.
    count: u64,
}

impl Ring {
    /// Starts it anew with room for `slots` records. Who counts the rings that have any does so under their locks, so that
    /// two calls at once leave the right count, whichever ends first.
    fn resize(&mut self, slots: u64, traced: &AtomicU32) {
        match (self.slots, slots) {
            (0, 1..) => traced.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => traced.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        (self.slots, self.count) = (slots, 0);
    }
}

/// Gives a pCPU its ring, or with no pages takes it back. `EINVAL` for a pCPU that is not there or a wrong number of
/// pages; `ENOENT` and `EBUSY` for what is not the domain's own RAM.
#[inline(never)]
pub fn set_ring<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, pcpu: u64, at: Ipa, pages: u64) -> Result<(), XenError> {
    let online = H::rings().get(..H::online()).ok_or(XenError::Inval)?;
    let ring = usize::try_from(pcpu).ok().and_then(|pcpu| online.get(pcpu)).ok_or(XenError::Inval)?;
    check_range(at, pages)?;
    if pages == 1 || pages > MAX_PAGES as u64 {
        return Err(XenError::Inval);
    }
    let traced = &kernel.sched.traced;
    let filled = fill(ring, traced, domain, at, pages);
    let filled = filled.or_else(|error| fill(ring, traced, domain, at, 0).and(Err(error)));
    (0..).take(online.len()).for_each(|id| H::send(PcpuId(id), TRACE_SGI));
    filled
}

/// Takes the pages of a ring back and pins others, one at a time, so that nobody waits long for the lock and no stack
/// holds them all.
fn fill<H: Hw>(
    ring: &SpinMutex<Ring>,
    traced: &AtomicU32,
    domain: &Domain<H>,
    at: Ipa,
    pages: u64,
) -> Result<(), XenError> {
    ring.lock().resize(0, traced);
    while let Some(page) = { ring.lock().pages.pop() } {
        drop(page);
    }
    for page in 0..pages {
        let frame = domain.p2m.pin(at.add(page * PAGE_SIZE))?;
        if page == 0 {
            H::store64(frame.pa(), 0);
        }
        // A page too many, if two calls meet here.
        ring.lock().pages.push(frame).map_err(|_| XenError::Busy)?;
    }
    ring.lock().resize(pages.saturating_sub(1) * PER_PAGE, traced);
    Ok(())
}

/// Writes a record on this pCPU. The count goes up behind it, and the lock's acquisition stands between that and the next
/// record: so whoever sees a part of a record sees the count that says it is being written.
fn write<H: Hw>(record: &Record) {
    let Some(ring) = H::rings().get(usize::from(H::pcpu().0)) else { return };
    let Ring { pages, slots, count } = &mut *ring.lock();
    let (Some(slot), Some((head, pages))) = (count.checked_rem(*slots), pages.split_first()) else { return };
    if let Some(page) = usize::try_from(slot / PER_PAGE).ok().and_then(|page| pages.get(page)) {
        H::write_bytes(page.pa().add(slot % PER_PAGE * size_of::<Record>() as u64), record.as_bytes());
        *count += 1;
        H::store64(head.pa(), *count);
    }
}

/// A vCPU, which stands as in `run` until now, is in `state` from now on.
#[cold]
#[inline(never)]
pub fn state<H: Hw>(vcpu: &Vcpu<H>, run: &Run<H>, state: Runstate, now: Ticks) {
    let detail = (state.raw() | run.state.raw() << 4).to_le_bytes()[0];
    let (kind, value) = (Kind::State.raw(), u64::from(run.pcpu.0));
    write::<H>(&Record { time: now, kind, detail, domid: vcpu.domid, vcpu: vcpu.id, value, span: 0 });
}

/// What is known of an exit as it begins; a part of [`LocalCpu`] until it ends.
pub struct Begun {
    record: Record,
    lrs: [u64; vgic::MAX_LRS],
}

fn who<H: Hw>(cpu: &LocalCpu<H>) -> (DomId, VcpuId) {
    cpu.current.as_ref().map(|current| (current.vcpu.domid, current.vcpu.id)).unwrap_or_default()
}

fn list_registers<H: Hw>() -> [u64; vgic::MAX_LRS] {
    let there = H::list_registers();
    core::array::from_fn(|n| if n < there { H::read_lr(n) } else { 0 })
}

/// An exit of this kind begins.
pub fn begin<H: Hw>(cpu: &mut LocalCpu<H>, frame: &TrapFrame, exit: u8, esr: u64) {
    let call = frame.x[16] & 0xFFFF_FFFF | frame.x[0] << 32;
    let (kind, value) = if exit == HYPERCALL { (Kind::Hypercall, call) } else { (Kind::Exit, esr) };
    let (domid, vcpu) = who(cpu);
    let record = Record { time: H::now(), kind: kind.raw(), detail: exit, domid, vcpu, value, span: 0 };
    cpu.begun = Some(Begun { record, lrs: list_registers::<H>() });
}

/// It ends: writes what it was, and which interrupts it has put into list registers. One in which tracing began has no
/// beginning.
#[inline(always)]
pub fn end<H: Hw>(cpu: &mut LocalCpu<H>) {
    if cpu.begun.is_some() {
        write_end(cpu);
    }
}

#[cold]
#[inline(never)]
fn write_end<H: Hw>(cpu: &mut LocalCpu<H>) {
    let Some(begun) = cpu.begun.take() else { return };
    let (time, (domid, vcpu)) = (H::now(), who(cpu));
    let same = (domid, vcpu) == (begun.record.domid, begun.record.vcpu);
    write::<H>(&Record { span: time - begun.record.time, ..begun.record });
    for (value, before) in list_registers::<H>().into_iter().zip(begun.lrs) {
        if vgic::is_pending(value) && !(same && value == before) {
            let kind = Kind::Injection.raw();
            write::<H>(&Record { time, kind, domid, vcpu, value, detail: 0, span: 0 });
        }
    }
}
