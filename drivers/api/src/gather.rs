//! Frames that a port has taken and whose bytes it fetches at the next commit, all of them by one call.

use alloc::vec::Vec;

use crate::net::{Copy, CopyGrants, Frame, Piece};

/// A frame whose bytes are to be fetched.
struct Taken<B> {
    buffer: B,
    len: usize,
    copies: usize,
}

/// Frames that each go into one buffer of a port, whatever `B` names a buffer by.
pub struct Gather<B> {
    frames: Vec<Taken<B>>,
    copies: Vec<Copy>,
    done: Vec<bool>,
}

impl<B> Default for Gather<B> {
    fn default() -> Self {
        Gather { frames: Vec::new(), copies: Vec::new(), done: Vec::new() }
    }
}

impl<B> Gather<B> {
    /// Takes a frame, whose bytes are to go to the pieces `to`, in `buffer`.
    ///
    /// # Errors
    /// Its pieces are not as long as the buffer's; the buffer is given back.
    pub fn take(&mut self, frame: &Frame<'_>, mut to: impl Iterator<Item = Piece>, buffer: B) -> Result<(), B> {
        let before = self.copies.len();
        let (mut len, mut room) = (0, None);
        for piece in frame.pieces {
            let mut from = *piece;
            while from.len > 0 {
                let Some(place) = room.take().or_else(|| to.next()) else {
                    self.copies.truncate(before);
                    return Err(buffer);
                };
                let part = from.len.min(place.len);
                self.copies.push(Copy { from: Piece { len: part, ..from }, to: place.page, at: place.offset });
                from = from.behind(part);
                room = Some(place.behind(part)).filter(|rest| rest.len > 0);
                len += usize::from(part);
            }
        }
        if room.is_some() || to.next().is_some() {
            self.copies.truncate(before);
            return Err(buffer);
        }
        self.frames.push(Taken { buffer, len, copies: self.copies.len() - before });
        Ok(())
    }

    /// Takes a frame of `len` bytes that are in `buffer` already; it comes in its turn.
    pub fn take_whole(&mut self, buffer: B, len: usize) {
        self.frames.push(Taken { buffer, len, copies: 0 });
    }

    /// Fetches all frames and says of each in which buffer it is, its length, and whether all of it came.
    pub fn fetch(&mut self, copier: &impl CopyGrants, mut each: impl FnMut(B, usize, bool)) {
        if self.frames.is_empty() {
            return;
        }
        self.done.clear();
        if !self.copies.is_empty() {
            copier.copy(&self.copies, &mut self.done);
            self.copies.clear();
        }
        let mut done = self.done.iter();
        for Taken { buffer, len, copies } in self.frames.drain(..) {
            // Not `all` on the shared iterator, which would stop at the first failure and shift the others.
            let came = done.by_ref().take(copies).filter(|done| **done).count() == copies;
            each(buffer, len, came);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::Gather;
    use crate::BusAddr;
    use crate::net::{Copy, CopyGrants, Frame, Offload, PageRef, Piece};

    /// Fails for pieces that begin at byte 13.
    struct Unlucky;

    impl CopyGrants for Unlucky {
        fn copy(&self, copies: &[Copy], done: &mut Vec<bool>) {
            done.extend(copies.iter().map(|copy| copy.from.offset != 13));
        }
    }

    fn piece(offset: u16, len: u16) -> Piece {
        Piece { page: PageRef::Own(BusAddr::new(0)), offset, len }
    }

    fn take(gather: &mut Gather<u8>, pieces: &[Piece], len: u16, buffer: u8) -> Result<(), u8> {
        let frame = Frame { head: &[], pieces, len: len.into(), offload: Offload::default(), source: 0 };
        gather.take(&frame, [piece(0, len)].into_iter(), buffer)
    }

    #[test]
    fn a_copy_that_fails_loses_its_own_frame_alone() {
        let mut gather = Gather::default();
        assert_eq!(take(&mut gather, &[piece(0, 20), piece(13, 10), piece(30, 10)], 40, 1), Ok(()));
        assert_eq!(take(&mut gather, &[piece(0, 30)], 30, 2), Ok(()));
        let mut came = Vec::new();
        gather.fetch(&Unlucky, |buffer, len, whole| came.push((buffer, len, whole)));
        assert_eq!(came, [(1, 40, false), (2, 30, true)]);
        gather.fetch(&Unlucky, |_, _, _| panic!("they were fetched already"));
    }

    #[test]
    fn pieces_that_end_elsewhere_than_those_of_the_buffer_are_copied_in_parts() {
        let mut gather = Gather::default();
        let from = [piece(100, 50), piece(200, 20), piece(300, 5)];
        let frame = Frame { head: &[], pieces: &from, len: 75, offload: Offload::default(), source: 0 };
        assert_eq!(gather.take(&frame, [piece(0, 60), piece(1000, 15)].into_iter(), 1), Ok(()));
        let parts: Vec<_> = gather.copies.iter().map(|copy| (copy.from.offset, copy.from.len, copy.at)).collect();
        assert_eq!(parts, [(100, 50, 0), (200, 10, 50), (210, 10, 1000), (300, 5, 1010)]);
        gather.fetch(&Unlucky, |buffer, len, whole| assert_eq!((buffer, len, whole), (1, 75, true)));
    }

    #[test]
    fn a_frame_whose_pieces_are_not_its_length_is_not_taken_and_leaves_nothing() {
        let mut gather = Gather::default();
        assert_eq!(take(&mut gather, &[piece(0, 20), piece(13, 10)], 40, 1), Err(1));
        assert_eq!(take(&mut gather, &[piece(0, 40)], 40, 2), Ok(()));
        let mut came = Vec::new();
        gather.fetch(&Unlucky, |buffer, _, whole| came.push((buffer, whole)));
        assert_eq!(came, [(2, true)]);
    }
}
