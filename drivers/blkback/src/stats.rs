//! Counters of one back end, under the names that Linux's blkback shows in sysfs.

/// Totals since the device was connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times that a request had to wait because as many as allowed were in flight.
    pub oo_req: u64,
    /// Read requests.
    pub rd_req: u64,
    /// Write requests, barriers included.
    pub wr_req: u64,
    /// Flush requests and barriers.
    pub f_req: u64,
    /// Discard requests.
    pub ds_req: u64,
    /// Sectors (of 512 bytes) read.
    pub rd_sect: u64,
    /// Sectors (of 512 bytes) written.
    pub wr_sect: u64,
    /// Requests that were answered with anything but success.
    pub errors: u64,
    /// Notifications sent to the front end.
    pub notifications: u64,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Grants kept mapped now.
    pub persistent: u32,
}

/// The host's hold on a running device.
pub type Control = driver_api::Control<Stats>;
