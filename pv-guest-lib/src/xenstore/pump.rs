//! The task that moves messages between the ring and the client's buffers.

use core::cell::RefCell;
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll};

use critical_section::Mutex;
use embassy_executor::Spawner;
use embassy_sync::waitqueue::AtomicWaker;
use hypercall_abi::hvm::Param;
use hypercall_abi::ids::Port;
use hypercall_abi::xs_wire::{Header, PAYLOAD_MAX, XsOp, interface};
use zerocopy::{FromBytes, IntoBytes};

use super::{XsError, named_error, watch};
use crate::evtchn::EventChannel;
use crate::shared::Shared;
use crate::{console, hypercall};

const HEADER: usize = size_of::<Header>();

struct Wire {
    page: Option<Shared<'static>>,
    port: Port,
    broken: bool,
    /// The message on its way out: bytes, and how far it is.
    out: [u8; HEADER + PAYLOAD_MAX],
    out_len: usize,
    out_pos: usize,
    /// The message on its way in.
    header: [u8; HEADER],
    payload: [u8; PAYLOAD_MAX],
    in_pos: usize,
    /// The number of the last request.
    number: u32,
    /// The last answer, when it has come and was not taken: its type and length. Its bytes are in `answer`.
    answered: Option<(u32, usize)>,
    answer: [u8; PAYLOAD_MAX],
}

static WIRE: Mutex<RefCell<Wire>> = Mutex::new(RefCell::new(Wire {
    page: None,
    port: Port(0),
    broken: false,
    out: [0; HEADER + PAYLOAD_MAX],
    out_len: 0,
    out_pos: 0,
    header: [0; HEADER],
    payload: [0; PAYLOAD_MAX],
    in_pos: 0,
    number: 0,
    answered: None,
    answer: [0; PAYLOAD_MAX],
}));
/// Wakes the pump when there is something to send.
static PUMP: AtomicWaker = AtomicWaker::new();
/// Wakes the one request whose turn it is.
static CLIENT: AtomicWaker = AtomicWaker::new();

fn with<R>(f: impl FnOnce(&mut Wire) -> R) -> R {
    critical_section::with(|cs| f(&mut WIRE.borrow(cs).borrow_mut()))
}

/// Finds the ring and spawns the tasks of the connection; `None` when there is no ring, or when it was found before.
pub(super) fn start(spawner: Spawner) -> Option<()> {
    let frame = hypercall::hvm_param(Param::StorePfn).ok().filter(|frame| *frame != 0)?;
    let port = port()?;
    let page = console::special_page(frame)?;
    let before = with(|wire| {
        wire.port = port;
        wire.page.replace(page)
    });
    if before.is_some() {
        return None;
    }
    spawner.spawn(pump().ok()?);
    spawner.spawn(super::abandoned::end_each().ok()?);
    Some(())
}

fn port() -> Option<Port> {
    let port = hypercall::hvm_param(Param::StoreEvtchn).ok().filter(|port| *port != 0)?;
    u32::try_from(port).ok().map(Port)
}

/// Begins anew after the domain was restored, with the port that it has now. No request is under way, but maybe the answer
/// to one that was dropped.
pub(super) fn reopen() {
    with(|wire| {
        wire.port = port().unwrap_or(wire.port);
        (wire.out_len, wire.out_pos, wire.in_pos) = (0, 0, 0);
    });
    PUMP.wake();
}

#[embassy_executor::task]
async fn pump() {
    poll_fn(poll_pump).await;
    log::error!("XenStore: the connection is broken");
    CLIENT.wake();
}

/// Moves what can be moved; ready only when the connection is broken.
fn poll_pump(context: &mut Context<'_>) -> Poll<()> {
    PUMP.register(context.waker());
    let channel = EventChannel::given(with(|wire| wire.port));
    loop {
        let moved = with(|wire| {
            let moved = wire.page.map_or(Ok(false), |page| Ok(wire.push(page)? | wire.pull(page)?));
            wire.broken |= moved.is_err();
            moved
        });
        match moved {
            Ok(true) => {
                // A failure would mean that the store is gone; then nobody answers, which is all we could say.
                let _ = channel.notify();
                continue;
            }
            Ok(false) => {}
            Err(BadIndex) => return Poll::Ready(()),
        }
        if channel.poll_notified(context).is_pending() {
            return Poll::Pending;
        }
    }
}

/// The store's index is further from ours than the ring is long.
struct BadIndex;

/// How many bytes lie between two indices of a ring.
fn distance(from: u32, to: u32) -> Result<usize, BadIndex> {
    let distance = to.wrapping_sub(from) as usize;
    if distance <= interface::RING_SIZE { Ok(distance) } else { Err(BadIndex) }
}

