//! Event channels: operations, argument structures, and the FIFO layout (Xen public/event_channel.h).
//!
//! `event_channel_op(cmd = x0, arg = x1)`, where `arg` is the guest virtual address of the structure named
//! with each command. Fields marked *out* are written by the hypervisor on success.

use crate::ids::{DomId, Gfn, Port, VcpuId};

wire_enum! {
    /// `EVTCHNOP_*`: the command of `event_channel_op`.
    EvtchnOp: u32 {
        /// Connect to an unbound port of another domain: [`BindInterdomain`].
        BindInterdomain = 0,
        /// Bind a virtual interrupt: [`BindVirq`].
        BindVirq = 1,
        /// Bind a physical interrupt; not available on Arm.
        BindPirq = 2,
        /// Close a port: [`Close`].
        Close = 3,
        /// Notify the other end: [`Send`].
        Send = 4,
        /// Ask for a port's state: [`Status`].
        Status = 5,
        /// Allocate a port that another domain may connect to: [`AllocUnbound`].
        AllocUnbound = 6,
        /// Allocate a port for notifications between vCPUs of the domain: [`BindIpi`].
        BindIpi = 7,
        /// Choose the vCPU that a port notifies: [`BindVcpu`].
        BindVcpu = 8,
        /// Unmask a port and deliver what is pending: [`Unmask`].
        Unmask = 9,
        /// Close all ports: [`Reset`].
        Reset = 10,
        /// Switch to the FIFO ABI: [`InitControl`].
        InitControl = 11,
        /// Add a page of FIFO event words: [`ExpandArray`].
        ExpandArray = 12,
        /// Set a port's FIFO priority: [`SetPriority`].
        SetPriority = 13,
    }
}

wire_enum! {
    /// `EVTCHNSTAT_*`: the state of a port.
    PortStatus: u32 {
        /// Not in use.
        Closed = 0,
        /// Waiting for a remote domain to connect.
        Unbound = 1,
        /// Connected to a remote domain.
        Interdomain = 2,
        /// Bound to a physical interrupt.
        Pirq = 3,
        /// Bound to a virtual interrupt.
        Virq = 4,
        /// Bound for notifications between vCPUs.
        Ipi = 5,
    }
}

wire_enum! {
    /// `VIRQ_*`: the virtual interrupts (Xen public/xen.h). "Global" ones go to one vCPU of the system.
    Virq: u32 {
        /// Timebase update; per vCPU.
        Timer = 0,
        /// Request to dump debug information; per vCPU.
        Debug = 1,
        /// Bytes received on the emergency console; global, Dom0.
        Console = 2,
        /// A domain changed state in an exceptional way (shut down, crashed); global, Dom0.
        DomExc = 3,
        /// Trace buffer has records; global, Dom0.
        Tbuf = 4,
        /// A domain paused for debugging; global, Dom0.
        Debugger = 6,
        /// Profiler samples; per vCPU.
        Xenoprof = 7,
        /// Bytes received on the console; global, Dom0.
        ConRing = 8,
        /// A physical CPU changed state; global, Dom0.
        PcpuState = 9,
        /// A memory event occurred; global, Dom0.
        MemEvent = 10,
        /// Argo message; global.
        Argo = 11,
        /// Memory is low; global, Dom0.
        Enomem = 12,
        /// Performance counters overflowed; per vCPU.
        Xenpmu = 13,
        /// Specific to the architecture, 0.
        Arch0 = 16,
        /// Specific to the architecture, 1.
        Arch1 = 17,
        /// Specific to the architecture, 2.
        Arch2 = 18,
        /// Specific to the architecture, 3.
        Arch3 = 19,
        /// Specific to the architecture, 4.
        Arch4 = 20,
        /// Specific to the architecture, 5.
        Arch5 = 21,
        /// Specific to the architecture, 6.
        Arch6 = 22,
        /// Specific to the architecture, 7.
        Arch7 = 23,
    }
}

/// `NR_VIRQS`: one more than the largest virtual interrupt (Xen public/xen.h).
pub const NR_VIRQS: u32 = 24;

