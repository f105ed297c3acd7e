//! Aborts that stage 2 took: emulated devices, and addresses where nothing is.
//!
//! An address where nothing is answers as a bus would, with a synchronous external abort that the guest takes. So
//! does an access to an emulated device that the syndrome does not describe (pairs, atomics, write-back): the
//! instruction is not fetched and decoded.

use super::inject::{WALK, WRITE, enter, skip, with_el1};
use crate::addr::Ipa;
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::{ioreq, lifecycle, vgic};

/// Fields of the syndrome of a data abort (Arm ARM DDI 0487, section D24.2.40): the rest describes one register's load
/// or store; a load extends the sign; the register is used as 64 bits; it was cache maintenance by address.
const VALID: u64 = 1 << 24;
const SIGNED: u64 = 1 << 21;
const WIDE: u64 = 1 << 15;
const MAINTENANCE: u64 = 1 << 8;

/// Whether stage 2 has no such page. Else it forbids the access, or the memory system answered with an error.
const fn is_translation(esr: u64) -> bool {
    matches!(esr & 0x3F, 0x04..=0x07)
}

/// Handles a data abort of the vCPU that runs here.
#[inline(never)]
pub(crate) fn data_abort<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, esr: u64) {
    let Some(current) = &cpu.current else { return };
    let gic = |access: MemoryAccess, store| vgic::access(kernel, &current.domain, access.ipa, access.size, store);
    // Two calls, each of which is made for its kind.
    let done = MemoryAccess::of::<H>(frame, esr).and_then(|access| match access.store {
        None => gic(access, None).map(|value| access.load(frame, value)),
        Some(value) => gic(access, Some(value)).map(drop),
    });
    match done {
        Some(()) => skip(frame, esr),
        None => ask_or_refuse(kernel, current, frame, esr),
    }
}

/// The GIC is not there: somebody else may answer. Apart, so that an access to the GIC need not be kept whole.
#[cold]
fn ask_or_refuse<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, frame: &mut TrapFrame, esr: u64) {
    let access = MemoryAccess::of::<H>(frame, esr);
    if !access.is_some_and(|access| ioreq::ask(kernel, current, access)) {
        refuse(current, frame, esr);
    }
}

/// Handles an instruction abort of the vCPU that runs here. One at the very vector that would take it is the domain's
/// end: the vCPU would take it for ever.
#[cold]
#[inline(never)]
pub(crate) fn fetch_abort<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame, esr: u64) {
    let from = frame.pc;
    // Two bits that mean something of data only.
    if let Some(current) = &cpu.current
        && refuse(current, frame, esr & !(WRITE | MAINTENANCE))
        && frame.pc == from
    {
        lifecycle::crash(kernel, cpu, frame, format_args!("its exception vectors cannot be fetched"));
    }
}

/// A load or store of one register where stage 2 has no page, as its syndrome describes it.
#[derive(Clone, Copy)]
pub struct MemoryAccess {
    /// Where.
    pub ipa: Ipa,
    /// Of how many bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// What is stored; a load has nothing.
    pub store: Option<u64>,
    esr: u64,
}

impl MemoryAccess {
    /// The access with this syndrome that was just taken; `None` if it is not such a one.
    #[inline(always)]
    pub(crate) fn of<H: Hw>(frame: &TrapFrame, esr: u64) -> Option<Self> {
        if !is_translation(esr) || esr & (VALID | WALK) != VALID {
            return None;
        }
        let size = 1 << (esr >> 22 & 3);
        let store = (esr & WRITE != 0).then(|| frame.register(register(esr)) & mask(size));
        Some(MemoryAccess { ipa: H::fault_address().1, size, store, esr })
    }

    /// Gives a load what it has read.
    #[inline(always)]
    fn load(self, frame: &mut TrapFrame, value: u64) {
        frame.set_register(register(self.esr), extend(value, self.esr));
    }

    /// Ends the access; a load has read `value`.
    pub(crate) fn complete(self, frame: &mut TrapFrame, value: u64) {
        if self.store.is_none() {
            self.load(frame, value);
        }
        skip(frame, self.esr);
    }
}

/// The register that is loaded or stored.
#[allow(clippy::cast_possible_truncation, reason = "five bits")]
const fn register(esr: u64) -> u8 {
    (esr >> 16 & 31) as u8
}

/// Nothing is there, or it cannot be told what the guest wants of it: true if it takes the abort.
#[cold]
#[inline(never)]
fn refuse<H: Hw>(current: &Current<H>, frame: &mut TrapFrame, esr: u64) -> bool {
    let (far, ipa) = H::fault_address();
    if is_translation(esr) {
        // The fault may be gone when it is looked at: another pCPU was replacing the table entry, or has just mapped the
        // page. The instruction is then tried again. A walk reads, whatever the access was.
        let write = esr & (WRITE | WALK) == WRITE;
        if current.domain.p2m.lookup(ipa.page()).is_some_and(|mapping| !write || mapping.kind.is_writable()) {
            return false;
        }
        if esr & (MAINTENANCE | WALK) == MAINTENANCE {
            // There is no line of it in any cache.
            skip(frame, esr);
            return false;
        }
    }
    with_el1::<H, _>(|el1| enter(frame, el1, Some((esr, far))));
    true
}

/// The bits that an access of `size` bytes moves.
const fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * (size as u32 & 15))
}

/// What a load with this syndrome leaves in its register.
pub(super) const fn extend(value: u64, esr: u64) -> u64 {
    let size = 1 << (esr >> 22 & 3);
    let value = value & mask(size);
    if esr & SIGNED == 0 || size == 8 {
        return value;
    }
    let sign = 1 << (8 * size - 1);
    let extended = (value ^ sign).wrapping_sub(sign);
    if esr & WIDE != 0 { extended } else { extended & mask(4) }
}
