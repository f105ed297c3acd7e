//! The interrupt controller of the domain: the distributor, each vCPU's redistributor and CPU interface. A GICv2 has private
//! interrupts in the distributor, and the CPU interface in memory.
//!
//! Our own, since the same few registers serve both versions, and two drivers of arm-gic do not fit into the smallest guest.
//! Only what is registered is configured; the SPIs of a machine are many and each register write is an exit.

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use critical_section::Mutex;

use crate::addr::IpaRange;
use crate::irq::{IrqError, Mode};

/// Priority of every interrupt: none preempts another.
const PRIORITY: u8 = 0x80;
const BOOT_VCPU: usize = 0;

/// Offsets in the distributor, and in a redistributor's second frame, of registers that both have (Arm IHI 0069H, sections
/// 12.9 and 12.11; IHI 0048B, section 4.3).
const CTLR: u64 = 0;
const IGROUPR: u64 = 0x80;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const IPRIORITYR: u64 = 0x400;
const ICFGR: u64 = 0xC00;
/// Offsets in a redistributor, and the bytes of one.
const GICR_WAKER: u64 = 0x14;
const SECOND_FRAME: u64 = 0x1_0000;
const REDISTRIBUTOR: u64 = 0x2_0000;
/// Offsets in a GICv2's CPU interface (IHI 0048B, section 4.4).
const GICC_PMR: u64 = 4;
const GICC_IAR: u64 = 0xC;
const GICC_EOIR: u64 = 0x10;
/// `GICD_CTLR` of a GICv3: affinity routing, and group 1. Of a GICv2 group 0, which is `GICC_CTLR`'s bit as well.
const ARE_AND_GROUP1: u32 = 1 << 4 | 1 << 1;
const GROUP0: u32 = 1 << 0;
/// The first number that is no interrupt's.
const LIMIT: u32 = 1020;

/// Registers that `init` has mapped.
#[derive(Clone, Copy)]
struct Frame(u64);

impl Frame {
    fn load(self, offset: u64) -> u32 {
        let value;
        // SAFETY: registers of the controller, where the device tree says, mapped as device memory; interrupts change no
        // memory of this image. The instruction is one that the hypervisor can emulate.
        unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) self.0 + offset, options(nostack, preserves_flags)) };
        value
    }

    fn store(self, offset: u64, value: u32) {
        // SAFETY: as above.
        unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) self.0 + offset, options(nostack, preserves_flags)) };
    }

    fn store_byte(self, offset: u64, value: u8) {
        // SAFETY: as above.
        unsafe {
            asm!("strb {:w}, [{}]", in(reg) u32::from(value), in(reg) self.0 + offset, options(nostack, preserves_flags));
        }
    }
}

/// What the device tree has named.
#[derive(Clone, Copy)]
struct Gic {
    distributor: Frame,
    /// Of a GICv3.
    redistributors: Option<IpaRange>,
}

static GIC: Mutex<Cell<Option<Gic>>> = Mutex::new(Cell::new(None));
/// Where a GICv2 has its CPU interface, or zero if that is in system registers. Relaxed: set before the first interrupt and
/// the second vCPU.
static INTERFACE: AtomicU64 = AtomicU64::new(0);

/// The CPU interface of a GICv2.
fn interface() -> Option<Frame> {
    Some(Frame(INTERFACE.load(Ordering::Relaxed))).filter(|frame| frame.0 != 0)
}

impl Gic {
    fn redistributor(&self, cpu: usize) -> Result<Option<Frame>, IrqError> {
        let Some(range) = self.redistributors else { return Ok(None) };
        let at = cpu as u64 * REDISTRIBUTOR;
        if at < range.size() { Ok(Some(Frame(range.start().raw() + at))) } else { Err(IrqError::NoController) }
    }

    /// Where the registers are that a vCPU's interrupt has.
    fn frame(&self, cpu: usize, intid: u32) -> Result<Frame, IrqError> {
        let private = self.redistributor(cpu)?.filter(|_| intid < 32);
        let frame = private.map_or(self.distributor, |frame| Frame(frame.0 + SECOND_FRAME));
        if intid < LIMIT { Ok(frame) } else { Err(IrqError::BadNumber) }
    }

