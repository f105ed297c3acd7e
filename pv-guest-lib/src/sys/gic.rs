//! The interrupt controller of the domain: the distributor, this vCPU's redistributor and CPU interface.
//!
//! Only what is registered is configured; the SPIs of a machine are many and each register write is an exit.

use core::cell::RefCell;
use core::ptr::NonNull;

use arm_gic::gicv3::registers::{Gicd, GicdCtlr, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3, Group};
use arm_gic::{IntId, InterruptGroup, Trigger};
use critical_section::Mutex;
use safe_mmio::UniqueMmioPointer;

use crate::addr::IpaRange;
use crate::irq::{IrqError, Mode};

/// Priority of every interrupt: none preempts another.
const PRIORITY: u8 = 0x80;
const BOOT_VCPU: usize = 0;
/// Bytes of a redistributor's registers.
#[cfg(feature = "smp")]
const REDISTRIBUTOR: u64 = 0x2_0000;

static GIC: Mutex<RefCell<Option<GicV3<'static>>>> = Mutex::new(RefCell::new(None));

/// Redistributors that are used, one for each vCPU.
fn cpus(redistributors: IpaRange) -> usize {
    #[cfg(feature = "smp")]
    return crate::addr::index(redistributors.size() / REDISTRIBUTOR).clamp(1, super::smp::MAX_CPUS);
    #[cfg(not(feature = "smp"))]
    {
        let _ = redistributors;
        1
    }
}

/// Maps the controller and opens the CPU interface.
///
/// # Errors
/// [`IrqError::NoController`] when the ranges cannot be mapped or hold something else.
pub fn init(distributor: IpaRange, redistributors: IpaRange) -> Result<(), IrqError> {
    crate::mmu::map_device(distributor).map_err(|_| IrqError::NoController)?;
    crate::mmu::map_device(redistributors).map_err(|_| IrqError::NoController)?;
    let gicd = NonNull::new(distributor.start().raw() as *mut Gicd).ok_or(IrqError::NoController)?;
    let gicr = NonNull::new(redistributors.start().raw() as *mut GicrSgi).ok_or(IrqError::NoController)?;
    // SAFETY: the device tree says that the distributor is here; it was mapped above as device memory, and
    // this function runs once, so that there is no second pointer.
    let gicd = unsafe { UniqueMmioPointer::new(gicd) };
    // SAFETY: as above, for the redistributors.
    let mut gic = unsafe { GicV3::new(gicd, gicr, cpus(redistributors)) }.map_err(|_| IrqError::NoController)?;
    gic.init_cpu(BOOT_VCPU);
    gic.redistributor(BOOT_VCPU).map_err(|_| IrqError::NoController)?.configure_default_settings();
    gic.distributor().modify_control(GicdCtlr::ARE_S | GicdCtlr::EnableGrp1NS, true);
    GicCpuInterface::set_priority_mask(0xFF);
    GicCpuInterface::enable_group1(true);
    critical_section::with(|cs| GIC.borrow(cs).replace(Some(gic)));
    Ok(())
}

fn with<R>(f: impl FnOnce(&mut GicV3<'static>) -> Result<R, IrqError>) -> Result<R, IrqError> {
    critical_section::with(|cs| f(GIC.borrow(cs).borrow_mut().as_mut().ok_or(IrqError::NoController)?))
}

fn id(intid: u32) -> Result<IntId, IrqError> {
    IntId::try_from(intid).map_err(|_| IrqError::BadNumber)
}

/// Sets trigger mode, group and priority of an interrupt, which stays disabled.
///
/// # Errors
/// [`IrqError::BadNumber`] when the controller has no such interrupt.
pub fn configure(intid: u32, mode: Mode) -> Result<(), IrqError> {
    configure_on(BOOT_VCPU, intid, mode)
}

fn configure_on(cpu: usize, intid: u32, mode: Mode) -> Result<(), IrqError> {
    let id = id(intid)?;
    let trigger = match mode {
        Mode::Level => Trigger::Level,
        Mode::Edge => Trigger::Edge,
    };
    with(|gic| {
        let bad = |_| IrqError::BadNumber;
        gic.set_group(id, Some(cpu), Group::Group1NS).map_err(bad)?;
        gic.set_interrupt_priority(id, Some(cpu), PRIORITY).map_err(bad)?;
        gic.set_trigger(id, Some(cpu), trigger).map_err(bad)
    })
}

/// Lets an interrupt through or not.
///
/// # Errors
/// [`IrqError::BadNumber`] when the controller has no such interrupt.
pub fn enable(intid: u32, on: bool) -> Result<(), IrqError> {
    let id = id(intid)?;
    with(|gic| gic.enable_interrupt(id, Some(BOOT_VCPU), on).map_err(|_| IrqError::BadNumber))
}

#[cfg(feature = "smp")]
mod further {
    //! The same for further vCPUs.

    use arm_gic::gicv3::{SgiTarget, SgiTargetGroup};

    use super::{GicCpuInterface, IntId, IrqError, Mode, configure_on, id, with};

    /// The interrupt by which one vCPU ends the sleep of another; nothing handles it, since that is all that it does.
    const WAKE: IntId = IntId::sgi(0);

    /// Opens the CPU interface of the vCPU that this runs on.
    pub fn start_cpu(cpu: usize) {
        // A redistributor that is missing shows when its first interrupt is set up.
        let _ = with(|gic| {
            gic.init_cpu(cpu);
            gic.redistributor(cpu).map_err(|_| IrqError::NoController)?.configure_default_settings();
            Ok(())
        });
        GicCpuInterface::set_priority_mask(0xFF);
        GicCpuInterface::enable_group1(true);
    }

    /// Sets up an interrupt of one vCPU (a PPI) and lets it through.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] when the controller has no such interrupt.
    pub fn enable_on(cpu: usize, intid: u32, mode: Mode) -> Result<(), IrqError> {
        configure_on(cpu, intid, mode)?;
        with(|gic| gic.enable_interrupt(id(intid)?, Some(cpu), true).map_err(|_| IrqError::BadNumber))
    }

    /// Lets others end this vCPU's sleep.
    pub fn accept_wakes(cpu: usize) {
        // The SGIs are always there.
        let _ = with(|gic| gic.enable_interrupt(WAKE, Some(cpu), true).map_err(|_| IrqError::BadNumber));
    }

    /// Ends the sleep of the vCPU with these affinity fields.
    pub fn send_wake(affinity: u64) {
        let [affinity0, affinity1, affinity2, _, affinity3, ..] = affinity.to_le_bytes();
        let target = SgiTarget::List { affinity3, affinity2, affinity1, target_list: 1 << (affinity0 & 15) };
        // It is an SGI, which is all that can be wrong.
        let _ = GicCpuInterface::send_sgi(WAKE, target, SgiTargetGroup::CurrentGroup1);
    }
}
#[cfg(feature = "smp")]
pub use further::{accept_wakes, enable_on, send_wake, start_cpu};

/// Takes the most urgent pending interrupt, if there is one.
pub fn acknowledge() -> Option<u32> {
    GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1).map(IntId::raw_value)
}

/// Ends an interrupt that was taken.
pub fn end(intid: u32) {
    if let Ok(id) = id(intid) {
        GicCpuInterface::end_interrupt(id, InterruptGroup::Group1);
    }
}
