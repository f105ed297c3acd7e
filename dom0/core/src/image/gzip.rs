//! gzip (RFC 1952) as a stream: header, deflate data through a 32 KiB window, checksum.

use alloc::boxed::Box;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use super::error::{ImageError, LoadError};

/// Longest header accepted: it holds at most a file name and a comment.
const MAX_HEADER: usize = 4096;
const TRAILER_LEN: usize = 8;

/// Where in the file the stream is.
enum Stage {
    /// Collecting the header.
    Header(Vec<u8>),
    /// Decompressing.
    Body,
    /// Collecting checksum and length.
    Trailer(Vec<u8>),
    /// The member is complete; padding may follow and is not looked at.
    Done,
}

/// A gzip stream being read.
pub(super) struct Gzip {
    stage: Stage,
    inflater: Box<DecompressorOxide>,
    /// The last 32 KiB of output, which deflate refers back to; a power of two long, written round and round.
    window: Vec<u8>,
    position: usize,
    checksum: crc32fast::Hasher,
    length: u32,
}

/// Whether the bytes start a gzip member.
pub(super) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Header(Vec::new()),
            inflater: Box::default(),
            window: alloc::vec![0; TINFL_LZ_DICT_SIZE],
            position: 0,
            checksum: crc32fast::Hasher::new(),
            length: 0,
        }
    }

    /// Takes a piece of the file and gives decompressed pieces to `out`.
    pub(super) fn feed<E>(
        &mut self,
        mut input: &[u8],
        out: &mut impl FnMut(&[u8]) -> Result<(), LoadError<E>>,
    ) -> Result<(), LoadError<E>> {
        while !input.is_empty() {
            input = match &mut self.stage {
                Stage::Header(head) => match collect_header(head, input)? {
                    Some(rest) => {
                        self.stage = Stage::Body;
                        rest
                    }
                    None => &[],
                },
                Stage::Body => self.inflate(input, out)?,
                Stage::Trailer(trailer) => {
                    let (taken, rest) = input.split_at(input.len().min(TRAILER_LEN - trailer.len()));
                    trailer.extend_from_slice(taken);
                    if trailer.len() == TRAILER_LEN {
                        self.check_trailer()?;
                    }
                    rest
                }
                Stage::Done => &[],
            };
        }
        Ok(())
    }

    /// The file is over.
    pub(super) fn finish(&self) -> Result<(), ImageError> {
        match self.stage {
            Stage::Done => Ok(()),
            Stage::Header(_) => Err(ImageError::Truncated { part: "the gzip header" }),
            Stage::Body => Err(ImageError::Truncated { part: "the gzip data" }),
            Stage::Trailer(_) => Err(ImageError::Truncated { part: "the gzip trailer" }),
        }
    }

    /// One step: decompresses up to the end of the window or of the input, whichever is first.
    fn inflate<'a, E>(
        &mut self,
        input: &'a [u8],
        out: &mut impl FnMut(&[u8]) -> Result<(), LoadError<E>>,
    ) -> Result<&'a [u8], LoadError<E>> {
        let (status, read, written) =
            decompress(&mut self.inflater, input, &mut self.window, self.position, TINFL_FLAG_HAS_MORE_INPUT);
        let end = self.position.saturating_add(written);
        let piece = self.window.get(self.position..end).ok_or(ImageError::Deflate)?;
        if !piece.is_empty() {
            self.checksum.update(piece);
            // ISIZE is defined modulo 2^32 (RFC 1952).
            self.length = self.length.wrapping_add(u32::try_from(written).map_err(|_| ImageError::Deflate)?);
            out(piece)?;
        }
        self.position = end & (TINFL_LZ_DICT_SIZE - 1);
        let rest = input.get(read..).ok_or(ImageError::Deflate)?;
        match status {
            TINFLStatus::Done => self.stage = Stage::Trailer(Vec::new()),
            TINFLStatus::NeedsMoreInput if rest.is_empty() => {}
            TINFLStatus::HasMoreOutput if read > 0 || written > 0 => {}
            _ => return Err(ImageError::Deflate.into()),
        }
        Ok(rest)
    }

    fn check_trailer(&mut self) -> Result<(), ImageError> {
        let Stage::Trailer(trailer) = &self.stage else {
            return Ok(());
        };
        let (checksum, length) = (super::header::u32_at(trailer, 0), super::header::u32_at(trailer, 4));
        if checksum != Some(self.checksum.clone().finalize()) || length != Some(self.length) {
            return Err(ImageError::Checksum);
        }
        self.stage = Stage::Done;
        Ok(())
    }
}

/// Adds `input` to the header; when it is complete, gives what follows it.
fn collect_header<'a>(head: &mut Vec<u8>, input: &'a [u8]) -> Result<Option<&'a [u8]>, ImageError> {
    let old = head.len();
    head.extend_from_slice(input.get(..input.len().min(MAX_HEADER)).unwrap_or(input));
    match header_len(head)? {
        Some(length) => Ok(input.get(length.saturating_sub(old)..)),
        None if head.len() > MAX_HEADER => Err(ImageError::Truncated { part: "the gzip header" }),
        None => Ok(None),
    }
}

/// The length of a complete header, `None` while bytes are missing (RFC 1952, 2.3).
fn header_len(head: &[u8]) -> Result<Option<usize>, ImageError> {
    const FHCRC: u8 = 1 << 1;
    const FEXTRA: u8 = 1 << 2;
    const FNAME: u8 = 1 << 3;
    const FCOMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0xe0;
    let Some(&[_, _, method, flags]) = head.first_chunk::<4>() else {
        return Ok(None);
    };
    if method != 8 {
        return Err(ImageError::Field { field: "gzip CM", value: u64::from(method) });
    }
    if flags & RESERVED != 0 {
        return Err(ImageError::Field { field: "gzip FLG", value: u64::from(flags) });
    }
    let mut at = 10;
    if flags & FEXTRA != 0 {
        let Some(length) = super::header::u16_at(head, at) else {
            return Ok(None);
        };
        at += 2 + usize::from(length);
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            let zero = head.get(at..).and_then(|text| text.iter().position(|&byte| byte == 0));
            let Some(zero) = zero else { return Ok(None) };
            at += zero + 1;
        }
    }
    if flags & FHCRC != 0 {
        at += 2;
    }
    Ok((head.len() >= at).then_some(at))
}
