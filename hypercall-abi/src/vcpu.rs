//! `vcpu_op` and `vm_assist`: what a vCPU registers with the hypervisor (Xen public/vcpu.h, xen.h).
//!
//! `vcpu_op(cmd = x0, vcpu = x1, arg = x2)`. On Arm Xen implements the two registrations of runstate and
//! vcpu_info; CPUs are started by PSCI.

use crate::ids::{Gfn, GuestPtr};

wire_enum! {
    /// `VCPUOP_*`: the commands of `vcpu_op` that there are on Arm.
    VcpuOp: u32 {
        /// Read a vCPU's runstate once: [`RunstateInfo`].
        GetRunstateInfo = 4,
        /// Keep the runstate in guest memory: [`RegisterMemoryArea`].
        RegisterRunstateMemoryArea = 5,
        /// Keep the vcpu_info in guest memory: [`RegisterVcpuInfo`].
        RegisterVcpuInfo = 10,
    }
}

wire_enum! {
    /// `RUNSTATE_*`: what a vCPU is doing.
    Runstate: u32 {
        /// On a physical CPU.
        Running = 0,
        /// Wants to be, but none is free.
        Runnable = 1,
        /// Waiting for an event.
        Blocked = 2,
        /// Neither runnable nor blocked.
        Offline = 3,
    }
}

wire_struct! {
    /// `struct vcpu_runstate_info`.
    RunstateInfo (48) {
        /// See [`Runstate`].
        0: state: u32,
        /// Padding.
        4: pad: u32,
        /// System time in nanoseconds of the last change; see [`RUNSTATE_UPDATE`].
        8: state_entry_time: u64,
        /// Nanoseconds spent in each state.
        16: time: [u64; 4],
    }
}

/// `XEN_RUNSTATE_UPDATE`: set in `state_entry_time` while the structure is being written, once the guest has
/// enabled [`VMASST_TYPE_RUNSTATE_UPDATE_FLAG`].
pub const RUNSTATE_UPDATE: u64 = 1 << 63;

wire_struct! {
    /// `struct vcpu_register_runstate_memory_area` and `struct vcpu_register_time_memory_area`.
    RegisterMemoryArea (8) {
        /// Guest virtual address; null ends the registration.
        0: addr: GuestPtr,
    }
}
wire_struct! {
    /// `struct vcpu_register_vcpu_info`. Registration is once and for good.
    RegisterVcpuInfo (16) {
        /// Frame that holds the structure.
        0: mfn: Gfn,
        /// Byte offset in the frame; the structure stays in it.
        8: offset: u32,
        /// Reserved, 0.
        12: rsvd: u32,
    }
}

/// `VMASST_CMD_enable`: `vm_assist(cmd = x0, type = x1)`.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// `VMASST_CMD_disable`.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// `VMASST_TYPE_runstate_update_flag`: see [`RUNSTATE_UPDATE`].
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;
