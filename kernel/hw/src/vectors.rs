//! The exception vectors: registers into the frame, one call into safe code, registers back, ERET.
//!
//! While a guest runs, SP_EL2 points to the frame on top of the pCPU's stack. An exit saves the general registers
//! and nothing else. EL2's own exceptions go to a stack of their own, since theirs may be what broke.

use core::arch::global_asm;

use kernel_core::context::{Exit, Syndrome, TrapFrame};
use kernel_core::exit;

use crate::crash::{self, Registers};
use crate::percpu::{self, EMERGENCY_OFFSET};
use crate::sysreg::mrs;

global_asm!(
    r#"
    // From a lower EL: x0-x30, ELR and SPSR (TrapFrame, context.rs), then the handler with the frame. The chain of
    // frame pointers ends here.
    .macro from_guest handler
    .balign 128
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x21, elr_el2
    mrs     x22, spsr_el2
    stp     x30, x21, [sp, #240]
    str     x22, [sp, #256]
    mov     x29, xzr
    mov     x0, sp
    bl      \handler
    b       return_to_guest
    .endm

    // From EL2 itself: to the emergency stack, and never back. TPIDR_EL0 is the guest's, whose pCPU stops here.
    .macro from_el2 kind
    .balign 128
    msr     tpidr_el0, x0
    mrs     x0, tpidr_el2
    ldr     x0, [x0, #{emergency}]
    sub     x0, x0, #288
    stp     x1, x2, [x0, #8]
    mov     x1, #\kind
    b       own_exception
    .endm

    .section .vectors, "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    from_el2 0
    from_el2 1
    from_el2 2
    from_el2 3
    from_el2 0
    from_el2 1
    from_el2 2
    from_el2 3
    from_guest {sync}
    from_guest {irq}
    from_guest {irq}
    from_guest {serror}
    from_guest {sync}
    from_guest {irq}
    from_guest {irq}
    from_guest {serror}

    .balign 128
    // x0 = the frame on top of this pCPU's stack.
    .global enter_guest
enter_guest:
    mov     sp, x0
return_to_guest:
    ldp     x21, x22, [sp, #248]
    msr     elr_el2, x21
    msr     spsr_el2, x22
    ldp     x0, x1, [sp]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    eret
    // Nothing behind an ERET may be speculated into.
    dsb     nsh
    isb

    // x0 = Registers (crash.rs) on the emergency stack, with x1 and x2 in place; x1 = what kind of exception.
own_exception:
    mrs     x2, tpidr_el0
    str     x2, [x0]
    stp     x3, x4, [x0, #24]
    stp     x5, x6, [x0, #40]
    stp     x7, x8, [x0, #56]
    stp     x9, x10, [x0, #72]
    stp     x11, x12, [x0, #88]
    stp     x13, x14, [x0, #104]
    stp     x15, x16, [x0, #120]
    stp     x17, x18, [x0, #136]
    stp     x19, x20, [x0, #152]
    stp     x21, x22, [x0, #168]
    stp     x23, x24, [x0, #184]
    stp     x25, x26, [x0, #200]
    stp     x27, x28, [x0, #216]
    stp     x29, x30, [x0, #232]
    mov     x2, sp
    mrs     x3, elr_el2
    stp     x2, x3, [x0, #248]
    mrs     x2, esr_el2
    mrs     x3, far_el2
    stp     x2, x3, [x0, #264]
    mov     sp, x0
    bl      {own}
1:  wfi
    b       1b
"#,
    emergency = const EMERGENCY_OFFSET,
    sync = sym exit_sync,
    irq = sym exit_irq,
    serror = sym exit_serror,
    own = sym own_exception,
);

unsafe extern "C" {
    /// The vector table.
    static exception_vectors: u8;
    /// Enters the guest whose registers are in `frame`.
    ///
    /// # Safety
    ///
    /// `frame` is the one on top of this pCPU's stack, whose contents are given up.
    pub fn enter_guest(frame: *mut TrapFrame) -> !;
}

/// Address for `VBAR_EL2`.
pub fn table() -> u64 {
    &raw const exception_vectors as u64
}

/// A synchronous exception of the guest.
///
/// # Safety
///
/// Called by the vectors alone, with the frame on top of this pCPU's stack.
unsafe extern "C" fn exit_sync(frame: &mut TrapFrame) {
    let syndrome = Syndrome { esr: mrs!("esr_el2"), far: mrs!("far_el2"), hpfar: mrs!("hpfar_el2") };
    // SAFETY: this is one of the entries that `with_local` names.
    unsafe { percpu::with_local(|kernel, cpu| exit::handle(kernel, cpu, frame, Exit::Sync(syndrome))) };
}

/// A physical interrupt while the guest ran.
///
/// # Safety
///
/// As for [`exit_sync`].
unsafe extern "C" fn exit_irq(frame: &mut TrapFrame) {
    // SAFETY: this is one of the entries that `with_local` names.
    unsafe { percpu::with_local(|kernel, cpu| exit::handle(kernel, cpu, frame, Exit::Irq)) };
}

/// An SError while the guest ran.
///
/// # Safety
///
/// As for [`exit_sync`].
unsafe extern "C" fn exit_serror(frame: &mut TrapFrame) {
    let esr = mrs!("esr_el2");
    // SAFETY: this is one of the entries that `with_local` names.
    unsafe { percpu::with_local(|kernel, cpu| exit::handle(kernel, cpu, frame, Exit::SError(esr))) };
}

/// An exception of EL2 itself: nothing is left to trust.
///
/// # Safety
///
/// Called by the vectors alone, with the registers on the emergency stack.
unsafe extern "C" fn own_exception(registers: &Registers, kind: u64) -> ! {
    crash::exception(registers, kind)
}
