//! `hvm_op`: parameters that tell a guest where its store and console are (Xen public/hvm/hvm_op.h, params.h).
//!
//! `hvm_op(cmd = x0, arg = x1)`.

use crate::ids::DomId;

wire_enum! {
    /// `HVMOP_*`: the command of `hvm_op` (those that exist on Arm).
    HvmOp: u32 {
        /// Set a parameter: [`HvmParam`].
        SetParam = 0,
        /// Get a parameter: [`HvmParam`].
        GetParam = 1,
    }
}

wire_struct! {
    /// `struct xen_hvm_param`.
    HvmParam (16) {
        /// The domain; only a privileged caller names another.
        0: domid: DomId,
        /// Padding.
        2: pad: u16,
        /// See [`Param`].
        4: index: u32,
        /// *in* for set, *out* for get.
        8: value: u64,
    }
}

wire_enum! {
    /// `HVM_PARAM_*`: the parameters that matter on Arm.
    Param: u32 {
        /// How events are announced; see [`callback_ppi`].
        CallbackIrq = 0,
        /// Frame of the XenStore ring.
        StorePfn = 1,
        /// Port of the XenStore ring.
        StoreEvtchn = 2,
        /// Frame of the console ring.
        ConsolePfn = 17,
        /// Port of the console ring.
        ConsoleEvtchn = 18,
        /// Ring of the paging helper.
        PagingRingPfn = 27,
        /// Ring of the monitor helper.
        MonitorRingPfn = 28,
        /// Ring of the sharing helper.
        SharingRingPfn = 29,
    }
}

/// `HVM_NR_PARAMS`: one more than the largest index.
pub const NR_PARAMS: u32 = 39;
/// `HVM_PARAM_CALLBACK_TYPE_PPI`: the type in bits 63..56 of the callback parameter.
pub const CALLBACK_TYPE_PPI: u64 = 2;
/// Bit 8 of the callback parameter: edge triggered (else level).
pub const CALLBACK_PPI_EDGE: u64 = 1 << 8;
/// Bit 9 of the callback parameter: active low (else high).
pub const CALLBACK_PPI_LOW: u64 = 1 << 9;

/// The value of `HVM_PARAM_CALLBACK_IRQ` for events announced by the level-triggered, active-low PPI `intid`,
/// which is how Xen's tool stack fills it in.
#[must_use]
pub const fn callback_ppi(intid: u8) -> u64 {
    (CALLBACK_TYPE_PPI << 56) | CALLBACK_PPI_LOW | intid as u64
}
