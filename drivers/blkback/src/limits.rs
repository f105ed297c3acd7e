//! What a device may use of its host.

/// The host's bounds on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at a time, spread evenly over the rings. One counts for several where it names more than 32 pages.
    pub in_flight: usize,
    /// Most segments of an indirect request, at most 4096; 0 does not offer them.
    pub indirect_segments: u16,
    /// Grants kept mapped; 0 does not offer persistent grants.
    pub persistent_grants: u16,
    /// Most ring pages, as a binary logarithm, at most 4.
    pub ring_page_order: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 64, indirect_segments: 256, persistent_grants: 1056, ring_page_order: 2 }
    }
}
