//! The first instructions: from the boot loader's jump to Rust.
//!
//! The image begins with the arm64 `Image` header (Linux, Documentation/arch/arm64/booting.rst). The loader
//! enters at its first byte with the MMU off, the FDT's address in x0, and the image cleaned to the point of
//! coherency. Until the MMU is on, all memory is Device memory: no unaligned access, no exclusives, no locks.

use core::arch::global_asm;

use crate::stage1::STAGE1;
use crate::{boot, cpu, percpu, vectors};

global_asm!(
    r#"
    .section .head, "ax"
    .global image_head
image_head:
    b       boot_start
    .long   0
    .quad   0               // text_offset: at any 2 MiB boundary
    .quad   image_size      // with BSS and stacks
    .quad   0xa             // little-endian, 4 KiB pages, anywhere in RAM
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

    .text
boot_start:
    msr     daifset, #15
    mov     x20, x0
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    boot_park       // nothing can be virtualised from EL1, and no console is known

    // No host extensions (E2H), MMU and caches off, whatever the firmware left.
    mov     x0, #(1 << 31)
    msr     hcr_el2, x0
    ldr     x0, =0x30c50830
    msr     sctlr_el2, x0
    isb

    // What is written from here on with the MMU off must not be hidden by cache lines that the loader left.
    adrp    x0, image_start
    adrp    x1, image_end
7:  dc      civac, x0
    add     x0, x0, #16         // the smallest line that there may be
    cmp     x0, x1
    b.lo    7b
    dsb     sy

    // Move the pointers: each entry of .rela.dyn is the place of one, its kind, which is always R_AARCH64_RELATIVE since
    // no symbol is anybody else's, and what it points to (ELF for the Arm 64-bit Architecture, section 5.7).
    adrp    x0, image_start
    adrp    x1, image_rela_start
    add     x1, x1, :lo12:image_rela_start
    adrp    x2, image_rela_end
    add     x2, x2, :lo12:image_rela_end
1:  cmp     x1, x2
    b.hs    5f
    ldp     x3, xzr, [x1], #16
    ldr     x4, [x1], #8
    add     x4, x4, x0
    str     x4, [x0, x3]
    b       1b
5:
    adrp    x0, image_bss_start
    adrp    x1, image_end
6:  .rept   4
    stp     xzr, xzr, [x0], #16
    .endr
    cmp     x0, x1
    b.lo    6b

    // The first pCPU's stack, below the frame that its first guest will be entered with.
    adrp    x19, {blocks}
    add     x19, x19, :lo12:{blocks}
    ldr     x0, [x19, #{frame}]
    mov     sp, x0
    mov     x29, xzr
    mov     x0, x20
    bl      {early}
    b       mmu_on
boot_park:
    wfe
    b       boot_park

    // Where PSCI starts the other pCPUs: MMU off, x0 = their `Percpu`, of which they read what does not change.
    .global secondary_start
secondary_start:
    msr     daifset, #15
    mov     x1, #(1 << 31)
    msr     hcr_el2, x1
    isb
    mov     x19, x0
    mov     x20, xzr        // no FDT

    // The tables map the image, the stacks and the FDT at their own addresses. They are made for 40 bits.
mmu_on:
    mrs     x0, id_aa64mmfr0_el1
    and     x0, x0, #0xf
    cmp     x0, #2
    b.lo    boot_park
    mov     x0, #{mair}
    msr     mair_el2, x0
    ldr     x0, ={tcr}
    msr     tcr_el2, x0
    adrp    x0, {tables}
    msr     ttbr0_el2, x0
    adrp    x0, exception_vectors
    add     x0, x0, :lo12:exception_vectors
    msr     vbar_el2, x0
    msr     tpidr_el2, x19
    ldr     x0, [x19, #{frame}]
    mov     sp, x0
    // Neither TLBs nor the instruction cache may hold what firmware put there.
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={sctlr}
    msr     sctlr_el2, x1
    isb
    // Then the first return to a guest; as in the vectors, SP is at its frame.
    mov     x29, xzr
    mov     x0, x20
    bl      {enter}
    mov     x0, sp
    bl      {choose}
"#,
    blocks = sym percpu::BLOCKS,
    frame = const percpu::FRAME_OFFSET,
    mair = const cpu::MAIR,
    tcr = const cpu::TCR,
    sctlr = const cpu::SCTLR,
    tables = sym STAGE1,
    early = sym boot::early,
    enter = sym boot::enter,
    choose = sym vectors::choose,
);
