//! The AArch64 machine below the core: everything at EL2 that is unsafe, behind traits that are not. For a host, where
//! nothing of it could run, the crate is empty.
#![cfg(target_os = "none")]
#![no_std]

pub mod boot;
pub mod console;
mod context;
mod cpu;
pub mod crash;
mod entry;
mod gic;
mod gicv2;
mod memory;
mod mmio;
mod percpu;
mod shared;
mod stage1;
mod stage2;
mod sysreg;
mod vectors;

use core::sync::atomic::Ordering;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use kernel_core::frame::FrameTable;
use kernel_core::hw::{Hw, PcpuId, Ticks};
use kernel_core::trace::{Rings, no_rings};
use smccc::{Smc, psci};

pub use percpu::KERNEL;
use shared::{Place, Shared};
use sysreg::{barrier, mrs, msr};

/// An AArch64 machine with EL2, GICv3 or GICv2, and generic timers.
#[derive(Clone, Copy, Debug)]
pub struct Arm;

impl Hw for Arm {
    type Shared<T: Send + Sync + 'static> = Shared<T>;
    type Place<T: Send + Sync + 'static> = Place<T>;

    fn frames() -> &'static FrameTable {
        boot::frames()
    }

    fn rings() -> &'static Rings {
        static RINGS: Rings = no_rings();
        &RINGS
    }

    fn share<T: Send + Sync + 'static>(owner: DomId, value: T) -> Result<Shared<T>, XenError> {
        Shared::new(owner, value)
    }

    fn only<T: Send + Sync + 'static>(shared: &mut Shared<T>) -> Option<&mut T> {
        shared.only()
    }

    fn placed<T: Send + Sync + 'static>(place: &Place<T>) -> Option<&T> {
        place.get()
    }

    fn place<T: Send + Sync + 'static>(place: &Place<T>, object: Shared<T>) {
        place.fill(object);
    }

    fn pcpu() -> PcpuId {
        percpu::this().id
    }

    fn online() -> usize {
        percpu::BLOCKS.iter().filter(|block| block.online.load(Ordering::Acquire)).count()
    }

    fn is_interrupted() -> bool {
        // At EL2 the register shows what is pending for EL2 (D13.2.60).
        mrs!("isr_el1") != 0
    }

    fn wait_for_interrupt() {
        // What this pCPU wrote is complete before it sleeps (Arm ARM, D1.7.2).
        barrier!("dsb sy");
        barrier!("wfi");
    }

    fn now() -> Ticks {
        // Or the read might be done early (D12.1.2).
        barrier!("isb");
        mrs!("cntpct_el0")
    }

    fn frequency() -> u32 {
        // The register has 32 bits.
        u32::try_from(mrs!("cntfrq_el0") & 0xffff_ffff).unwrap_or(1)
    }

    fn set_deadline(at: Option<Ticks>) {
        // SAFETY: the timer only raises an interrupt. No ISB: the exception return that follows is one.
        // Switched off where there is no deadline, since QEMU's clock may jump to the next one of an idle machine.
        unsafe {
            if let Some(ticks) = at {
                msr!("cnthp_cval_el2", ticks);
            }
            msr!("cnthp_ctl_el2", u64::from(at.is_some()));
        }
    }

    fn console(text: &[u8]) {
        console::write(text);
    }

    // The firmware below a hypervisor cannot be reached by HVC. One that refuses leaves nothing to do but to stop.
    fn end_machine(restart: bool) -> ! {
        let _ = if restart { psci::system_reset::<Smc>() } else { psci::system_off::<Smc>() };
        crash::park()
    }
}
