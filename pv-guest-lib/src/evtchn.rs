//! Event channels as something to await.
//!
//! The 2-level ABI: a bit per port in the shared information page. A port is masked when it fires and unmasked
//! when its task waits again, without a hypercall either way; so a peer that sends in a storm costs one
//! interrupt for each time that the task comes round.
//!
//! Example: `examples/events.rs`.

use core::cell::Cell;
use core::future::poll_fn;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll};

use critical_section::Mutex;
use embassy_sync::waitqueue::AtomicWaker;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, Port, VcpuId};
use hypercall_abi::shared_info::{bitmap_position, layout, vcpu_info};

use crate::hypercall;
use crate::shared::Shared;

/// Ports that can be waited for. The control domain talks to every guest, a guest to a few back ends.
const MAX_PORTS: usize = if cfg!(feature = "control") { 4096 } else { 256 };

static WAKERS: [AtomicWaker; MAX_PORTS] = [const { AtomicWaker::new() }; MAX_PORTS];
static SHARED_INFO: Mutex<Cell<Option<Shared<'static>>>> = Mutex::new(Cell::new(None));

/// Takes over the mapped shared information page; all ports start masked.
pub(crate) fn init(page: Shared<'static>) {
    for word in 0..layout::EVTCHN_WORDS {
        page.u64(layout::EVTCHN_MASK + word * 8).store(u64::MAX, Ordering::Relaxed);
        page.u64(layout::EVTCHN_PENDING + word * 8).store(0, Ordering::Relaxed);
    }
    page.u64(vcpu_info::PENDING_SEL).store(0, Ordering::Relaxed);
    page.u8(vcpu_info::UPCALL_PENDING).store(0, Ordering::SeqCst);
    critical_section::with(|cs| SHARED_INFO.borrow(cs).set(Some(page)));
}

/// The mapped shared information page.
pub(crate) fn shared_info() -> Option<Shared<'static>> {
    critical_section::with(|cs| SHARED_INFO.borrow(cs).get())
}

