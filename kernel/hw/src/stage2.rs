//! Stage 2: which tables are in use, forgetting what they said before, and asking them.

use core::arch::asm;

use kernel_core::addr::{GuestVa, Ipa, Pa};
use kernel_core::hw::{Access, Translation, Vttbr};

use crate::Arm;
use crate::sysreg::{barrier, mrs, msr};

/// Runs `f` with `VTTBR_EL2` set to `stage2`, since TLB operations by IPA work on the VMID in there.
fn with_vmid(stage2: Vttbr, f: impl FnOnce()) {
    let current = mrs!("vttbr_el2");
    if current == stage2.0 {
        return f();
    }
    Arm::load_stage2(stage2);
    // The operations in `f` must see the new VMID.
    barrier!("isb");
    f();
    Arm::load_stage2(Vttbr(current));
    // And nothing after this may see it still, such as an AT.
    barrier!("isb");
}

/// Forgets what `operations` say, on all pCPUs, and waits for it.
fn forget(operations: impl FnOnce()) {
    // The changed entries are visible before anything is forgotten, or a walker would read the old ones again.
    barrier!("dsb ishst");
    operations();
    // Complete on all pCPUs, their accesses through old entries included.
    barrier!("dsb ish");
    barrier!("isb");
}

impl Translation for Arm {
    fn translate(va: GuestVa, access: Access) -> Option<Pa> {
        // PAR_EL1 is the guest's: it may have been interrupted between its own AT and the read.
        let saved = mrs!("par_el1");
        // SAFETY: AT changes PAR_EL1 only, which is put back below.
        unsafe {
            match access {
                Access::Read => asm!("at s12e1r, {}", in(reg) va.raw(), options(nostack, preserves_flags)),
                Access::Write => asm!("at s12e1w, {}", in(reg) va.raw(), options(nostack, preserves_flags)),
            }
        }
        // The result is there after an ISB (D8.5.3).
        barrier!("isb");
        let par = mrs!("par_el1");
        // SAFETY: the guest's value from above.
        unsafe { msr!("par_el1", saved) };
        const FAILED: u64 = 1;
        const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
        (par & FAILED == 0).then(|| Pa::new(par & ADDRESS | va.offset()))
    }

    fn fault_address() -> (GuestVa, Ipa) {
        let far = GuestVa::new(mrs!("far_el2"));
        // HPFAR_EL2.FIPA is bits 51:12 of the address, in bits 43:4 of the register.
        (far, Ipa::new((mrs!("hpfar_el2") & 0xfff_ffff_fff0) << 8 | far.offset()))
    }

    fn publish_tables() {
        // The walkers are observers in the inner shareable domain; the ISB keeps later accesses of this pCPU behind.
        barrier!("dsb ishst");
        barrier!("isb");
    }

    fn load_stage2(stage2: Vttbr) {
        // SAFETY: translates the guest's accesses only. No ISB: the ERET to the guest synchronises, and EL2 does not use
        // it before.
        unsafe { msr!("vttbr_el2", stage2.0) };
    }

    fn invalidate(stage2: Vttbr, pages: impl Iterator<Item = Ipa>) {
        let operations = || {
            for ipa in pages {
                // SAFETY: forgetting translations never makes EL2 unsound; FEAT_TTL's hint bits are zero.
                unsafe { asm!("tlbi ipas2e1is, {}", in(reg) ipa.number(), options(nostack, preserves_flags)) };
            }
            // Stage-2 entries are gone before the combined ones, or those would be made from them again (D8.16.3).
            barrier!("dsb ish");
            // SAFETY: as above; entries that combine both stages are tagged by VA only, so all of the VMID go.
            unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
        };
        with_vmid(stage2, || forget(operations));
    }

    fn invalidate_vmid(stage2: Vttbr) {
        // SAFETY: as in `invalidate`.
        with_vmid(stage2, || forget(|| unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) }));
    }

    fn invalidate_all_vmids() {
        // SAFETY: as in `invalidate`. Instruction caches that are tagged by VMID lose their lines with it.
        forget(|| unsafe { asm!("tlbi alle1is", "ic ialluis", options(nostack, preserves_flags)) });
    }
}
