//! One connected network device: its pairs of rings, from the first look to the last.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;
use core::fmt;
use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll};

use driver_api::net::{CopyGrants, Frame, Port, Refused};
use driver_api::{Access, BackRing, End, EventPort, Grants, HostMemory, MapError, MappedPage};
use embassy_futures::select::{Either, select};
use futures_util::future::join_all;
use hypercall_abi::ids::DomId;
use hypercall_abi::ring::RingOverflow;

use crate::ctrl::{CtrlRing, Subject};
use crate::hash::{FrameHash, Steering, flow};
use crate::mapped::Mapped;
use crate::negotiate::{Events, Params};
use crate::receive::Receiver;
use crate::stats::Control;
use crate::transmit::{Pass, Transmitter};

/// Looks at a pair of rings before others have a turn.
const TURNS: usize = 4;

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

/// One pair of rings.
struct Queue<P, C, E, M> {
    transmitter: Transmitter<P, C, M>,
    receiver: Rc<Receiver<P, C, E>>,
    events: Events<E>,
}

/// The guest's end of the cable: frames for it are spread over its receive rings.
pub struct Cable<P, C, E> {
    receivers: Vec<Rc<Receiver<P, C, E>>>,
    /// How the guest wants them spread.
    steering: RefCell<Steering>,
}

/// A device whose rings are mapped.
pub struct BackEnd<G: Grants, C, E, M> {
    grants: G,
    queues: Vec<Queue<G::Page, C, E, M>>,
    cable: Rc<Cable<G::Page, C, E>>,
    ctrl: Option<CtrlRing<G::Page, E>>,
    /// What each queue's front end wants to be kept mapped.
    mapped: Vec<Rc<RefCell<Mapped<G::Page>>>>,
    control: Rc<Control>,
}

/// What the host makes for a device.
pub struct Parts<E, M> {
    /// For each pair of rings its bound ports, and [`HEAD_BYTES`](crate::HEAD_BYTES) of memory.
    pub queues: Vec<(Events<E>, M)>,
    /// The bound port of the control ring, if the front end has one.
    pub ctrl: Option<E>,
}

impl<G, C, E, M> BackEnd<G, C, E, M>
where
    G: Grants,
    C: CopyGrants + Clone,
    E: EventPort + Clone,
    M: HostMemory,
{
    /// Maps the rings that the front end of `domid` described.
    ///
    /// # Errors
    /// A ring cannot be mapped, or there are not enough parts. Nothing stays mapped then.
    pub fn connect(
        domid: DomId,
        grants: G,
        copier: C,
        params: &Params,
        parts: Parts<E, M>,
    ) -> Result<Self, ConnectError> {
        if parts.queues.len() != params.queues.len() || parts.ctrl.is_some() != params.ctrl.is_some() {
            return Err(ConnectError::Parts);
        }
        let rings = params.queues.iter().flat_map(|queue| [queue.tx, queue.rx]);
        let references: Vec<_> = rings.chain(params.ctrl.map(|ctrl| ctrl.ring)).collect();
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
        let mapped: Vec<_> = parts.queues.iter().map(|_| Rc::default()).collect();
        let mut queues = Vec::with_capacity(parts.queues.len());
        for ((events, heads), mapped) in parts.queues.into_iter().zip(&mapped) {
            let mut ring = || alloc::vec::Vec::from_iter(pages.next());
            let (tx, rx) = (BackRing::new(ring()), BackRing::new(ring()));
            let rx_events = match &events {
                Events::Shared(port) => port.clone(),
                Events::Split { rx, .. } => rx.clone(),
            };
            queues.push(Queue {
                transmitter: Transmitter::new(domid, tx, copier.clone(), heads, Rc::clone(&control))
                    .with_mapped(Rc::clone(mapped)),
                receiver: Rc::new(Receiver::new(
                    domid,
                    rx,
                    params.features,
                    copier.clone(),
                    rx_events,
                    Rc::clone(&control),
                )),
                events,
            });
        }
        let ctrl = parts.ctrl.map(|events| CtrlRing::new(BackRing::new(pages.collect()), events));
        let receivers: Vec<_> = queues.iter().map(|queue| Rc::clone(&queue.receiver)).collect();
        let steering = RefCell::new(Steering::new(receivers.len()));
        Ok(Self { grants, queues, cable: Rc::new(Cable { receivers, steering }), ctrl, mapped, control })
    }

    /// The handle to stop the device and to read its counters with.
    pub fn control(&self) -> Rc<Control> {
        Rc::clone(&self.control)
    }

    /// Where frames for the guest go.
    pub fn cable(&self) -> Rc<Cable<G::Page, C, E>> {
        Rc::clone(&self.cable)
    }

    /// Sends what the guest sends to `wire`, until the host stops it or the front end breaks a ring.
    pub async fn run(self, wire: impl Port) -> End {
        let (control, wire) = (&*self.control, &wire);
        // Few, so that all are polled together: that costs less than to know whose event it was.
        let queues = join_all(self.queues.into_iter().map(|queue| queue.serve(wire, control)));
        let mut ctrl = self.ctrl;
        let requests = async {
            if let Some(ctrl) = &mut ctrl {
                let (grants, steering, mapped) = (&self.grants, &self.cable.steering, &*self.mapped);
                let RingOverflow = ctrl.serve(&Subject { grants, steering, mapped }).await;
                control.broken();
            }
            pending::<Infallible>().await
        };
        let Either::First(rings) = select(queues, requests).await;
        let mut pages: Vec<_> = rings.into_iter().flatten().collect();
        pages.extend(ctrl.into_iter().flat_map(CtrlRing::into_pages));
        self.mapped.iter().for_each(|mapped| pages.extend(mapped.borrow_mut().take()));
        self.cable.receivers.iter().for_each(|receiver| pages.append(&mut receiver.close()));
        self.grants.unmap(&mut pages);
        control.ended()
    }
}

