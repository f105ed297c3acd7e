//! Further vCPUs: how they enter Rust, how critical sections exclude each other, how one vCPU wakes another.
//!
//! A vCPU's number is in TPIDR_EL1. Until the first one is started nothing here costs more than a look at a flag, and
//! before the MMU is on nothing here is used but that look.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use heapless::Vec;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::errno::{XenError, decode};
use hypercall_abi::ids::VcpuId;
use hypercall_abi::nr;
use hypercall_abi::psci::{PsciFn, PsciResult};
use hypercall_abi::vcpu::{RegisterVcpuInfo, VcpuOp};

use super::{executor, gic, hvc, mmu, pages, special};
use crate::addr::{Ipa, IpaRange};
use crate::cpus::StartError;
use crate::executor::Spawner;
use crate::mmu::MapError;
use crate::shared::Shared;

/// vCPUs that can be used, the boot vCPU included.
pub const MAX_CPUS: usize = 32;
/// Bytes of the stack of each further vCPU, as many as the boot vCPU has; below it is a page where nothing is mapped.
const STACK: u64 = 128 << 10;
/// Bytes between one vCPU's `vcpu_info` and the next.
const INFO_STEP: usize = 64;
/// Looks at a lock that is held before another vCPU is let run, since its holder may not be running.
const PATIENCE: u32 = 1000;
/// No vCPU.
const NOBODY: usize = usize::MAX;

/// Whether more than the boot vCPU may run.
static MANY: AtomicBool = AtomicBool::new(false);
/// Who is in a critical section, and how many of its sections are inside each other.
static OWNER: AtomicUsize = AtomicUsize::new(NOBODY);
static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// The lowest address of the stacks, 0 for none.
static STACKS: AtomicU64 = AtomicU64::new(0);
/// The page of the `vcpu_info`s, 0 for none.
static INFOS: AtomicU64 = AtomicU64::new(0);
/// What PSCI and the interrupt controller call each vCPU, and whether it has been started.
static AFFINITY: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static STARTED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// The number of the vCPU that this runs on.
#[must_use]
pub fn current() -> VcpuId {
    VcpuId(u32::try_from(this()).unwrap_or(0))
}

/// Whether a further vCPU was started.
pub fn are_many() -> bool {
    MANY.load(Ordering::Relaxed)
}

/// The number of this vCPU as an index.
pub fn this() -> usize {
    if !MANY.load(Ordering::Relaxed) {
        return 0;
    }
    let number: usize;
    // SAFETY: reading the register has no effect; it holds the number from before the flag was set, or since the vCPU
    // entered Rust.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) number, options(nostack, nomem, preserves_flags)) };
    number
}

fn set_this(number: usize) {
    // SAFETY: the register is for software's use, and nothing else here uses it.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) number, options(nostack, nomem, preserves_flags)) };
}

/// Takes the lock of critical sections, which its owner may take again; interrupts are masked.
pub fn lock() {
    if !MANY.load(Ordering::Relaxed) {
        return;
    }
    let this = this();
    if OWNER.load(Ordering::Relaxed) != this {
        let mut looks = 0u32;
        while OWNER.compare_exchange_weak(NOBODY, this, Ordering::Acquire, Ordering::Relaxed).is_err() {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(PATIENCE) {
                super::hypercall::yield_now();
            }
            core::hint::spin_loop();
        }
    }
    DEPTH.fetch_add(1, Ordering::Relaxed);
}

/// Gives the lock back. A section that began before there were several vCPUs does not have it.
pub fn unlock() {
    if MANY.load(Ordering::Relaxed)
        && OWNER.load(Ordering::Relaxed) == this()
        && DEPTH.fetch_sub(1, Ordering::Relaxed) == 1
    {
        OWNER.store(NOBODY, Ordering::Release);
    }
}

/// Ends the sleep of another vCPU.
pub fn wake(cpu: usize) {
    if cpu != this()
        && let Some(affinity) = AFFINITY.get(cpu)
    {
        gic::send_wake(affinity.load(Ordering::Relaxed));
    }
}

