//! The instructions of the attacks: whatever they do to this domain, control comes back to the caller.
//!
//! `run` executes instruction words with chosen registers under vectors that return to the caller from any
//! exception, so that faults cost nothing. The address space is opened wide: one GiB a block, everything mapped to
//! itself, so that an access fails only where the hypervisor lets it fail.

use core::arch::{asm, global_asm};

use super::scratch::{RAM, Scratch};

/// Length of an instruction sequence for [`run`].
pub const MOST_WORDS: usize = 16;
/// Where RAM appears once more, read-only.
pub const READ_ONLY_ALIAS: u64 = 256 << 30;
/// Where RAM appears once more, for EL0 as well.
pub const USER_ALIAS: u64 = 257 << 30;

const BRK: u32 = 0xD420_0000;

global_asm!(
    r#"
    .macro hostile_vector kind
    .balign 128
    msr     tpidr_el1, x0
    mov     x0, #\kind
    b       hostile_back
    .endm

    .section .text.hostile, "ax"
    .balign 2048
hostile_vectors:
    hostile_vector 0
    hostile_vector 1
    hostile_vector 2
    hostile_vector 3
    hostile_vector 4
    hostile_vector 5
    hostile_vector 6
    hostile_vector 7
    hostile_vector 8
    hostile_vector 9
    hostile_vector 10
    hostile_vector 11
    hostile_vector 12
    hostile_vector 13
    hostile_vector 14
    hostile_vector 15

    // Whatever was interrupted is given up: what it left goes to the context, and `hostile_run` returns.
hostile_back:
    msr     tpidrro_el0, x1
    adrp    x1, hostile_context
    add     x1, x1, :lo12:hostile_context
    str     x0, [x1, #128]
    stp     x2, x3, [x1, #152]
    mrs     x2, tpidr_el1
    mrs     x3, tpidrro_el0
    stp     x2, x3, [x1, #136]
    mrs     x2, esr_el1
    str     x2, [x1, #168]
    msr     spsel, #1
    ldr     x2, [x1, #96]
    mov     sp, x2
    ldp     x19, x20, [x1, #0]
    ldp     x21, x22, [x1, #16]
    ldp     x23, x24, [x1, #32]
    ldp     x25, x26, [x1, #48]
    ldp     x27, x28, [x1, #64]
    ldp     x29, x30, [x1, #80]
    msr     cntv_ctl_el0, xzr
    isb
    and     x2, x0, #3
    cmp     x2, #1
    b.ne    1f
    mrs     x2, id_aa64pfr0_el1
    tst     x2, #(0xF << 24)
    b.eq    2f
    mrs     x2, icc_iar1_el1
    msr     icc_eoir1_el1, x2
    isb
1:  ret
    // GICC_IAR and GICC_EOIR
2:  mov     x3, #0x3000000
    movk    x3, #0x2000
    ldr     w2, [x3, #0xC]
    str     w2, [x3, #0x10]
    ret

    // x0 = where the words are, x1 = 30 registers, x2 = whether a timer may interrupt
    .global hostile_run
hostile_run:
    adrp    x9, hostile_context
    add     x9, x9, :lo12:hostile_context
    stp     x19, x20, [x9, #0]
    stp     x21, x22, [x9, #16]
    stp     x23, x24, [x9, #32]
    stp     x25, x26, [x9, #48]
    stp     x27, x28, [x9, #64]
    stp     x29, x30, [x9, #80]
    mov     x10, sp
    str     x10, [x9, #96]
    mov     x30, x0
    cbz     x2, 1f
    msr     daifclr, #2
1:  ldp     x28, x29, [x1, #224]
    ldp     x26, x27, [x1, #208]
    ldp     x24, x25, [x1, #192]
    ldp     x22, x23, [x1, #176]
    ldp     x20, x21, [x1, #160]
    ldp     x18, x19, [x1, #144]
    ldp     x16, x17, [x1, #128]
    ldp     x14, x15, [x1, #112]
    ldp     x12, x13, [x1, #96]
    ldp     x10, x11, [x1, #80]
    ldp     x8, x9, [x1, #64]
    ldp     x6, x7, [x1, #48]
    ldp     x4, x5, [x1, #32]
    ldp     x2, x3, [x1, #16]
    ldp     x0, x1, [x1, #0]
    br      x30

    // The entry of another vCPU: MMU off, x0 = its stack.
    .global hostile_second
hostile_second:
    msr     daifset, #15
    mov     sp, x0
    adrp    x1, hostile_root
    mov     x2, #0xFF04
    msr     mair_el1, x2
    adrp    x2, hostile_control
    add     x2, x2, :lo12:hostile_control
    ldp     x3, x4, [x2]
    msr     tcr_el1, x3
    msr     ttbr0_el1, x1
    adrp    x5, hostile_vectors
    add     x5, x5, :lo12:hostile_vectors
    msr     vbar_el1, x5
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    msr     sctlr_el1, x4
    isb
    mov     x29, xzr
    bl      hostile_second_main
1:  wfi
    b       1b

    .section .bss.hostile, "aw", @nobits
    .balign 4096
hostile_root:
    .zero   4096
hostile_context:
    .zero   256
hostile_control:
    .zero   16
"#
);

unsafe extern "C" {
    static hostile_root: u8;
    static hostile_context: u8;
    static hostile_control: u8;
    static hostile_vectors: u8;
    static hostile_second: u8;
    fn hostile_run(words: u64, registers: *const u64, interruptible: u64);
}

/// How a sequence of instructions ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The vector that was taken: 4 for a fault of EL1, 5 for an interrupt, 8 and more for EL0.
    pub vector: u64,
    /// The syndrome of a fault.
    pub syndrome: u64,
}

impl Ending {
    /// Whether the sequence ran to its end.
    pub const fn completed(&self) -> bool {
        self.vector == 4 && self.syndrome >> 26 == 0x3C
    }
}

/// Maps all addresses to themselves for everything, and takes the exceptions over.
pub fn open_up() {
    let root = (&raw const hostile_root).cast_mut().cast::<u64>();
    let block = |at: u64, attributes: u64| at | attributes | 1 | 1 << 10 | 3 << 8;
    for index in 0..512usize {
        let entry = match (index as u64) << 30 {
            0 => block(0, 0),
            READ_ONLY_ALIAS => block(RAM, 1 << 2 | 1 << 7),
            USER_ALIAS => block(RAM, 1 << 2 | 1 << 6),
            at => block(at, 1 << 2),
        };
        // SAFETY: the table has 512 entries, and nobody walks it yet.
        unsafe { root.add(index).write_volatile(entry) };
    }
    let (tcr, sctlr): (u64, u64);
    // SAFETY: reading the two has no effect.
    unsafe { asm!("mrs {}, tcr_el1", "mrs {}, sctlr_el1", out(reg) tcr, out(reg) sctlr) };
    // Without alignment checks and without WXN, since RAM is writable and executable here.
    let sctlr = sctlr & !(1 << 1 | 1 << 3 | 1 << 19);
    let control = (&raw const hostile_control).cast_mut().cast::<u64>();
    // SAFETY: the two words are the second vCPU's, which is off. The new tables map the running code, its data and
    // its stack as the old ones did, so that the switch is not noticed.
    unsafe {
        control.write_volatile(tcr);
        control.add(1).write_volatile(sctlr);
        asm!(
            // Rights first: with WXN the new tables would let nothing be executed.
            "msr vbar_el1, {vectors}",
            "msr sctlr_el1, {sctlr}",
            "dsb sy",
            "isb",
            "msr ttbr0_el1, {root}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            root = in(reg) root,
            sctlr = in(reg) sctlr,
            vectors = in(reg) &raw const hostile_vectors,
        );
    }
}

/// Runs instruction words from `code` with x0 to x29 as given, until an exception or their end.
///
/// With `ticks`, the virtual timer ends what does not end by itself.
pub fn run(code: Scratch, words: &[u32], registers: &[u64; 30], ticks: Option<u64>) -> Ending {
    let words = words.get(..words.len().min(MOST_WORDS)).unwrap_or(words);
    for (at, word) in words.iter().chain([&BRK; 2]).enumerate() {
        let place = (code.base() as *mut u32).wrapping_add(at);
        // SAFETY: in the first page of `code`, which belongs to nobody else; then cleaned for the fetch.
        unsafe {
            place.write_volatile(*word);
            asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", in(reg) place);
        }
    }
    if let Some(ticks) = ticks {
        // SAFETY: the timer is this vCPU's and no one else waits for it.
        unsafe { asm!("msr cntv_tval_el0, {}", "msr cntv_ctl_el0, {}", in(reg) ticks, in(reg) 1u64) };
    }
    let context = (&raw const hostile_context).cast::<u64>();
    // SAFETY: the callee-saved registers and the stack are restored by the vectors. The callers choose words and
    // registers that leave alone this image's own memory and the registers that translate it.
    unsafe {
        asm!("dsb ish", "isb");
        hostile_run(code.base(), registers.as_ptr(), u64::from(ticks.is_some()));
        let word = |at: usize| context.add(at).read_volatile();
        Ending { vector: word(16), syndrome: word(21) }
    }
}

/// Where another vCPU starts; its context id is the end of its stack.
pub fn second_entry() -> u64 {
    (&raw const hostile_second) as u64
}

#[unsafe(no_mangle)]
extern "C" fn hostile_second_main() -> ! {
    crate::hammer::second()
}
