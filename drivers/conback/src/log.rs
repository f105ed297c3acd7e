//! The last bytes that a domain printed, and readers that follow it.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// A bounded log: when full, the oldest bytes go.
#[derive(Debug)]
pub struct Log {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    bytes: VecDeque<u8>,
    bound: usize,
    /// How many bytes were ever appended; the newest in `bytes` is number `end - 1`.
    end: u64,
    closed: bool,
    waiting: Vec<Waker>,
}

impl Inner {
    /// The number of the oldest byte that is still there.
    fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }
}

/// What a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// So many bytes stand in the buffer.
    Bytes(usize),
    /// So many bytes were overwritten before this reader came for them; the next read goes on after them.
    Missed(u64),
    /// The domain will print no more.
    Closed,
}

impl Log {
    /// An empty log that keeps the last `bound` bytes.
    pub fn new(bound: usize) -> Self {
        Self {
            inner: RefCell::new(Inner {
                bytes: VecDeque::with_capacity(bound),
                bound,
                end: 0,
                closed: false,
                waiting: Vec::new(),
            }),
        }
    }

    /// Adds bytes and wakes the readers.
    pub fn append(&self, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        inner.end += bytes.len() as u64;
        let kept = bytes.get(bytes.len().saturating_sub(inner.bound)..).unwrap_or(bytes);
        let excess = (inner.bytes.len() + kept.len()).saturating_sub(inner.bound);
        inner.bytes.drain(..excess);
        inner.bytes.extend(kept);
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// Says that nothing more will come; readers are told once they have read the rest.
    pub fn close(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.closed = true;
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// Everything that is kept now.
    pub fn snapshot(&self) -> Vec<u8> {
        self.inner.borrow().bytes.iter().copied().collect()
    }

    /// A reader that begins with the oldest byte kept.
    pub fn start(self: &Rc<Self>) -> Reader {
        Reader { next: self.inner.borrow().start(), log: Rc::clone(self) }
    }

    /// A reader that begins with the next byte printed.
    pub fn tail(self: &Rc<Self>) -> Reader {
        Reader { next: self.inner.borrow().end, log: Rc::clone(self) }
    }
}

/// A place in a log.
#[derive(Debug)]
pub struct Reader {
    log: Rc<Log>,
    next: u64,
}

impl Reader {
    /// Takes what is there; `None` when that is nothing yet.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> Option<Chunk> {
        let inner = self.log.inner.borrow();
        let start = inner.start();
        if self.next < start {
            let missed = start - self.next;
            self.next = start;
            return Some(Chunk::Missed(missed));
        }
        // The distance is at most the log's length, which is a usize.
        let skip = usize::try_from(self.next - start).unwrap_or(usize::MAX);
        let mut count = 0;
        for (to, from) in buffer.iter_mut().zip(inner.bytes.iter().skip(skip)) {
            *to = *from;
            count += 1;
        }
        self.next += count as u64;
        match count {
            0 if inner.closed && self.next == inner.end => Some(Chunk::Closed),
            0 => None,
            count => Some(Chunk::Bytes(count)),
        }
    }

    /// Waits for something to be there, and takes it. Dropping the future loses nothing.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Chunk {
        poll_fn(|cx| match self.try_read(buffer) {
            Some(chunk) => Poll::Ready(chunk),
            None => {
                let mut inner = self.log.inner.borrow_mut();
                if !inner.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    inner.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}
