//! Frames for the host, from the bridge to the stack.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Context, Poll, Waker};

use driver_api::gather::Gather;
use driver_api::net::{CopyGrants, Frame, Piece, Port, Refused, own_pieces};
use driver_api::{DmaMemory, PAGE_SIZE};

use crate::link::MAX_FRAME;

/// Frames that wait for the stack at most.
const SLOTS: usize = 64;
/// Bytes of memory for each.
const SLOT: usize = 10 * 1024;
/// Bytes of memory that the host's port needs; it starts at a page. The last slot is what the host sends from.
pub const MEMORY: usize = (SLOTS * SLOT + SLOT).next_multiple_of(PAGE_SIZE);

const _: () = assert!(MAX_FRAME <= SLOT);

#[derive(Default)]
struct Inner {
    free: Vec<usize>,
    /// What is fetched into slots at the next commit.
    gather: Gather<usize>,
    /// Slots that hold a frame, and its length.
    ready: VecDeque<(usize, usize)>,
    /// The stack, which waits for frames.
    stack: Option<Waker>,
    /// Senders, which wait for room.
    senders: Vec<Waker>,
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
        let inner = Inner { free: (0..SLOTS).collect(), ..Inner::default() };
        Inbox { copier, memory, inner: RefCell::new(inner) }
    }

    /// Copies the next frame into `buffer`; its length. Without one, `cx` is woken when there is.
    pub(crate) fn take(&self, buffer: &mut [u8], cx: &Context<'_>) -> Option<usize> {
        let mut inner = self.inner.borrow_mut();
        let Some((slot, len)) = inner.ready.pop_front() else {
            inner.stack = Some(cx.waker().clone());
            return None;
        };
        self.memory.copy_out(slot * SLOT, buffer.get_mut(..len).unwrap_or_default());
        inner.free.push(slot);
        inner.senders.drain(..).for_each(Waker::wake);
        Some(len)
    }

    /// Puts the host's own frame where others can fetch it.
    pub(crate) fn place(&self, bytes: &[u8]) -> impl Iterator<Item = Piece> {
        self.memory.copy_in(SLOTS * SLOT, bytes);
        own_pieces(&self.memory, SLOTS * SLOT, bytes.len())
    }
}

impl<C: CopyGrants, M: DmaMemory> Port for Inbox<C, M> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        let len = frame.len as usize;
        if !frame.is_complete() || len > MAX_FRAME {
            return Err(Refused::Unfit);
        }
        let mut inner = self.inner.borrow_mut();
        let slot = inner.free.pop().ok_or(Refused::Full)?;
        inner.gather.take(frame, own_pieces(&self.memory, slot * SLOT, len), slot).map_err(|slot| {
            inner.free.push(slot);
            Refused::Unfit
        })
    }

    fn commit(&self) {
        let mut inner = self.inner.borrow_mut();
        let Inner { free, gather, ready, stack, .. } = &mut *inner;
        gather.fetch(&self.copier, |slot, len, came| if came { ready.push_back((slot, len)) } else { free.push(slot) });
        if ready.is_empty() {
            return;
        }
        if let Some(waker) = stack.take() {
            waker.wake();
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        if !inner.free.is_empty() {
            return Poll::Ready(());
        }
        if !inner.senders.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.senders.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
