//! Counters of one back end, in the directions of the front end.

/// Totals since the device was connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that the guest sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames of the guest that made no sense.
    pub tx_errors: u64,
    /// Frames of the guest that nobody took.
    pub tx_dropped: u64,
    /// Frames that the guest was given.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that could not be copied.
    pub rx_errors: u64,
    /// Frames for which the guest had no room.
    pub rx_dropped: u64,
    /// Events sent to the front end.
    pub notifications: u64,
}

/// The host's hold on a running device.
pub type Control = driver_api::Control<Stats>;
