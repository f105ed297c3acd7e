//! Aborts that stage 2 took: emulated devices, and addresses where nothing is.
//!
//! An address where nothing is answers as a bus would, with a synchronous external abort that the guest takes. So
//! does an access to an emulated device that the syndrome does not describe (pairs, atomics, write-back): the
//! instruction is not fetched and decoded.

use super::inject::{WALK, WRITE, enter, skip, with_el1};
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::lifecycle;
use crate::local::{Current, LocalCpu};
use crate::{vgic, vuart};

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
    let device = is_translation(esr) && esr & (VALID | WALK) == VALID;
    if device && transfer(kernel, current, frame, esr).is_some() {
        skip(frame, esr);
    } else {
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
        lifecycle::crash(kernel, cpu, frame, "its exception vectors cannot be fetched");
    }
}

/// Moves what a load or store moves between a device and a register; `None` if no device is there.
#[inline]
fn transfer<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, frame: &mut TrapFrame, esr: u64) -> Option<()> {
    let (domain, ipa) = (&current.domain, H::fault_address().1);
    let size = 1 << (esr >> 22 & 3);
    #[allow(clippy::cast_possible_truncation, reason = "five bits")]
    let register = (esr >> 16 & 31) as u8;
    if esr & WRITE == 0 {
        let value = vgic::access(kernel, domain, ipa, size, None);
        let value = value.or_else(|| vuart::access(kernel, domain, ipa, None))?;
        frame.set_register(register, extend(value, esr));
        return Some(());
    }
    let store = Some(frame.register(register) & mask(size));
    vgic::access(kernel, domain, ipa, size, store).or_else(|| vuart::access(kernel, domain, ipa, store)).map(drop)
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
