//! Frames for receivers that cannot do what was left to them: checksums are computed, long TCP is cut into segments.
//!
//! This is the slow way, for guests with a small stack. The frame is copied into memory of the host, made complete
//! there, and put from there.

use alloc::vec::Vec;

use driver_api::net::{Checksum, Copy, CopyGrants, Frame, Gso, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{BusAddr, DmaMemory, PAGE_SIZE};
use hypercall_abi::netif::MAX_FRAME;

use crate::ethernet::TAG;
use crate::packet::{Ip, Layout, be16, finish, put_be16, sum};
use crate::retag::{Retagged, tag_bytes};

/// Room for the longest frame with a tag, in whole pages.
const FRAME_ROOM: usize = (MAX_FRAME + TAG).next_multiple_of(PAGE_SIZE);
/// Room for the header of one segment.
const HEADER_ROOM: usize = 256;
/// Segments of one frame at most: a sender that asks for shorter ones loses the frame.
const MAX_SEGMENTS: usize = 128;
/// Where the tags lie: each VLAN's in its own place, so that those of frames on their way never change.
const TAGS: usize = FRAME_ROOM + MAX_SEGMENTS * HEADER_ROOM;
/// Memory that a bridge needs to complete frames in; it starts at a page.
pub const SCRATCH_BYTES: usize = TAGS + 4096 * TAG;

const _: () = assert!(HEAD <= HEADER_ROOM);

/// `PSH` and `FIN`, which only the last segment keeps.
const LAST_FLAGS: u8 = 0x09;

/// Where frames are completed.
pub(crate) struct Adapter<C, M> {
    copier: C,
    scratch: M,
}

impl<C: CopyGrants, M: DmaMemory> Adapter<C, M> {
    /// Works in `scratch`, which has [`SCRATCH_BYTES`].
    pub(crate) fn new(copier: C, scratch: M) -> Self {
        Self { copier, scratch }
    }

    /// Puts the frame to `port` with nothing left to do, in as many frames as that takes, and commits them.
    pub(crate) fn put(&self, frame: &Frame<'_>, port: &(impl Port + ?Sized)) -> Result<(), Refused> {
        let layout = Layout::parse(frame.head).ok_or(Refused::Unfit)?;
        let bytes = self.fetch(frame).ok_or(Refused::Unfit)?;
        let payload = bytes.len() - layout.payload;
        let unit = match frame.offload.gso {
            Some(Gso { size, .. }) if layout.is_tcp() && size > 0 => usize::from(size),
            Some(_) => return Err(Refused::Unfit),
            None => payload.max(1),
        };
        let count = payload.div_ceil(unit).max(1);
        if count > MAX_SEGMENTS {
            return Err(Refused::Unfit);
        }
        for index in 0..count {
            let start = layout.payload + index * unit;
            let end = (start + unit).min(bytes.len());
            let (last, cut) = (index + 1 == count, frame.offload.gso.is_some());
            let segment = Segment { index, last, cut, source: frame.source };
            let data = bytes.get(start..end).unwrap_or_default();
            let mut header: Vec<u8> = frame.head.get(..layout.payload).unwrap_or_default().into();
            segment.complete(&layout, &mut header, data, start - layout.payload);
            match self.put_segment(port, &segment, &header, start, data) {
                // What is missing of a connection's bytes is sent again; what was put already must not be put twice.
                Err(Refused::Full) if index > 0 => break,
                outcome => outcome?,
            }
        }
        port.commit();
        Ok(())
    }

    /// The frame with the tag of `vlan`.
    pub(crate) fn with_tag(&self, frame: &Frame<'_>, vlan: u16) -> Option<Retagged> {
        let at = TAGS + usize::from(vlan) * TAG;
        self.scratch.copy_in(at, &tag_bytes(vlan));
        let (page, offset) = place(self.scratch.bus_addr(), at)?;
        Retagged::with_tag(frame, vlan, Piece { page, offset, len: u16::try_from(TAG).ok()? })
    }

    /// Copies the frame into the scratch memory and reads it from there, with the head as it was judged.
    fn fetch(&self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let len: usize = frame.pieces.iter().map(|piece| usize::from(piece.len)).sum();
        if len != frame.len as usize || len > FRAME_ROOM {
            return None;
        }
        let mut copies = Vec::new();
        let mut at = 0;
        for piece in frame.pieces {
            let mut left = *piece;
            while left.len > 0 {
                let (to, offset) = place(self.scratch.bus_addr(), at)?;
                let here = usize::from(left.len).min(PAGE_SIZE - usize::from(offset));
                let len = u16::try_from(here).ok()?;
                copies.push(Copy { from: Piece { len, ..left }, to, at: offset });
                left = Piece { page: left.page, offset: left.offset + len, len: left.len - len };
                at += here;
            }
        }
        let mut done = Vec::new();
        self.copier.copy(&copies, &mut done);
        if done.iter().any(|done| !done) {
            return None;
        }
        let mut bytes = alloc::vec![0; len];
        self.scratch.copy_out(0, &mut bytes);
        Some(bytes)
    }

    /// Puts header and payload of one segment; the payload lies at `start` of the scratch memory.
    fn put_segment(
        &self,
        port: &(impl Port + ?Sized),
        segment: &Segment,
        header: &[u8],
        start: usize,
        data: &[u8],
    ) -> Result<(), Refused> {
        let base = self.scratch.bus_addr();
        let at = FRAME_ROOM + segment.index * HEADER_ROOM;
        self.scratch.copy_in(at, header);
        let mut pieces = Vec::with_capacity(4);
        for (mut at, mut left) in [(at, header.len()), (start, data.len())] {
            while left > 0 {
                let (page, offset) = place(base, at).ok_or(Refused::Unfit)?;
                let here = left.min(PAGE_SIZE - usize::from(offset));
                pieces.push(Piece { page, offset, len: u16::try_from(here).map_err(|_| Refused::Unfit)? });
                at += here;
                left -= here;
            }
        }
        let len = u32::try_from(header.len() + data.len()).map_err(|_| Refused::Unfit)?;
        let offload = Offload { checksum: Checksum::Valid, gso: None };
        port.put(&Frame { head: header, pieces: &pieces, len, offload, source: segment.source })
    }
}

/// The page and offset of byte `at` of memory at `base`.
fn place(base: BusAddr, at: usize) -> Option<(PageRef, u16)> {
    let page = base.offset((at / PAGE_SIZE * PAGE_SIZE) as u64);
    Some((PageRef::Own(page), u16::try_from(at % PAGE_SIZE).ok()?))
}

/// One of the frames that a frame becomes.
struct Segment {
    index: usize,
    last: bool,
    /// The frame is one of several.
    cut: bool,
    /// Where the frame came from.
    source: u16,
}

impl Segment {
    /// Makes the header true for `data`, which begins `offset` bytes into the payload.
    fn complete(&self, layout: &Layout, header: &mut [u8], data: &[u8], offset: usize) {
        let transport_len = header.len() - layout.transport + data.len();
        if self.cut {
            self.renumber(layout, header, transport_len, offset);
        }
        let at = layout.checksum();
        put_be16(header, at, 0);
        let head = sum(header.get(layout.transport..).unwrap_or_default(), layout.pseudo_sum(header, transport_len));
        let checksum = finish(sum(data, head));
        // In UDP a sum of 0 says that there is none (RFC 768).
        let checksum = if checksum == 0 && !layout.is_tcp() { 0xFFFF } else { checksum };
        put_be16(header, at, checksum);
    }

    /// Lengths, the IPv4 identification, the sequence number and the flags of a segment.
    fn renumber(&self, layout: &Layout, header: &mut [u8], transport_len: usize, offset: usize) {
        let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        match layout.ip {
            Ip::V4 => {
                let network = layout.network;
                put_be16(header, network + 2, short(layout.transport - network + transport_len));
                let id = be16(header, network + 4).unwrap_or(0).wrapping_add(short(self.index));
                put_be16(header, network + 4, id);
                put_be16(header, network + 10, 0);
                let checksum = finish(sum(header.get(network..layout.transport).unwrap_or_default(), 0));
                put_be16(header, network + 10, checksum);
            }
            Ip::V6 => put_be16(header, layout.network + 4, short(transport_len)),
        }
        let tcp = layout.transport;
        if let Some(place) = header.get_mut(tcp + 4..tcp + 8)
            && let Ok(bytes) = <[u8; 4]>::try_from(&*place)
        {
            let sequence = u32::from_be_bytes(bytes).wrapping_add(u32::try_from(offset).unwrap_or(0));
            place.copy_from_slice(&sequence.to_be_bytes());
        }
        if !self.last
            && let Some(flags) = header.get_mut(tcp + 13)
        {
            *flags &= !LAST_FLAGS;
        }
    }
}
