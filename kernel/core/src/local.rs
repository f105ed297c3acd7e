//! What a pCPU knows of itself: the vCPU that is on it, and how registers get on and off.
//!
//! Each pCPU has one of these and nobody else touches it, so there is no lock. FP and SIMD registers are loaded
//! when the guest first uses them, unless they still are where it was on last, and saved only if it may have.

#[cfg(test)]
mod tests;

use core::mem::offset_of;

use hypercall_abi::ids::DomId;

use crate::context::{MDSCR_MDE, TrapFrame};
use crate::domain::Domain;
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::kernel::Kernel;
use crate::runstate::Run;
use crate::trace::Begun;
use crate::vcpu::{Vcpu, VcpuContext};

/// The vCPU that is on a pCPU, with its domain.
pub struct Current<H: Hw> {
    /// The vCPU.
    pub vcpu: H::Shared<Vcpu<H>>,
    /// Its domain, which cannot go away meanwhile.
    pub domain: H::Shared<Domain<H>>,
}

/// A pCPU's own data.
pub struct LocalCpu<H: Hw> {
    /// Which pCPU this is.
    pub id: PcpuId,
    /// What runs here; `None` only inside the scheduler.
    pub current: Option<Current<H>>,
    /// Whose registers are here, what a report of a crash names, inside the scheduler too; `INVALID` as long as nobody's are.
    pub domain: DomId,
    /// When the cap of the domain ends the turn of the vCPU that runs here, or [`NEVER`].
    pub limit: Ticks,
    /// The FP and SIMD registers are those of the vCPU that runs here, which may use them.
    fp_loaded: bool,
    /// Where the context is of the vCPU whose FP and SIMD registers were here last: an address, to compare with.
    fp_of: usize,
    /// The exit that is being handled, while exits are traced.
    pub(crate) begun: Option<Begun>,
}

impl<H: Hw> LocalCpu<H> {
    /// A pCPU with nothing on it.
    pub const fn new(id: PcpuId) -> Self {
        LocalCpu { id, current: None, domain: DomId::INVALID, limit: NEVER, fp_loaded: false, fp_of: 0, begun: None }
    }

    /// Takes the registers of the vCPU off this pCPU, but for its GIC.
    #[inline(always)]
    pub fn save(&mut self, frame: &TrapFrame, context: &mut VcpuContext) {
        H::copy_frame(&mut context.frame, frame);
        H::save_el1(&mut context.el1);
        if self.fp_loaded {
            H::save_fp(&mut context.fp);
            context.fp_at = Some(self.id);
            (self.fp_of, self.fp_loaded) = (core::ptr::from_ref(context).addr(), false);
        }
    }

    /// Puts the registers of a vCPU of `domain` on this pCPU, but for its GIC.
    #[inline(always)]
    pub fn load(&mut self, kernel: &Kernel<H>, context: &VcpuContext, domain: &Domain<H>, frame: &mut TrapFrame) {
        self.domain = domain.id;
        H::load_frame(frame, &context.frame);
        H::load_stage2(domain.p2m.vttbr(&kernel.vmids, self.id));
        H::load_el1(&context.el1);
        if context.el1.mdscr_el1 & MDSCR_MDE != 0 {
            H::load_debug(&context.debug);
        }
        // Nobody has used the registers here since, nor has the vCPU elsewhere.
        if self.fp_of == core::ptr::from_ref(context).addr() && context.fp_at == Some(self.id) {
            H::allow_fp();
            self.fp_loaded = true;
        }
    }

    /// Where the registers are of the vCPU that was put on here: nobody writes them as long as it runs. Null if none was.
    pub fn registers(&self) -> *const TrapFrame {
        self.current.as_ref().map_or(core::ptr::null(), |current| {
            let run = current.vcpu.run.as_mut_ptr().cast_const();
            run.cast::<u8>().wrapping_add(offset_of!(Run<H>, context.frame)).cast()
        })
    }

    /// The guest has used FP or SIMD for the first time since it was put on: gives it its registers.
    #[inline(never)]
    pub fn fp_trap(&mut self) {
        if let Some(current) = &self.current {
            H::load_fp(&current.vcpu.run.lock().context.fp);
            self.fp_loaded = true;
        }
    }
}
