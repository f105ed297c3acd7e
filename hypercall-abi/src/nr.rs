//! Hypercall numbers (`__HYPERVISOR_*`, Xen public/xen.h).
//!
//! Only the low 32 bits of x16 count. The enumeration names what an Arm guest can expect to be implemented;
//! every other number answers `-ENOSYS`.

wire_enum! {
    /// A hypercall of Xen on Arm (Xen public/xen.h).
    Hypercall: u32 {
        /// `platform_op`: control of the hardware platform.
        PlatformOp = PLATFORM_OP,
        /// `memory_op`: see [`crate::memory`].
        MemoryOp = MEMORY_OP,
        /// `multicall`: see [`crate::multicall`].
        Multicall = MULTICALL,
        /// `xen_version`: see [`crate::version`].
        XenVersion = XEN_VERSION,
        /// `console_io`: see [`crate::console`].
        ConsoleIo = CONSOLE_IO,
        /// `grant_table_op`: see [`crate::grant`].
        GrantTableOp = GRANT_TABLE_OP,
        /// `vm_assist`: see [`crate::vcpu::VMASST_TYPE_RUNSTATE_UPDATE_FLAG`].
        VmAssist = VM_ASSIST,
        /// `vcpu_op`: see [`crate::vcpu`].
        VcpuOp = VCPU_OP,
        /// `xsm_op`: security modules.
        XsmOp = XSM_OP,
        /// `sched_op`: see [`crate::sched`].
        SchedOp = SCHED_OP,
        /// `event_channel_op`: see [`crate::evtchn`].
        EventChannelOp = EVENT_CHANNEL_OP,
        /// `physdev_op`: physical interrupts and PCI devices.
        PhysdevOp = PHYSDEV_OP,
        /// `hvm_op`: see [`crate::hvm`].
        HvmOp = HVM_OP,
        /// `sysctl`: Xen's unstable system control.
        Sysctl = SYSCTL,
        /// `domctl`: Xen's unstable domain control.
        Domctl = DOMCTL,
        /// `dm_op`: device model.
        DmOp = DM_OP,
        /// `hypfs_op`: the hypervisor file system.
        HypfsOp = HYPFS_OP,
    }
}

/// `__HYPERVISOR_platform_op`.
pub const PLATFORM_OP: u32 = 7;
/// `__HYPERVISOR_memory_op`.
pub const MEMORY_OP: u32 = 12;
/// `__HYPERVISOR_multicall`.
pub const MULTICALL: u32 = 13;
/// `__HYPERVISOR_xen_version`.
pub const XEN_VERSION: u32 = 17;
/// `__HYPERVISOR_console_io`.
pub const CONSOLE_IO: u32 = 18;
/// `__HYPERVISOR_grant_table_op`.
pub const GRANT_TABLE_OP: u32 = 20;
/// `__HYPERVISOR_vm_assist`.
pub const VM_ASSIST: u32 = 21;
/// `__HYPERVISOR_vcpu_op`.
pub const VCPU_OP: u32 = 24;
/// `__HYPERVISOR_xsm_op`.
pub const XSM_OP: u32 = 27;
/// `__HYPERVISOR_sched_op`.
pub const SCHED_OP: u32 = 29;
/// `__HYPERVISOR_event_channel_op`.
pub const EVENT_CHANNEL_OP: u32 = 32;
/// `__HYPERVISOR_physdev_op`.
pub const PHYSDEV_OP: u32 = 33;
/// `__HYPERVISOR_hvm_op`.
pub const HVM_OP: u32 = 34;
/// `__HYPERVISOR_sysctl`.
pub const SYSCTL: u32 = 35;
/// `__HYPERVISOR_domctl`.
pub const DOMCTL: u32 = 36;
/// `__HYPERVISOR_dm_op`.
pub const DM_OP: u32 = 41;
/// `__HYPERVISOR_hypfs_op`.
pub const HYPFS_OP: u32 = 42;