    /// Opens the CPU interface of this vCPU, for none of its interrupts yet.
    fn open(&self, cpu: usize) -> Result<(), IrqError> {
        let private = self.frame(cpu, 0)?;
        private.store(ICENABLER, u32::MAX);
        if let Some(interface) = interface() {
            interface.store(GICC_PMR, 0xFF);
            interface.store(CTLR, GROUP0);
        } else if let Some(redistributor) = self.redistributor(cpu)? {
            private.store(IGROUPR, u32::MAX);
            // ProcessorSleep; ChildrenAsleep follows.
            redistributor.store(GICR_WAKER, redistributor.load(GICR_WAKER) & !2);
            while redistributor.load(GICR_WAKER) & 4 != 0 {}
            // SAFETY: system registers of this vCPU's interrupts, which are masked: instead of memory, an end
            // deactivates, everything passes, of group 1.
            unsafe {
                asm!("mrs {0}, icc_sre_el1", "orr {0}, {0}, #1", "msr icc_sre_el1, {0}", "isb", "msr icc_ctlr_el1, xzr",
                    "msr icc_pmr_el1, {1}", "msr icc_igrpen1_el1, {2}", "isb",
                    out(reg) _, in(reg) 0xFFu64, in(reg) 1u64, options(nostack, preserves_flags));
            }
        }
        Ok(())
    }
}

/// Maps a GICv3, and opens its CPU interface.
///
/// # Errors
/// [`IrqError::NoController`] when the ranges cannot be mapped.
pub fn init(distributor: IpaRange, redistributors: IpaRange) -> Result<(), IrqError> {
    start(distributor, redistributors, ARE_AND_GROUP1, Some(redistributors))
}

/// The same for a GICv2.
///
/// # Errors
/// [`IrqError::NoController`] when the ranges cannot be mapped.
pub fn init_v2(distributor: IpaRange, cpu_interface: IpaRange) -> Result<(), IrqError> {
    INTERFACE.store(cpu_interface.start().raw(), Ordering::Relaxed);
    start(distributor, cpu_interface, GROUP0, None)
}

fn start(
    distributor: IpaRange,
    second: IpaRange,
    control: u32,
    redistributors: Option<IpaRange>,
) -> Result<(), IrqError> {
    for range in [distributor, second] {
        crate::mmu::map_device(range).map_err(|_| IrqError::NoController)?;
    }
    let gic = Gic { distributor: Frame(distributor.start().raw()), redistributors };
    gic.distributor.store(CTLR, control);
    gic.open(BOOT_VCPU)?;
    critical_section::with(|cs| GIC.borrow(cs).set(Some(gic)));
    Ok(())
}

/// Nobody else changes the registers meanwhile.
fn with<R>(f: impl FnOnce(Gic) -> Result<R, IrqError>) -> Result<R, IrqError> {
    critical_section::with(|cs| f(GIC.borrow(cs).get().ok_or(IrqError::NoController)?))
}

/// Sets trigger mode, group and priority of an interrupt, which stays disabled.
///
/// # Errors
/// [`IrqError::BadNumber`] when it is no interrupt's number.
pub fn configure(intid: u32, mode: Mode) -> Result<(), IrqError> {
    configure_on(BOOT_VCPU, intid, mode)
}

fn configure_on(cpu: usize, intid: u32, mode: Mode) -> Result<(), IrqError> {
    with(|gic| {
        let (frame, n) = (gic.frame(cpu, intid)?, u64::from(intid));
        if gic.redistributors.is_some() {
            let group = IGROUPR + n / 32 * 4;
            frame.store(group, frame.load(group) | 1 << (n % 32));
        }
        frame.store_byte(IPRIORITYR + n, PRIORITY);
        // The upper of its two bits says "edge".
        let (trigger, edge) = (ICFGR + n / 16 * 4, 2 << (n % 16 * 2));
        let others = frame.load(trigger) & !edge;
        frame.store(trigger, if mode == Mode::Edge { others | edge } else { others });
        Ok(())
    })
}

