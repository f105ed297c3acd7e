//! Event channels, FIFO ABI (Xen public/event_channel.h): each port has a word in a page of the guest's, and each vCPU a
//! queue of words for each priority, chained by port numbers, which the guest takes apart from the head.
//!
//! The guest may write anything to those pages at any time, so nothing is ever read back from them but single bits: where
//! a queue ends, and on which one a port was last, is kept here. A chain or a head that the guest spoils is its own loss.
//!
//! Two designs were held against each other. Xen has a lock for each queue, and takes two of them when a port changes its
//! queue. Here a vCPU's queues share one, and a change takes a further turn: a port goes on a queue only under the lock of
//! the one where it was last, which must be the same; if it is another, and the guest has taken the port off it, that is
//! noted, and the next turn finds the two to be one. No two of these locks are ever held at once, and senders to
//! different vCPUs share none.

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{
    EvtchnOp, ExpandArray, FIFO_LINK_BITS, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_MAX_QUEUES, FIFO_PENDING,
    FIFO_PRIORITY_DEFAULT, FIFO_PRIORITY_MIN, FIFO_WORDS_PER_PAGE, FifoControlBlock, InitControl, NR_PORTS_2L,
    SetPriority,
};
use hypercall_abi::ids::{Gfn, Port, VcpuId};
use hypercall_abi::shared_info::layout;

use super::deliver::{bit_of, end_polls, interrupt};
use super::{Binding, Events};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::FrameRef;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::sync::{AtomicU32, Ordering};

/// Pages of event words that a domain can give: those of all the ports that there can be.
pub(super) const PAGES: usize = NR_PORTS_2L.div_ceil(FIFO_WORDS_PER_PAGE) as usize;
/// References on them.
pub(super) type Pages = heapless::Vec<FrameRef, PAGES>;

const PENDING: u64 = 1 << FIFO_PENDING;
const MASKED: u64 = 1 << FIFO_MASKED;
const LINKED: u64 = 1 << FIFO_LINKED;
/// Where the first head is in a control block, behind the word of the queues that are ready.
const HEAD: u64 = core::mem::offset_of!(FifoControlBlock, head) as u64;
/// Turns for putting a port on its queue: one notes that the queue is another, one puts it there, and the others are for
/// senders that meet while the guest changes its mind.
const TURNS: u32 = 4;

/// A vCPU's queues.
#[derive(Default)]
pub struct Queues {
    /// The page of the control block, and where in it; none until the guest gives one.
    control: Option<(FrameRef, u64)>,
    /// The port that was put on each queue last; 0 is none.
    tails: [u32; FIFO_MAX_QUEUES],
}

/// How a port stands with the queues: the queue it was put on last (its vCPU in 31:12, its priority in 11:8), whether it
/// is pending while its word is not there yet, and the priority, zero being the default.
#[derive(Default)]
pub(super) struct Place(AtomicU32);

const LAST_SHIFT: u32 = 8;
const WAITS: u32 = 0x10;
const PRIORITY: u32 = 0xF;

impl Place {
    pub(super) const fn new() -> Self {
        Place(AtomicU32::new(0))
    }

    fn last(&self) -> u32 {
        self.0.load(Ordering::Relaxed) >> LAST_SHIFT
    }

    fn priority(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & PRIORITY ^ FIFO_PRIORITY_DEFAULT
    }

    /// Replaces some bits by others.
    fn change(&self, clear: u32, set: u32) -> u32 {
        let change = |word| Some(word & !clear | set);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).unwrap_or_else(|word| word)
    }
}

/// An event word: half of a double word in a page of the guest's, which stays referenced while this is used.
#[derive(Clone, Copy)]
struct Word {
    at: Pa,
    shift: u32,
}

impl Word {
    /// Sets bits; returns the word before, with other bits above.
    fn set<H: Hw>(self, bits: u64) -> u64 {
        H::set_bits64(self.at, bits << self.shift) >> self.shift
    }

    fn clear<H: Hw>(self, bits: u64) -> u64 {
        H::clear_bits64(self.at, bits << self.shift) >> self.shift
    }

    fn load<H: Hw>(self) -> u64 {
        H::load64(self.at) >> self.shift
    }
}

impl<H: Hw> Events<H> {
    /// Whether the guest uses the FIFO ABI. Who is told that it does not and is late finds its port masked.
    #[inline(always)]
    pub(super) fn is_fifo(&self) -> bool {
        self.fifo.load(Ordering::Relaxed)
    }

    /// The word of a port, if the guest has given its page. The caller holds one of the locks that keep it.
    fn word(&self, port: Port) -> Option<Word> {
        let page = self.words.get((port.0 / FIFO_WORDS_PER_PAGE) as usize)?.load(Ordering::Acquire);
        let at = u64::from(port.0 % FIFO_WORDS_PER_PAGE) * 4;
        (page != 0).then(|| Word { at: Pa::new(page).add(at & !7), shift: if at & 4 == 0 { 0 } else { 32 } })
    }

