//! Vectors that take an interrupt in as few instructions as can be.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_lib::abi::shared_info::layout;

use super::calls::{ENABLE, SGI, SGI_FRAME};
use super::clock::{frequency, now};
use super::memory::SHARED_INFO;

/// What the vectors work with; TPIDR_EL1 points to it.
#[repr(C)]
struct Context {
    taken: AtomicU64,
    shared_info: u64,
    /// With the FIFO ABI: this vCPU's control block, and the word of the one port that is not masked.
    control: AtomicU64,
    word: AtomicU64,
}

static CONTEXT: Context =
    Context { taken: AtomicU64::new(0), shared_info: SHARED_INFO, control: AtomicU64::new(0), word: AtomicU64::new(0) };

const _: () = assert!(layout::EVTCHN_PENDING == 48);

global_asm!(
    r#"
    .macro paths_other number
    .balign 128
    b       pv_guest_vectors + \number * 128
    .endm

    .macro paths_table fifo
    paths_other 0
    paths_other 1
    paths_other 2
    paths_other 3
    paths_other 4
    .balign 128
    stp     x0, x1, [sp, #-32]!
    str     x2, [sp, #16]
    mrs     x1, tpidr_el1
    mrs     x0, icc_iar1_el1
    cmp     x0, #31
    b.eq    2f
    cmp     x0, #27
    b.eq    3f
1:  ldr     x2, [x1]
    add     x2, x2, #1
    str     x2, [x1]
    msr     icc_eoir1_el1, x0
    ldr     x2, [sp, #16]
    ldp     x0, x1, [sp], #32
    eret
2:  ldr     x2, [x1, #8]            // an event: no more pending, and
    strb    wzr, [x2]
    .if     \fifo                   // no queue ready, and the port on none
    ldr     x2, [x1, #16]
    str     wzr, [x2]
    ldr     x2, [x1, #24]
    str     wzr, [x2]
    .else                           // nothing pending of ports 0 to 63
    str     xzr, [x2, #8]
    str     xzr, [x2, #48]
    .endif
    b       1b
3:  msr     cntv_ctl_el0, xzr
    b       1b
    paths_other 6
    paths_other 7
    paths_other 8
    paths_other 9
    paths_other 10
    paths_other 11
    paths_other 12
    paths_other 13
    paths_other 14
    paths_other 15
    .endm

    .section .text.paths, "ax"
    .balign 2048
paths_vectors:
    paths_table 0
    .balign 2048
paths_fifo_vectors:
    paths_table 1
"#
);

unsafe extern "C" {
    static paths_vectors: u8;
    static paths_fifo_vectors: u8;
}

/// Takes over the interrupts from the library: events, the timer, and an SGI. They stay masked.
pub fn take_interrupts() {
    // SAFETY: the vectors serve the interrupts that are enabled here and pass faults on to the library's. The
    // library does not run its executor in this image, so nobody else waits for an interrupt. The registers are
    // those of this vCPU's redistributor, which the library has mapped.
    unsafe {
        asm!("msr tpidr_el1, {}", "msr vbar_el1, {}", "isb", in(reg) &raw const CONTEXT,
            in(reg) &raw const paths_vectors);
        store(SGI_FRAME + 0x80, u32::MAX);
        ((SGI_FRAME + 0x400 + SGI) as *mut u8).write_volatile(0x80);
        store(ENABLE, 1 << SGI);
    }
}

/// Takes events as the FIFO ABI tells of them from now on: those of one port, whose word is at `word`.
pub fn take_fifo_events(control: u64, word: u64) {
    CONTEXT.control.store(control, Ordering::Relaxed);
    CONTEXT.word.store(word, Ordering::Relaxed);
    // SAFETY: these vectors differ from the ones before in what they store for an event, which is in pages of the scratch
    // memory, where no Rust object is.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) &raw const paths_fifo_vectors) };
}

/// # Safety
/// The address must be that of a register of the interrupt controller.
unsafe fn store(at: u64, value: u32) {
    // SAFETY: mapped as device memory by the library, says the caller.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) at) };
}

/// Interrupts taken so far.
pub fn taken() -> u64 {
    CONTEXT.taken.load(Ordering::Relaxed)
}

/// Lets interrupts in while `work` is done.
pub fn with_interrupts<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the vectors restore what they change, but for the count.
    unsafe { asm!("msr daifclr, #2") };
    let result = work();
    // SAFETY: masking has no other effect.
    unsafe { asm!("msr daifset, #2") };
    result
}

/// Waits until more than `seen` interrupts have been taken; they are masked.
#[inline(always)]
pub fn wait_beyond(seen: u64) {
    while taken() == seen {
        // SAFETY: an interrupt that is pending ends WFI although it is masked, so that none is lost between the
        // look and the instruction; then it is taken.
        unsafe { asm!("wfi", "msr daifclr, #2", "isb", "msr daifset, #2") };
    }
}

/// Lets time pass, idle.
pub fn sleep(milliseconds: u64) {
    let until = now() + milliseconds * frequency() / 1000;
    while now() < until {
        let seen = taken();
        // SAFETY: the timer is this vCPU's, and the vectors turn it off.
        unsafe { asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb", in(reg) until, in(reg) 1u64) };
        wait_beyond(seen);
    }
    // SAFETY: as above.
    unsafe { asm!("msr cntv_ctl_el0, xzr", "msr cntv_cval_el0, xzr", "isb") };
}
