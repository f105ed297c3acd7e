//! System registers that trap: what each reads as, and what a write to it does.
//!
//! A register that the guest's ID registers do not announce is undefined, so that what software finds and what it
//! can use agree. That goes for the PMU, SVE, SME, pointer authentication, RAS error records, trace and LORegions.

use super::syndrome::{RegisterAccess, encoding};
use crate::context::{El1Context, TrapFrame};
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::vgic::{self, Sgi};
use crate::vtimer::{self, Register};

/// `ICC_SGI1R_EL1`, which a guest with several vCPUs writes often.
pub(super) const SGI1R: u32 = encoding(3, 0, 12, 11, 5);

/// The other registers known here, by their encoding.
mod name {
    use super::encoding;
    pub(super) const ICC_ASGI1R_EL1: u32 = encoding(3, 0, 12, 11, 6);
    pub(super) const ICC_SGI0R_EL1: u32 = encoding(3, 0, 12, 11, 7);
    pub(super) const ICC_SRE_EL1: u32 = encoding(3, 0, 12, 12, 5);
    pub(super) const ACTLR_EL1: u32 = encoding(3, 0, 1, 0, 1);
    pub(super) const CNTPCT_EL0: u32 = encoding(3, 3, 14, 0, 1);
    pub(super) const CNTP_TVAL_EL0: u32 = encoding(3, 3, 14, 2, 0);
    pub(super) const CNTP_CTL_EL0: u32 = encoding(3, 3, 14, 2, 1);
    pub(super) const CNTP_CVAL_EL0: u32 = encoding(3, 3, 14, 2, 2);
    pub(super) const DC_ISW: u32 = encoding(1, 0, 7, 6, 2);
    pub(super) const DC_CSW: u32 = encoding(1, 0, 7, 10, 2);
    pub(super) const DC_CISW: u32 = encoding(1, 0, 7, 14, 2);
    pub(super) const MDSCR_EL1: u32 = encoding(2, 0, 0, 2, 2);
    pub(super) const OSLSR_EL1: u32 = encoding(2, 0, 1, 1, 4);
    pub(super) const DBGCLAIMSET_EL1: u32 = encoding(2, 0, 7, 8, 6);
}

/// `ICC_SRE_EL1`: system registers, and no bypass of the GIC.
const SRE: u64 = 7;
/// `OSLSR_EL1`: the OS lock exists and is open.
const OS_LOCK_OPEN: u64 = 1 << 3;
/// `DBGCLAIMSET_EL1`: all eight claim tags exist.
const CLAIM_TAGS: u64 = 0xFF;
/// What a guest may set in `MDSCR_EL1`: software step, kernel debugging, monitor debugging and the trap of EL0's
/// access to the debug channel.
const MDSCR_GUEST: u64 = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 15;

/// Sends a software-generated interrupt of group 1.
#[inline(never)]
pub(super) fn send_sgi<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, register: u8) {
    if let Some(current) = &cpu.current {
        interrupt(kernel, current, Sgi::decode(frame.register(register), true));
        frame.skip_instruction();
    }
}

#[inline]
fn interrupt<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, sgi: Sgi) {
    let sender = current.vcpu.id.0 as usize;
    if !vgic::send_to_self::<H>(sgi, sender, &current.vcpu.gic) {
        interrupt_others(kernel, current, sgi, sender);
    }
}

#[inline(never)]
fn interrupt_others<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, sgi: Sgi, sender: usize) {
    vgic::send(sgi, sender, &*current.domain).without(sender).notify(kernel, &current.domain);
}

/// Carries out a trapped access. One to a register that does not exist is undefined.
#[inline(never)]
pub(super) fn access<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, access: RegisterAccess) {
    let Some(current) = &cpu.current else { return };
    let done = if access.read {
        read(current, access.encoding).map(|value| frame.set_register(access.register, value)).is_some()
    } else {
        let value = frame.register(access.register);
        write(kernel, cpu, current, access.encoding, value)
    };
    if done {
        // AArch32 code at EL0 reaches no register here, and A64 instructions have 32 bits.
        frame.skip_instruction();
    } else {
        super::undefined::<H>(frame);
    }
}

fn read<H: Hw>(current: &Current<H>, register: u32) -> Option<u64> {
    Some(match register {
        name::CNTPCT_EL0 => H::now(),
        name::CNTP_TVAL_EL0 => current.vcpu.ptimer.read::<H>(Register::Value),
        name::CNTP_CTL_EL0 => current.vcpu.ptimer.read::<H>(Register::Control),
        name::CNTP_CVAL_EL0 => current.vcpu.ptimer.read::<H>(Register::Compare),
        name::ICC_SRE_EL1 => SRE,
        name::ACTLR_EL1 => 0,
        name::MDSCR_EL1 => el1::<H>().mdscr_el1,
        name::OSLSR_EL1 => OS_LOCK_OPEN,
        name::DBGCLAIMSET_EL1 => CLAIM_TAGS,
        _ if is_debug(register) => 0,
        _ => return None,
    })
}

fn write<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, current: &Current<H>, register: u32, value: u64) -> bool {
    let timer = |register| vtimer::write(kernel, cpu, &current.vcpu, register, value);
    match register {
        SGI1R => interrupt(kernel, current, Sgi::decode(value, true)),
        name::ICC_SGI0R_EL1 => interrupt(kernel, current, Sgi::decode(value, false)),
        // There is one security state, so nobody to send this to. A set/way operation names a line of a physical
        // cache, which says nothing about the guest's memory: stage 2 maps it cacheable and all pCPUs are coherent,
        // so there is nothing that the guest could see of it.
        name::ICC_ASGI1R_EL1 | name::DC_ISW | name::DC_CSW | name::DC_CISW => {}
        name::ICC_SRE_EL1 | name::ACTLR_EL1 => {}
        name::CNTP_TVAL_EL0 => timer(Register::Value),
        name::CNTP_CTL_EL0 => timer(Register::Control),
        name::CNTP_CVAL_EL0 => timer(Register::Compare),
        name::MDSCR_EL1 => {
            let mut el1 = el1::<H>();
            el1.mdscr_el1 = value & MDSCR_GUEST;
            H::load_el1(&el1);
        }
        // Breakpoints and watchpoints are not switched between vCPUs, so that they never hit; the locks and the
        // debug channel have nobody at the other end.
        _ => return is_debug(register),
    }
    true
}

/// The registers as the guest has them now. Loading them again is what starts its timer again.
fn el1<H: Hw>() -> El1Context {
    let mut el1 = El1Context::default();
    H::save_el1(&mut el1);
    H::load_el1(&el1);
    el1
}

/// Debug registers (op0 = 2) but those of the trace unit (op1 = 1).
const fn is_debug(register: u32) -> bool {
    register >> 20 == 2 && matches!(register >> 14 & 7, 0 | 3)
}

/// Identification registers: op0 = 3, CRn = 0, and with another op1 than 0 only those of the caches.
pub(super) const fn is_identification(register: u32) -> bool {
    register >> 20 == 3 && register >> 10 & 0xF == 0 && (register >> 14 & 7 == 0 || register >> 1 & 0xF == 0)
}
