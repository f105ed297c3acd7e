//! One connected block device: its rings, from the first look to the last.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use driver_api::{Access, BackRing, Disk, End, EventPort, Grants, MapError};
use futures_util::future::join_all;

use crate::limits::Limits;
use crate::mapping::Mappings;
use crate::negotiate::Params;
use crate::queue::Queue;
use crate::serve::Server;
use crate::stats::Control;

/// Why a device could not be connected. The front end is to blame, save for want of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// A ring page could not be mapped.
    RingPage(MapError),
    /// The number of ring pages is 0, not a power of two, or more than was offered.
    RingPages(usize),
    /// The host has not bound as many ports as there are rings.
    Ports,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RingPage(error) => write!(f, "block ring: {error}"),
            Self::RingPages(count) => write!(f, "block ring: {count} pages were not offered"),
            Self::Ports => f.write_str("block ring: no port"),
        }
    }
}

impl core::error::Error for ConnectError {}

/// A device whose rings are mapped.
pub struct BackEnd<G: Grants, E, D> {
    server: Server<G, D>,
    queues: Vec<Queue<G::Page, E>>,
    control: Rc<Control>,
}

impl<G: Grants, E: EventPort, D: Disk> BackEnd<G, E, D> {
    /// Maps the rings that the front end described, whose bound ports are `ports`.
    ///
    /// # Errors
    /// A ring cannot be mapped or is larger than was offered, or there are not as many ports. Nothing stays mapped then.
    pub fn connect(grants: G, ports: Vec<E>, disk: D, params: &Params, limits: Limits) -> Result<Self, ConnectError> {
        if ports.len() != params.queues.len() {
            return Err(ConnectError::Ports);
        }
        let mut references = Vec::new();
        for queue in &params.queues {
            let count = queue.ring.len();
            if !count.is_power_of_two() || count > 1 << limits.ring_page_order.min(4) {
                return Err(ConnectError::RingPages(count));
            }
            references.extend_from_slice(&queue.ring);
        }
        let mut results = Vec::with_capacity(references.len());
        grants.map(&references, Access::ReadWrite, &mut results);
        let failure = results.iter().find_map(|result| result.as_ref().err().copied());
        let mut pages: Vec<_> = results.into_iter().flatten().collect();
        if let Some(error) = failure {
            grants.unmap(&mut pages);
            return Err(ConnectError::RingPage(error));
        }
        let keep = usize::from(limits.persistent_grants);
        let persistent = (params.persistent && keep != 0).then_some(keep);
        let control = Rc::new(Control::default());
        let server = Server::new(Mappings::new(grants, persistent), disk, Rc::clone(&control));
        let share = Limits { in_flight: limits.in_flight / params.queues.len().max(1), ..limits };
        let mut pages = pages.into_iter();
        let rings = params.queues.iter().map(|queue| pages.by_ref().take(queue.ring.len()).collect());
        let queue = |(ring, port)| Queue::new(BackRing::new(ring), port, share, Rc::clone(&control));
        let queues = rings.zip(ports).map(queue).collect();
        Ok(Self { server, queues, control })
    }

    /// The handle to stop the device and to read its counters with.
    pub fn control(&self) -> Rc<Control> {
        Rc::clone(&self.control)
    }

    /// Serves the rings until the host stops the device or the front end breaks one of them.
    pub async fn run(self) -> End {
        // Few, so that all are polled together: that costs less than to know whose event it was.
        let rings = join_all(self.queues.into_iter().map(|queue| queue.serve(&self.server))).await;
        self.server.close(rings.into_iter().flatten().collect());
        self.control.ended()
    }
}
