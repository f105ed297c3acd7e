//! Network frames on their way through the host domain, and where they can go.
//!
//! A frame is described, not held: its bytes stay where the sender has them, in pages that it granted or in memory of the
//! host, until a receiver copies them to where it wants them. Only the first bytes, on which the way of a frame depends,
//! are copied before; what was decided about is what is delivered, whatever the sender does to its page meanwhile.

use alloc::vec::Vec;
use core::task::{Context, Poll};

use hypercall_abi::ids::{DomId, GrantRef};
use hypercall_abi::netif::GsoType;

use crate::{BusAddr, DmaMemory, PAGE_SIZE};

/// A page that holds bytes of a frame, or takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRef {
    /// Of another domain, which granted it.
    Granted(DomId, GrantRef),
    /// Of the host domain, by the address of its first byte.
    Own(BusAddr),
}

/// Bytes within one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The page.
    pub page: PageRef,
    /// First byte in the page.
    pub offset: u16,
    /// How many bytes; they do not cross the page's end.
    pub len: u16,
}

impl Piece {
    /// What lies behind its first `len` bytes.
    pub fn behind(self, len: u16) -> Self {
        let len = len.min(self.len);
        Piece { page: self.page, offset: self.offset + len, len: self.len - len }
    }
}

/// `len` bytes of the host's memory from byte `start` of it on, page by page; `memory` starts at a page.
pub fn own_pieces(memory: &impl DmaMemory, start: usize, len: usize) -> impl Iterator<Item = Piece> {
    let (base, end) = (memory.bus_addr(), start + len);
    let mut at = start;
    core::iter::from_fn(move || {
        let offset = at % PAGE_SIZE;
        let here = end.checked_sub(at).filter(|left| *left > 0)?.min(PAGE_SIZE - offset);
        let page = PageRef::Own(base.offset((at - offset) as u64));
        at += here;
        Some(Piece { page, offset: u16::try_from(offset).ok()?, len: u16::try_from(here).ok()? })
    })
}

/// What is known of the transport checksum of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksum {
    /// It is in place; the receiver is to check it.
    #[default]
    Unchecked,
    /// It is in place and need not be checked.
    Valid,
    /// Only the pseudo header's sum is in place; the frame never left the machine.
    Blank,
}

/// A frame that is to be cut into several before it goes on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// The protocols, TCP over either IP.
    pub kind: GsoType,
    /// Bytes of payload in each of the frames.
    pub size: u16,
}

/// What was left to the receiver of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// The transport checksum.
    pub checksum: Checksum,
    /// The segmentation.
    pub gso: Option<Gso>,
}

/// Bytes of a frame that are copied before it is decided where it goes: Ethernet with a VLAN tag, IPv6 with some
/// extension headers, TCP with options.
pub const HEAD: usize = 192;

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The first bytes, privately, and at best where words can be read at once: all of them, or [`HEAD`], or four less where a switch has taken a VLAN tag off.
    pub head: &'a [u8],
    /// All bytes in order; the first pieces are the head's, in memory of the host.
    pub pieces: &'a [Piece],
    /// How many bytes there are.
    pub len: u32,
    /// What was left to the receiver.
    pub offload: Offload,
    /// By which of its ports the frame came into the bridge that passes it on; 0 before it has met a bridge.
    pub source: u16,
}

impl Frame<'_> {
    /// Whether nothing of it was left to its receiver.
    pub fn is_complete(&self) -> bool {
        self.offload.checksum != Checksum::Blank && self.offload.gso.is_none()
    }
}

/// Why a port did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has no room now.
    Full,
    /// It takes no frames that are so long, or that leave this to it.
    Unfit,
    /// Nobody is connected.
    Down,
}

/// Where frames can be put: a guest's receive ring, or something in the host domain.
pub trait Port {
    /// Takes a frame, whose bytes are fetched no later than at [`Self::commit`].
    ///
    /// # Errors
    /// It was not taken, and nothing of it is kept.
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused>;

    /// Fetches what was put and tells the receiver. Senders keep their pages until this has returned.
    fn commit(&self);

    /// Whether there is more room than what is kept for frames that are for this receiver alone. Frames for everybody are not
    /// put otherwise: a flood of them leaves the rest to those that somebody waits for.
    fn has_room_for_all(&self) -> bool {
        true
    }

    /// After [`Refused::Full`]: ready when there may be room again, or when there is no point in waiting any longer.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<P: Port + ?Sized> Port for alloc::rc::Rc<P> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        (**self).put(frame)
    }

    fn commit(&self) {
        (**self).commit();
    }

    fn has_room_for_all(&self) -> bool {
        (**self).has_room_for_all()
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_room(cx)
    }
}

impl<P: Port + ?Sized> Port for &P {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        (**self).put(frame)
    }

    fn commit(&self) {
        (**self).commit();
    }

    fn has_room_for_all(&self) -> bool {
        (**self).has_room_for_all()
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_room(cx)
    }
}

/// One copy of bytes from page to page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where the bytes are.
    pub from: Piece,
    /// The page that they go to.
    pub to: PageRef,
    /// First byte in that page; the bytes do not cross its end.
    pub at: u16,
}

/// The right to copy to and from granted pages (`GNTTABOP_copy`).
pub trait CopyGrants {
    /// Makes the copies, in as few hypercalls as possible, and appends for each whether it was done.
    fn copy(&self, copies: &[Copy], done: &mut Vec<bool>);
}

impl<C: CopyGrants + ?Sized> CopyGrants for alloc::rc::Rc<C> {
    fn copy(&self, copies: &[Copy], done: &mut Vec<bool>) {
        (**self).copy(copies, done);
    }
}
