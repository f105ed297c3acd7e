//! Interrupts of the domain: who handles which number.
//!
//! A [`Line`] turns a device's level interrupt into something to await: it is masked when it fires and stays so
//! until its task waits again, so a device that a task has not served yet cannot interrupt in a loop.
//!
//! Example: `examples/device.rs`.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;

use critical_section::Mutex;
use embassy_sync::waitqueue::AtomicWaker;
use heapless::Vec;

use crate::sys::gic;

/// Most interrupts that can be registered.
const MAX_HANDLERS: usize = 64;

/// How an interrupt signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As long as the device holds its line.
    Level,
    /// Once for each event.
    Edge,
}

/// Why an interrupt could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqError {
    /// The device tree has no usable GIC.
    NoController,
    /// The controller has no such interrupt.
    BadNumber,
    /// Somebody has registered it.
    Taken,
    /// The table is full.
    NoSpace,
}

impl core::fmt::Display for IrqError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoController => "no usable GIC",
            Self::BadNumber => "no such interrupt",
            Self::Taken => "the interrupt is taken",
            Self::NoSpace => "too many interrupts",
        })
    }
}

impl core::error::Error for IrqError {}

#[derive(Clone, Copy)]
enum Handler {
    Call(fn()),
    Wake(&'static Line),
}

static HANDLERS: Mutex<RefCell<Vec<(u32, Mode, Handler), MAX_HANDLERS>>> = Mutex::new(RefCell::new(Vec::new()));

/// Calls `handler` with interrupts masked each time `intid` (16 + n for PPI n, 32 + n for SPI n) fires; a PPI on whichever
/// vCPU it fires, an SPI on the boot vCPU.
///
/// # Errors
/// See [`IrqError`].
pub fn register(intid: u32, mode: Mode, handler: fn()) -> Result<(), IrqError> {
    add(intid, mode, Handler::Call(handler))?;
    gic::enable(intid, true)
}

fn add(intid: u32, mode: Mode, handler: Handler) -> Result<(), IrqError> {
    gic::configure(intid, mode)?;
    critical_section::with(|cs| {
        let mut handlers = HANDLERS.borrow(cs).borrow_mut();
        if handlers.iter().any(|(taken, ..)| *taken == intid) {
            return Err(IrqError::Taken);
        }
        handlers.push((intid, mode, handler)).map_err(|_| IrqError::NoSpace)
    })
}

/// An interrupt to await; put it into a `static`.
pub struct Line {
    state: Mutex<Cell<State>>,
    waker: AtomicWaker,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Unbound,
    Masked(u32),
    Waiting,
    Fired(u32),
}

impl Line {
    /// A line that is not bound to an interrupt yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "for statics, where Default cannot be called")]
    pub const fn new() -> Self {
        Self { state: Mutex::new(Cell::new(State::Unbound)), waker: AtomicWaker::new() }
    }

    /// Binds the line to the interrupt `intid`, which stays masked until somebody waits.
    ///
    /// # Errors
    /// See [`IrqError`]; [`IrqError::Taken`] also when the line is bound already.
    pub fn bind(&'static self, intid: u32, mode: Mode) -> Result<(), IrqError> {
        if !matches!(self.state(), State::Unbound) {
            return Err(IrqError::Taken);
        }
        add(intid, mode, Handler::Wake(self))?;
        self.set(State::Masked(intid));
        Ok(())
    }

    /// Waits until the interrupt has fired; it is masked from then to the next wait. One task waits at a time.
    ///
    /// An unbound line waits for ever.
    pub async fn wait(&'static self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.state() {
                State::Fired(intid) => {
                    self.set(State::Masked(intid));
                    return Poll::Ready(());
                }
                State::Masked(intid) => {
                    self.set(State::Waiting);
                    let _ = gic::enable(intid, true);
                }
                State::Waiting | State::Unbound => {}
            }
            Poll::Pending
        })
        .await;
    }

    fn state(&self) -> State {
        critical_section::with(|cs| self.state.borrow(cs).get())
    }

    fn set(&self, state: State) {
        critical_section::with(|cs| self.state.borrow(cs).set(state));
    }

    fn fired(&self, intid: u32) {
        let _ = gic::enable(intid, false);
        self.set(State::Fired(intid));
        self.waker.wake();
    }
}

/// Lets the interrupts that each vCPU has of its own (PPIs) reach a further one as they reach the boot vCPU.
#[cfg(feature = "smp")]
pub(crate) fn start_cpu(cpu: usize) {
    let handlers = critical_section::with(|cs| HANDLERS.borrow(cs).borrow().clone());
    for (intid, mode, handler) in handlers {
        if intid < 32 && matches!(handler, Handler::Call(_)) {
            // It works on the boot vCPU, so it does here.
            let _ = gic::enable_on(cpu, intid, mode);
        }
    }
}

/// Serves every interrupt that is pending; called by the vectors, interrupts masked.
pub(crate) fn handle() {
    while let Some(taken) = gic::acknowledge() {
        let intid = taken.number();
        let handler = critical_section::with(|cs| {
            HANDLERS.borrow(cs).borrow().iter().find(|(number, ..)| *number == intid).map(|(.., handler)| *handler)
        });
        match handler {
            Some(Handler::Call(function)) => function(),
            Some(Handler::Wake(line)) => line.fired(intid),
            None => {}
        }
        gic::end(taken);
    }
}