/// Takes the stacks of `cpus` vCPUs out of RAM that is not mapped yet, and maps them with holes between.
///
/// # Errors
/// See [`MapError`]; without room nothing is taken, and starting a vCPU fails.
pub fn reserve_stacks(free: &mut Vec<IpaRange, { pages::MAX_RANGES }>, cpus: usize) -> Result<(), MapError> {
    let step = STACK + PAGE_SIZE as u64;
    let size = cpus.min(MAX_CPUS).saturating_sub(1) as u64 * step;
    let Some(range) = free.iter_mut().rev().find(|range| size > 0 && range.size() > size) else { return Ok(()) };
    let rest = range.size() - size;
    let base = range.start().offset(rest);
    if let Some(rest) = IpaRange::new(range.start(), rest) {
        *range = rest;
    }
    for at in (0..size).step_by(crate::addr::index(step)) {
        let stack = IpaRange::new(base.offset(at + PAGE_SIZE as u64), STACK).ok_or(MapError::OutOfRange)?;
        crate::mmu::map_ram(stack)?;
    }
    STACKS.store(base.raw(), Ordering::Relaxed);
    Ok(())
}

/// The stack of a further vCPU.
fn stack(cpu: usize) -> Option<IpaRange> {
    let base = STACKS.load(Ordering::Relaxed);
    let number = (cpu as u64).checked_sub(1).filter(|_| base != 0)?;
    let guard = base + number * (STACK + PAGE_SIZE as u64);
    IpaRange::new(Ipa::new(guard + PAGE_SIZE as u64), STACK)
}

/// Whether `length` bytes at `address` are on the stack of this vCPU.
pub fn on_stack(address: u64, length: u64) -> bool {
    let end = address.checked_add(length);
    stack(this()).is_some_and(|stack| stack.start().raw() <= address && end.is_some_and(|end| end <= stack.end().raw()))
}

/// The `vcpu_info` of this vCPU, where it is not in the shared information page.
pub fn vcpu_info() -> Option<Shared<'static>> {
    info_of(this())
}

fn info_of(cpu: usize) -> Option<Shared<'static>> {
    let page = INFOS.load(Ordering::Acquire);
    (cpu != 0 && page != 0).then(|| special::view(Ipa::new(page)).part(cpu * INFO_STEP, INFO_STEP))
}

/// What a vCPU finds where its stack begins.
#[repr(C)]
struct Record {
    cpu: usize,
    /// Calls the closure, which stands above this record.
    run: unsafe fn(*mut u8) -> !,
    closure: *mut u8,
}

unsafe extern "C" {
    /// Where a vCPU enters, with its record in x0.
    fn pv_guest_cpu_entry();
}

/// Turns a vCPU on with a stack of its own.
///
/// # Errors
/// See [`StartError`].
pub fn start<S, F>(id: VcpuId, affinity: u64, first: S) -> Result<(), StartError>
where
    S: FnOnce(Spawner) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let cpu = id.0 as usize;
    let (Some(stack), Some(place), Some(started)) = (stack(cpu), AFFINITY.get(cpu), STARTED.get(cpu)) else {
        return Err(StartError::NoMemory);
    };
    if started.swap(true, Ordering::Relaxed) {
        return Err(StartError::Started);
    }
    place.store(affinity, Ordering::Relaxed);
    share(cpu, id)?;
    if !MANY.load(Ordering::Relaxed) {
        set_this(0);
        MANY.store(true, Ordering::SeqCst);
        gic::accept_wakes(0);
    }
    // The stack begins below the record.
    let closure_at = (stack.end().raw() - size_of::<S>() as u64) & !(align_of::<S>().max(16) as u64 - 1);
    let record_at = closure_at - size_of::<Record>().next_multiple_of(16) as u64;
    let closure = closure_at as *mut S;
    // SAFETY: the stack is mapped RAM that belongs to this vCPU alone, which the flag above lets be started once; both
    // places are aligned and do not overlap.
    unsafe {
        closure.write(first);
        (record_at as *mut Record).write(Record { cpu, run: run::<S, F>, closure: closure.cast() });
    }
    super::cpu::full_barrier();
    let entry = pv_guest_cpu_entry as *const () as u64;
    // SAFETY: CPU_ON reads and writes no memory of the caller; the vCPU enters with its own stack, as just prepared.
    let [result, ..] = unsafe { hvc::psci(PsciFn::CpuOn64.raw(), [affinity, entry, record_at]) };
    #[expect(clippy::cast_possible_truncation, reason = "PSCI's results have 32 bits")]
    let result = PsciResult::from_raw(result as i32).unwrap_or(PsciResult::InternalFailure);
    if result == PsciResult::Success { Ok(()) } else { Err(StartError::Refused(result)) }
}

