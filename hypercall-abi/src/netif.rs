//! The network interface: transmit and receive rings and the keys of its XenStore directories (Xen
//! public/io/netif.h).
//!
//! Directions are the front end's: it transmits to the back end. A frame that does not fit one slot goes on in the
//! slots behind it (`MORE_DATA`); what a slot cannot say of a frame stands in [`ExtraInfo`] slots right behind the first.

use crate::ids::GrantRef;

/// Byte size of a slot of the transmit ring.
pub const TX_SLOT_SIZE: usize = size_of::<TxRequest>();
/// Byte size of a slot of the receive ring.
pub const RX_SLOT_SIZE: usize = size_of::<RxRequest>();
/// Slots that every back end takes for one frame, extra slots aside (`XEN_NETIF_NR_SLOTS_MIN`).
pub const MAX_SLOTS: usize = 18;
/// Bytes of a frame at most, Ethernet header included (`XEN_NETIF_MAX_TX_SIZE`).
pub const MAX_FRAME: usize = 0xFFFF;

wire_struct! {
    /// `struct xen_netif_tx_request`: one piece of a frame.
    TxRequest (12) {
        /// The granted page.
        0: gref: GrantRef,
        /// First byte in the page.
        4: offset: u16,
        /// `TX_*`.
        6: flags: u16,
        /// Echoed in the response.
        8: id: u16,
        /// Bytes: of the whole frame in its first slot, of the piece in the others.
        10: size: u16,
    }
}
wire_struct! {
    /// `struct xen_netif_tx_response`.
    TxResponse (4) {
        /// The request's.
        0: id: u16,
        /// See [`NetStatus`].
        2: status: i16,
    }
}
wire_struct! {
    /// `struct xen_netif_rx_request`: a page to put a piece of a frame in.
    RxRequest (8) {
        /// Echoed in the response.
        0: id: u16,
        /// Padding.
        2: pad: u16,
        /// The granted page.
        4: gref: GrantRef,
    }
}
wire_struct! {
    /// `struct xen_netif_rx_response`.
    RxResponse (8) {
        /// The request's.
        0: id: u16,
        /// First byte of the piece in the page.
        2: offset: u16,
        /// `RX_*`.
        4: flags: u16,
        /// Bytes of the piece, or a [`NetStatus`] below 0.
        6: status: i16,
    }
}
wire_struct! {
    /// `struct xen_netif_extra_info`, in the reading of [`ExtraType::Gso`].
    ExtraInfo (8) {
        /// See [`ExtraType`].
        0: kind: u8,
        /// [`EXTRA_MORE`].
        1: flags: u8,
        /// Bytes of payload in each segment (`u.gso.size`).
        2: gso_size: u16,
        /// See [`GsoType`].
        4: gso_type: u8,
        /// Padding.
        5: pad: u8,
        /// Always 0.
        6: gso_features: u16,
    }
}

wire_enum! {
    /// `XEN_NETIF_RSP_*`.
    NetStatus: i16 {
        /// The frame was dropped.
        Dropped = -2,
        /// The request makes no sense.
        Error = -1,
        /// Sent.
        Okay = 0,
        /// The slot held extra information and is free.
        Null = 1,
    }
}

wire_enum! {
    /// `XEN_NETIF_EXTRA_TYPE_*`.
    ExtraType: u8 {
        /// Nothing.
        None = 0,
        /// Segmentation is left to the receiver.
        Gso = 1,
        /// The front end joins a multicast group.
        McastAdd = 2,
        /// The front end leaves a multicast group.
        McastDel = 3,
        /// A hash of the frame.
        Hash = 4,
        /// Room in front of the frame.
        Xdp = 5,
    }
}

wire_enum! {
    /// `XEN_NETIF_GSO_TYPE_*`.
    GsoType: u8 {
        /// The frame fits the wire.
        None = 0,
        /// TCP over IPv4.
        TcpV4 = 1,
        /// TCP over IPv6.
        TcpV6 = 2,
    }
}

