//! What one request works with.

use alloc::vec::Vec;

use driver_api::{MapError, Segment as BusSegment};
use hypercall_abi::blkif::Segment;
use hypercall_abi::ids::GrantRef;

use crate::persistent::Pin;

/// The lists that one request needs, kept for the next one so that the steady state allocates nothing.
pub struct Work<P> {
    pub segments: Vec<Segment>,
    pub references: Vec<GrantRef>,
    /// Those of `references` that the cache does not have.
    pub missing: Vec<GrantRef>,
    /// Which of `places` each of `missing` is for.
    pub wanted: Vec<usize>,
    pub places: Vec<Place>,
    pub results: Vec<Result<P, MapError>>,
    pub scatter: Vec<BusSegment>,
    /// Mapped for this request alone.
    pub pages: Vec<P>,
    /// In use in the persistent cache.
    pub pins: Vec<Pin>,
}

impl<P> Work<P> {
    /// Empty ones.
    pub fn new() -> Self {
        Self {
            segments: Vec::new(),
            references: Vec::new(),
            missing: Vec::new(),
            wanted: Vec::new(),
            places: Vec::new(),
            results: Vec::new(),
            scatter: Vec::new(),
            pages: Vec::new(),
            pins: Vec::new(),
        }
    }
}

/// Where the mapping of one of a request's pages is kept.
#[derive(Clone, Copy)]
pub enum Place {
    /// In the persistent cache.
    Pinned(Pin),
    /// At this index of the request's own pages.
    Own(usize),
    /// Nowhere yet.
    Unmapped,
}
