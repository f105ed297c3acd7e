//! The front end's part of the handshake, the same for every kind of device.
//!
//! The back end offers (`InitWait`), the front end publishes its rings and answers, the back end connects; whoever
//! ends it, the other side closes too. A front end's pages are its own again when [`FrontEnd::close`] has returned.

use core::fmt;

use hypercall_abi::xenbus::XenbusState;

use super::Device;
use crate::xenstore::{Watch, XenStore, XsError};

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The back end closes, or the tool stack has removed the device.
    Closed,
    /// The store refuses something.
    Store(XsError),
}

impl From<XsError> for HandshakeError {
    fn from(error: XsError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the back end has closed the device"),
            Self::Store(error) => write!(f, "XenStore: {error}"),
        }
    }
}

impl core::error::Error for HandshakeError {}

/// The handshake of one device.
#[derive(Debug)]
pub struct FrontEnd {
    device: Device,
    watch: Watch,
}

impl FrontEnd {
    /// Finds the device in the directory `frontend` (see [`devices`](super::devices)) and waits for the back end's offer:
    /// what it can do stands in its directory then. A device that was closed from this side is begun anew.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub async fn begin(store: &XenStore, frontend: &str) -> Result<Self, HandshakeError> {
        let device = Device::open(store, frontend).await?;
        let watch = device.watch_backend().await?;
        let mut front = Self { device, watch };
        let offered = |state| !matches!(state, XenbusState::Unknown | XenbusState::Initialising);
        match front.device.wait_backend(&mut front.watch, offered).await? {
            XenbusState::Closed if front.device.backend_feature("online").await? => front.begin_anew().await,
            XenbusState::Closing | XenbusState::Closed => Err(HandshakeError::Closed),
            _ => Ok(front),
        }
    }

    /// Has a back end that has closed make its offer again, which it does for as long as the tool stack wants the device
    /// (its node `online`).
    async fn begin_anew(mut self) -> Result<Self, HandshakeError> {
        self.device.set_state(XenbusState::Initialising).await?;
        let decided = |state| !matches!(state, XenbusState::Closed | XenbusState::Initialising);
        match self.device.wait_backend(&mut self.watch, decided).await? {
            XenbusState::Closing | XenbusState::Unknown => Err(HandshakeError::Closed),
            _ => Ok(self),
        }
    }

    /// The two directories.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Says that all is published, with the state that this kind of device uses for it (`Initialised` for disks,
    /// `Connected` for networks), and waits until the back end is connected.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub async fn connect(&mut self, published: XenbusState) -> Result<(), HandshakeError> {
        self.device.set_state(published).await?;
        let decided = |state| state == XenbusState::Connected || is_leaving(state);
        match self.device.wait_backend(&mut self.watch, decided).await? {
            XenbusState::Connected => Ok(()),
            _ => Err(HandshakeError::Closed),
        }
    }

    /// Waits until the back end's node `state` has changed since the last look, and returns what it says. A back end
    /// that stays `Connected` has told that something else in its directory is new.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn changed(&mut self) -> Result<XenbusState, XsError> {
        self.watch.changed().await;
        self.device.backend_state().await
    }

    /// Waits until the back end leaves, or the tool stack removes the device.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn gone(&mut self) -> Result<(), XsError> {
        self.device.wait_backend(&mut self.watch, is_leaving).await.map(drop)
    }

    /// Closes this side and waits until the back end has let go of our pages, or is not there any more.
    ///
    /// # Errors
    /// As the store refuses.
    pub async fn close(mut self) -> Result<(), XsError> {
        self.device.set_state(XenbusState::Closed).await?;
        let gone = |state| matches!(state, XenbusState::Closed | XenbusState::Unknown | XenbusState::InitWait);
        self.device.wait_backend(&mut self.watch, gone).await.map(drop)
    }
}

/// Whether a connected back end that says this does not serve any more.
pub(crate) const fn is_leaving(state: XenbusState) -> bool {
    match state {
        XenbusState::Closing | XenbusState::Closed | XenbusState::Unknown => true,
        XenbusState::Initialising
        | XenbusState::InitWait
        | XenbusState::Initialised
        | XenbusState::Connected
        | XenbusState::Reconfiguring
        | XenbusState::Reconfigured => false,
    }
}
