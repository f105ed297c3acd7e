//! What the driver asks of the two rings: buffers of the host that change hands.

use driver_api::DmaMemory;

/// The MTU of devices that do not tell theirs.
pub const DEFAULT_MTU: u16 = 1500;
/// The largest MTU that is used, which is also the largest that an interface of a guest can have.
pub const MAX_MTU: u16 = 9216;
/// Bytes of a buffer: the device's header, and the longest Ethernet frame with a VLAN tag.
pub const BUFFER: usize = 10 * 1024;
/// Buffers in each direction.
pub const BUFFERS: u16 = 128;
/// Bytes of memory for the buffers of both directions; it starts at a page. Those for receiving come first.
pub const MEMORY: usize = 2 * BUFFERS as usize * BUFFER;

/// A frame that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The buffer that holds it, the host's until it is given back.
    pub buffer: u16,
    /// Where in the buffer it starts.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
}

/// The rings of a device, and the memory of their buffers. Buffers are numbered from 0 in each direction.
pub trait Rings {
    /// The device's address.
    fn mac(&self) -> [u8; 6];

    /// The longest packet that the network behind the device carries, from [`DEFAULT_MTU`] to [`MAX_MTU`].
    fn mtu(&self) -> u16;

    /// The buffers.
    fn memory(&self) -> &impl DmaMemory;

    /// Bytes in front of each frame to be sent, which [`Self::send`] fills.
    fn header(&self) -> usize;

    /// Lets the device put a frame into a buffer. One that it has already is left alone.
    fn give(&mut self, buffer: u16);

    /// The next frame that has arrived. When there is none, the next one raises an interrupt.
    fn received(&mut self) -> Option<Received>;

    /// Lets the device send the `len` bytes behind the header in a buffer.
    fn send(&mut self, buffer: u16, len: usize);

    /// The next buffer whose frame was sent.
    fn sent(&mut self) -> Option<u16>;

    /// Takes the interrupt back.
    fn acknowledge(&mut self);
}
