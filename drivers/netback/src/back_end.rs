//! One connected network device: its pairs of rings, from the first look to the last.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{pending, poll_fn};
use core::task::{Context, Poll, Waker};

use driver_api::net::{CopyGrants, Frame, Port, Refused};
use driver_api::{Access, BackRing, DmaMemory, EventPort, Grants, MapError, MappedPage};
use embassy_futures::join::join;
use embassy_futures::select::{Either3, select3};
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hypercall_abi::ids::DomId;
use hypercall_abi::ring::RingOverflow;

use crate::negotiate::{Events, Params};
use crate::receive::Receiver;
use crate::stats::Stats;
use crate::transmit::{Pass, Transmitter};

/// Why a device could not be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// A ring page could not be mapped: the front end is to blame, save for want of room.
    RingPage(MapError),
    /// The host made fewer ports or less memory than there are pairs of rings.
    Parts,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RingPage(error) => write!(f, "network ring: {error}"),
            Self::Parts => f.write_str("network ring: no memory or no port"),
        }
    }
}

impl core::error::Error for ConnectError {}

/// How a device ended. Either way nothing is mapped any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host asked for it.
    Stopped,
    /// The front end's producer index cannot be true.
    Broken,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Broken => "the front end produced more requests than the network ring holds",
        })
    }
}

/// The host's hold on a running device.
#[derive(Debug, Default)]
pub struct Control {
    stop: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
    stats: Rc<Cell<Stats>>,
}

impl Control {
    /// Asks the device to end.
    pub fn stop(&self) {
        self.stop.set(true);
        self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats.get()
    }

