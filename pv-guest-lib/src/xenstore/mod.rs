//! The XenStore client: requests as async functions, watches as something to await.
//!
//! One task, the pump, moves bytes between the ring and two buffers; requests take turns. So a request may be
//! dropped at any await without tearing a message, and the answer of a dropped request is recognised by its
//! number and skipped.
//!
//! Example: `examples/store.rs`.

mod abandoned;
mod error;
mod pump;
mod watch;

use core::ops::Deref;
use core::str::FromStr;

use embassy_executor::Spawner;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::mutex::{Mutex, MutexGuard};
use hypercall_abi::errno::XenError;
use hypercall_abi::xs_wire::{PAYLOAD_MAX, XsOp};

pub use error::XsError;
pub use watch::Watch;

/// Longest path that the helpers of this crate build.
pub const PATH_LEN: usize = 256;
/// A path.
pub type Path = heapless::String<PATH_LEN>;

/// Whose turn it is.
static TURN: Mutex<CriticalSectionRawMutex, ()> = Mutex::new(());

/// The domain's connection to the store. Paths that do not start with `/` are relative to the domain's own
/// directory.
#[derive(Clone, Copy, Debug)]
pub struct XenStore {
    transaction: u32,
}

/// Opens the connection, the first time that it is called, and spawns its tasks. Without a store every request fails
/// with [`XsError::NoStore`].
#[must_use]
pub fn start(spawner: Spawner) -> XenStore {
    pump::start(spawner);
    XenStore { transaction: 0 }
}

/// Keeps requests from being made until the guard is dropped.
pub(crate) async fn pause() -> MutexGuard<'static, CriticalSectionRawMutex, ()> {
    TURN.lock().await
}

/// Opens the connection again, after the domain was restored.
pub(crate) fn reopen() {
    pump::reopen();
}