impl Wire {
    /// Puts what fits of the outgoing message into the ring; says whether that was anything.
    fn push(&mut self, page: Shared<'_>) -> Result<bool, BadIndex> {
        let mut moved = false;
        while self.out_pos < self.out_len {
            let produced = page.u32(interface::REQ_PROD).load(Ordering::Relaxed);
            let consumed = page.u32(interface::REQ_CONS).load(Ordering::Acquire);
            let at = produced as usize % interface::RING_SIZE;
            let room = (interface::RING_SIZE - distance(consumed, produced)?).min(interface::RING_SIZE - at);
            let bytes = self.out.get(self.out_pos..self.out_len).unwrap_or_default();
            let bytes = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            page.write_bytes(interface::REQ + at, bytes);
            self.out_pos += bytes.len();
            #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
            page.u32(interface::REQ_PROD).store(produced.wrapping_add(bytes.len() as u32), Ordering::Release);
            moved = true;
        }
        Ok(moved)
    }

    /// Takes what has come out of the ring; says whether that was anything.
    fn pull(&mut self, page: Shared<'_>) -> Result<bool, BadIndex> {
        let mut moved = false;
        loop {
            let consumed = page.u32(interface::RSP_CONS).load(Ordering::Relaxed);
            let produced = page.u32(interface::RSP_PROD).load(Ordering::Acquire);
            let at = consumed as usize % interface::RING_SIZE;
            let ready = distance(consumed, produced)?.min(interface::RING_SIZE - at);
            let space = self.wanted()?;
            let length = ready.min(space.len());
            let Some(space) = space.get_mut(..length).filter(|space| !space.is_empty()) else { break };
            page.read_bytes(interface::RSP + at, space);
            self.in_pos += length;
            #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
            page.u32(interface::RSP_CONS).store(consumed.wrapping_add(length as u32), Ordering::Release);
            moved = true;
            self.finish()?;
        }
        Ok(moved)
    }

    fn parsed(&self) -> Header {
        Header::read_from_bytes(&self.header).unwrap_or_default()
    }

    /// Where the next bytes of the incoming message go.
    fn wanted(&mut self) -> Result<&mut [u8], BadIndex> {
        if self.in_pos < HEADER {
            return self.header.get_mut(self.in_pos..).ok_or(BadIndex);
        }
        let length = self.parsed().len as usize;
        self.payload.get_mut(self.in_pos - HEADER..length).ok_or(BadIndex)
    }

    /// When the incoming message is complete: delivers it.
    fn finish(&mut self) -> Result<(), BadIndex> {
        if self.in_pos < HEADER {
            return Ok(());
        }
        let header = self.parsed();
        let length = header.len as usize;
        let payload = self.payload.get(..length).ok_or(BadIndex)?;
        if self.in_pos < HEADER + length {
            return Ok(());
        }
        self.in_pos = 0;
        if header.op == XsOp::WatchEvent.raw() {
            watch::deliver(payload);
        } else if header.req_id == self.number {
            self.answer.get_mut(..length).ok_or(BadIndex)?.copy_from_slice(payload);
            self.answered = Some((header.op, length));
            CLIENT.wake();
        }
        Ok(())
    }

    /// Puts a message into the outgoing buffer, which is empty, and returns its number.
    fn compose(&mut self, op: XsOp, transaction: u32, parts: &[&[u8]]) -> Result<u32, XsError> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > PAYLOAD_MAX {
            return Err(XsError::TooLong);
        }
        self.number = self.number.wrapping_add(1);
        let len = u32::try_from(length).map_err(|_| XsError::TooLong)?;
        let header = Header { op: op.raw(), req_id: self.number, tx_id: transaction, len };
        let mut at = 0;
        for part in core::iter::once(header.as_bytes()).chain(parts.iter().copied()) {
            self.out.get_mut(at..at + part.len()).ok_or(XsError::TooLong)?.copy_from_slice(part);
            at += part.len();
        }
        (self.out_pos, self.out_len, self.answered) = (0, at, None);
        Ok(self.number)
    }
}

/// Hands a request to the pump, as soon as the previous one has left, and returns its number.
pub(super) async fn send(op: XsOp, transaction: u32, parts: &[&[u8]]) -> Result<u32, XsError> {
    poll_fn(|context| {
        CLIENT.register(context.waker());
        with(|wire| match wire.out_pos < wire.out_len {
            _ if wire.page.is_none() => Poll::Ready(Err(XsError::NoStore)),
            _ if wire.broken => Poll::Ready(Err(XsError::Broken)),
            true => Poll::Pending,
            false => Poll::Ready(wire.compose(op, transaction, parts)),
        })
    })
    .await
    .inspect(|_| PUMP.wake())
}

/// What is to be done with an answer's payload. Dynamic, so that all requests share one future's code.
pub(super) type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), XsError>;

/// Waits for the answer to a request and hands its payload to `take`.
pub(super) async fn answer(number: u32, op: XsOp, take: Take<'_>) -> Result<(), XsError> {
    let answered = poll_fn(|context| {
        CLIENT.register(context.waker());
        with(|wire| match wire.answered {
            _ if wire.broken || wire.number != number => Poll::Ready(Err(XsError::Broken)),
            Some(answered) => Poll::Ready(Ok(answered)),
            None => Poll::Pending,
        })
    });
    let (kind, length) = answered.await?;
    with(|wire| {
        wire.answered = None;
        let payload = wire.answer.get(..length).unwrap_or_default();
        if kind == XsOp::Error.raw() {
            Err(named_error(payload))
        } else if kind == op.raw() {
            take(payload)
        } else {
            Err(XsError::Malformed)
        }
    })
}
