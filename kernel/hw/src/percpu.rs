//! What each pCPU owns: its stacks and its block of data, which `TPIDR_EL2` points to while it is up.
//!
//! A stack's stride holds, from below: a guard page, the emergency stack for EL2's own exceptions, another guard
//! page, and the stack proper. At its top lies the frame of the guest that the pCPU will return to; SP_EL2 points
//! to it while the guest runs, so that an exit needs no arithmetic.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

use hypercall_abi::ids::DomId;
use kernel_core::addr::{PAGE_SIZE, Pa};
use kernel_core::context::TrapFrame;
use kernel_core::hw::{MAX_PCPUS, PcpuId};
use kernel_core::kernel::Kernel;
use kernel_core::local::LocalCpu;
use kernel_core::machine::Range;

use crate::Arm;
use crate::sysreg::mrs;

/// Bytes from one pCPU's stacks to the next one's; the linker script checks that it left room for all.
const STACK_STRIDE: usize = 64 * 1024;
/// Where the emergency stack ends in it.
const EMERGENCY_TOP: usize = 2 * 4096;
/// The affinity in `MPIDR_EL1`: Aff3, and Aff2 to Aff0.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

core::arch::global_asm!(
    ".global stack_bytes",
    ".set stack_bytes, {bytes}",
    bytes = const STACK_STRIDE * MAX_PCPUS,
);

unsafe extern "C" {
    static image_stacks_start: u8;
}

/// The microkernel.
pub static KERNEL: Kernel<Arm> = Kernel::empty();

/// What is at the top of a stack.
#[repr(C)]
struct Top {
    frame: TrapFrame,
    /// Where an exit goes on when it has been handled: [`return_to_guest`](crate::vectors::return_to_guest), or what
    /// ends a record of a trace first.
    way_back: *const u8,
    _aligned: u64,
}

/// From a frame to the way back.
pub const WAY_BACK: usize = core::mem::offset_of!(Top, way_back);

/// A pCPU's own block.
#[repr(C, align(64))]
pub struct Percpu {
    /// First byte behind the emergency stack.
    emergency_top: *const u8,
    /// The frame on top of the stack.
    frame: *const u8,
    /// Its redistributor's registers. Relaxed: for this pCPU alone.
    pub redistributor: AtomicUsize,
    /// Affinity, as in `MPIDR_EL1`. Relaxed: set before it is online or idle, and kicked by those who have seen that.
    pub mpidr: AtomicU64,
    /// Whether it has come up: stored behind all that it has set up (release), for those who wait or count (acquire).
    pub online: AtomicBool,
    /// Its index.
    pub id: PcpuId,
    /// Its CPU interface of a GICv2, as a bit of the mask of targets.
    pub interface: AtomicU8,
    /// Who has sent the SGI that it takes, in the place that the GICv2's registers have for that.
    pub sender: AtomicU32,
    /// The core's own data of this pCPU: touched by this pCPU alone, and only from `exit` (see [`Percpu::local`]).
    local: UnsafeCell<LocalCpu<Arm>>,
}

/// Where the vectors find the emergency stack's top.
pub const EMERGENCY_OFFSET: usize = core::mem::offset_of!(Percpu, emergency_top);
/// Where the entry code finds the frame.
pub const FRAME_OFFSET: usize = core::mem::offset_of!(Percpu, frame);

// SAFETY: everything but `local` is atomic or constant, and `local` is reached through `local()` alone, whose
// callers have the block from the pCPU's own TPIDR_EL2.
unsafe impl Sync for Percpu {}

const fn block(id: u8) -> Percpu {
    let stacks = (&raw const image_stacks_start).wrapping_add(id as usize * STACK_STRIDE);
    Percpu {
        emergency_top: stacks.wrapping_add(EMERGENCY_TOP),
        frame: stacks.wrapping_add(STACK_STRIDE - size_of::<Top>()),
        redistributor: AtomicUsize::new(0),
        mpidr: AtomicU64::new(u64::MAX),
        online: AtomicBool::new(false),
        id: PcpuId(id),
        interface: AtomicU8::new(0),
        sender: AtomicU32::new(0),
        local: UnsafeCell::new(LocalCpu::new(PcpuId(id))),
    }
}

/// All blocks, those of pCPUs that are not up included.
pub static BLOCKS: [Percpu; MAX_PCPUS] =
    [block(0), block(1), block(2), block(3), block(4), block(5), block(6), block(7)];

/// This pCPU's block.
pub fn this() -> &'static Percpu {
    let at = mrs!("tpidr_el2") as *const Percpu;
    // SAFETY: the entry code has set the register to one of the blocks, and nothing else writes it.
    unsafe { &*at }
}

impl Percpu {
    /// This pCPU's data.
    ///
    /// # Safety
    ///
    /// Of [`this`], and only from the entries of `vectors.rs`, none of which can run inside another on
    /// one pCPU: interrupts are masked at EL2, and an exception from EL2 itself never returns.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that there is no other")]
    pub unsafe fn local(&self) -> &mut LocalCpu<Arm> {
        // SAFETY: the caller's condition makes this the only reference; the block belongs to this pCPU.
        unsafe { &mut *self.local.get() }
    }

    /// Has exits of this pCPU go on there when they have been handled.
    ///
    /// # Safety
    ///
    /// Of [`this`], and `to` is one of the ways of `vectors.rs`.
    pub unsafe fn set_way_back(&self, to: *const u8) {
        // SAFETY: the place on top of this pCPU's stack is for this alone; the vectors read it.
        unsafe { self.frame.add(WAY_BACK).cast_mut().cast::<*const u8>().write_volatile(to) };
    }
}

/// The emergency stacks and the stacks proper of all pCPUs. The pages below them stay unmapped, so that an overflow
/// faults.
pub fn stacks() -> impl Iterator<Item = Range> {
    BLOCKS.iter().flat_map(|block| {
        let top = Pa::new(block.emergency_top as u64);
        let emergency = Range { start: Pa::new(top.raw() - PAGE_SIZE), size: PAGE_SIZE };
        [emergency, Range { start: top.add(PAGE_SIZE), size: STACK_STRIDE as u64 - 3 * PAGE_SIZE }]
    })
}

/// Whose vCPU was here last, for a report of a crash.
pub fn domain() -> Option<DomId> {
    // SAFETY: a copy of a plain value of this pCPU's own block; this pCPU never leaves the report, so whatever
    // change it interrupted does not go on.
    let last = unsafe { (&raw const (*this().local.get()).domain).read() };
    (last != DomId::INVALID).then_some(last)
}
