//! The consoles of all domains: each is pumped for as long as its domain lives, whether somebody looks or not.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;

use conback::{Console, End, Log};
use hypercall_abi::ids::{DomId, GrantRef, Port};

use crate::hal::{ForeignPage, GuestPort, RingError, open_ring};
use crate::tasks::Tasks;

/// The grant that every toolstack reserves for the console (`GNTTAB_RESERVED_CONSOLE`, Xen public/grant_table.h).
pub const RESERVED_REFERENCE: GrantRef = GrantRef(0);
/// Bytes of output kept for each console.
const LOG_SIZE: usize = 16 * 1024;

/// A console of a domain.
pub type DomainConsole = Console<ForeignPage, GuestPort>;

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
    open: RefCell<BTreeMap<(DomId, Kind), Rc<DomainConsole>>>,
    tasks: Rc<Tasks>,
}

impl Consoles {
    /// None yet; they will be pumped by `tasks`.
    pub fn new(tasks: Rc<Tasks>) -> Self {
        Consoles { open: RefCell::default(), tasks }
    }

    /// Opens a console of `domid`: the page that it granted as `reference`, and its unbound port.
    pub fn open(&self, domid: DomId, kind: Kind, reference: GrantRef, port: Port) -> Result<(), RingError> {
        let (page, port) = open_ring(domid, reference, port)?;
        let console = Rc::new(Console::new(page, port, Rc::new(Log::new(LOG_SIZE))));
        self.open.borrow_mut().insert((domid, kind), Rc::clone(&console));
        self.tasks.spawn(async move {
            match console.run().await {
                End::Stopped => {}
                end @ (End::BrokenOutput | End::BrokenInput) => log::warn!("console: d{domid}: {end}; closed"),
            }
            console.log().close();
        });
        Ok(())
    }

    /// A console that is open.
    pub fn get(&self, domid: DomId, kind: Kind) -> Option<Rc<DomainConsole>> {
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
