//! The instructions that are measured, the clock, and vectors that take an interrupt in as few instructions as can be.
//!
//! Each function that enters the hypervisor has a switch `MADE`: without it, everything is done but that instruction,
//! which makes the empty loop.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pv_guest_lib::abi::arm::{GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICR0_BASE, GUEST_GNTTAB_BASE, GUEST_GNTTAB_SIZE};
use pv_guest_lib::abi::ids::Port;
use pv_guest_lib::abi::shared_info::layout;
use pv_guest_lib::addr::IpaRange;
use pv_guest_lib::println;

/// Batches of rounds; the quickest one counts, so that a tick of somebody's timer does not.
pub const BATCHES: u64 = 8;
/// The SGI that is sent.
const SGI: u64 = 1;
/// What is taken when no interrupt is pending.
pub const NO_INTERRUPT: u64 = 1023;
/// GICD_TYPER.
const DISTRIBUTOR_REGISTER: u64 = GUEST_GICV3_GICD_BASE + 4;
/// The redistributor's frame for SGIs and PPIs.
const SGI_FRAME: u64 = GUEST_GICV3_GICR0_BASE + 0x1_0000;
/// GICR_ISENABLER0.
const ENABLE: u64 = SGI_FRAME + 0x100;
/// Where `pv-guest-lib` puts the shared information page.
const SHARED_INFO: u64 = GUEST_GNTTAB_BASE + GUEST_GNTTAB_SIZE - 4096;

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

global_asm!(
    r#"
    .section .text.paths, "ax"
    .balign 4
paths_mark:
    nop
    ret
"#
);

unsafe extern "C" {
    fn paths_mark(name: *const u8, length: usize) -> u64;
}

/// How often each path is made between two marks; the debugger takes the shortest.
pub const WATCHED_TIMES: u64 = 3;

/// True when a debugger counts what each path does, instead of the clock.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// True when a debugger counts.
pub fn watched() -> bool {
    WATCHED.load(Ordering::Relaxed)
}

/// Waits for a debugger that stops where it is told now, and answers there with another value than it finds.
pub fn await_debugger() {
    println!("paths: mark {:#x}", paths_mark as *const () as u64);
    // SAFETY: the function does nothing, and changes no more than a function may.
    while unsafe { paths_mark(core::ptr::null(), 0) } == 0 {}
    WATCHED.store(true, Ordering::Relaxed);
}

/// Tells the debugger that what has this name begins, or without a name that it ends.
#[inline(always)]
pub fn mark(name: &str) {
    // SAFETY: as above.
    unsafe { paths_mark(name.as_ptr(), name.len()) };
}

/// How often a path is made where `rounds` are asked for.
pub fn times(rounds: u64) -> u64 {
    if watched() { 2 + WATCHED_TIMES } else { rounds * BATCHES }
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

/// Sleeps until an interrupt is pending; writes the time before to `note` and returns the time after.
#[inline(always)]
pub fn leave(note: u64) -> u64 {
    let back;
    // SAFETY: the callers name a word of the scratch memory or of the shared page. An interrupt that is pending ends
    // WFI although it is masked.
    unsafe {
        asm!("isb", "mrs {0}, cntpct_el0", "str {0}, [{1}]", "wfi", "isb", "mrs {0}, cntpct_el0", out(reg) back,
            in(reg) note);
    }
    back
}

/// The physical counter, which is the same for all domains.
#[inline(always)]
pub fn physical() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks) };
    ticks
}

/// What a tick is worth on the machine that is measured.
pub fn instructions_per_tick() -> u64 {
    1_000_000_000 / frequency()
}

/// Does nothing for some instructions.
#[inline(always)]
pub fn pad<const INSTRUCTIONS: usize>() {
    for _ in 0..INSTRUCTIONS {
        // SAFETY: does nothing.
        unsafe { asm!("nop") };
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

/// The virtual counter.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks) };
    ticks
}

/// Ticks of the counter in a second.
pub fn frequency() -> u64 {
    let hz;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz) };
    hz
}

/// The ticks of the quickest of some batches of rounds.
///
/// When a debugger counts, there are no ticks: what has a name is made between two marks, after it has been made before,
/// so that nothing is done for the first time.
#[inline(always)]
pub fn fewest_ticks<R>(name: &str, rounds: u64, mut once: impl FnMut() -> R) -> u64 {
    if watched() {
        once();
        once();
        for _ in 0..if name.is_empty() { 0 } else { WATCHED_TIMES } {
            mark(name);
            once();
            mark("");
        }
        return 0;
    }
    let mut fewest = u64::MAX;
    for _ in 0..BATCHES {
        let start = now();
        for _ in 0..rounds {
            once();
        }
        fewest = fewest.min(now() - start);
    }
    fewest
}

