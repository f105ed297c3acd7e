//! What an interface has seen.

/// Counters of one interface since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes, Ethernet headers included.
    pub rx_bytes: u64,
    /// Frames received that were not passed on: too long, with a wrong checksum, or an error of the back end's.
    pub rx_bad: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their bytes, Ethernet headers included.
    pub tx_bytes: u64,
    /// Pieces of frames sent that the back end answered with an error.
    pub tx_bad: u64,
    /// Frames not sent, since there was no connection or no room.
    pub tx_dropped: u64,
}