    fn place(&self, port: Port) -> Result<&Place, XenError> {
        let (bucket, index) = self.bucket(port)?;
        bucket.places.get(index).ok_or(XenError::Inval)
    }

    /// Opens the lowest free port that is on no queue, as good as new.
    #[cold]
    #[inline(never)]
    pub(super) fn open_renewed(&self, binding: Binding, vcpu: VcpuId) -> Result<Port, XenError> {
        let opened = self.open_if(binding, vcpu, |port| {
            let _ = self.place(port).map(|place| place.change(WAITS | PRIORITY, 0));
            self.word(port).is_none_or(|word| word.clear::<H>(PENDING) & LINKED == 0)
        });
        // Ports that were passed over because the guest had not taken them off a queue are there for the next call.
        opened.inspect_err(|_| self.table.lock().lowest = 1)
    }
}

impl Queues {
    /// Puts a port at the end of a queue; true if the vCPU is to be told that the queue is not empty any more.
    fn append<H: Hw>(&mut self, events: &Events<H>, port: Port, priority: u32) -> bool {
        let (Some((frame, offset)), Some(tail)) = (&self.control, self.tails.get_mut(priority as usize)) else {
            return false;
        };
        let before = core::mem::replace(tail, port.0);
        // If it was the last one itself, it has been taken off since, and so were those in front of it.
        if before != 0
            && before != port.0
            && let Some(word) = events.word(Port(before))
        {
            // The guest takes a word off its queue and reads its link in one step, before this or behind it. Nobody else
            // sets these bits: the port is the last one of this queue, whose lock we hold.
            if word.set::<H>(port.0.into()) & LINKED != 0 {
                return false;
            }
            word.clear::<H>(FIFO_LINK_MASK.into());
        }
        let control = frame.pa().add(*offset);
        H::store32(control.add(HEAD + 4 * u64::from(priority)), port.0);
        H::set_bits64(control, 1 << priority) & 1 << priority == 0
    }
}

/// Makes `port` of `domain` pending for its vCPU, or takes its mask off; if it is pending then, and not masked, it goes on
/// a queue, unless it is on one.
#[inline(never)]
pub(super) fn raise<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, vcpu: VcpuId, unmask: bool) {
    let Ok(place) = domain.events.place(port) else { return };
    let (mut news, mut tell) = (false, None);
    for turn in 1..=TURNS {
        let (last, goal) = (place.last(), vcpu.0 << 4 | place.priority());
        let Some(holder) = domain.vcpu(VcpuId(last >> 4)) else { return };
        let mut queues = holder.queues.lock();
        if place.last() != last {
            // Another sender has moved it since, and makes it pending in its next turn, or leaves that to one that moves it
            // behind it. The last one to move it has a turn left, so no event is lost if this was our last one.
            continue;
        }
        let Some(word) = domain.events.word(port) else {
            news = !unmask && place.change(0, WAITS) & WAITS == 0;
            break;
        };
        if unmask && word.clear::<H>(MASKED) & PENDING == 0 {
            return;
        }
        let before = word.set::<H>(PENDING);
        news |= before & PENDING == 0;
        if before & (MASKED | LINKED) != 0 {
            break;
        }
        let priority = last & PRIORITY;
        if last != goal && turn < TURNS {
            // What comes next on the old queue must not be chained to it.
            if let Some(tail) = queues.tails.get_mut(priority as usize).filter(|tail| **tail == port.0) {
                *tail = 0;
            }
            place.change(u32::MAX << LAST_SHIFT, goal << LAST_SHIFT);
            continue;
        }
        // Without a control block the event stays pending until the next one, or the end of the mask.
        if queues.control.is_some() {
            word.set::<H>(LINKED);
            tell = queues.append(&domain.events, port, priority).then_some(holder);
        }
        break;
    }
    if news && domain.pollers.load(Ordering::SeqCst) != 0 {
        end_polls(kernel, domain, port);
    }
    if let Some(vcpu) = tell
        && let Some(info) = vcpu.info()
    {
        interrupt(kernel, vcpu, info);
    }
}

/// Whether `port` is pending.
pub(super) fn is_pending<H: Hw>(domain: &Domain<H>, port: Port) -> bool {
    let _table = domain.events.table.lock();
    match domain.events.word(port) {
        Some(word) => word.load::<H>() & PENDING != 0,
        None => domain.events.place(port).is_ok_and(|place| place.0.load(Ordering::Relaxed) & WAITS != 0),
    }
}