/// Lets an interrupt through, or not.
///
/// # Errors
/// [`IrqError::BadNumber`] when it is no interrupt's number.
pub fn enable(intid: u32, on: bool) -> Result<(), IrqError> {
    enable_for(BOOT_VCPU, intid, on)
}

/// Of a GICv2 a vCPU reaches its own private interrupts only.
fn enable_for(cpu: usize, intid: u32, on: bool) -> Result<(), IrqError> {
    let register = if on { ISENABLER } else { ICENABLER } + u64::from(intid / 32) * 4;
    with(|gic| gic.frame(cpu, intid).map(|frame| frame.store(register, 1 << (intid % 32))))
}

#[cfg(feature = "smp")]
mod further {
    //! The same for further vCPUs.

    use core::arch::asm;

    use super::{IrqError, Mode, configure_on, enable_for, interface, with};

    /// The interrupt by which one vCPU ends the sleep of another; nothing handles it, since that is all that it does.
    const WAKE: u32 = 0;
    /// `GICD_SGIR`.
    const SGIR: u64 = 0xF00;

    /// Opens the CPU interface of the vCPU that this runs on.
    pub fn start_cpu(cpu: usize) {
        // A redistributor that is missing shows when its first interrupt is set up.
        let _ = with(|gic| gic.open(cpu));
    }

    /// Sets up an interrupt of one vCPU (a PPI) and lets it through.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] when it is no interrupt's number.
    pub fn enable_on(cpu: usize, intid: u32, mode: Mode) -> Result<(), IrqError> {
        configure_on(cpu, intid, mode)?;
        enable_for(cpu, intid, true)
    }

    /// Lets others end this vCPU's sleep.
    pub fn accept_wakes(cpu: usize) {
        // The SGIs are always there, and edges whatever is said.
        let _ = enable_on(cpu, WAKE, Mode::Edge);
    }

    /// Ends the sleep of the vCPU with these affinity fields.
    pub fn send_wake(affinity: u64) {
        // What the other one will look at must be visible before it is woken.
        // SAFETY: a barrier changes nothing.
        unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
        if interface().is_some() {
            // It is there, since an interface is.
            let _ = with(|gic| {
                gic.distributor.store(SGIR, 1 << (16 + (affinity & 7)) | WAKE);
                Ok(())
            });
            return;
        }
        // ICC_SGI1R_EL1: Aff3 at 48, range selector at 44, Aff2 at 32, INTID at 24, Aff1 at 16, a bit per Aff0 & 15.
        let fields = (affinity >> 32 & 0xFF) << 48 | (affinity >> 16 & 0xFF) << 32 | (affinity >> 8 & 0xFF) << 16;
        let value = fields | (affinity >> 4 & 0xF) << 44 | u64::from(WAKE) << 24 | 1 << (affinity & 0xF);
        // SAFETY: an interrupt of another vCPU, which does nothing but end its sleep.
        unsafe { asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) value, options(nostack, preserves_flags)) };
    }
}
#[cfg(feature = "smp")]
pub use further::{accept_wakes, enable_on, send_wake, start_cpu};

/// An interrupt that was taken. A GICv2 says beside the number of an SGI who has sent it, which belongs to its end.
pub struct Taken(u32);

impl Taken {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.0 & 0x3FF
    }
}

/// Takes the most urgent pending interrupt, if there is one.
pub fn acknowledge() -> Option<Taken> {
    let value = match interface() {
        Some(interface) => interface.load(GICC_IAR),
        None => {
            let value: u64;
            // SAFETY: takes an interrupt, which is what the caller handles.
            unsafe { asm!("mrs {}, icc_iar1_el1", out(reg) value, options(nostack, preserves_flags)) };
            value.try_into().unwrap_or(LIMIT)
        }
    };
    Some(Taken(value)).filter(|taken| taken.number() < LIMIT)
}

/// Ends an interrupt that was taken.
pub fn end(taken: Taken) {
    match interface() {
        Some(interface) => interface.store(GICC_EOIR, taken.0),
        // SAFETY: ends what `acknowledge` has taken.
        None => unsafe {
            asm!("msr icc_eoir1_el1, {}", in(reg) u64::from(taken.0), options(nostack, preserves_flags));
        },
    }
}