/// The `vcpu_info` of this vCPU: that of the boot vCPU begins the shared information page.
fn own_info(page: Shared<'static>) -> Shared<'static> {
    #[cfg(feature = "smp")]
    return crate::sys::smp::vcpu_info().unwrap_or(page);
    #[cfg(not(feature = "smp"))]
    page
}

/// The vCPU that this runs on.
#[cfg(feature = "smp")]
use crate::sys::smp::current;
#[cfg(not(feature = "smp"))]
const fn current() -> VcpuId {
    VcpuId(0)
}

/// The event interrupt: masks and wakes every port that is pending.
pub(crate) fn upcall() {
    let Some(page) = shared_info() else { return };
    let own = own_info(page);
    // Cleared before the selector is read, so that a later event raises the interrupt again.
    own.u8(vcpu_info::UPCALL_PENDING).store(0, Ordering::SeqCst);
    let mut words = own.u64(vcpu_info::PENDING_SEL).swap(0, Ordering::SeqCst);
    while words != 0 {
        let word = words.trailing_zeros() as usize;
        words &= words - 1;
        let mask = page.u64(layout::EVTCHN_MASK + word * 8);
        let pending = page.u64(layout::EVTCHN_PENDING + word * 8).load(Ordering::SeqCst);
        let mut fired = pending & !mask.load(Ordering::SeqCst);
        mask.fetch_or(fired, Ordering::SeqCst);
        while fired != 0 {
            let bit = fired.trailing_zeros() as usize;
            fired &= fired - 1;
            if let Some(waker) = WAKERS.get(word * 64 + bit) {
                waker.wake();
            }
        }
    }
}

/// Has everybody who waits for a port look again.
pub(crate) fn wake_all() {
    WAKERS.iter().for_each(AtomicWaker::wake);
}

/// An open port of this domain, closed when it is dropped.
#[derive(Debug)]
pub struct EventChannel {
    port: Port,
    closes: bool,
}

impl EventChannel {
    /// Allocates a port that `remote` may bind to.
    ///
    /// # Errors
    /// `ENOSPC` when no port is free, or as the hypervisor answers.
    pub fn alloc_unbound(remote: DomId) -> Result<Self, XenError> {
        Self::opened(hypercall::evtchn_alloc_unbound(remote)?)
    }

    /// Connects to a port that `remote` allocated for this domain.
    ///
    /// # Errors
    /// As the hypervisor answers.
    pub fn bind_interdomain(remote: DomId, port: Port) -> Result<Self, XenError> {
        Self::opened(hypercall::evtchn_bind_interdomain(remote, port)?)
    }

    /// Binds a virtual interrupt on the boot vCPU.
    ///
    /// # Errors
    /// As the hypervisor answers.
    pub fn bind_virq(virq: Virq) -> Result<Self, XenError> {
        Self::opened(hypercall::evtchn_bind_virq(virq, VcpuId(0))?)
    }

    /// Allocates a port that this domain sends to itself; it notifies the vCPU that calls this.
    ///
    /// # Errors
    /// As the hypervisor answers.
    pub fn bind_ipi() -> Result<Self, XenError> {
        Self::opened(hypercall::evtchn_bind_ipi(current())?)
    }

    /// Has the port notify another vCPU than the boot vCPU, so that what it says is handled there. Ports of virtual
    /// interrupts of one vCPU, and of [`EventChannel::bind_ipi`], stay where they are.
    ///
    /// # Errors
    /// `EINVAL` for such a port, `ENOENT` without such a vCPU.
    #[cfg(feature = "smp")]
    pub fn deliver_to(&self, vcpu: VcpuId) -> Result<(), XenError> {
        hypercall::evtchn_bind_vcpu(self.port, vcpu)
    }

    /// A port that the tool stack opened before the domain started (store, console); it stays open.
    #[must_use]
    pub const fn given(port: Port) -> Self {
        Self { port, closes: false }
    }

    fn opened(port: Port) -> Result<Self, XenError> {
        let channel = Self { port, closes: true };
        if (port.0 as usize) < MAX_PORTS { Ok(channel) } else { Err(XenError::NoSpc) }
    }

    /// The port's number.
    #[must_use]
    pub const fn port(&self) -> Port {
        self.port
    }

    /// Notifies the other end.
    ///
    /// # Errors
    /// `EINVAL` when the other end is gone.
    pub fn notify(&self) -> Result<(), XenError> {
        hypercall::evtchn_send(self.port)
    }

    /// Waits for a notification that came since the last wait ended. One task waits at a time.
    pub async fn notified(&self) {
        poll_fn(|context| self.poll_notified(context)).await;
    }

    /// The poll function under [`EventChannel::notified`].
    pub fn poll_notified(&self, context: &mut Context<'_>) -> Poll<()> {
        let (Some(bits), Some(waker)) = (PortBits::of(self.port), WAKERS.get(self.port.0 as usize)) else {
            return Poll::Pending;
        };
        if bits.take_pending() {
            return Poll::Ready(());
        }
        waker.register(context.waker());
        bits.unmask();
        // What came while the port was masked raised no interrupt.
        if bits.take_pending() {
            bits.mask();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        if self.closes {
            if let Some(bits) = PortBits::of(self.port) {
                bits.mask();
            }
            // A failure would mean that the port is closed already, which is what is wanted.
            let _ = hypercall::evtchn_close(self.port);
            if let Some(bits) = PortBits::of(self.port) {
                bits.take_pending();
            }
        }
    }
}

/// The two bits of a port in the shared information page.
struct PortBits {
    pending: &'static AtomicU64,
    mask: &'static AtomicU64,
    bit: u64,
}

impl PortBits {
    fn of(port: Port) -> Option<Self> {
        let ((word, bit), page) = (bitmap_position(port)?, shared_info()?);
        let word_of = |words| page.u64(words + word * 8);
        Some(Self { pending: word_of(layout::EVTCHN_PENDING), mask: word_of(layout::EVTCHN_MASK), bit: 1 << bit })
    }

    fn take_pending(&self) -> bool {
        // A look costs less than a change, and there is nothing to take each second time.
        self.pending.load(Ordering::SeqCst) & self.bit != 0
            && self.pending.fetch_and(!self.bit, Ordering::SeqCst) & self.bit != 0
    }

    fn mask(&self) {
        self.mask.fetch_or(self.bit, Ordering::SeqCst);
    }

    fn unmask(&self) {
        self.mask.fetch_and(!self.bit, Ordering::SeqCst);
    }
}
