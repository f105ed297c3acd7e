//! From the loader to `main`: image header, relocation, stack, MMU.
//!
//! The arm64 boot protocol (Linux Documentation/arch/arm64/booting.rst) enters at the first byte with the MMU
//! off, interrupts masked and x0 = FDT. The image is linked at 0 and corrects its own pointers first, so that
//! the loader may put it anywhere.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       pv_guest_entry
    .word   0
    .quad   0                       // text_offset: at a multiple of 2 MiB
    .quad   __image_size            // with what is not in the file
    .quad   0xA                     // little-endian, 4 KiB pages, anywhere in RAM
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

    .section .text.entry, "ax"
pv_guest_entry:
    msr     daifset, #15
    mov     x19, x0
    adrp    x20, __image_start
    add     x20, x20, :lo12:__image_start

    // Data stands in the file where memory without content is to be: it goes to its place first.
    adrp    x0, __data_load
    add     x0, x0, :lo12:__data_load
    adrp    x1, __data_start
    add     x1, x1, :lo12:__data_start
    adrp    x2, __data_end
    add     x2, x2, :lo12:__data_end
    sub     x2, x2, x1
6:  cbz     x2, 7f                  // from the end, since the two may overlap
    sub     x2, x2, #8
    ldr     x3, [x0, x2]
    str     x3, [x1, x2]
    b       6b
7:
    // Pointers that follow each other: an even word names one, an odd word tells of the 63 behind the last.
    adrp    x21, __relr_start
    add     x21, x21, :lo12:__relr_start
    adrp    x22, __relr_end
    add     x22, x22, :lo12:__relr_end
1:  cmp     x21, x22
    b.hs    4f
    ldr     x0, [x21], #8
    tbnz    x0, #0, 2f
    add     x1, x20, x0             // where the pointer stands
    ldr     x2, [x1]
    add     x2, x2, x20
    str     x2, [x1], #8
    b       1b
2:  mov     x3, x1
    add     x1, x1, #63 * 8
3:  lsr     x0, x0, #1
    cbz     x0, 1b
    tbz     x0, #0, 5f
    ldr     x2, [x3]
    add     x2, x2, x20
    str     x2, [x3]
5:  add     x3, x3, #8
    b       3b

    // The others, one record each.
4:  adrp    x21, __rela_start
    add     x21, x21, :lo12:__rela_start
    adrp    x22, __rela_end
    add     x22, x22, :lo12:__rela_end
1:  cmp     x21, x22
    b.hs    2f
    ldp     x0, x1, [x21], #16      // r_offset, r_info
    ldr     x2, [x21], #8           // r_addend
    cmp     x1, #1027               // R_AARCH64_RELATIVE is the only kind that a static PIE has
    b.ne    9f
    add     x2, x2, x20
    str     x2, [x20, x0]
    b       1b

2:  adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
3:  cmp     x0, x1
    b.hs    4f
    stp     xzr, xzr, [x0], #16
    b       3b

4:  adrp    x0, __stack_end
    add     x0, x0, :lo12:__stack_end
    mov     sp, x0
    adrp    x0, pv_guest_vectors
    add     x0, x0, :lo12:pv_guest_vectors
    msr     vbar_el1, x0
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    bl      pv_guest_start

9:  wfi                             // an image that was linked wrongly
    b       9b
"#
);

unsafe extern "Rust" {
    /// The image's own main, put in place by `entry!`.
    safe fn pv_guest_main(boot: crate::BootInfo) -> !;
}

/// Called by the entry code with the address of the FDT, on the boot stack, MMU off.
#[unsafe(no_mangle)]
extern "C" fn pv_guest_start(fdt: u64) -> ! {
    // SAFETY: this is the one call, made before anything else and with the MMU off, and `fdt` is what the
    // loader passed.
    let tree = unsafe { super::mmu::turn_on(fdt) };
    let boot = match tree {
        Ok(tree) => crate::boot::start(tree),
        Err(error) => panic!("device tree at {fdt:#x}: {error}"),
    };
    pv_guest_main(boot)
}