/// Sets all watches again, which a store that did not know the domain before has not.
///
/// # Errors
/// As the store refuses.
pub(crate) async fn watch_again() -> Result<(), XsError> {
    let store = XenStore { transaction: 0 };
    for slot in 0..watch::MAX_WATCHES {
        let Some((path, token)) = watch::in_slot(slot) else { continue };
        match store.order(XsOp::Watch, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"]).await {
            Ok(()) | Err(XsError::Refused(XenError::Exist)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `directory` and `name` with a slash between.
///
/// # Errors
/// [`XsError::TooLong`] beyond [`PATH_LEN`].
pub fn join(directory: &str, name: &str) -> Result<Path, XsError> {
    let mut path = Path::new();
    path.push_str(directory)
        .and_then(|()| path.push('/'))
        .and_then(|()| path.push_str(name))
        .map_err(|_| XsError::TooLong)?;
    Ok(path)
}

impl XenStore {
    /// Makes a request and hands the answer's payload to `take`.
    async fn request(&self, op: XsOp, parts: &[&[u8]], take: pump::Take<'_>) -> Result<(), XsError> {
        let _turn = TURN.lock().await;
        let number = pump::send(op, self.transaction, parts).await?;
        pump::answer(number, op, take).await
    }

    /// Makes a request whose answer's payload goes to a buffer; returns how long it is.
    async fn fetch(&self, op: XsOp, path: &str, buffer: &mut [u8]) -> Result<usize, XsError> {
        let mut length = 0;
        let mut take = |value: &[u8]| {
            length = value.len();
            buffer.get_mut(..length).ok_or(XsError::TooLong)?.copy_from_slice(value);
            Ok(())
        };
        self.request(op, &[path.as_bytes(), b"\0"], &mut take).await?;
        Ok(length)
    }

    /// Makes a request whose answer says nothing but that it was done.
    async fn order(&self, op: XsOp, parts: &[&[u8]]) -> Result<(), XsError> {
        self.request(op, parts, &mut |_| Ok(())).await
    }

    /// The value of a node, at most as long as the buffer.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `ENOENT` without such a node, `EACCES` without the right to read it;
    /// [`XsError::TooLong`] when it does not fit.
    pub async fn read<'b>(&self, path: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], XsError> {
        let length = self.fetch(XsOp::Read, path, buffer).await?;
        buffer.get(..length).ok_or(XsError::TooLong)
    }

    /// The value of a node as text.
    ///
    /// # Errors
    /// As for [`XenStore::read`]; [`XsError::Malformed`] when it is not UTF-8.
    pub async fn read_text<'b>(&self, path: &str, buffer: &'b mut [u8]) -> Result<&'b str, XsError> {
        core::str::from_utf8(self.read(path, buffer).await?).map_err(|_| XsError::Malformed)
    }

    /// The value of a node that holds a number in decimal, or whatever `T` parses from at most 32 bytes.
    ///
    /// # Errors
    /// As for [`XenStore::read`]; [`XsError::Malformed`] when it cannot be parsed.
    pub async fn read_number<T: FromStr>(&self, path: &str) -> Result<T, XsError> {
        let mut buffer = [0; 32];
        self.read_text(path, &mut buffer).await?.trim_ascii().parse().map_err(|_| XsError::Malformed)
    }

    /// Sets the value of a node, which is made when it is missing.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `EACCES` without the right, `ENOSPC` beyond the quota.
    pub async fn write(&self, path: &str, value: &[u8]) -> Result<(), XsError> {
        self.order(XsOp::Write, &[path.as_bytes(), b"\0", value]).await
    }

    /// Sets the value of a node to a number in decimal.
    ///
    /// # Errors
    /// As for [`XenStore::write`].
    pub async fn write_number(&self, path: &str, value: u64) -> Result<(), XsError> {
        let mut text = heapless::String::<20>::new();
        core::fmt::write(&mut text, format_args!("{value}")).map_err(|_| XsError::TooLong)?;
        self.write(path, text.as_bytes()).await
    }

    /// Makes a node without a value, unless it is there.
    ///
    /// # Errors
    /// As for [`XenStore::write`].
    pub async fn mkdir(&self, path: &str) -> Result<(), XsError> {
        self.order(XsOp::Mkdir, &[path.as_bytes(), b"\0"]).await
    }

    /// Removes a node and all below it; a missing node is no error as long as its parent is there.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `ENOENT` or `EACCES`.
    pub async fn rm(&self, path: &str) -> Result<(), XsError> {
        self.order(XsOp::Rm, &[path.as_bytes(), b"\0"]).await
    }

    /// The names of a node's children.
    ///
    /// # Errors
    /// As for [`XenStore::read`].
    pub async fn directory<'b>(
        &self,
        path: &str,
        buffer: &'b mut [u8],
    ) -> Result<impl Iterator<Item = &'b str> + use<'b>, XsError> {
        let length = self.fetch(XsOp::Directory, path, buffer).await?;
        let names = core::str::from_utf8(buffer.get(..length).ok_or(XsError::TooLong)?);
        Ok(names.map_err(|_| XsError::Malformed)?.split_terminator('\0'))
    }

    /// Watches a node and all below it; the watch fires once at the start, as the protocol has it.
    ///
    /// # Errors
    /// [`XsError::TooLong`] when all slots are in use, or as the store refuses.
    pub async fn watch(&self, path: &str) -> Result<Watch, XsError> {
        let watch = Watch::open(path)?;
        let (path, token) = (watch.path(), watch.token());
        self.order(XsOp::Watch, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"]).await?;
        Ok(watch)
    }

    /// Ends a watch, and says whether the store agrees; dropping the watch ends it as well.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn unwatch(&self, watch: Watch) -> Result<(), XsError> {
        let (path, token) = watch.into_parts();
        self.end_watch(&path, &token).await
    }

    async fn end_watch(&self, path: &str, token: &str) -> Result<(), XsError> {
        self.order(XsOp::Unwatch, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"]).await
    }

    /// Starts a transaction: reads through it see one state, and writes become visible together.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `ENOSPC` when the domain has too many open.
    pub async fn begin(&self) -> Result<Transaction, XsError> {
        let mut transaction = 0;
        let mut take = |id: &[u8]| {
            let text = core::str::from_utf8(id).map_err(|_| XsError::Malformed)?;
            transaction = text.trim_end_matches('\0').parse().map_err(|_| XsError::Malformed)?;
            Ok(())
        };
        self.request(XsOp::TransactionStart, &[b"\0"], &mut take).await?;
        Ok(Transaction { store: Self { transaction } })
    }
}

/// A running transaction: [`commit`](Transaction::commit) makes its writes visible, and dropping it forgets them.
#[derive(Debug)]
#[must_use = "a transaction that is not committed changes nothing"]
pub struct Transaction {
    store: XenStore,
}

impl Deref for Transaction {
    type Target = XenStore;

    fn deref(&self) -> &XenStore {
        &self.store
    }
}

impl Transaction {
    /// Makes all writes visible.
    ///
    /// # Errors
    /// [`XsError::Refused`] with [`XenError::Again`] when something that was read has changed: start over.
    pub async fn commit(self) -> Result<(), XsError> {
        self.into_store().order(XsOp::TransactionEnd, &[b"T\0"]).await
    }

    /// Forgets all writes, and says whether the store agrees; dropping the transaction forgets them as well.
    ///
    /// # Errors
    /// [`XsError::Refused`] with [`XenError::NoEnt`] when the store has forgotten the transaction.
    pub async fn abort(self) -> Result<(), XsError> {
        self.into_store().abort_transaction().await
    }

    /// The store within the transaction, which is the caller's to end.
    fn into_store(self) -> XenStore {
        let store = self.store;
        core::mem::forget(self);
        store
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        abandoned::leave(abandoned::Abandoned::Transaction(self.store));
    }
}

impl XenStore {
    async fn abort_transaction(&self) -> Result<(), XsError> {
        self.order(XsOp::TransactionEnd, &[b"F\0"]).await
    }
}

/// The error that the payload of an error message names.
fn named_error(payload: &[u8]) -> XsError {
    let name = payload.strip_suffix(b"\0").unwrap_or(payload);
    let known = hypercall_abi::xs_wire::ERRORS.iter().find(|(_, text)| text.as_bytes() == name);
    XsError::Refused(known.map_or(XenError::Inval, |(error, _)| *error))
}

const _: () = assert!(PATH_LEN < PAYLOAD_MAX);