/// `XEN_NETIF_EXTRA_FLAG_MORE`: another extra slot follows.
pub const EXTRA_MORE: u8 = 1;

/// `XEN_NETTXF_csum_blank`: the transport checksum holds the pseudo header's sum only.
pub const TX_CSUM_BLANK: u16 = 1 << 0;
/// `XEN_NETTXF_data_validated`: the payload needs no check.
pub const TX_DATA_VALIDATED: u16 = 1 << 1;
/// `XEN_NETTXF_more_data`: the frame goes on in the next slot.
pub const TX_MORE_DATA: u16 = 1 << 2;
/// `XEN_NETTXF_extra_info`: the next slot holds extra information.
pub const TX_EXTRA_INFO: u16 = 1 << 3;

/// `XEN_NETRXF_data_validated`: the payload needs no check.
pub const RX_DATA_VALIDATED: u16 = 1 << 0;
/// `XEN_NETRXF_csum_blank`: the transport checksum holds the pseudo header's sum only.
pub const RX_CSUM_BLANK: u16 = 1 << 1;
/// `XEN_NETRXF_more_data`: the frame goes on in the next slot.
pub const RX_MORE_DATA: u16 = 1 << 2;
/// `XEN_NETRXF_extra_info`: the next slot holds extra information.
pub const RX_EXTRA_INFO: u16 = 1 << 3;

/// Keys of the XenStore directories. Flags are `0` or `1`.
pub mod keys {
    /// Either end: takes frames of several slots.
    pub const FEATURE_SG: &str = "feature-sg";
    /// Either end: takes TCP over IPv4 that is not segmented.
    pub const FEATURE_GSO_TCPV4: &str = "feature-gso-tcpv4";
    /// Either end: takes TCP over IPv6 that is not segmented.
    pub const FEATURE_GSO_TCPV6: &str = "feature-gso-tcpv6";
    /// Either end: does *not* take IPv4 frames with a blank checksum.
    pub const FEATURE_NO_CSUM_OFFLOAD: &str = "feature-no-csum-offload";
    /// Either end: takes IPv6 frames with a blank checksum.
    pub const FEATURE_IPV6_CSUM_OFFLOAD: &str = "feature-ipv6-csum-offload";
    /// Back end: copies into the front end's pages.
    pub const FEATURE_RX_COPY: &str = "feature-rx-copy";
    /// Back end: exchanges pages; never here.
    pub const FEATURE_RX_FLIP: &str = "feature-rx-flip";
    /// Back end: takes two event channels, one for each ring.
    pub const FEATURE_SPLIT_EVENT_CHANNELS: &str = "feature-split-event-channels";
    /// Back end, decimal: the most pairs of rings.
    pub const MULTI_QUEUE_MAX_QUEUES: &str = "multi-queue-max-queues";
    /// Front end: wants frames to be copied.
    pub const REQUEST_RX_COPY: &str = "request-rx-copy";
    /// Front end: sends an event when it has given room again; back ends insist on it.
    pub const FEATURE_RX_NOTIFY: &str = "feature-rx-notify";
    /// Front end, decimal: reference of the transmit ring.
    pub const TX_RING_REF: &str = "tx-ring-ref";
    /// Front end, decimal: reference of the receive ring.
    pub const RX_RING_REF: &str = "rx-ring-ref";
    /// Front end, decimal: the one port for both rings.
    pub const EVENT_CHANNEL: &str = "event-channel";
    /// Front end, decimal: the port of the transmit ring.
    pub const EVENT_CHANNEL_TX: &str = "event-channel-tx";
    /// Front end, decimal: the port of the receive ring.
    pub const EVENT_CHANNEL_RX: &str = "event-channel-rx";
    /// Front end, decimal: how many pairs of rings it has made.
    pub const MULTI_QUEUE_NUM_QUEUES: &str = "multi-queue-num-queues";
}
