//! The word that says everything about a frame: owner (63:48), order of a free block (47:40), kind (39:32) and
//! references (31:0).

use hypercall_abi::ids::DomId;

/// What a frame is used as. Bit 4 is set in those that a domain may reach through a pointer. Tables and objects are
/// charged to a domain too, but its pointers must never lead there, not even in the moment between translation and use.
/// Bit 3 is set in RAM, which has a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Not for use: a hole, the image, firmware.
    Reserved = 0,
    /// Free, and on a free list of the allocator (or inside a block that is).
    Free = 1,
    /// A kernel object.
    Object = 2,
    /// A stage-2 table.
    Table = 3,
    /// RAM that its domain is giving back.
    Leaving = 0x08,
    /// RAM of a domain.
    Ram = 0x18,
    /// A page of a grant table, which its domain can map.
    GrantTable = 0x10,
    /// A shared information page, which its domain can map.
    SharedInfo = 0x11,
}

/// Far above what pools of tables let domains map, far below where the count would spill into the kind.
const MAX_REFERENCES: u32 = 1 << 30;
const KIND_SHIFT: u32 = 32;
const ORDER_SHIFT: u32 = 40;
const OWNER_SHIFT: u32 = 48;
const SEEN_BY_GUESTS: u64 = 0x10 << KIND_SHIFT;
const RAM: u64 = 0x08 << KIND_SHIFT;

/// One value of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    pub(super) const RESERVED: State = State::new(DomId::INVALID, 0, FrameKind::Reserved, 0);

    const fn new(owner: DomId, order: u32, kind: FrameKind, references: u64) -> Self {
        State(
            (owner.0 as u64) << OWNER_SHIFT | (order as u64) << ORDER_SHIFT | (kind as u64) << KIND_SHIFT | references,
        )
    }

    /// A frame just allocated.
    pub(super) const fn live(owner: DomId, kind: FrameKind) -> Self {
        State::new(owner, 0, kind, 1)
    }

    /// A free frame; `order` is that of the block it heads, or one of the allocator's marks.
    pub(super) const fn free(order: u32) -> Self {
        State::new(DomId::INVALID, order, FrameKind::Free, 0)
    }

    pub(super) const fn owner(self) -> DomId {
        let [.., a, b] = self.0.to_le_bytes();
        DomId(u16::from_le_bytes([a, b]))
    }

    /// Whether it is RAM of a domain, and no frame of the kernel.
    pub(super) const fn is_ram(self) -> bool {
        self.0 & RAM != 0
    }

    pub(super) const fn references(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether `owner` may have one more reference: the frame is live, the owner's, of a kind that guests see, and
    /// not at the end of its count.
    #[inline]
    pub(super) const fn can_be_shared_with(self, owner: DomId) -> bool {
        let counts = self.references().wrapping_sub(1) < MAX_REFERENCES - 1;
        self.owner().0 == owner.0 && self.0 & SEEN_BY_GUESTS != 0 && counts
    }

    /// The same, owned by nobody.
    pub(super) const fn orphaned(self) -> Self {
        State(self.0 & !(0xFFFF << OWNER_SHIFT) | (DomId::INVALID.0 as u64) << OWNER_SHIFT)
    }
}
