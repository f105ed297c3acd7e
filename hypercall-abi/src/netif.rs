//! The network interface: transmit, receive and control rings and the keys of its XenStore directories (Xen
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

wire_struct! {
    /// `struct xen_netif_extra_info`, in the reading of [`ExtraType::Hash`].
    HashInfo (8) {
        /// [`ExtraType::Hash`].
        0: kind: u8,
        /// [`EXTRA_MORE`].
        1: flags: u8,
        /// See [`HashType`].
        2: hash_type: u8,
        /// See [`HashAlgorithm`]; its low byte.
        3: algorithm: u8,
        /// The hash.
        4: value: u32,
    }
}
wire_struct! {
    /// `struct xen_netif_ctrl_request`.
    CtrlRequest (16) {
        /// Echoed in the response.
        0: id: u16,
        /// See [`CtrlType`].
        2: kind: u16,
        /// What goes with the type.
        4: data: [u32; 3],
    }
}
wire_struct! {
    /// `struct xen_netif_ctrl_response`.
    CtrlResponse (12) {
        /// The request's.
        0: id: u16,
        /// The request's.
        2: kind: u16,
        /// See [`CtrlStatus`].
        4: status: u32,
        /// What goes with the type; 0 unless the request was carried out.
        8: data: u32,
    }
}

wire_struct! {
    /// `struct xen_netif_gref`: an entry of the lists of [`CtrlType::AddGrefMapping`] and [`CtrlType::DelGrefMapping`].
    GrefMapping (8) {
        /// The page.
        0: gref: GrantRef,
        /// [`GREF_READ_ONLY`].
        4: flags: u16,
        /// Out: a [`CtrlStatus`], when it is removed.
        6: status: u16,
    }
}

/// `XEN_NETIF_CTRLF_GREF_readonly`: the page is granted to be read only.
pub const GREF_READ_ONLY: u16 = 1;

wire_enum! {
    /// `XEN_NETIF_CTRL_TYPE_*`.
    CtrlType: u16 {
        /// Never used.
        Invalid = 0,
        /// Which types of hash the back end has.
        GetHashFlags = 1,
        /// `data[0]`: the types to calculate, [`HASH_IPV4`] and the like.
        SetHashFlags = 2,
        /// `data[0]`: reference of the page with the key; `data[1]`: its bytes.
        SetHashKey = 3,
        /// How many entries a mapping table can have.
        GetHashMappingSize = 4,
        /// `data[0]`: entries of the table, which are all 0 then.
        SetHashMappingSize = 5,
        /// `data[0]`: reference of the page with entries; `data[1]`: how many; `data[2]`: the first one's place.
        SetHashMapping = 6,
        /// `data[0]`: a [`HashAlgorithm`].
        SetHashAlgorithm = 7,
        /// `data[0]`: a queue, of which the back end says how many references it keeps mapped.
        GetGrefMappingSize = 8,
        /// `data[0]`: the queue; `data[1]`: reference of the page with a list of [`GrefMapping`]s to keep mapped; `data[2]`:
        /// how many.
        AddGrefMapping = 9,
        /// The same of those to unmap; the answer's data says how many were mapped.
        DelGrefMapping = 10,
    }
}

wire_enum! {
    /// `XEN_NETIF_CTRL_STATUS_*`.
    CtrlStatus: u32 {
        /// Done.
        Success = 0,
        /// The back end does not do that, or not now.
        NotSupported = 1,
        /// A value cannot be.
        InvalidParameter = 2,
        /// More than the back end has room for.
        BufferOverflow = 3,
    }
}

wire_enum! {
    /// `XEN_NETIF_CTRL_HASH_ALGORITHM_*`.
    HashAlgorithm: u32 {
        /// No hash: the back end chooses queues as it likes.
        None = 0,
        /// Toeplitz, as in receive-side scaling.
        Toeplitz = 1,
    }
}

wire_enum! {
    /// `_XEN_NETIF_CTRL_HASH_TYPE_*`: what a hash covers.
    HashType: u8 {
        /// The addresses of IPv4.
        Ipv4 = 0,
        /// The addresses of IPv4 and the ports of TCP.
        Ipv4Tcp = 1,
        /// The addresses of IPv6.
        Ipv6 = 2,
        /// The addresses of IPv6 and the ports of TCP.
        Ipv6Tcp = 3,
    }
}

/// `XEN_NETIF_CTRL_HASH_TYPE_IPV4`.
pub const HASH_IPV4: u32 = 1 << HashType::Ipv4.raw();
/// `XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP`.
pub const HASH_IPV4_TCP: u32 = 1 << HashType::Ipv4Tcp.raw();
/// `XEN_NETIF_CTRL_HASH_TYPE_IPV6`.
pub const HASH_IPV6: u32 = 1 << HashType::Ipv6.raw();
/// `XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP`.
pub const HASH_IPV6_TCP: u32 = 1 << HashType::Ipv6Tcp.raw();

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
    /// Back end: takes a control ring.
    pub const FEATURE_CTRL_RING: &str = "feature-ctrl-ring";
    /// Front end, decimal: reference of the control ring.
    pub const CTRL_RING_REF: &str = "ctrl-ring-ref";
    /// Front end, decimal: the port of the control ring.
    pub const EVENT_CHANNEL_CTRL: &str = "event-channel-ctrl";
    /// Front end, decimal: how many pairs of rings it has made.
    pub const MULTI_QUEUE_NUM_QUEUES: &str = "multi-queue-num-queues";
}
