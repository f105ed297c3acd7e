//! The machine as the core sees it: traits that `kernel/hw` implements, and the fake of the tests.
//!
//! Everything is an associated function: a pCPU has one machine, so there is no value to pass around. EL2 runs
//! with interrupts masked from exit to return, so nothing here is re-entered on one pCPU.

use core::ops::Deref;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::context::{DebugContext, El1Context, FpContext, TrapFrame};
use crate::frame::{FrameKind, FrameRef, FrameTable};
use crate::trace::Rings;

/// A pCPU by its index; 0 booted the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PcpuId(pub u8);

/// The most pCPUs that are used; further ones stay off.
pub const MAX_PCPUS: usize = 8;

/// A count of the system counter (`CNTPCT_EL0`).
pub type Ticks = u64;

/// A time that never comes.
pub const NEVER: Ticks = Ticks::MAX;

/// A physical interrupt id of the GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IntId(pub u32);

/// What a guest's stage-1 translation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// EL1 reads.
    Read,
    /// EL1 writes.
    Write,
}

/// The value of `VTTBR_EL2` (VMID and root table), which is what a TLB operation by IPA works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Vttbr(pub u64);

/// What the core needs of a machine: the parts below, and what each is used for.
pub trait Hw: Memory + Translation + Interrupts + Registers + Copy + Send + Sync + 'static {
    /// A kernel object in frames of its own, shared by reference count.
    type Shared<T: Send + Sync + 'static>: Deref<Target = T> + Clone + Send + Sync + 'static;
    /// A place for one of them, empty at first, that keeps what it is given.
    type Place<T: Send + Sync + 'static>: Default + Send + Sync + 'static;

    /// The machine's frames.
    fn frames() -> &'static FrameTable;
    /// A frame of zeros for the kernel, which is charged to `owner`.
    fn frame(owner: DomId, kind: FrameKind) -> Result<FrameRef, XenError> {
        let frame = Self::frames().kept(Self::frames().alloc(owner, kind, 1)?);
        Self::zero(frame.pa(), PAGE_SIZE);
        Ok(frame)
    }
    /// Where pCPUs write their traces.
    fn rings() -> &'static Rings;
    /// Moves `value` into frames of its own, which are charged to `owner`; they return with the last reference.
    fn share<T: Send + Sync + 'static>(owner: DomId, value: T) -> Result<Self::Shared<T>, XenError>;
    /// What is shared, to be changed by who holds the only reference; `None` if there are others.
    fn only<T: Send + Sync + 'static>(shared: &mut Self::Shared<T>) -> Option<&mut T>;
    /// What is in a place, with all that was done to it before it was put there.
    fn placed<T: Send + Sync + 'static>(place: &Self::Place<T>) -> Option<&T>;
    /// Puts it into a place, unless something is there already.
    fn place<T: Send + Sync + 'static>(place: &Self::Place<T>, object: Self::Shared<T>);
    /// The pCPU that runs this.
    fn pcpu() -> PcpuId;
    /// pCPUs that have come up.
    fn online() -> usize;
    /// Sleeps until an interrupt is pending; interrupts stay masked.
    fn wait_for_interrupt();
    /// Whether one is.
    fn is_interrupted() -> bool;
    /// The time.
    fn now() -> Ticks;
    /// Ticks per second.
    fn frequency() -> u32;
    /// When this pCPU's timer interrupt is due; `None` never.
    fn set_deadline(at: Option<Ticks>);
    /// Writes to the console at once.
    fn console(text: &[u8]);
    /// Switches the machine off, or restarts it.
    fn end_machine(restart: bool) -> !;
}

/// Contents of frames. The caller holds a reference on the frame, and the range lies inside one page.
pub trait Memory {
    /// Fills whole pages with zeros.
    fn zero(at: Pa, bytes: u64);
    /// Copies out of a frame.
    fn read_bytes(at: Pa, into: &mut [u8]);
    /// Copies into a frame.
    fn write_bytes(at: Pa, from: &[u8]);
    /// Copies between frames. Where the ranges overlap it is not said what is there afterwards.
    fn copy(to: Pa, from: Pa, bytes: u64);
    /// Cleans and invalidates to the point of coherency: for guests that start with caches off.
    fn clean_to_poc(at: Pa, bytes: u64);
    /// Fills whole pages with zeros and does the same for them, in one pass.
    fn zero_to_poc(at: Pa, bytes: u64);
    /// Forgets, on all pCPUs, the instructions that were fetched before from what has been cleaned.
    fn forget_instructions();
    /// Loads an aligned word, once (relaxed).
    fn load32(at: Pa) -> u32;
    /// Stores an aligned word (release).
    fn store32(at: Pa, value: u32);
    /// Loads an aligned double word, once (sequential: behind the releases before it, `set_bits64` and its like among them).
    fn load64(at: Pa) -> u64;
    /// Stores an aligned double word (release). Also how table entries are written.
    fn store64(at: Pa, value: u64);
    /// One attempt to replace `old` by `new` (acquire and release); else the value found, which may be `old` all the same.
    fn cas64(at: Pa, old: u64, new: u64) -> Result<u64, u64>;
    /// Atomically sets bits; returns the value before (acquire and release).
    fn set_bits64(at: Pa, bits: u64) -> u64;
    /// Atomically clears bits; returns the value before (acquire and release).
    fn clear_bits64(at: Pa, bits: u64) -> u64;
}

