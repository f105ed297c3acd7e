//! Watches: which token belongs to whom.
//!
//! Events carry no news but that something changed, and several before one wait are one; the watcher reads the
//! node again anyhow.

use core::cell::RefCell;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use critical_section::Mutex;

use futures_core::Stream;

use super::abandoned::{self, Abandoned};
use super::{Path, XsError};

/// Watches that can be open at once.
pub(super) const MAX_WATCHES: usize = 32;

/// A token as text.
pub(super) type Token = heapless::String<12>;

struct Slots {
    slots: [Slot; MAX_WATCHES],
    /// The number that was given last.
    last: u32,
}

struct Slot {
    /// Which watch has the slot; 0 for none.
    number: u32,
    fired: bool,
    waker: Option<Waker>,
    /// What is watched, for a store that has to be told again.
    path: Path,
}

static SLOTS: Mutex<RefCell<Slots>> =
    Mutex::new(RefCell::new(Slots { slots: [const { Slot::FREE }; MAX_WATCHES], last: 0 }));

impl Slot {
    const FREE: Self = Self { number: 0, fired: false, waker: None, path: Path::new() };
}

impl Slots {
    fn find(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.number == number)
    }
}

/// An open watch, also a stream of changes without an end. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    number: u32,
    path: Path,
}

impl Watch {
    pub(super) fn open(path: &str) -> Result<Self, XsError> {
        let path = Path::try_from(path).map_err(|_| XsError::TooLong)?;
        let number = critical_section::with(|cs| {
            let mut slots = SLOTS.borrow(cs).borrow_mut();
            let number = slots.last.wrapping_add(1).max(1);
            slots.last = number;
            let free = slots.find(0).ok_or(XsError::TooLong)?;
            *free = Slot { number, path: path.clone(), ..Slot::FREE };
            Ok(number)
        })?;
        Ok(Self { number, path })
    }

    /// The watched node.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn token(&self) -> Token {
        token(self.number)
    }

    /// Waits until something changed since the last wait ended.
    pub async fn changed(&mut self) {
        poll_fn(|context| self.poll_changed(context)).await;
    }

    fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        critical_section::with(|cs| {
            let mut slots = SLOTS.borrow(cs).borrow_mut();
            let Some(slot) = slots.find(self.number) else { return Poll::Pending };
            if core::mem::take(&mut slot.fired) {
                return Poll::Ready(());
            }
            slot.waker = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Stops listening; the store is the caller's to tell.
    pub(super) fn into_parts(mut self) -> (Path, Token) {
        let parts = (core::mem::take(&mut self.path), self.token());
        self.forget();
        core::mem::forget(self);
        parts
    }

    fn forget(&self) {
        critical_section::with(|cs| {
            if let Some(slot) = SLOTS.borrow(cs).borrow_mut().find(self.number) {
                *slot = Slot::FREE;
            }
        });
    }
}

/// Each item is one or more changes since the one before.
impl Stream for Watch {
    type Item = ();

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.get_mut().poll_changed(context).map(Some)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.forget();
        abandoned::leave(Abandoned::Watch(core::mem::take(&mut self.path), self.token()));
    }
}

fn token(number: u32) -> Token {
    let mut token = Token::new();
    // A 'w' and ten digits fit.
    let _ = core::fmt::write(&mut token, format_args!("w{number}"));
    token
}

/// The watch that has a slot.
pub(super) fn in_slot(slot: usize) -> Option<(Path, Token)> {
    critical_section::with(|cs| {
        let slots = SLOTS.borrow(cs).borrow();
        let slot = slots.slots.get(slot).filter(|slot| slot.number != 0)?;
        Some((slot.path.clone(), token(slot.number)))
    })
}

/// Delivers the payload of a watch event: path, NUL, token, NUL.
pub(super) fn deliver(payload: &[u8]) {
    let mut fields = payload.split(|&byte| byte == 0);
    let token = fields.nth(1).and_then(|token| core::str::from_utf8(token).ok());
    let number = token.and_then(|token| token.strip_prefix('w')?.parse().ok());
    let Some(number) = number.filter(|number| *number != 0) else { return };
    let waker = critical_section::with(|cs| {
        let mut slots = SLOTS.borrow(cs).borrow_mut();
        let slot = slots.find(number)?;
        slot.fired = true;
        slot.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}
