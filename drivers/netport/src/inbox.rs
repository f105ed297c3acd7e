//! Frames for the host, from the bridge to the stack.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Context, Poll, Waker};

use driver_api::gather::Gather;
use driver_api::net::{Checksum, CopyGrants, Frame, Piece, Port, Refused, own_pieces};
use driver_api::{DmaMemory, PAGE_SIZE};

use crate::link::MAX_FRAME;

/// Short frames that wait for the stack at most.
const SHORT_SLOTS: usize = 64;
/// Bytes of memory for each.
const SHORT: usize = 2048;
/// Longer frames that wait at most.
const LONG_SLOTS: usize = 8;
/// Bytes of memory for each.
const LONG: usize = 64 * 1024;
/// What the host sends from lies behind the slots.
const OUT: usize = SHORT_SLOTS * SHORT + LONG_SLOTS * LONG;
/// Bytes of memory that the host's port needs; it starts at a page.
pub const MEMORY: usize = OUT + LONG;

const _: () = assert!(MAX_FRAME <= LONG && OUT.is_multiple_of(PAGE_SIZE));

/// Where a slot lies. The short ones come first.
const fn start(slot: usize) -> usize {
    match slot.checked_sub(SHORT_SLOTS) {
        None => slot * SHORT,
        Some(long) => SHORT_SLOTS * SHORT + long * LONG,
    }
}

/// A frame that waits for the stack.
#[derive(Clone, Copy)]
struct Waiting {
    slot: usize,
    len: usize,
    /// Nobody has looked at its checksums yet.
    unchecked: bool,
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

impl<C: CopyGrants, M: DmaMemory> Inbox<C, M> {
    /// An empty one, with its frames in `memory`, which has [`MEMORY`] bytes.
    pub fn new(copier: C, memory: M) -> Self {
        let inner = Inner {
            free_short: (0..SHORT_SLOTS).collect(),
            free_long: (SHORT_SLOTS..SHORT_SLOTS + LONG_SLOTS).collect(),
            ..Inner::default()
        };
        Inbox { copier, memory, inner: RefCell::new(inner) }
    }

    /// Copies the next frame into `buffer`; its length, and whether its checksums are still to be checked. Without one, `cx`
    /// is woken when there is.
    pub(crate) fn take(&self, buffer: &mut [u8], cx: &Context<'_>) -> Option<(usize, bool)> {
        let mut inner = self.inner.borrow_mut();
        let Some(Waiting { slot, len, unchecked }) = inner.ready.pop_front() else {
            inner.stack = Some(cx.waker().clone());
            return None;
        };
        self.memory.copy_out(start(slot), buffer.get_mut(..len).unwrap_or_default());
        inner.free(len).push(slot);
        inner.senders.drain(..).for_each(Waker::wake);
        Some((len, unchecked))
    }

    /// Puts the host's own frame where others can fetch it.
    pub(crate) fn place(&self, bytes: &[u8]) -> impl Iterator<Item = Piece> {
        self.memory.copy_in(OUT, bytes);
        own_pieces(&self.memory, OUT, bytes.len())
    }
}

impl<C: CopyGrants, M: DmaMemory> Port for Inbox<C, M> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        let len = frame.len as usize;
        if len > MAX_FRAME {
            return Err(Refused::Unfit);
        }
        let mut inner = self.inner.borrow_mut();
        let slot = inner.free(len).pop().ok_or(Refused::Full)?;
        let waiting = Waiting { slot, len, unchecked: frame.offload.checksum == Checksum::Unchecked };
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
