//! The store as a component of Dom0 sees it.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;

use xenstore::{ConnId, Error, Reply, Request, TxId, WatchEvent};

use super::Hub;

/// A connection, closed when it is dropped; its watches go with it.
pub struct Client {
    hub: Rc<Hub>,
    conn: ConnId,
}

/// A transaction of a client, aborted when it is dropped without a commit.
pub struct Transaction<'a> {
    client: &'a Client,
    tx: TxId,
    open: bool,
}

impl Client {
    pub(super) fn new(hub: Rc<Hub>, conn: ConnId) -> Self {
        Client { hub, conn }
    }

    /// Makes a request outside any transaction.
    pub fn request(&self, request: Request<'_>) -> Result<Reply, Error> {
        self.hub.with(|store| store.request(self.conn, TxId::NONE, request))
    }

    /// A node's value as text; bytes that are none become replacement characters.
    pub fn read(&self, path: &str) -> Result<String, Error> {
        self.request(Request::Read { path }).map(|reply| text(&reply))
    }

    /// A node's value as a number; `None` if it is not there or not a number.
    pub fn number(&self, path: &str) -> Option<u32> {
        self.read(path).ok()?.trim().parse().ok()
    }

    /// Sets a node's value.
    pub fn write(&self, path: &str, value: &str) -> Result<(), Error> {
        self.request(Request::Write { path, value: value.as_bytes() }).map(drop)
    }

    /// Removes a node and what is below; fine if it is not there.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        match self.request(Request::Rm { path }) {
            Ok(_) | Err(Error::NoNode) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Names of a node's children; none if the node is not there.
    pub fn children(&self, path: &str) -> Vec<String> {
        match self.request(Request::Directory { path }) {
            Ok(Reply::Names(names)) => names.iter().map(|name| String::from(&**name)).collect(),
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Watches a path; the first event comes at once.
    pub fn watch(&self, path: &str, token: &str) -> Result<(), Error> {
        self.request(Request::Watch { path, token: token.as_bytes() }).map(drop)
    }

    /// Stops watching a path.
    pub fn unwatch(&self, path: &str, token: &str) -> Result<(), Error> {
        self.request(Request::Unwatch { path, token: token.as_bytes() }).map(drop)
    }

    /// The next event of this connection's watches.
    pub async fn event(&self) -> WatchEvent {
        poll_fn(|context| match self.hub.store.borrow_mut().take_event(self.conn) {
            Some(event) => Poll::Ready(event),
            None => {
                self.hub.wakers.borrow_mut().insert(self.conn, context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Starts a transaction.
    pub fn transaction(&self) -> Result<Transaction<'_>, Error> {
        match self.request(Request::TransactionStart)? {
            Reply::Transaction(tx) => Ok(Transaction { client: self, tx, open: true }),
            _ => Err(Error::NoNode),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hub.wakers.borrow_mut().remove(&self.conn);
        self.hub.with(|store| store.disconnect(self.conn));
    }
}

impl Transaction<'_> {
    /// Makes a request within the transaction.
    pub fn request(&self, request: Request<'_>) -> Result<Reply, Error> {
        self.client.hub.with(|store| store.request(self.client.conn, self.tx, request))
    }

    /// Makes the changes; [`Error::Again`] if somebody else changed what they rest on.
    pub fn commit(mut self) -> Result<(), Error> {
        self.open = false;
        self.request(Request::TransactionEnd { commit: true }).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // Nothing was changed, so nothing is lost if the store has forgotten it already.
            let _ = self.request(Request::TransactionEnd { commit: false });
        }
    }
}

/// A reply that is a value, as text.
fn text(reply: &Reply) -> String {
    match reply {
        Reply::Value(value) => String::from_utf8_lossy(value).into_owned(),
        Reply::Path(text) | Reply::Text(text) => text.clone(),
        Reply::Done
        | Reply::Names(_)
        | Reply::Part { .. }
        | Reply::Perms(_)
        | Reply::Transaction(_)
        | Reply::Introduced(_) => String::new(),
    }
}
