//! The pump over one console page (Xen public/io/console.h).
//!
//! Our two indices are private; the page only receives copies. The guest's two are read once each pass, and one
//! that cannot be true ends the console, for the bytes between the indices have no meaning any more.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use driver_api::{EventPort, SharedPage, WaitQueue};
use embassy_futures::select::select;
use embassy_futures::yield_now;
use hypercall_abi::xencons::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE};

use crate::log::Log;

/// Typed bytes kept while the guest's ring is full; more have to wait.
const TYPED_BOUND: usize = 256;
/// Passes before the executor gets a turn, however busy the guest is.
const BUDGET: usize = 8;

/// Why a console ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host asked for it.
    Stopped,
    /// The guest claims more output than its ring holds.
    BrokenOutput,
    /// The guest claims to have read input that was never written.
    BrokenInput,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::BrokenOutput => "the guest's output index is beyond the console ring",
            Self::BrokenInput => "the guest's input index is beyond the console ring",
        })
    }
}

/// A domain's console.
pub struct Console<P, E> {
    page: P,
    port: E,
    log: Rc<Log>,
    /// The next byte of output to take; what `out_cons` in the page is to say.
    out_cons: Cell<u32>,
    /// The next byte of input to put; what `in_prod` in the page is to say.
    in_prod: Cell<u32>,
    typed: RefCell<VecDeque<u8>>,
    room: WaitQueue,
    pump: RefCell<Option<Waker>>,
    kick: Cell<bool>,
    stop: Cell<bool>,
}

impl<P: SharedPage, E: EventPort> Console<P, E> {
    /// Serves `page`, adding what the guest prints to `log`. The indices go on from where the page has ours.
    pub fn new(page: P, port: E, log: Rc<Log>) -> Self {
        Self {
            out_cons: Cell::new(page.load_u32(OUT_CONS)),
            in_prod: Cell::new(page.load_u32(IN_PROD)),
            page,
            port,
            log,
            typed: RefCell::new(VecDeque::new()),
            room: WaitQueue::new(),
            pump: RefCell::new(None),
            kick: Cell::new(false),
            stop: Cell::new(false),
        }
    }

    /// The log.
    pub fn log(&self) -> &Rc<Log> {
        &self.log
    }

    /// Moves bytes until the host stops it or the guest breaks the ring. What the guest had printed by then is in
    /// the log.
    pub async fn run(&self) -> End {
        let mut passes = 0;
        loop {
            let moved = match self.pass() {
                Ok(moved) => moved,
                Err(end) => return end,
            };
            if self.stop.get() {
                return End::Stopped;
            }
            passes += 1;
            if passes >= BUDGET {
                passes = 0;
                yield_now().await;
            } else if !moved {
                select(self.port.wait(), self.kicked()).await;
            }
        }
    }

    /// Ends [`Self::run`] after a last look at the ring.
    pub fn stop(&self) {
        self.stop.set(true);
        self.kick();
    }

    /// Takes as many of `bytes` as there is room for, as typed by the user, and says how many that is.
    pub fn try_write(&self, bytes: &[u8]) -> usize {
        let mut typed = self.typed.borrow_mut();
        let count = bytes.len().min(TYPED_BOUND.saturating_sub(typed.len()));
        typed.extend(bytes.iter().take(count));
        drop(typed);
        if count != 0 {
            self.kick();
        }
        count
    }

    /// Types all of `bytes`, waiting while the guest does not read.
    pub async fn write(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.room.until(|| Some(self.try_write(rest)).filter(|&count| count != 0)).await;
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// One look at each ring; says whether anything moved.
    fn pass(&self) -> Result<bool, End> {
        let read = self.take_output()?;
        let written = self.put_input()?;
        if read || written {
            self.port.notify();
        }
        Ok(read || written)
    }

    fn take_output(&self) -> Result<bool, End> {
        let cons = self.out_cons.get();
        let ready = self.page.load_u32(OUT_PROD).wrapping_sub(cons) as usize;
        if ready > OUT_SIZE {
            return Err(End::BrokenOutput);
        }
        if ready == 0 {
            return Ok(false);
        }
        let mut buffer = [0u8; OUT_SIZE];
        let at = cons as usize % OUT_SIZE;
        let (first, second) = buffer.split_at_mut(ready.min(OUT_SIZE - at));
        let wrapped = ready - first.len();
        self.page.copy_out(OUT + at, first);
        self.log.append(first);
        if let Some(second) = second.get_mut(..wrapped).filter(|part| !part.is_empty()) {
            self.page.copy_out(OUT, second);
            self.log.append(second);
        }
        // The guest may overwrite the bytes as soon as it sees the index.
        self.page.full_barrier();
        let cons = advance(cons, ready);
        self.out_cons.set(cons);
        self.page.store_u32(OUT_CONS, cons);
        Ok(true)
    }

    fn put_input(&self) -> Result<bool, End> {
        let prod = self.in_prod.get();
        let unread = prod.wrapping_sub(self.page.load_u32(IN_CONS)) as usize;
        if unread > IN_SIZE {
            return Err(End::BrokenInput);
        }
        let mut typed = self.typed.borrow_mut();
        let count = typed.len().min(IN_SIZE - unread);
        if count == 0 {
            return Ok(false);
        }
        for (index, byte) in typed.drain(..count).enumerate() {
            let at = (prod as usize).wrapping_add(index) % IN_SIZE;
            self.page.copy_in(IN + at, &[byte]);
        }
        drop(typed);
        let prod = advance(prod, count);
        self.in_prod.set(prod);
        self.page.store_u32(IN_PROD, prod);
        self.room.wake();
        Ok(true)
    }

    fn kick(&self) {
        self.kick.set(true);
        if let Some(waker) = self.pump.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn kicked(&self) {
        poll_fn(|cx| {
            if self.kick.replace(false) {
                return Poll::Ready(());
            }
            *self.pump.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A free-running index, `count` further; counts here are at most a ring's size.
fn advance(index: u32, count: usize) -> u32 {
    u32::try_from(count).map_or(index, |count| index.wrapping_add(count))
}