wire_struct! {
    /// `struct evtchn_alloc_unbound`. Only a privileged caller names a `dom` other than itself.
    AllocUnbound (8) {
        /// The domain that gets the port.
        0: dom: DomId,
        /// The domain that may connect.
        2: remote_dom: DomId,
        /// *out* the port, in `dom`.
        4: port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_bind_interdomain`.
    BindInterdomain (12) {
        /// The domain that holds the unbound port.
        0: remote_dom: DomId,
        /// Padding.
        2: pad: u16,
        /// The unbound port there.
        4: remote_port: Port,
        /// *out* the port here.
        8: local_port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_bind_virq`.
    BindVirq (12) {
        /// The virtual interrupt, see [`Virq`].
        0: virq: u32,
        /// The vCPU to notify; 0 for a global one.
        4: vcpu: VcpuId,
        /// *out* the port.
        8: port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_bind_ipi`.
    BindIpi (8) {
        /// The vCPU to notify.
        0: vcpu: VcpuId,
        /// *out* the port.
        4: port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_close`.
    Close (4) {
        /// The port to close.
        0: port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_send`.
    Send (4) {
        /// The caller's end.
        0: port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_status`; `u` of the header is [`Status::u_dom`] and [`Status::u_value`].
    Status (24) {
        /// The domain that owns the port; only a privileged caller names another.
        0: dom: DomId,
        /// Padding.
        2: pad: u16,
        /// The port.
        4: port: Port,
        /// *out* see [`PortStatus`].
        8: status: u32,
        /// *out* the vCPU that is notified.
        12: vcpu: VcpuId,
        /// *out* low half of the union's first word: the remote domain of an unbound or connected port, or
        /// the low 16 bits of the pirq or virq.
        16: u_dom: u16,
        /// *out* high half of the union's first word.
        18: u_high: u16,
        /// *out* second word of the union: the remote port of a connected port.
        20: u_value: u32,
    }
}
wire_struct! {
    /// `struct evtchn_bind_vcpu`.
    BindVcpu (8) {
        /// The port.
        0: port: Port,
        /// The vCPU to notify from now on.
        4: vcpu: VcpuId,
    }
}
wire_struct! {
    /// `struct evtchn_unmask`.
    Unmask (4) {
        /// The port.
        0: port: Port,
    }
}
wire_struct! {
    /// `struct evtchn_reset`.
    Reset (2) {
        /// The domain whose ports are closed; `DOMID_SELF` or the caller's own unless privileged.
        0: dom: DomId,
    }
}
wire_struct! {
    /// `struct evtchn_init_control`.
    InitControl (24) {
        /// Frame that holds the vCPU's control block.
        0: control_gfn: Gfn,
        /// Byte offset of the control block in the frame; a multiple of 8.
        8: offset: u32,
        /// The vCPU.
        12: vcpu: VcpuId,
        /// *out* number of valid bits in a link field.
        16: link_bits: u8,
        /// Padding.
        17: pad: [u8; 7],
    }
}
wire_struct! {
    /// `struct evtchn_expand_array`.
    ExpandArray (8) {
        /// Frame of the next 1,024 event words.
        0: array_gfn: Gfn,
    }
}
wire_struct! {
    /// `struct evtchn_set_priority`.
    SetPriority (8) {
        /// The port.
        0: port: Port,
        /// 0 (highest) to 15 (lowest).
        4: priority: u32,
    }
}

/// Ports of the 2-level ABI on a 64-bit guest (`EVTCHN_2L_NR_CHANNELS`).
pub const NR_PORTS_2L: u32 = 4096;
/// Ports of the FIFO ABI (`EVTCHN_FIFO_NR_CHANNELS`).
pub const NR_PORTS_FIFO: u32 = 1 << FIFO_LINK_BITS;
/// Highest priority (`EVTCHN_FIFO_PRIORITY_MAX`).
pub const FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a new port (`EVTCHN_FIFO_PRIORITY_DEFAULT`).
pub const FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority (`EVTCHN_FIFO_PRIORITY_MIN`).
pub const FIFO_PRIORITY_MIN: u32 = 15;
/// Queues of a vCPU, one per priority (`EVTCHN_FIFO_MAX_QUEUES`).
pub const FIFO_MAX_QUEUES: usize = 16;
/// Bit of an event word: pending.
pub const FIFO_PENDING: u32 = 31;
/// Bit of an event word: masked.
pub const FIFO_MASKED: u32 = 30;
/// Bit of an event word: on a queue.
pub const FIFO_LINKED: u32 = 29;
/// Bit of an event word: being unlinked by the guest.
pub const FIFO_BUSY: u32 = 28;
/// Width of the link field in bits.
pub const FIFO_LINK_BITS: u32 = 17;
/// Mask of the link field.
pub const FIFO_LINK_MASK: u32 = (1 << FIFO_LINK_BITS) - 1;
/// Event words in one page.
pub const FIFO_WORDS_PER_PAGE: u32 = 1024;

wire_struct! {
    /// `struct evtchn_fifo_control_block`.
    FifoControlBlock (72) {
        /// One bit per queue that is not empty.
        0: ready: u32,
        /// Reserved.
        4: rsvd: u32,
        /// Head port of each queue.
        8: head: [u32; FIFO_MAX_QUEUES],
    }
}
