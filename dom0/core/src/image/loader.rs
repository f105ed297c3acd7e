//! The loader: pieces of a kernel file in, writes to guest memory out.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;

use super::elf::{self, Segment};
use super::error::{ImageError, LoadError};
use super::gzip::{self, Gzip};
use super::header::{self, HEADER_LEN, Kernel};
use crate::addr::{Ipa, Region};

/// Reads a kernel file piece by piece.
///
/// [`Loader::probe`] tells where the kernel goes, so that the guest can be placed; then a loader is fed the whole file. Writes never leave [`Kernel::region`]. Memory that the file does not fill is expected to be zero.
pub struct Loader {
    outer: Outer,
    inner: Inner,
    file_size: Option<u64>,
}

/// The wrapping of the file.
enum Outer {
    /// Too few bytes seen to tell.
    Unknown(Vec<u8>),
    Plain,
    Gzip(Box<Gzip>),
}

/// The kernel inside the wrapping.
enum Inner {
    /// Collecting the head.
    Head(Vec<u8>),
    /// Copying; `position` counts bytes of the unwrapped file.
    Image { kernel: Kernel, position: u64 },
    /// Copying segments.
    Elf { kernel: Kernel, segments: Vec<Segment>, position: u64 },
}

impl Loader {
    /// A loader for a file of `file_size` bytes; the size only serves kernels that do not state their own.
    pub fn new(file_size: u64) -> Self {
        Self { outer: Outer::Unknown(Vec::new()), inner: Inner::Head(Vec::new()), file_size: Some(file_size) }
    }

    /// What a kernel file of `file_size` bytes says about itself, from its first bytes: 64 KiB do for every format.
    ///
    /// # Errors
    /// A file that is refused by its head, or whose head is not all there.
    pub fn probe(head: &[u8], file_size: u64) -> Result<Kernel, ImageError> {
        let mut loader = Self::new(file_size);
        let fed = loader.feed(head, &mut |_, _| Ok::<(), Infallible>(()));
        // Once the kernel is known, an error behind the head is left for the real loading to find.
        match (loader.kernel(), fed) {
            (Some(kernel), _) => Ok(kernel),
            (None, Ok(())) => loader.finish(),
            (None, Err(LoadError::Image(error))) => Err(error),
            (None, Err(LoadError::Sink(never))) => match never {},
        }
    }

    /// What the head of the file says, once enough of it was fed.
    pub fn kernel(&self) -> Option<Kernel> {
        match &self.inner {
            Inner::Head(_) => None,
            Inner::Image { kernel, .. } | Inner::Elf { kernel, .. } => Some(*kernel),
        }
    }

    /// Takes the next piece of the file; calls `sink` for each stretch of guest memory to write.
    ///
    /// # Errors
    /// A file that is refused, or the sink's own error. The loader is of no use afterwards.
    pub fn feed<E>(
        &mut self,
        piece: &[u8],
        sink: &mut impl FnMut(Ipa, &[u8]) -> Result<(), E>,
    ) -> Result<(), LoadError<E>> {
        let inner = &mut self.inner;
        match &mut self.outer {
            Outer::Plain => inner.feed(piece, self.file_size, sink),
            Outer::Gzip(gzip) => gzip.feed(piece, &mut |bytes| inner.feed(bytes, None, sink)),
            Outer::Unknown(head) => {
                if head.len() + piece.len() < 2 {
                    head.extend_from_slice(piece);
                    return Ok(());
                }
                let head = joined(core::mem::take(head), piece);
                self.outer = if gzip::is_gzip(&head) { Outer::Gzip(Box::new(Gzip::new())) } else { Outer::Plain };
                self.feed(&head, sink)
            }
        }
    }

    /// The file is over; gives the kernel when all of it was there.
    ///
    /// # Errors
    /// A file that ended early.
    pub fn finish(self) -> Result<Kernel, ImageError> {
        match &self.outer {
            Outer::Unknown(_) => return Err(ImageError::UnknownFormat),
            Outer::Plain => {}
            Outer::Gzip(gzip) => gzip.finish()?,
        }
        self.inner.finish()
    }
}

