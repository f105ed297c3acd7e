//! The instructions: registers of the GIC in memory and in the processor, timers, and what debug exceptions need.

use core::arch::{asm, global_asm};

macro_rules! read {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: a register of this vCPU's interrupts and timers, or one that only tells; no memory is concerned.
        unsafe { asm!("isb", concat!("mrs {}, ", $name), "dsb sy", out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

macro_rules! write {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: as for `read`; interrupts are masked, so that none comes of it.
        unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack, preserves_flags)) }
    }};
}

macro_rules! reader {
    ($($function:ident $name:literal $doc:literal)*) => { $(#[doc = $doc] pub fn $function() -> u64 { read!($name) })* };
}

macro_rules! writer {
    ($($function:ident $name:literal $doc:literal)*) => { $(#[doc = $doc] pub fn $function(value: u64) { write!($name, value) })* };
}

reader! {
    iar1 "icc_iar1_el1" "Takes the most urgent interrupt of group 1."
    iar0 "icc_iar0_el1" "Takes the most urgent interrupt of group 0."
    hppir1 "icc_hppir1_el1" "The most urgent pending interrupt of group 1."
    running "icc_rpr_el1" "The running priority."
    sre "icc_sre_el1" "Whether the registers of the processor are used."
    isr "isr_el1" "Which kinds of interrupts are pending."
    affinity "mpidr_el1" "Who this vCPU is."
    features "id_aa64pfr0_el1" "What the processor has."
    now "cntvct_el0" "The virtual counter."
    frequency "cntfrq_el0" "Its ticks per second."
    mdscr "mdscr_el1" "Which debug exceptions there are."
    breakpoint "dbgbvr0_el1" "Where the first breakpoint is."
    breakpoint_control "dbgbcr0_el1" "What the first breakpoint stops."
    os_lock "oslsr_el1" "Whether the OS lock is closed."
    debug_features "id_aa64dfr0_el1" "What there is of debugging, of performance monitors and of tracing."
    pmcr "pmcr_el0" "The control of the performance monitors."
}

writer! {
    set_eoir1 "icc_eoir1_el1" "Ends an interrupt of group 1."
    set_eoir0 "icc_eoir0_el1" "Ends an interrupt of group 0."
    set_dir "icc_dir_el1" "Deactivates an interrupt."
    set_pmr "icc_pmr_el1" "The priority that an interrupt must be more urgent than."
    set_bpr1 "icc_bpr1_el1" "Which bits of a priority count for preemption."
    set_ctlr "icc_ctlr_el1" "Bit 1: the end of an interrupt leaves it active."
    set_enable0 "icc_igrpen0_el1" "Whether interrupts of group 0 are signalled."
    set_enable1 "icc_igrpen1_el1" "Whether interrupts of group 1 are signalled."
    set_sgi1r "icc_sgi1r_el1" "Sends a software-generated interrupt of group 1."
    set_sgi0r "icc_sgi0r_el1" "Sends a software-generated interrupt of group 0."
    set_cntp_tval "cntp_tval_el0" "When the physical timer is due, from now on."
    set_cntp_ctl "cntp_ctl_el0" "Whether the physical timer is on."
    set_cntv_tval "cntv_tval_el0" "When the virtual timer is due, from now on."
    set_cntv_ctl "cntv_ctl_el0" "Whether the virtual timer is on."
    set_mdscr "mdscr_el1" "Which debug exceptions there are."
    set_os_lock "oslar_el1" "Closes the OS lock, or opens it."
    set_breakpoint "dbgbvr0_el1" "Where the first breakpoint is."
    set_breakpoint_control "dbgbcr0_el1" "What the first breakpoint stops."
    set_last_breakpoint "dbgbvr5_el1" "Where the last breakpoint of most processors is."
    set_last_breakpoint_control "dbgbcr5_el1" "What that one stops."
    set_watchpoint "dbgwvr0_el1" "Where the first watchpoint is."
    set_watchpoint_control "dbgwcr0_el1" "What the first watchpoint stops."
}

// An exception of EL1 is noted, and the instruction made with debug exceptions masked; one that does not exist or finds no
// memory is left out.
global_asm!(
    r#"
    .section .text.conform, "ax"
    .balign 2048
conform_vectors:
    .rept   4
    .balign 128
    b       .
    .endr
    .balign 128
    stp     x0, x1, [sp, #-16]!
    adrp    x0, conform_seen
    add     x0, x0, :lo12:conform_seen
    mrs     x1, elr_el1
    str     x1, [x0, #8]
    mrs     x1, far_el1
    str     x1, [x0, #16]
    ldr     x1, [x0, #24]
    add     x1, x1, #1
    str     x1, [x0, #24]
    mrs     x1, spsr_el1
    orr     x1, x1, #(1 << 9)
    bic     x1, x1, #(1 << 21)
    msr     spsr_el1, x1
    mrs     x1, esr_el1
    str     x1, [x0]
    lsr     x1, x1, #26
    cbz     x1, 1f
    cmp     x1, #0x25           // data abort of EL1
    b.ne    2f
1:  mrs     x1, elr_el1
    add     x1, x1, #4
    msr     elr_el1, x1
2:  ldp     x0, x1, [sp], #16
    eret
    .rept   11
    .balign 128
    b       .
    .endr

    // Instructions to stop at, with debug exceptions unmasked: x0 = what to load from.
    .global conform_run
conform_run:
    msr     daifclr, #8
    isb
    .global conform_places
conform_places:
    .rept   8
    nop
    .endr
    ldr     x1, [x0]
    mrs     x1, id_aa64isar0_el1
    msr     daifset, #8
    isb
    ret

    // Returns from an exception to x1, which is one of them, with a step to be made.
    .global conform_step
conform_step:
    msr     elr_el1, x1
    mov     x1, #0xC5           // EL1h, IRQs and FIQs masked
    orr     x1, x1, #(1 << 21)
    msr     spsr_el1, x1
    eret

    .section .bss.conform, "aw", @nobits
    .balign 8
conform_seen:
    .zero   32
"#
);

unsafe extern "C" {
    static conform_vectors: u8;
    static conform_places: u8;
    static conform_seen: u64;
    fn conform_run(load: *const u64);
    fn conform_step(load: *const u64, at: u64);
}

/// An exception that this vCPU took.
#[derive(Clone, Copy)]
pub struct Taken {
    /// How many there were since the last look.
    pub count: u64,
    /// Its class.
    pub class: u64,
    /// Where.
    pub at: u64,
    /// `FAR_EL1`.
    pub address: u64,
}

/// Takes over the exceptions of EL1 on this vCPU, which are not expected where nothing is said of them.
pub fn take_exceptions() {
    // SAFETY: the vectors go on behind what was interrupted, with all registers as they were.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) &raw const conform_vectors) };
}

/// The last exception, once.
pub fn taken() -> Taken {
    let seen = (&raw const conform_seen).cast_mut();
    // SAFETY: four words that only the vectors write, on this vCPU.
    unsafe {
        let word = |at: usize| seen.add(at).read_volatile();
        let taken = Taken { count: word(3), class: word(0) >> 26, at: word(1), address: word(2) };
        (0..4).for_each(|at| seen.add(at).write_volatile(0));
        taken
    }
}

/// One of eight instructions to stop at.
pub fn place(n: u64) -> u64 {
    (&raw const conform_places) as u64 + n % 8 * 4
}

/// Runs the eight instructions, loads `word` and reads an ID register, with debug exceptions unmasked.
pub fn run(word: &u64) -> Taken {
    taken();
    // SAFETY: changes x0 and x1, and what changes of the exceptions' registers nobody else uses here.
    unsafe { conform_run(word) };
    taken()
}

/// Runs the rest of that from the instruction at `at`, over which it steps.
pub fn step_at(at: u64) -> Taken {
    taken();
    // SAFETY: as for `run`.
    unsafe { conform_step(&0, at) };
    taken()
}

/// Masks IRQs and FIQs for good.
pub fn mask_interrupts() {
    // SAFETY: concerns no memory.
    unsafe { asm!("msr daifset, #3", options(nostack, preserves_flags)) };
}

/// Loads a word of the interrupt controller.
pub fn load(at: u64) -> u64 {
    let value: u32;
    // SAFETY: the library has mapped the controller at the addresses that `gic` names; it has no memory.
    unsafe { asm!("ldr {:w}, [{}]", "dsb sy", out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
    u64::from(value)
}

/// Stores a word there.
pub fn store(at: u64, value: u64) {
    // SAFETY: as for `load`; interrupts are masked.
    unsafe {
        asm!("dsb sy", "str {:w}, [{}]", "dsb sy", "isb", in(reg) value, in(reg) at, options(nostack, preserves_flags))
    };
}

/// Loads a byte there.
pub fn load_byte(at: u64) -> u64 {
    let value: u32;
    // SAFETY: as for `load`.
    unsafe { asm!("ldrb {:w}, [{}]", "dsb sy", out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
    u64::from(value)
}

/// Stores a byte there.
pub fn store_byte(at: u64, value: u64) {
    // SAFETY: as for `store`.
    unsafe { asm!("strb {:w}, [{}]", "dsb sy", "isb", in(reg) value, in(reg) at, options(nostack, preserves_flags)) };
}

/// Loads a double word there.
pub fn load_double(at: u64) -> u64 {
    let value: u64;
    // SAFETY: as for `load`.
    unsafe { asm!("ldr {}, [{}]", "dsb sy", out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
    value
}

/// Stores a double word there.
pub fn store_double(at: u64, value: u64) {
    // SAFETY: as for `store`.
    unsafe { asm!("str {}, [{}]", "dsb sy", "isb", in(reg) value, in(reg) at, options(nostack, preserves_flags)) };
}