/// The operations of this ABI alone. Out of line, so that the others do not save registers for them.
#[inline(never)]
pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match EvtchnOp::from_raw(call.arg32(0)) {
        Some(EvtchnOp::InitControl) => {
            let mut arg: InitControl = call.read(1)?;
            init_control(call.domain, &arg)?;
            [arg.link_bits, ..] = FIFO_LINK_BITS.to_le_bytes();
            call.write(1, &arg)?;
        }
        Some(EvtchnOp::ExpandArray) => {
            call.spend(u32::MAX);
            expand_array(call.kernel, call.domain, call.read::<ExpandArray>(1)?.array_gfn)?;
        }
        _ => {
            let SetPriority { port, priority } = call.read(1)?;
            let place = call.domain.events.place(port)?;
            match priority {
                _ if !call.domain.events.is_fifo() => return Err(XenError::NoSys.into()),
                // What is on a queue already stays there.
                ..=FIFO_PRIORITY_MIN => place.change(PRIORITY, priority ^ FIFO_PRIORITY_DEFAULT),
                _ => return Err(XenError::Inval.into()),
            };
        }
    }
    Ok(0)
}

/// A reference on a page that the guest gives; `EINVAL` if it is not the domain's RAM.
fn pin<H: Hw>(domain: &Domain<H>, gfn: Gfn) -> Result<FrameRef, XenError> {
    let ipa = Some(gfn.0).filter(|gfn| gfn >> 36 == 0).map(Ipa::from_number).ok_or(XenError::Inval)?;
    domain.p2m.pin(ipa).map_err(|_| XenError::Inval)
}

/// `EVTCHNOP_init_control`: gives a vCPU its control block, once. The first one of the domain takes it to this ABI.
fn init_control<H: Hw>(domain: &Domain<H>, arg: &InitControl) -> Result<(), XenError> {
    let (vcpu, offset) = (domain.vcpu(arg.vcpu).ok_or(XenError::NoEnt)?, u64::from(arg.offset));
    if offset > PAGE_SIZE - size_of::<FifoControlBlock>() as u64 || offset % 8 != 0 {
        return Err(XenError::Inval);
    }
    let frame = pin(domain, arg.control_gfn)?;
    let _table = domain.events.table.lock();
    let control = &mut vcpu.queues.lock().control;
    if control.is_some() {
        return Err(XenError::Inval);
    }
    *control = Some((frame, offset));
    if !domain.events.fifo.swap(true, Ordering::Relaxed) {
        // A sender that does not know yet sets its bit first and looks at the mask then. So it finds one of these and
        // comes here; or else the bit is set before the guest gives the port's word a page, and is found then.
        set_masks(domain, u64::MAX);
    }
    Ok(())
}

/// Masks all ports of the 2-level ABI, or none.
fn set_masks<H: Hw>(domain: &Domain<H>, masks: u64) {
    for port in (0..NR_PORTS_2L).step_by(64) {
        H::store64(bit_of(domain, layout::EVTCHN_MASK, Port(port)).0, masks);
    }
}

/// `EVTCHNOP_expand_array`: gives the next ports their words, and delivers what was pending for them. `EOPNOTSUPP` with the
/// 2-level ABI, `ENOSPC` when all the ports that there can be have words.
fn expand_array<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, gfn: Gfn) -> Result<(), XenError> {
    let events = &domain.events;
    let mut table = events.table.lock();
    if !events.is_fifo() {
        return Err(XenError::OpNotSupp);
    }
    let slot = table.pages.len();
    let at = events.words.get(slot).ok_or(XenError::NoSpc)?;
    let frame = pin(domain, gfn)?;
    at.store(frame.pa().raw(), Ordering::Release);
    table.pages.push(frame).map_err(|_| XenError::NoSpc)?;
    // Senders that have not found the page have noted that when their locks are free.
    domain.vcpus().iter().for_each(|vcpu| drop(vcpu.queues.lock()));
    drop(table);
    for (port, state) in events.ports().filter(|(port, _)| (port.0 / FIFO_WORDS_PER_PAGE) as usize == slot) {
        let (pending, bit) = bit_of(domain, layout::EVTCHN_PENDING, port);
        let waits = events.place(port)?.change(WAITS, 0) & WAITS != 0;
        if (H::clear_bits64(pending, bit) & bit != 0 || waits) && state.binding != Binding::Free {
            raise(kernel, domain, port, state.vcpu, false);
        }
    }
    Ok(())
}

/// Takes a domain whose ports are closed back to the 2-level ABI, and lets go of all its pages.
#[inline(never)]
pub(super) fn leave<H: Hw>(domain: &Domain<H>) {
    let mut table = domain.events.table.lock();
    if domain.events.fifo.swap(false, Ordering::Relaxed) {
        domain.events.words.iter().for_each(|page| page.store(0, Ordering::Release));
        domain.vcpus().iter().for_each(|vcpu| *vcpu.queues.lock() = Queues::default());
        table.pages.clear();
        set_masks(domain, 0);
    }
}
