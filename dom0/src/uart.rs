//! The UART that Dom0 emulates for a domain (`vuart="sbsa_uart"`): its registers are `conback`'s, the accesses come from the
//! microkernel, one at a time for each vCPU.

use core::cell::Cell;

use conback::Uart;
use driver_api::EventPort;
use embassy_futures::select::select;
use embassy_futures::yield_now;
use hypercall_abi::arm::{GUEST_PL011_BASE, GUEST_PL011_SIZE, GUEST_VPL011_SPI};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Port, VcpuId};
use pv_guest_lib::addr::{Ipa, IpaRange};
use pv_guest_lib::control::{self, Cap, IoRequest};

use crate::hal::GuestPort;

/// Accesses that are answered before the executor gets a turn, however busy the guest is.
const BUDGET: usize = 16;

/// A UART and the domain that it is emulated for.
pub struct UartServer {
    /// The registers.
    pub uart: Uart,
    cap: Cap,
    /// The domain's port, and our end of it.
    port: Port,
    events: GuestPort,
    /// Whether the interrupt line was high when the domain was told last.
    line: Cell<bool>,
    stopped: Cell<bool>,
}

impl UartServer {
    /// Puts `uart` where domain `domid`, which `cap` names, expects it; its unbound `port` is to tell of accesses.
    pub fn open(domid: DomId, cap: Cap, port: Port, uart: Uart) -> Result<Self, XenError> {
        let events = GuestPort::bind(domid, port)?;
        let range = IpaRange::new(Ipa::new(GUEST_PL011_BASE), GUEST_PL011_SIZE).ok_or(XenError::Inval)?;
        control::serve_io(cap, range, port)?;
        Ok(UartServer { uart, cap, port, events, line: Cell::new(false), stopped: Cell::new(false) })
    }

    /// Answers accesses until it is stopped; an error is the hypervisor's.
    pub async fn run(&self) -> Result<(), XenError> {
        let mut answered = 0;
        // The domain's capability may name another domain once this was stopped: that is looked at after every wait.
        while !self.stopped.get() {
            self.tell()?;
            match control::next_io(self.cap, self.port, VcpuId(0)) {
                Ok(request) => self.answer(request).await?,
                Err(XenError::NoEnt) => {
                    select(self.events.wait(), self.uart.changed()).await;
                }
                Err(error) => return Err(error),
            }
            answered += 1;
            if answered % BUDGET == 0 {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Ends [`Self::run`].
    pub fn stop(&self) {
        self.stopped.set(true);
        self.uart.wake();
    }

    async fn answer(&self, request: IoRequest) -> Result<(), XenError> {
        let offset = request.address.wrapping_sub(GUEST_PL011_BASE);
        let value = if request.is_write == 0 {
            u64::from(self.uart.load(offset))
        } else {
            // Registers have 32 bits; what a wider store has above them is lost.
            let low = request.value & u64::from(u32::MAX);
            self.uart.store(offset, u32::try_from(low).unwrap_or(0));
            0
        };
        self.tell()?;
        while !self.stopped.get() {
            match control::answer_io(self.cap, request.vcpu, value) {
                // The vCPU is on its way off its pCPU.
                Err(XenError::Again) => yield_now().await,
                result => return result,
            }
        }
        Ok(())
    }

    /// Makes the domain's interrupt follow the line.
    fn tell(&self) -> Result<(), XenError> {
        let line = self.uart.line();
        if self.line.replace(line) == line { Ok(()) } else { control::set_irq_level(self.cap, GUEST_VPL011_SPI, line) }
    }
}