/// What a transmit ring waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing: there may be frames.
    Pass,
    /// The guest, which has put none.
    Event,
    /// Somebody else's room for the next one.
    Room,
}

/// What the guest has not been told of its answers yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// Nothing.
    Nothing,
    /// There are some that it wants to know of. Those who got its frames may be about to send it something, and then one
    /// event tells it of both.
    News,
    /// The same, and everybody has had a turn since.
    OldNews,
}

impl<P: MappedPage, C: CopyGrants, E: EventPort, M: HostMemory> Queue<P, C, E, M> {
    /// Serves both rings to their end; returns the transmit ring's page, to be unmapped.
    async fn serve(mut self, wire: &impl Port, control: &Control) -> Vec<P> {
        let receiver = Rc::clone(&self.receiver);
        let mut watch = pin!(receiver.watch());
        let (mut next, mut owed) = (Next::Pass, Owed::Nothing);
        poll_fn(|cx| {
            if receiver.is_to_be_watched() {
                let _ = watch.as_mut().poll(cx);
            }
            if control.poll_stopped(cx).is_ready() {
                return Poll::Ready(());
            }
            let (mut again, mut sent) = (false, false);
            for turn in 0..TURNS {
                // The transmit ring may wait for somebody else's room, or be busy; events are taken all the same, but a ring that
                // has just been busy needs none to be looked at again.
                if (turn == 0 || next != Next::Pass) && self.poll_events(cx) && next == Next::Event {
                    next = Next::Pass;
                }
                if next == Next::Room && wire.poll_room(cx).is_ready() {
                    next = Next::Pass;
                }
                if next != Next::Pass {
                    return self.tell(&mut owed, again, cx);
                }
                // Before those who get the frames are woken: the executor runs who was woken last first, and then they have
                // answered when this comes again.
                if !core::mem::replace(&mut again, true) {
                    cx.waker().wake_by_ref();
                }
                // An event of before has told nothing of the answers to come.
                self.receiver.rung();
                let Ok((pass, news)) = self.transmitter.pass(wire) else {
                    control.broken();
                    return Poll::Ready(());
                };
                if news && owed == Owed::Nothing {
                    owed = Owed::News;
                }
                next = match pass {
                    Pass::Idle => Next::Event,
                    Pass::Blocked => Next::Room,
                    // Others have their turn before a third burst, and before that it is seen whether there is one.
                    Pass::Sent if core::mem::replace(&mut sent, true) => break,
                    Pass::Sent => Next::Pass,
                };
            }
            self.tell(&mut owed, again, cx)
        })
        .await;
        self.transmitter.into_pages()
    }

    /// Takes the guest's events; true if it may have put frames.
    fn poll_events(&self, cx: &mut Context<'_>) -> bool {
        let (own, other) = match &self.events {
            Events::Shared(port) => (port.poll_event(cx).is_ready(), false),
            Events::Split { tx, rx } => (tx.poll_event(cx).is_ready(), rx.poll_event(cx).is_ready()),
        };
        if own || other {
            self.receiver.look();
        }
        own
    }

    /// Sends the event that is owed, unless somebody's frame has brought it or may do so yet: this comes `again`, or is made to.
    fn tell(&self, owed: &mut Owed, again: bool, cx: &Context<'_>) -> Poll<()> {
        let rung = self.receiver.rung();
        *owed = match (*owed, &self.events) {
            (Owed::Nothing, _) => Owed::Nothing,
            (_, Events::Shared(_)) if rung => Owed::Nothing,
            (Owed::OldNews, _) if !self.transmitter.is_awaited() => Owed::Nothing,
            (Owed::News, _) => {
                if !again {
                    cx.waker().wake_by_ref();
                }
                Owed::OldNews
            }
            (Owed::OldNews, Events::Shared(port) | Events::Split { tx: port, .. }) => {
                self.transmitter.notified();
                port.notify();
                Owed::Nothing
            }
        };
        Poll::Pending
    }
}

impl<P: MappedPage, C: CopyGrants, E: EventPort> Cable<P, C, E> {
    /// The receive ring of a frame, and the hash to go with it: frames of one connection stay on one, so that they stay
    /// in order.
    fn steer(&self, head: &[u8]) -> (usize, Option<FrameHash>) {
        let steering = self.steering.borrow();
        match self.receivers.len() {
            _ if steering.is_on() => steering.of(head),
            0 | 1 => (0, None),
            several => (flow(head) as usize % several, None),
        }
    }
}

impl<P: MappedPage, C: CopyGrants, E: EventPort> Port for Cable<P, C, E> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        let (queue, hash) = self.steer(frame.head);
        self.receivers.get(queue).map_or(Err(Refused::Down), |receiver| receiver.put_hashed(frame, hash))
    }

    fn commit(&self) {
        self.receivers.iter().for_each(|receiver| receiver.commit());
    }

    fn has_room_for_all(&self) -> bool {
        self.receivers.iter().all(|receiver| receiver.has_room_for_all())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.receivers.iter().filter(|receiver| receiver.poll_room(cx).is_pending()).count();
        if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
