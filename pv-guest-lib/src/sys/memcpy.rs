//! Copying and setting bytes: the compiler calls `memcpy` and `memset` by name, and its own for bare metal move eight bytes in
//! five instructions where pairs of registers take one.

use core::arch::global_asm;

// In a section of its own, so that an image that copies nothing goes without.
global_asm!(
    r#"
    .section .text.memcpy, "ax", %progbits
    .global memcpy
    .type   memcpy, %function
memcpy:
    mov     x3, x0
    orr     x4, x0, x1
    tst     x4, #7
    b.eq    1f
    mrs     x4, sctlr_el1           // without the MMU, memory takes aligned accesses alone
    tbz     x4, #0, 8f
1:  subs    x2, x2, #64
    b.lo    2f
    ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    ldp     x8, x9, [x1], #16
    ldp     x10, x11, [x1], #16
    stp     x4, x5, [x3], #16
    stp     x6, x7, [x3], #16
    stp     x8, x9, [x3], #16
    stp     x10, x11, [x3], #16
    b       1b
2:  tbz     x2, #5, 3f              // the bits of what is left are those of 64 less
    ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    stp     x4, x5, [x3], #16
    stp     x6, x7, [x3], #16
3:  tbz     x2, #4, 4f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
4:  tbz     x2, #3, 5f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
5:  tbz     x2, #2, 6f
    ldr     w4, [x1], #4
    str     w4, [x3], #4
6:  tbz     x2, #1, 7f
    ldrh    w4, [x1], #2
    strh    w4, [x3], #2
7:  tbz     x2, #0, 9f
    ldrb    w4, [x1]
    strb    w4, [x3]
9:  ret
8:  cbz     x2, 9b
    ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    sub     x2, x2, #1
    b       8b
    .size   memcpy, . - memcpy

    .section .text.memset, "ax", %progbits
    .global memset
    .type   memset, %function
memset:
    mov     x3, x0
    and     x1, x1, #0xFF
    tst     x0, #7
    b.eq    1f
    mrs     x4, sctlr_el1           // as above
    tbz     x4, #0, 8f
1:  cbz     x1, 2f
    mov     x4, #0x0101010101010101
    mul     x1, x1, x4
2:  subs    x2, x2, #32
    b.lo    3f
    stp     x1, x1, [x3], #16
    stp     x1, x1, [x3], #16
    b       2b
3:  tbz     x2, #4, 4f
    stp     x1, x1, [x3], #16
4:  tbz     x2, #3, 5f
    str     x1, [x3], #8
5:  tbz     x2, #2, 6f
    str     w1, [x3], #4
6:  tbz     x2, #1, 7f
    strh    w1, [x3], #2
7:  tbz     x2, #0, 9f
    strb    w1, [x3]
9:  ret
8:  cbz     x2, 9b
    strb    w1, [x3], #1
    sub     x2, x2, #1
    b       8b
    .size   memset, . - memset
"#
);
