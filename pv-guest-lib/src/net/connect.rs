//! How an interface is connected: the XenBus handshake and what the two sides tell each other.

use hypercall_abi::PAGE_SIZE;
use hypercall_abi::netif::keys;
use hypercall_abi::xenbus::XenbusState;

use super::checksum::Offload;
use super::receive::Receiver;
use super::transmit::Transmitter;
use super::{Channels, Connected, HEADER, Interface, MAX_MTU, NetError, Runner, Storage};
use crate::evtchn::EventChannel;
use crate::xenbus::{Device, FrontEnd};
use crate::xenstore::XenStore;

/// The MTU when the tool stack says nothing, and the least that IPv4 allows.
const USUAL_MTU: usize = 1500;
const LEAST_MTU: usize = 68;

/// Connects the interface in the directory `frontend` (see [`crate::xenbus::devices`], kind `vif`). The runner must be
/// run for the end of the connection to be seen.
///
/// # Errors
/// See [`NetError`]; [`NetError::Closed`] when the back end closes instead of connecting.
pub async fn open(
    store: &XenStore,
    frontend: &str,
    storage: &'static Storage,
) -> Result<(Interface, Runner), NetError> {
    let front = FrontEnd::begin(store, frontend).await?;
    let (address, mtu) = (address(front.device()).await?, mtu(front.device()).await?);
    let frames = storage.frames.try_take().ok_or(NetError::InUse)?;
    let runner = connect(front, storage).await?;
    Ok((Interface { storage, frames, address, mtu }, runner))
}

/// Connects an interface again whose [`Runner`] has ended, after a suspension for example: the stack that has the
/// [`Interface`] finds its link up again. It keeps the MTU that it knows.
///
/// # Errors
/// As those of [`open`]; [`NetError::InUse`] while it is connected.
pub async fn reopen(store: &XenStore, frontend: &str, storage: &'static Storage) -> Result<Runner, NetError> {
    if storage.is_connected() {
        return Err(NetError::InUse);
    }
    let runner = connect(FrontEnd::begin(store, frontend).await?, storage).await?;
    storage.link.wake();
    Ok(runner)
}

/// Sets up rings and event channels for a back end that has made its offer.
async fn connect(mut front: FrontEnd, storage: &'static Storage) -> Result<Runner, NetError> {
    let device = front.device();
    if !device.backend_feature(keys::FEATURE_RX_COPY).await? {
        return Err(NetError::NoCopy);
    }
    let offload = Offload {
        v4: !device.backend_feature(keys::FEATURE_NO_CSUM_OFFLOAD).await?,
        v6: device.backend_feature(keys::FEATURE_IPV6_CSUM_OFFLOAD).await?,
    };
    let backend = device.backend_id();
    let channels = if device.backend_feature(keys::FEATURE_SPLIT_EVENT_CHANNELS).await? {
        Channels::Split { tx: EventChannel::alloc_unbound(backend)?, rx: EventChannel::alloc_unbound(backend)? }
    } else {
        Channels::Shared(EventChannel::alloc_unbound(backend)?)
    };
    let (transmitter, receiver) = (Transmitter::new(backend)?, Receiver::new(backend)?);
    let mut connected = Connected { transmitter, receiver, channels, offload };
    publish(device, &connected).await?;
    connected.receiver.offer(connected.channels.rx());
    critical_section::with(|cs| storage.connected.borrow(cs).replace(Some(connected)));
    // A wish from before is not for this connection.
    storage.close.reset();
    if let Err(error) = front.connect(XenbusState::Connected).await {
        critical_section::with(|cs| storage.connected.borrow(cs).replace(None));
        return Err(error.into());
    }
    Ok(Runner { storage, front })
}

/// Says what this side has and takes: frames of several pages and blank checksums, but no unsegmented TCP.
async fn publish(device: &Device, connected: &Connected) -> Result<(), NetError> {
    device.publish(keys::TX_RING_REF, u64::from(connected.transmitter.gref().0)).await?;
    device.publish(keys::RX_RING_REF, u64::from(connected.receiver.gref().0)).await?;
    match &connected.channels {
        Channels::Shared(channel) => device.publish(keys::EVENT_CHANNEL, u64::from(channel.port().0)).await?,
        Channels::Split { tx, rx } => {
            device.publish(keys::EVENT_CHANNEL_TX, u64::from(tx.port().0)).await?;
            device.publish(keys::EVENT_CHANNEL_RX, u64::from(rx.port().0)).await?;
        }
    }
    for key in [keys::REQUEST_RX_COPY, keys::FEATURE_RX_NOTIFY, keys::FEATURE_SG, keys::FEATURE_IPV6_CSUM_OFFLOAD] {
        device.publish(key, 1).await?;
    }
    Ok(())
}

async fn address(device: &Device) -> Result<[u8; 6], NetError> {
    let mut buffer = [0; 32];
    let text = device.setting_text("mac", &mut buffer).await.map_err(|_| NetError::NoAddress)?;
    let mut address = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut address {
        let part = parts.next().ok_or(NetError::NoAddress)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| NetError::NoAddress)?;
    }
    if parts.next().is_some() { Err(NetError::NoAddress) } else { Ok(address) }
}

/// What the tool stack says, as far as the back end takes frames of several pages.
async fn mtu(device: &Device) -> Result<usize, NetError> {
    let most = if device.backend_feature(keys::FEATURE_SG).await? { MAX_MTU } else { PAGE_SIZE - HEADER };
    Ok(device.setting("mtu").await.unwrap_or(USUAL_MTU).clamp(LEAST_MTU, most))
}