    async fn stopped(&self) {
        poll_fn(|cx| {
            if self.stop.get() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// One pair of rings.
struct Queue<P, C, E, M> {
    transmitter: Transmitter<P, C, M>,
    receiver: Rc<Receiver<P, C, E>>,
    events: Events<E>,
}

/// The guest's end of the cable: frames for it are spread over its receive rings.
pub struct Cable<P, C, E> {
    receivers: Vec<Rc<Receiver<P, C, E>>>,
}

/// A device whose rings are mapped.
pub struct BackEnd<G: Grants, C, E, M> {
    grants: G,
    queues: Vec<Queue<G::Page, C, E, M>>,
    cable: Rc<Cable<G::Page, C, E>>,
    control: Rc<Control>,
}

impl<G, C, E, M> BackEnd<G, C, E, M>
where
    G: Grants,
    C: CopyGrants + Clone,
    E: EventPort + Clone,
    M: DmaMemory,
{
    /// Maps the rings that the front end of `domid` described. `parts` makes, for each pair, its bound ports and
    /// [`HEAD_BYTES`](crate::HEAD_BYTES) of memory.
    ///
    /// # Errors
    /// A ring cannot be mapped, or there are not enough parts. Nothing stays mapped then.
    pub fn connect(
        domid: DomId,
        grants: G,
        copier: C,
        params: &Params,
        parts: Vec<(Events<E>, M)>,
    ) -> Result<Self, ConnectError> {
        if parts.len() != params.queues.len() {
            return Err(ConnectError::Parts);
        }
        let references: Vec<_> = params.queues.iter().flat_map(|queue| [queue.tx, queue.rx]).collect();
        let mut results = Vec::with_capacity(references.len());
        grants.map(&references, Access::ReadWrite, &mut results);
        let failure = results.iter().find_map(|result| result.as_ref().err().copied());
        let mut pages: Vec<_> = results.into_iter().flatten().collect();
        if let Some(error) = failure {
            grants.unmap(&mut pages);
            return Err(ConnectError::RingPage(error));
        }
        let control = Rc::new(Control::default());
        let mut pages = pages.into_iter();
        let mut queues = Vec::with_capacity(parts.len());
        for (events, heads) in parts {
            let mut ring = || alloc::vec::Vec::from_iter(pages.next());
            let stats = &control.stats;
            let (tx, rx) = (BackRing::new(ring()), BackRing::new(ring()));
            let rx_events = match &events {
                Events::Shared(port) => port.clone(),
                Events::Split { rx, .. } => rx.clone(),
            };
            queues.push(Queue {
                transmitter: Transmitter::new(domid, tx, copier.clone(), heads, Rc::clone(stats)),
                receiver: Rc::new(Receiver::new(
                    domid,
                    rx,
                    params.features,
                    copier.clone(),
                    rx_events,
                    Rc::clone(stats),
                )),
                events,
            });
        }
        let receivers = queues.iter().map(|queue| Rc::clone(&queue.receiver)).collect();
        Ok(Self { grants, queues, cable: Rc::new(Cable { receivers }), control })
    }

    /// The handle to stop the device and to read its counters with.
    pub fn control(&self) -> Rc<Control> {
        Rc::clone(&self.control)
    }

    /// Where frames for the guest go.
    pub fn cable(&self) -> Rc<Cable<G::Page, C, E>> {
        Rc::clone(&self.cable)
    }

    /// Sends what the guest sends to `wire`, until the host stops it or the front end breaks a ring. Returns the memory that
    /// was lent with the parts.
    pub async fn run(self, wire: impl Port) -> (End, Vec<M>) {
        let (control, wire) = (&*self.control, &wire);
        let (mut pages, mut memory) = (Vec::new(), Vec::new());
        let mut end = End::Stopped;
        let mut running: FuturesUnordered<_> =
            self.queues.into_iter().map(|queue| queue.serve(wire, control)).collect();
        while let Some((how, ring, heads)) = running.next().await {
            pages.extend(ring);
            memory.push(heads);
            if how == End::Broken {
                end = how;
                control.stop();
            }
        }
        self.cable.receivers.iter().for_each(|receiver| pages.append(&mut receiver.close()));
        self.grants.unmap(&mut pages);
        (end, memory)
    }
}

impl<P: MappedPage, C: CopyGrants, E: EventPort, M: DmaMemory> Queue<P, C, E, M> {
    /// Serves both rings to their end; returns the transmit ring's page and the memory for heads.
    async fn serve(mut self, wire: &impl Port, control: &Control) -> (End, Vec<P>, M) {
        let receiver = &*self.receiver;
        let tx_events = match &self.events {
            Events::Shared(port) | Events::Split { tx: port, .. } => port,
        };
        // The transmit loop may wait for somebody else's room; events are taken all the same.
        let bell = Signal::<NoopRawMutex, ()>::new();
        let listen = async {
            let other = async {
                let Events::Split { rx, .. } = &self.events else { return pending::<()>().await };
                loop {
                    rx.wait().await;
                    receiver.look();
                }
            };
            let own = async {
                loop {
                    tx_events.wait().await;
                    receiver.look();
                    bell.signal(());
                }
            };
            join(own, other).await
        };
        let transmit = async {
            loop {
                let (pass, notify) = match self.transmitter.pass(wire) {
                    Ok(outcome) => outcome,
                    Err(RingOverflow) => return End::Broken,
                };
                if notify {
                    tx_events.notify();
                }
                match pass {
                    Pass::Sent => yield_now().await,
                    Pass::Blocked => poll_fn(|cx| wire.poll_room(cx)).await,
                    Pass::Idle => bell.wait().await,
                }
            }
        };
        let end = match select3(transmit, join(listen, receiver.watch()), control.stopped()).await {
            Either3::First(end) => end,
            Either3::Second(_) | Either3::Third(()) => End::Stopped,
        };
        let (pages, heads) = self.transmitter.into_parts();
        (end, pages, heads)
    }
}

impl<P: MappedPage, C: CopyGrants, E: EventPort> Cable<P, C, E> {
    /// The receive ring of a frame: frames of one connection stay on one, so that they stay in order.
    fn receiver(&self, head: &[u8]) -> Option<&Receiver<P, C, E>> {
        let index = if self.receivers.len() > 1 { flow_hash(head) as usize % self.receivers.len() } else { 0 };
        self.receivers.get(index).map(|receiver| &**receiver)
    }
}

impl<P: MappedPage, C: CopyGrants, E: EventPort> Port for Cable<P, C, E> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        self.receiver(frame.head).map_or(Err(Refused::Down), |receiver| receiver.put(frame))
    }

    fn commit(&self) {
        self.receivers.iter().for_each(|receiver| receiver.commit());
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.receivers.iter().filter(|receiver| receiver.poll_room(cx).is_pending()).count();
        if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A number that is the same for all frames of a connection in one direction: FNV-1a over addresses and ports.
fn flow_hash(head: &[u8]) -> u32 {
    let fields = match head.get(12..14) {
        Some([0x08, 0x00]) => 26..38,
        Some([0x86, 0xDD]) => 22..58,
        Some(_) | None => 0..12,
    };
    let bytes = head.get(fields).unwrap_or_default();
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
