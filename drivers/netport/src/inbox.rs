//! Frames for the host, from the bridge to the stack.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Context, Poll, Waker};

use driver_api::HostMemory;
use driver_api::gather::Gather;
use driver_api::net::{Checksum, CopyGrants, Frame, Port, Refused, own_pieces};

/// The longest frame that the host sends or takes: what a network interface of a guest can say. It holds many packets of TCP
/// that are cut on the way.
pub const MAX_FRAME: usize = 65_535;
/// Short frames that wait for the stack at most.
const SHORT_SLOTS: usize = 64;
/// Bytes of memory for each.
const SHORT: usize = 2048;
/// Longer frames that wait at most.
const LONG_SLOTS: usize = 8;
/// Bytes of memory for each.
const LONG: usize = 64 * 1024;
/// Bytes of memory that an inbox needs; it starts at a page.
pub const MEMORY: usize = SHORT_SLOTS * SHORT + LONG_SLOTS * LONG;

const _: () = assert!(MAX_FRAME <= LONG);

/// Where a slot lies. The short ones come first.
const fn start(slot: usize) -> usize {
    match slot.checked_sub(SHORT_SLOTS) {
        None => slot * SHORT,
        Some(long) => SHORT_SLOTS * SHORT + long * LONG,
    }
}

/// A frame that waits for the stack.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    slot: usize,
    len: usize,
    /// Nobody has looked at its checksums yet.
    pub unchecked: bool,
}

#[derive(Default)]
struct Inner {
    free_short: Vec<usize>,
    free_long: Vec<usize>,
    /// What is fetched into slots at the next commit.
    gather: Gather<Waiting>,
    /// In their order.
    ready: VecDeque<Waiting>,
    /// The stack, which waits for frames.
    stack: Option<Waker>,
    /// Senders, which wait for room.
    senders: Vec<Waker>,
}

impl Inner {
    /// The slots for frames of that length.
    fn free(&mut self, len: usize) -> &mut Vec<usize> {
        if len <= SHORT { &mut self.free_short } else { &mut self.free_long }
    }
}

/// Frames for the host.
pub struct Inbox<C, M> {
    copier: C,
    memory: M,
    inner: RefCell<Inner>,
}

impl<C: CopyGrants, M: HostMemory> Inbox<C, M> {
    /// An empty one, with its frames in `memory`, which has [`MEMORY`] bytes.
    pub fn new(copier: C, memory: M) -> Self {
        let inner = Inner {
            free_short: (0..SHORT_SLOTS).collect(),
            free_long: (SHORT_SLOTS..SHORT_SLOTS + LONG_SLOTS).collect(),
            ..Inner::default()
        };
        Inbox { copier, memory, inner: RefCell::new(inner) }
    }

    /// The next frame, which stays where it is until it is given back. Without one, `cx` is woken when there is.
    pub(crate) fn take(&self, cx: &Context<'_>) -> Option<Waiting> {
        let mut inner = self.inner.borrow_mut();
        let waiting = inner.ready.pop_front();
        if waiting.is_none() {
            inner.stack = Some(cx.waker().clone());
        }
        waiting
    }

    /// Works on the bytes of a frame that was taken.
    pub(crate) fn with_bytes<R>(&self, frame: &Waiting, work: impl FnOnce(&mut [u8]) -> R) -> R {
        let start = start(frame.slot);
        self.memory.with_bytes(start..start + frame.len, work)
    }

    /// Gives a frame back: there is room for another one.
    pub(crate) fn give_back(&self, frame: Waiting) {
        let mut inner = self.inner.borrow_mut();
        inner.free(frame.len).push(frame.slot);
        inner.senders.drain(..).for_each(Waker::wake);
    }
}

impl<C: CopyGrants, M: HostMemory> Port for Inbox<C, M> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        let len = frame.len as usize;
        if len > MAX_FRAME {
            return Err(Refused::Unfit);
        }
        let mut inner = self.inner.borrow_mut();
        let slot = inner.free(len).pop().ok_or(Refused::Full)?;
        let waiting = Waiting { slot, len, unchecked: frame.offload.checksum == Checksum::Unchecked };
        if frame.head.len() == len {
            // All of it is here.
            self.memory.copy_in(start(slot), frame.head);
            inner.gather.take_whole(waiting, len);
            return Ok(());
        }
        inner.gather.take(frame, own_pieces(&self.memory, start(slot), len), waiting).map_err(|waiting| {
            inner.free(len).push(waiting.slot);
            Refused::Unfit
        })
    }

    fn commit(&self) {
        let mut inner = self.inner.borrow_mut();
        let Inner { free_short, free_long, gather, ready, stack, .. } = &mut *inner;
        gather.fetch(&self.copier, |waiting, len, came| {
            let free = if len <= SHORT { &mut *free_short } else { &mut *free_long };
            if came { ready.push_back(waiting) } else { free.push(waiting.slot) }
        });
        if ready.is_empty() {
            return;
        }
        if let Some(waker) = stack.take() {
            waker.wake();
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        // Whichever kind was missing: who waits for the other asks again.
        if !inner.free_short.is_empty() && !inner.free_long.is_empty() {
            return Poll::Ready(());
        }
        if !inner.senders.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.senders.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