/// Stage 2, and questions to both stages.
pub trait Translation {
    /// Translates through both stages of the vCPU that runs here; `None` where either refuses.
    fn translate(va: GuestVa, access: Access) -> Option<Pa>;
    /// Where the access went that made the guest leave for EL2: `FAR_EL2`, and the IPA if stage 2 took it.
    fn fault_address() -> (GuestVa, Ipa);
    /// Makes stores to tables visible to the walkers of all pCPUs.
    fn publish_tables();
    /// Uses this stage 2 on this pCPU from now on.
    fn load_stage2(stage2: Vttbr);
    /// Forgets translations of these pages (of a block, any page will do), on all pCPUs, and waits for it.
    fn invalidate(stage2: Vttbr, pages: impl Iterator<Item = Ipa>);
    /// Forgets all translations of the VMID, on all pCPUs, and waits for it.
    fn invalidate_vmid(stage2: Vttbr);
    /// Forgets the translations of all VMIDs, on all pCPUs, and waits for it.
    fn invalidate_all_vmids();
}

/// Physical interrupts, the one by which pCPUs call each other, and the list registers of this pCPU.
pub trait Interrupts {
    /// Makes another pCPU look at its run queue and its vCPU's pending interrupts.
    fn kick(pcpu: PcpuId);
    /// Sends a software-generated interrupt to a pCPU, which may be this one.
    fn send(pcpu: PcpuId, sgi: IntId);
    /// Takes the highest pending interrupt of this pCPU; `None` if spurious. It stays active until it is deactivated,
    /// but does not keep others away.
    fn acknowledge() -> Option<IntId>;
    /// Ends the active state.
    fn deactivate(intid: IntId);
    /// Makes a shared interrupt edge-triggered or level-sensitive, and enables it, routed to this pCPU, or disables it and
    /// waits until it cannot come any more.
    fn configure(intid: IntId, enabled: bool, edge: bool);
    /// Sets or clears the active state of a private interrupt of this pCPU, for a vCPU whose timer is in flight.
    fn set_active(intid: IntId, active: bool);
    /// How many shared interrupts the machine's GIC has, as far as there are registers for them (0 to 988).
    fn shared_interrupts() -> u32;
    /// How many list registers there are (1 to 16).
    fn list_registers() -> usize;
    /// Reads `ICH_LR<n>_EL2`; zero when there is none of that number. A GICv2's is given the same form, with the vCPU that
    /// has sent an SGI in bits 34 to 32, and whether the end of an SGI is told of is not read.
    fn read_lr(n: usize) -> u64;
    /// Writes `ICH_LR<n>_EL2`.
    fn write_lr(n: usize, value: u64);
    /// `ICH_ELRSR_EL2`: bit n is set when list register n is free.
    fn empty_lrs() -> u64;
    /// Whether the vCPU's end of an interrupt both drops the priority and deactivates (`ICH_VMCR_EL2.VEOIM` is clear), so
    /// that what is active ends in the opposite order.
    fn ends_nest() -> bool;
    /// Sets or clears the underflow maintenance interrupt (`ICH_HCR_EL2.UIE`).
    fn notify_underflow(on: bool);
}

/// Registers of the vCPU.
pub trait Registers {
    /// Saves the EL1 state, the virtual timer included, and stops that timer.
    fn save_el1(into: &mut El1Context);
    /// Loads the EL1 state, the virtual timer included.
    fn load_el1(from: &El1Context);
    /// `CNTV_CTL_EL0` of the vCPU that is here.
    fn timer_control() -> u64;
    /// Copies a frame: a copy in Rust would be a call of memcpy, which takes five times as long.
    fn copy_frame(to: &mut TrapFrame, from: &TrapFrame);
    /// Copies a frame where the way back to the guest loads `to`; a machine whose way back loads `from` does nothing.
    fn load_frame(to: &mut TrapFrame, from: &TrapFrame);
    /// Saves FP and SIMD, whose next use traps.
    fn save_fp(into: &mut FpContext);
    /// Loads FP and SIMD, whose use does not trap from here on.
    fn load_fp(from: &FpContext);
    /// The same where they still are.
    fn allow_fp();
    /// Uses the vectors on this pCPU from now on that trace exits, or those that do not.
    fn trace_exits(on: bool);
    /// Loads breakpoints and watchpoints, those that this pCPU has.
    fn load_debug(from: &DebugContext);
    /// Reads an identification register of this pCPU by its CRm and op2 (op0 = 3, op1 = 0, CRn = 0); zero if it is
    /// unknown.
    fn id_register(crm: usize, op2: usize) -> u64;
}