macro_rules! measured {
    ($(#[$doc:meta])* $name:ident($($argument:ident),*) -> $result:ident, $text:literal, $($operand:tt)*) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name<const MADE: bool>($($argument: u64),*) -> u64 {
            let $result: u64;
            // SAFETY: the callers pass addresses of structures and frames that belong to this guest's scratch
            // memory, where no Rust object is; the other instructions reach registers of this vCPU alone.
            unsafe {
                if MADE { asm!($text, $($operand)*) } else { asm!(concat!("// ", $text), $($operand)*) }
            }
            $result
        }
    };
}

measured! {
    /// A hypercall.
    hypercall(number, a0, a1, a2) -> result, "hvc #0xEA1",
    inlateout("x0") a0 => result, inlateout("x1") a1 => _, inlateout("x2") a2 => _, out("x3") _, out("x4") _,
    inlateout("x16") number => _
}

measured! {
    /// PSCI_VERSION.
    psci_version() -> result, "hvc #0",
    inlateout("x0") 0x8400_0000u64 => result, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
    out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
    out("x14") _, out("x15") _, out("x16") _, out("x17") _
}

measured! {
    /// Reads a system register that hypervisors trap.
    trapped_register() -> result, "mrs {0}, id_aa64pfr0_el1", inlateout(reg) 0u64 => result
}

measured! {
    /// Reads a register of the distributor.
    distributor_read() -> result, "ldr {0:w}, [{0}]", inlateout(reg) DISTRIBUTOR_REGISTER => result
}

measured! {
    /// Enables the SGI, which is enabled.
    redistributor_write() -> result, "str {1:w}, [{0}]", inlateout(reg) ENABLE => result, in(reg) 1u64 << SGI
}

measured! {
    /// Sends the SGI to this vCPU.
    sgi_to_self() -> result, "msr icc_sgi1r_el1, {0}", inlateout(reg) SGI << 24 | 1 => result
}

measured! {
    /// Turns the virtual timer on, whose time has come already.
    expired_timer() -> result, "msr cntv_ctl_el0, {0}", inlateout(reg) 1u64 => result
}

measured! {
    /// Takes the pending interrupt.
    acknowledge() -> result, "mrs {0}, icc_iar1_el1", inlateout(reg) NO_INTERRUPT => result
}

measured! {
    /// Ends an interrupt.
    end(interrupt) -> result, "msr icc_eoir1_el1, {0}", inlateout(reg) interrupt => result
}

/// Memory that belongs to no Rust object: for structures, and as frames.
#[derive(Clone, Copy, Debug)]
pub struct Scratch(u64);

impl Scratch {
    /// Pages of its own.
    pub fn take(pages: u64) -> Option<Self> {
        pv_guest_lib::pages::take(pages).map(Self::of)
    }

    /// The memory of a range that no Rust object is in and that is mapped.
    pub fn of(range: IpaRange) -> Self {
        Self(range.start().raw())
    }

    /// The address of byte `offset`.
    pub fn at(self, offset: u64) -> u64 {
        self.0 + offset
    }

    /// The number of the frame of byte `offset`.
    pub fn frame(self, offset: u64) -> u64 {
        self.at(offset) >> 12
    }

    /// Writes eight bytes.
    #[inline(always)]
    pub fn set(self, offset: u64, value: u64) {
        // SAFETY: the callers stay inside the pages, at multiples of 8.
        unsafe { (self.at(offset) as *mut u64).write_volatile(value) };
    }

    /// Reads eight bytes.
    #[inline(always)]
    pub fn get(self, offset: u64) -> u64 {
        // SAFETY: as for `set`.
        unsafe { (self.at(offset) as *const u64).read_volatile() }
    }
}

/// Lets the events of a port, one of the first 64, interrupt. What has come before is dropped, for a port that is
/// pending already does not interrupt again; binding makes it so.
pub fn unmask(port: Port) {
    let shared = Scratch(SHARED_INFO);
    let mask = layout::EVTCHN_MASK as u64;
    shared.set(layout::EVTCHN_PENDING as u64, 0);
    shared.set(mask, shared.get(mask) & !(1 << port.0));
}

/// Marks a port as pending, as if it had been sent to, and masks it.
pub fn make_pending(port: Port) {
    let shared = Scratch(SHARED_INFO);
    let mask = layout::EVTCHN_MASK as u64;
    shared.set(mask, shared.get(mask) | 1 << port.0);
    shared.set(layout::EVTCHN_PENDING as u64, 1 << port.0);
}
