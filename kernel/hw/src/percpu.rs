//! What each pCPU owns: its stacks and its block of data, which `TPIDR_EL2` points to while it is up.
//!
//! A stack's stride holds, from below: a guard page, the emergency stack for EL2's own exceptions, another guard
//! page, and the stack proper. At its top lies the frame of the guest that the pCPU will return to; SP_EL2 points
//! to it while the guest runs, so that an exit needs no arithmetic.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hypercall_abi::ids::DomId;
use kernel_core::addr::PAGE_SIZE;
use kernel_core::context::TrapFrame;
use kernel_core::hw::{MAX_PCPUS, PcpuId};
use kernel_core::kernel::Kernel;
use kernel_core::local::LocalCpu;
use kernel_core::machine::Range;

use crate::Arm;
use crate::layout;
use crate::sysreg::{mrs, msr};

/// Bytes from one pCPU's stacks to the next one's; the linker script checks that it left room for all.
pub const STACK_STRIDE: usize = 64 * 1024;
/// Bytes of the frame on top of each stack.
pub const FRAME_SIZE: usize = size_of::<TrapFrame>();
/// The affinity in `MPIDR_EL1`: Aff3, and Aff2 to Aff0.
pub const AFFINITY: u64 = 0xff_00ff_ffff;
/// Where the emergency stack ends.
const EMERGENCY_TOP: u64 = 2 * PAGE_SIZE;
/// Where the stack proper begins.
const STACK_BOTTOM: u64 = 3 * PAGE_SIZE;

core::arch::global_asm!(
    ".global stack_bytes",
    ".set stack_bytes, {bytes}",
    bytes = const STACK_STRIDE * MAX_PCPUS,
);

/// The microkernel.
pub static KERNEL: Kernel<Arm> = Kernel::new();

/// A pCPU's own block.
#[repr(C, align(64))]
pub struct Percpu {
    /// First byte behind the emergency stack.
    emergency_top: AtomicU64,
    /// What it needs before it has an MMU: `TCR_EL2`, `TTBR0_EL2`, and its stack.
    pub start: [AtomicU64; 3],
    /// Its redistributor's registers.
    pub redistributor: AtomicUsize,
    /// Affinity, as in `MPIDR_EL1`.
    pub mpidr: AtomicU64,
    /// Whether it has come up.
    pub online: AtomicBool,
    /// Its index.
    pub id: PcpuId,
    /// The core's own data of this pCPU: touched by this pCPU alone, and only from `exit` (see [`with_local`]).
    local: UnsafeCell<LocalCpu<Arm>>,
}

/// Where the vectors find the emergency stack's top.
pub const EMERGENCY_OFFSET: usize = core::mem::offset_of!(Percpu, emergency_top);
/// Where the entry code finds [`Percpu::start`].
pub const START_OFFSET: usize = core::mem::offset_of!(Percpu, start);

// SAFETY: everything but `local` is atomic or constant, and `local` is reached through `with_local` alone, which
// takes it from the pCPU's own TPIDR_EL2.
unsafe impl Sync for Percpu {}

const fn block(id: u8) -> Percpu {
    Percpu {
        emergency_top: AtomicU64::new(0),
        start: [const { AtomicU64::new(0) }; 3],
        redistributor: AtomicUsize::new(0),
        mpidr: AtomicU64::new(u64::MAX),
        online: AtomicBool::new(false),
        id: PcpuId(id),
        local: UnsafeCell::new(LocalCpu::new(PcpuId(id))),
    }
}

static BLOCKS: [Percpu; MAX_PCPUS] = [block(0), block(1), block(2), block(3), block(4), block(5), block(6), block(7)];

/// All blocks, those of pCPUs that are not up included.
pub fn all() -> &'static [Percpu; MAX_PCPUS] {
    &BLOCKS
}

/// Makes `block` this pCPU's.
pub fn adopt(block: &'static Percpu) {
    let top = layout::stacks().start.raw() + u64::from(block.id.0) * STACK_STRIDE as u64 + EMERGENCY_TOP;
    block.emergency_top.store(top, Ordering::Relaxed);
    // SAFETY: TPIDR_EL2 is ours alone; `this` relies on it pointing to a block for ever.
    unsafe { msr!("tpidr_el2", core::ptr::from_ref(block) as u64) };
}

/// This pCPU's block.
pub fn this() -> &'static Percpu {
    let at = mrs!("tpidr_el2") as *const Percpu;
    // SAFETY: `adopt` is the first thing that a pCPU does in Rust with the MMU on, and nothing else writes the
    // register; it points into a static.
    unsafe { &*at }
}

/// Calls `f` with this pCPU's data.
///
/// # Safety
///
/// Only from the entry of `vectors.rs` and `boot::enter`, none of which can run inside another on one pCPU:
/// interrupts are masked at EL2, and an exception from EL2 itself never returns.
pub unsafe fn with_local<R>(f: impl FnOnce(&'static Kernel<Arm>, &mut LocalCpu<Arm>) -> R) -> R {
    // SAFETY: the caller's condition makes this the only reference; the block belongs to this pCPU.
    f(&KERNEL, unsafe { &mut *this().local.get() })
}

/// The pages of the image's stacks that stay unmapped, so that an overflow faults: two for each pCPU.
pub fn guard_pages() -> [Range; 2 * MAX_PCPUS] {
    core::array::from_fn(|n| {
        let offset = (n / 2 * STACK_STRIDE) as u64 + if n % 2 == 0 { 0 } else { EMERGENCY_TOP };
        Range { start: layout::stacks().start.add(offset), size: PAGE_SIZE }
    })
}

/// The stack's top of a pCPU as it starts: below the first guest's frame.
pub fn initial_sp(id: PcpuId) -> u64 {
    layout::stacks().start.raw() + (u64::from(id.0) + 1) * STACK_STRIDE as u64 - FRAME_SIZE as u64
}

/// Whether a record of two words at `at` lies in a stack of this image; what a backtrace may read.
pub fn is_on_a_stack(at: u64) -> bool {
    let stacks = layout::stacks();
    let offset = at.wrapping_sub(stacks.start.raw());
    let inside = offset % STACK_STRIDE as u64;
    let mapped = (PAGE_SIZE..EMERGENCY_TOP).contains(&inside) || inside >= STACK_BOTTOM;
    offset < stacks.size && at.is_multiple_of(16) && mapped
}

/// Whose vCPU was here last, for a report of a crash.
pub fn domain() -> Option<DomId> {
    // SAFETY: a copy of a plain value of this pCPU's own block; this pCPU never leaves the report, so whatever
    // change it interrupted does not go on.
    unsafe { (&raw const (*this().local.get()).domain).read() }
}
