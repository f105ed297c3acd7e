//! XenBus: how a front end finds its back end and the two come to terms.
//!
//! Each side has a directory in the store and says in the node `state` how far it is; the other side watches it (Xen
//! public/io/xenbus.h). [`FrontEnd`] is that handshake for any kind of device: the block and the network driver use it,
//! and so can one for a protocol of your own.
//!
//! ```ignore
//! let mut front = FrontEnd::begin(&guest.store(), "device/vmy/0").await?;
//! let page = GrantedPage::new(front.device().backend_id(), Access::ReadWrite)?;
//! front.device().publish("ring-ref", u64::from(page.gref().0)).await?;
//! front.connect(XenbusState::Initialised).await?;
//! front.gone().await?; // serve the ring beside this
//! front.close().await?;
//! drop(page);
//! ```
//!
//! Example: `examples/front_end.rs`.

mod front_end;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use hypercall_abi::xenbus::XenbusState;

use crate::xenstore::{Path, Watch, XenStore, XsError, join};
pub(crate) use front_end::is_leaving;
pub use front_end::{FrontEnd, HandshakeError};

/// Devices of one kind that are looked at.
pub const MAX_DEVICES: usize = 16;

/// The front end's view of one device.
#[derive(Debug)]
pub struct Device {
    store: XenStore,
    frontend: Path,
    backend: Path,
    backend_id: DomId,
}

/// The directories of this domain's devices of a kind (`vbd`, `vif`).
///
/// # Errors
/// As the store refuses; no device at all is an empty list.
pub async fn devices(store: &XenStore, kind: &str) -> Result<heapless::Vec<Path, MAX_DEVICES>, XsError> {
    let parent = join("device", kind)?;
    let mut found = heapless::Vec::new();
    let mut buffer = [0; 512];
    match store.directory(&parent, &mut buffer).await {
        Ok(names) => {
            for name in names {
                found.push(join(&parent, name)?).map_err(|_| XsError::TooLong)?;
            }
        }
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

impl Device {
    /// Reads who the back end of the device in the directory `frontend` is.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn open(store: &XenStore, frontend: &str) -> Result<Self, XsError> {
        let mut buffer = [0; crate::xenstore::PATH_LEN];
        let backend = store.read_text(&join(frontend, "backend")?, &mut buffer).await?;
        let backend = Path::try_from(backend).map_err(|_| XsError::TooLong)?;
        let backend_id = DomId(store.read_number(&join(frontend, "backend-id")?).await?);
        let frontend = Path::try_from(frontend).map_err(|_| XsError::TooLong)?;
        Ok(Self { store: *store, frontend, backend, backend_id })
    }

    /// The domain of the back end.
    #[must_use]
    pub const fn backend_id(&self) -> DomId {
        self.backend_id
    }

    /// The device's directory of this side.
    #[must_use]
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// Sets a number in the directory of this side.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn publish(&self, key: &str, value: u64) -> Result<(), XsError> {
        self.store.write_number(&join(&self.frontend, key)?, value).await
    }

    /// Sets a text in the directory of this side.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn publish_text(&self, key: &str, value: &str) -> Result<(), XsError> {
        self.store.write(&join(&self.frontend, key)?, value.as_bytes()).await
    }

    /// Reads a number from the back end's directory.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn backend_number<T: core::str::FromStr>(&self, key: &str) -> Result<T, XsError> {
        self.store.read_number(&join(&self.backend, key)?).await
    }

    /// Whether the back end says that it has a feature (a number other than 0).
    ///
    /// # Errors
    /// As the store refuses; a missing node is a missing feature.
    pub async fn backend_feature(&self, key: &str) -> Result<bool, XsError> {
        match self.backend_number::<u32>(key).await {
            Ok(value) => Ok(value != 0),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a number from the directory of this side, where the tool stack leaves settings.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn setting<T: core::str::FromStr>(&self, key: &str) -> Result<T, XsError> {
        self.store.read_number(&join(&self.frontend, key)?).await
    }

    /// Reads a text from the directory of this side.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn setting_text<'b>(&self, key: &str, buffer: &'b mut [u8]) -> Result<&'b str, XsError> {
        self.store.read_text(&join(&self.frontend, key)?, buffer).await
    }

    /// Says how far this side is. Once the tool stack has removed the directory nothing is written, since that would
    /// bring back a part of it.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn set_state(&self, state: XenbusState) -> Result<(), XsError> {
        let path = join(&self.frontend, "state")?;
        loop {
            let transaction = self.store.begin().await?;
            match transaction.read(&path, &mut [0; 16]).await {
                Ok(_) => {}
                Err(error) if error.is_missing() => return transaction.abort().await,
                Err(error) => return Err(error),
            }
            transaction.write(&path, state.as_str().as_bytes()).await?;
            match transaction.commit().await {
                Err(XsError::Refused(XenError::Again)) => {}
                outcome => return outcome,
            }
        }
    }

    /// A watch on how far the back end is.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn watch_backend(&self) -> Result<Watch, XsError> {
        self.store.watch(&join(&self.backend, "state")?).await
    }

    /// How far the back end is.
    ///
    /// # Errors
    /// As the store refuses; a missing node is [`XenbusState::Unknown`].
    pub async fn backend_state(&self) -> Result<XenbusState, XsError> {
        let mut buffer = [0; 16];
        match self.store.read_text(&join(&self.backend, "state")?, &mut buffer).await {
            Ok(text) => Ok(XenbusState::parse(text)),
            Err(error) if error.is_missing() => Ok(XenbusState::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Waits until the back end's state is one that `wanted` accepts, and returns it.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn wait_backend(
        &self,
        watch: &mut Watch,
        wanted: impl Fn(XenbusState) -> bool,
    ) -> Result<XenbusState, XsError> {
        loop {
            let state = self.backend_state().await?;
            if wanted(state) {
                return Ok(state);
            }
            watch.changed().await;
        }
    }
}
