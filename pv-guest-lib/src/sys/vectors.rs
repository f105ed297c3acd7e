//! Exceptions at EL1: interrupts go to `irq`, everything else is a fault of the image and ends the domain.

use core::arch::global_asm;

global_asm!(
    r#"
    // A fault may mean that the stack is gone, so it gets one of its own; it does not return.
    .macro fault kind
    .balign 128
    adrp    x9, __fault_stack_end
    add     x9, x9, :lo12:__fault_stack_end
    mov     x4, sp
    mov     sp, x9
    mov     x3, x29
    mov     x0, #\kind
    mrs     x1, esr_el1
    mrs     x2, elr_el1
    b       pv_guest_fault
    .endm

    .section .vectors, "ax"
    .balign 2048
    .global pv_guest_vectors
pv_guest_vectors:
    fault 0
    fault 1
    fault 2
    fault 3
    fault 4                         // current EL, SP_EL1: synchronous
    .balign 128                     // current EL, SP_EL1: interrupt
    // What the procedure call standard lets a callee change. ELR and SPSR stay in their registers: interrupts
    // are masked until the return, and a fault does not return.
    stp     x29, x30, [sp, #-176]!
    mov     x29, sp
    stp     x0, x1, [sp, #16]
    stp     x2, x3, [sp, #32]
    stp     x4, x5, [sp, #48]
    stp     x6, x7, [sp, #64]
    stp     x8, x9, [sp, #80]
    stp     x10, x11, [sp, #96]
    stp     x12, x13, [sp, #112]
    stp     x14, x15, [sp, #128]
    stp     x16, x17, [sp, #144]
    str     x18, [sp, #160]
    bl      pv_guest_irq
    ldp     x0, x1, [sp, #16]
    ldp     x2, x3, [sp, #32]
    ldp     x4, x5, [sp, #48]
    ldp     x6, x7, [sp, #64]
    ldp     x8, x9, [sp, #80]
    ldp     x10, x11, [sp, #96]
    ldp     x12, x13, [sp, #112]
    ldp     x14, x15, [sp, #128]
    ldp     x16, x17, [sp, #144]
    ldr     x18, [sp, #160]
    ldp     x29, x30, [sp], #176
    eret
    fault 6
    fault 7
    fault 8
    fault 9
    fault 10
    fault 11
    fault 12
    fault 13
    fault 14
    fault 15
"#
);

#[unsafe(no_mangle)]
extern "C" fn pv_guest_irq() {
    crate::irq::handle();
}

#[unsafe(no_mangle)]
extern "C" fn pv_guest_fault(kind: u64, syndrome: u64, pc: u64, frame: u64, stack: u64) -> ! {
    let far: u64;
    // SAFETY: reading the fault address has no effect.
    unsafe { core::arch::asm!("mrs {}, far_el1", out(reg) far, options(nostack, nomem, preserves_flags)) };
    super::panic::report(
        format_args!("exception {kind}: ESR {syndrome:#x} FAR {far:#x} PC {pc:#x} SP {stack:#x}"),
        frame,
    );
    super::hypercall::shutdown(hypercall_abi::sched::ShutdownReason::Crash)
}
