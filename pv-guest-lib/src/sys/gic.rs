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

static GIC: Mutex<RefCell<Option<GicV3<'static>>>> = Mutex::new(RefCell::new(None));

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
    // SAFETY: as above, for the first redistributor.
    let mut gic = unsafe { GicV3::new(gicd, gicr, 1) }.map_err(|_| IrqError::NoController)?;
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
    let id = id(intid)?;
    let trigger = match mode {
        Mode::Level => Trigger::Level,
        Mode::Edge => Trigger::Edge,
    };
    with(|gic| {
        let bad = |_| IrqError::BadNumber;
        gic.set_group(id, Some(BOOT_VCPU), Group::Group1NS).map_err(bad)?;
        gic.set_interrupt_priority(id, Some(BOOT_VCPU), PRIORITY).map_err(bad)?;
        gic.set_trigger(id, Some(BOOT_VCPU), trigger).map_err(bad)
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