impl Inner {
    fn feed<E>(
        &mut self,
        piece: &[u8],
        file_size: Option<u64>,
        sink: &mut impl FnMut(Ipa, &[u8]) -> Result<(), E>,
    ) -> Result<(), LoadError<E>> {
        match self {
            Self::Head(head) => {
                // Whatever follows the head in this piece is kept with it, and fed again once the format is known.
                let joined = joined(core::mem::take(head), piece);
                let Some(known) = recognise(&joined, file_size)? else {
                    *head = joined.into_owned();
                    return Ok(());
                };
                let head = joined;
                *self = known;
                self.feed(&head, file_size, sink)
            }
            Self::Image { kernel, position } => {
                copy(kernel.region, kernel.region.start(), *position, piece, sink)?;
                *position = position.saturating_add(piece.len() as u64);
                Ok(())
            }
            Self::Elf { kernel, segments, position } => {
                let end = position.saturating_add(piece.len() as u64);
                for segment in segments.iter() {
                    let (from, to) = (segment.offset.max(*position), segment.end().min(end));
                    let range = from.saturating_sub(*position)..to.saturating_sub(*position);
                    if let Some(bytes) = slice(piece, range).filter(|bytes| !bytes.is_empty()) {
                        copy(kernel.region, segment.start, from.saturating_sub(segment.offset), bytes, sink)?;
                    }
                }
                *position = end;
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Kernel, ImageError> {
        match self {
            Self::Head(head) if elf::is_elf(&head) => Err(ImageError::Truncated { part: "the ELF headers" }),
            Self::Head(_) => Err(ImageError::UnknownFormat),
            Self::Image { kernel, .. } => Ok(kernel),
            Self::Elf { kernel, segments, position } => {
                let complete = segments.iter().all(|segment| segment.end() <= position);
                complete.then_some(kernel).ok_or(ImageError::Truncated { part: "an ELF segment" })
            }
        }
    }
}

/// The head and what follows it; without a copy when the piece is the head, as it is with pieces of a usual size.
fn joined(mut head: Vec<u8>, piece: &[u8]) -> Cow<'_, [u8]> {
    if head.is_empty() {
        return Cow::Borrowed(piece);
    }
    head.extend_from_slice(piece);
    Cow::Owned(head)
}

/// The part of `piece` in `range`, when the range is not empty or backwards.
fn slice(piece: &[u8], range: core::ops::Range<u64>) -> Option<&[u8]> {
    piece.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Tells the format from the head; `None` while too little of it is there.
fn recognise(head: &[u8], file_size: Option<u64>) -> Result<Option<Inner>, ImageError> {
    if elf::is_elf(head) {
        if head.len() < elf::EHDR_LEN || head.len() < elf::head_len(head)? {
            return Ok(None);
        }
        let elf::Elf { kernel, segments } = elf::parse(head)?;
        return Ok(Some(Inner::Elf { kernel, segments, position: 0 }));
    }
    if head.len() < HEADER_LEN {
        return Ok(None);
    }
    if !header::is_image(head) {
        return Err(ImageError::UnknownFormat);
    }
    let mut kernel = header::parse(head, file_size)?;
    // Only a plain file has a known size, and only its bytes are the kernel's bytes.
    kernel.verbatim = file_size.map(|_| kernel.region.start());
    Ok(Some(Inner::Image { kernel, position: 0 }))
}

/// Hands `bytes` to the sink at `base + offset`, if that lies inside `region`.
fn copy<E>(
    region: Region,
    base: Ipa,
    offset: u64,
    bytes: &[u8],
    sink: &mut impl FnMut(Ipa, &[u8]) -> Result<(), E>,
) -> Result<(), LoadError<E>> {
    let outside = ImageError::Outside { kernel: region };
    let start = base.checked_add(offset).ok_or(outside)?;
    let target = Region::new(start, bytes.len() as u64).ok_or(outside)?;
    if !region.contains(target) {
        return Err(outside.into());
    }
    sink(start, bytes).map_err(LoadError::Sink)
}