/// Tells the hypervisor where the events of a vCPU are to be announced.
fn share(cpu: usize, id: VcpuId) -> Result<(), StartError> {
    if INFOS.load(Ordering::Relaxed) == 0 {
        let page = pages::Page::new().ok_or(StartError::NoMemory)?;
        INFOS.store(page.leak().raw(), Ordering::Release);
    }
    let offset = u32::try_from(cpu * INFO_STEP).map_err(|_| StartError::NoMemory)?;
    let arg = RegisterVcpuInfo { mfn: Ipa::new(INFOS.load(Ordering::Relaxed)).gfn(), offset, rsvd: 0 };
    let args = [u64::from(VcpuOp::RegisterVcpuInfo.raw()), u64::from(id.0), (&raw const arg) as u64, 0, 0];
    // SAFETY: the call reads the structure; what it names was taken from the pool for this and is reached by views.
    let [result, ..] = unsafe { hvc::hypercall(nr::VCPU_OP, args) };
    match decode(result) {
        // It was registered before, by a start that failed after that.
        Ok(_) | Err(XenError::Inval) => Ok(()),
        Err(error) => Err(StartError::Events(error)),
    }
}

/// The first call on a vCPU, on its own stack, MMU on and interrupts masked.
#[unsafe(no_mangle)]
extern "C" fn pv_guest_cpu_start(record: *const Record) -> ! {
    // SAFETY: `start` has written the record, and nobody else reads it.
    let Record { cpu, run, closure } = unsafe { record.read() };
    set_this(cpu);
    gic::start_cpu(cpu);
    super::cpu::disarm_timer();
    crate::irq::start_cpu(cpu);
    gic::accept_wakes(cpu);
    // SAFETY: `start` has put the two together.
    unsafe { run(closure) }
}

/// Runs the first task of a vCPU.
///
/// # Safety
/// `closure` must point to a value of type `S` that is given away.
unsafe fn run<S, F>(closure: *mut u8) -> !
where
    S: FnOnce(Spawner) -> F,
    F: Future<Output = ()> + 'static,
{
    // SAFETY: the caller's promise.
    let first = unsafe { closure.cast::<S>().read() };
    executor::run_first(first)
}

// With the MMU off memory is read past the caches, so that nothing is read at all until it is on: the tables are walked
// through the caches, and the record waits.
global_asm!(
    r#"
    .section .text.entry, "ax"
    .global pv_guest_cpu_entry
pv_guest_cpu_entry:
    msr     daifset, #15
    mov     x19, x0
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #7
    mov     x2, #5
    cmp     x1, x2
    csel    x1, x1, x2, lo
    ldr     x3, ={tcr}
    orr     x3, x3, x1, lsl #32
    ldr     x2, ={mair}
    ldr     x4, ={sctlr}
    adrp    x5, {root}
    add     x5, x5, :lo12:{root}
    msr     mair_el1, x2
    msr     tcr_el1, x3
    msr     ttbr0_el1, x5
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x4
    isb
    mov     sp, x19
    adrp    x0, pv_guest_vectors
    add     x0, x0, :lo12:pv_guest_vectors
    msr     vbar_el1, x0
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    bl      pv_guest_cpu_start
    .ltorg
"#,
    tcr = const mmu::TCR,
    mair = const mmu::MAIR,
    sctlr = const mmu::SCTLR,
    root = sym mmu::ROOT,
);
