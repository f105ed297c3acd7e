//! XenStore in Dom0: the database, the components that use it, and the rings of the domains.
//!
//! [`Hub`] holds the server's logic and wakes whoever has something to read. A component speaks through a
//! [`Client`], with the requests that a domain would send; a domain's bytes are moved by [`ring`].

mod client;
mod ring;

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::task::Waker;

use hypercall_abi::ids::DomId;
use xenstore::{Action, ConnId, ConnKind, Error, Store};

use crate::tasks::Tasks;

pub use client::Client;
pub use ring::RESERVED_REFERENCE;

/// The store and those who wait for it.
pub struct Hub {
    store: RefCell<Store>,
    wakers: RefCell<BTreeMap<ConnId, Waker>>,
    rings: RefCell<BTreeMap<DomId, Rc<ring::Ring>>>,
    tasks: Rc<Tasks>,
}

impl Hub {
    /// An empty store, whose rings will be served by `tasks`.
    pub fn new(tasks: Rc<Tasks>) -> Rc<Self> {
        Rc::new(Hub {
            store: RefCell::new(Store::default()),
            wakers: RefCell::default(),
            rings: RefCell::default(),
            tasks,
        })
    }

    /// A connection for a component of Dom0.
    pub fn client(self: &Rc<Self>) -> Result<Client, Error> {
        let conn = self.store.borrow_mut().connect(ConnKind::Local)?;
        Ok(Client::new(Rc::clone(self), conn))
    }

    /// Does something with the store, then what the store wants done because of it.
    fn with<R>(self: &Rc<Self>, act: impl FnOnce(&mut Store) -> R) -> R {
        let result = act(&mut self.store.borrow_mut());
        loop {
            let action = self.store.borrow_mut().take_action();
            let Some(action) = action else { break };
            self.carry_out(action);
        }
        loop {
            let ready = self.store.borrow_mut().take_ready();
            let Some(conn) = ready else { break };
            if let Some(waker) = self.wakers.borrow_mut().remove(&conn) {
                waker.wake();
            } else {
                self.nudge_ring(conn);
            }
        }
        result
    }

    fn carry_out(self: &Rc<Self>, action: Action) {
        match action {
            Action::Introduce { domid, port, .. } => match ring::Ring::open(domid, port) {
                Ok(ring) => {
                    let ring = Rc::new(ring);
                    if let Some(earlier) = self.rings.borrow_mut().insert(domid, Rc::clone(&ring)) {
                        earlier.stop();
                    }
                    let hub = Rc::clone(self);
                    self.tasks.spawn(async move { ring.serve(hub).await });
                }
                Err(error) => log::error!("xenstored: d{domid}: {error}"),
            },
            Action::Release { domid } => {
                if let Some(ring) = self.rings.borrow_mut().remove(&domid) {
                    ring.stop();
                }
            }
        }
    }

    /// A domain's ring looks again whether it can move something.
    fn nudge_ring(&self, conn: ConnId) {
        let kind = self.store.borrow().kind(conn);
        if let Some(ConnKind::Domain { domid }) = kind
            && let Some(ring) = self.rings.borrow().get(&domid)
        {
            ring.nudge();
        }
    }

    /// A domain has shut down: those who watch for the end of domains are told.
    pub fn domain_shut_down(self: &Rc<Self>, domid: DomId) {
        self.with(|store| store.domain_shut_down(domid));
    }

    /// A domain is gone for good: nothing of it stays.
    pub fn domain_died(self: &Rc<Self>, domid: DomId) {
        self.with(|store| store.domain_died(domid));
    }
}
