//! The XenStore client: requests as async functions, watches as something to await.
//!
//! One task, the pump, moves bytes between the ring and two buffers; requests take turns. So a request may be
//! dropped at any await without tearing a message, and the answer of a dropped request is recognised by its
//! number and skipped.

mod error;
mod pump;
mod watch;

use core::ops::Deref;
use core::str::FromStr;

use embassy_executor::Spawner;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::mutex::Mutex;
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

/// Opens the connection and spawns its pump; `None` when the domain has no store, or on a second call.
#[must_use]
pub fn start(spawner: Spawner) -> Option<XenStore> {
    pump::start(spawner)?;
    Some(XenStore { transaction: 0 })
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
    async fn request<R>(
        &self,
        op: XsOp,
        parts: &[&[u8]],
        take: impl FnOnce(&[u8]) -> Result<R, XsError>,
    ) -> Result<R, XsError> {
        let _turn = TURN.lock().await;
        let number = pump::send(op, self.transaction, parts).await?;
        pump::answer(number, op, take).await
    }

    /// The value of a node, at most as long as the buffer.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `ENOENT` without such a node, `EACCES` without the right to read it;
    /// [`XsError::TooLong`] when it does not fit.
    pub async fn read<'b>(&self, path: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], XsError> {
        let take = |value: &[u8]| {
            buffer.get_mut(..value.len()).ok_or(XsError::TooLong)?.copy_from_slice(value);
            Ok(value.len())
        };
        let length = self.request(XsOp::Read, &[path.as_bytes(), b"\0"], take).await?;
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
        self.read_text(path, &mut buffer).await?.trim().parse().map_err(|_| XsError::Malformed)
    }

    /// Sets the value of a node, which is made when it is missing.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `EACCES` without the right, `ENOSPC` beyond the quota.
    pub async fn write(&self, path: &str, value: &[u8]) -> Result<(), XsError> {
        self.request(XsOp::Write, &[path.as_bytes(), b"\0", value], done).await
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
        self.request(XsOp::Mkdir, &[path.as_bytes(), b"\0"], done).await
    }

    /// Removes a node and all below it; a missing node is no error as long as its parent is there.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `ENOENT` or `EACCES`.
    pub async fn rm(&self, path: &str) -> Result<(), XsError> {
        self.request(XsOp::Rm, &[path.as_bytes(), b"\0"], done).await
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
        let take = |names: &[u8]| {
            buffer.get_mut(..names.len()).ok_or(XsError::TooLong)?.copy_from_slice(names);
            Ok(names.len())
        };
        let length = self.request(XsOp::Directory, &[path.as_bytes(), b"\0"], take).await?;
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
        self.request(XsOp::Watch, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"], done).await?;
        Ok(watch)
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn unwatch(&self, watch: Watch) -> Result<(), XsError> {
        let (path, token) = (watch.path(), watch.token());
        self.request(XsOp::Unwatch, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"], done).await
    }

    /// Starts a transaction: reads through it see one state, and writes become visible together.
    ///
    /// # Errors
    /// [`XsError::Refused`] with `ENOSPC` when the domain has too many open.
    pub async fn begin(&self) -> Result<Transaction, XsError> {
        let transaction = self.request(XsOp::TransactionStart, &[b"\0"], |id| {
            let text = core::str::from_utf8(id).map_err(|_| XsError::Malformed)?;
            text.trim_end_matches('\0').parse().map_err(|_| XsError::Malformed)
        });
        Ok(Transaction { store: Self { transaction: transaction.await? } })
    }
}

/// A running transaction; to be ended by one of its two functions.
#[derive(Debug)]
#[must_use = "a transaction that is not ended stays open in the store"]
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
        self.store.request(XsOp::TransactionEnd, &[b"T\0"], done).await
    }

    /// Forgets all writes.
    ///
    /// # Errors
    /// [`XsError::Refused`] with [`XenError::NoEnt`] when the store has forgotten the transaction.
    pub async fn abort(self) -> Result<(), XsError> {
        self.store.request(XsOp::TransactionEnd, &[b"F\0"], done).await
    }
}

fn done(_: &[u8]) -> Result<(), XsError> {
    Ok(())
}

/// The error that the payload of an error message names.
fn named_error(payload: &[u8]) -> XsError {
    let name = payload.strip_suffix(b"\0").unwrap_or(payload);
    let known = hypercall_abi::xs_wire::ERRORS.iter().find(|(_, text)| text.as_bytes() == name);
    XsError::Refused(known.map_or(XenError::Inval, |(error, _)| *error))
}

const _: () = assert!(PATH_LEN < PAYLOAD_MAX);
