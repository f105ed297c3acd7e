//! The consoles of all domains: each is pumped for as long as its domain lives, whether somebody looks or not.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;

use conback::{Console, End, Log, Uart};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, GrantRef, Port};
use pv_guest_lib::control::Cap;

use crate::hal::{ForeignPage, GuestPort, RingError, open_ring};
use crate::notices;
use crate::tasks::Tasks;
use crate::uart::UartServer;

/// The grant that every toolstack reserves for the console (`GNTTAB_RESERVED_CONSOLE`, Xen public/grant_table.h).
pub const RESERVED_REFERENCE: GrantRef = GrantRef(0);
/// Bytes of output kept for each console.
const LOG_SIZE: usize = 16 * 1024;

/// A console of a domain.
#[derive(Clone)]
pub enum DomainConsole {
    /// Over a ring.
    Pv(Rc<Console<ForeignPage, GuestPort>>),
    /// Over emulated registers.
    Vuart(Rc<UartServer>),
}

impl DomainConsole {
    /// What it has printed.
    pub fn log(&self) -> &Rc<Log> {
        match self {
            DomainConsole::Pv(console) => console.log(),
            DomainConsole::Vuart(server) => server.uart.log(),
        }
    }

    /// Types `bytes`, waiting while the guest does not read.
    pub async fn write(&self, bytes: &[u8]) {
        match self {
            DomainConsole::Pv(console) => console.write(bytes).await,
            DomainConsole::Vuart(server) => server.uart.write(bytes).await,
        }
    }

    fn stop(&self) {
        match self {
            DomainConsole::Pv(console) => console.stop(),
            DomainConsole::Vuart(server) => server.stop(),
        }
    }
}

/// Which of its consoles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The PV console.
    Pv,
    /// The emulated UART.
    Vuart,
}

/// All consoles.
pub struct Consoles {
    open: RefCell<BTreeMap<(DomId, Kind), DomainConsole>>,
    tasks: Rc<Tasks>,
}

impl Consoles {
    /// None yet; they will be pumped by `tasks`.
    pub fn new(tasks: Rc<Tasks>) -> Self {
        Consoles { open: RefCell::default(), tasks }
    }

    /// Opens the PV console of `domid`: the page that it granted as `reference`, and its unbound port.
    pub fn open(&self, domid: DomId, reference: GrantRef, port: Port) -> Result<(), RingError> {
        let (page, port) = open_ring(domid, reference, port)?;
        let console = Rc::new(Console::new(page, port, Rc::new(Log::new(LOG_SIZE))));
        self.open.borrow_mut().insert((domid, Kind::Pv), DomainConsole::Pv(Rc::clone(&console)));
        self.tasks.spawn(async move {
            match console.run().await {
                End::Stopped => {}
                end @ (End::BrokenOutput | End::BrokenInput) => {
                    notices::warn(domid, format_args!("console: d{domid}: {end}; closed"));
                }
            }
            console.log().close();
        });
        Ok(())
    }

    /// Emulates a UART for `domid`, which `cap` names; its unbound port is to tell of accesses.
    pub fn emulate(&self, domid: DomId, cap: Cap, port: Port) -> Result<(), XenError> {
        let server = Rc::new(UartServer::open(domid, cap, port, Uart::new(Rc::new(Log::new(LOG_SIZE))))?);
        self.open.borrow_mut().insert((domid, Kind::Vuart), DomainConsole::Vuart(Rc::clone(&server)));
        self.tasks.spawn(async move {
            if let Err(error) = server.run().await {
                notices::warn(domid, format_args!("console: d{domid}: its UART ends: the hypervisor answers {error}"));
            }
            server.uart.log().close();
        });
        Ok(())
    }

    /// A console that is open.
    pub fn get(&self, domid: DomId, kind: Kind) -> Option<DomainConsole> {
        self.open.borrow().get(&(domid, kind)).cloned()
    }

    /// Closes the consoles of a domain that is going away; who reads them gets what is left and then the end.
    pub fn close(&self, domid: DomId) {
        for kind in [Kind::Pv, Kind::Vuart] {
            if let Some(console) = self.open.borrow_mut().remove(&(domid, kind)) {
                console.stop();
            }
        }
    }
}
