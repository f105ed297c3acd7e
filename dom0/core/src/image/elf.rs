//! ELF64 for AArch64: the file header and the segments to load, placed by physical address.

use alloc::vec::Vec;

use super::error::ImageError;
use super::header::{Format, Kernel, u16_at, u32_at, u64_at};
use crate::addr::{Ipa, Region};

/// Bytes of the file header (`Elf64_Ehdr`).
pub(super) const EHDR_LEN: usize = 64;
/// Bytes of a program header (`Elf64_Phdr`).
const PHDR_LEN: u16 = 56;
/// Most program headers accepted. Kernels have a handful.
const MAX_PHDRS: u16 = 64;
/// The program headers must lie in this much of the file, since it is kept until they are read.
const MAX_HEAD: u64 = 64 * 1024;

const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;

/// Bytes of the file that go to one stretch of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Where they go.
    pub start: Ipa,
}

impl Segment {
    /// First file offset behind the segment.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.file_size)
    }
}

/// A parsed head.
pub(super) struct Elf {
    /// What all formats have in common.
    pub kernel: Kernel,
    /// The segments with bytes in the file, in the order of their offsets.
    pub segments: Vec<Segment>,
}

/// Whether the bytes start an ELF file.
pub(super) fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// How many bytes from the start of the file [`parse`] wants to see.
pub(super) fn head_len(ehdr: &[u8]) -> Result<usize, ImageError> {
    let (offset, count) = program_headers(ehdr)?;
    let end = offset.saturating_add(u64::from(count) * u64::from(PHDR_LEN));
    if end > MAX_HEAD {
        return Err(ImageError::Field { field: "ELF e_phoff", value: offset });
    }
    let end = usize::try_from(end).map_err(|_| ImageError::Field { field: "ELF e_phoff", value: offset })?;
    Ok(end.max(EHDR_LEN))
}

/// Checks the file header and gives offset and number of program headers.
fn program_headers(ehdr: &[u8]) -> Result<(u64, u16), ImageError> {
    let truncated = ImageError::Truncated { part: "the ELF header" };
    let field = |field, value: u64| ImageError::Field { field, value };
    let byte = |at: usize| ehdr.get(at).copied().ok_or(truncated);
    let half = |at| u16_at(ehdr, at).ok_or(truncated);
    match (byte(4)?, byte(5)?, half(18)?) {
        (2, 1, EM_AARCH64) => {}
        (2, 1, machine) => return Err(field("ELF e_machine", u64::from(machine))),
        (2, data, _) => return Err(field("ELF EI_DATA", u64::from(data))),
        (class, _, _) => return Err(field("ELF EI_CLASS", u64::from(class))),
    }
    let (size, count) = (half(54)?, half(56)?);
    if size != PHDR_LEN {
        return Err(field("ELF e_phentsize", u64::from(size)));
    }
    if count == 0 || count > MAX_PHDRS {
        return Err(field("ELF e_phnum", u64::from(count)));
    }
    Ok((u64_at(ehdr, 32).ok_or(truncated)?, count))
}

/// Reads all headers from the first [`head_len`] bytes.
pub(super) fn parse(head: &[u8]) -> Result<Elf, ImageError> {
    let truncated = ImageError::Truncated { part: "the ELF program headers" };
    let (offset, count) = program_headers(head)?;
    let entry = u64_at(head, 24).ok_or(truncated)?;
    let mut loads = Vec::new();
    for index in 0..u64::from(count) {
        let at = offset.checked_add(index * u64::from(PHDR_LEN)).and_then(|at| usize::try_from(at).ok());
        let phdr = at.and_then(|at| head.get(at..at.checked_add(usize::from(PHDR_LEN))?)).ok_or(truncated)?;
        if u32_at(phdr, 0) == Some(PT_LOAD) {
            loads.push(load(phdr).ok_or(truncated)??);
        }
    }
    loads.retain(|load| load.region.size() != 0);
    let kernel = summary(&loads, entry)?;
    let mut segments: Vec<Segment> = loads.iter().map(|load| load.segment).collect();
    segments.retain(|segment| segment.file_size != 0);
    segments.sort_by_key(|segment| segment.offset);
    Ok(Elf { kernel, segments })
}

/// One `PT_LOAD`.
struct Load {
    segment: Segment,
    region: Region,
    vaddr: u64,
}

fn load(phdr: &[u8]) -> Option<Result<Load, ImageError>> {
    let [offset, vaddr, paddr, file_size, mem_size] =
        [u64_at(phdr, 8)?, u64_at(phdr, 16)?, u64_at(phdr, 24)?, u64_at(phdr, 32)?, u64_at(phdr, 40)?];
    if file_size > mem_size {
        return Some(Err(ImageError::Field { field: "ELF p_filesz", value: file_size }));
    }
    if offset.checked_add(file_size).is_none() {
        return Some(Err(ImageError::Field { field: "ELF p_offset", value: offset }));
    }
    let start = Ipa::new(paddr);
    Some(match Region::new(start, mem_size) {
        Some(region) => Ok(Load { segment: Segment { offset, file_size, start }, region, vaddr }),
        None => Err(ImageError::Field { field: "ELF p_paddr", value: paddr }),
    })
}

/// Memory and entry point of all segments together.
fn summary(loads: &[Load], entry: u64) -> Result<Kernel, ImageError> {
    let start = loads.iter().map(|load| load.region.start()).min().ok_or(ImageError::NoSegments)?;
    let end = loads.iter().map(|load| load.region.end()).max().ok_or(ImageError::NoSegments)?;
    for (index, load) in loads.iter().enumerate() {
        let later = loads.get(index + 1..).unwrap_or_default();
        // Streaming visits each byte of the file once, so no byte may belong to two segments.
        let shares_file = |other: &Load| {
            let (a, b) = (load.segment, other.segment);
            a.offset < b.end() && b.offset < a.end() && a.file_size != 0 && b.file_size != 0
        };
        if later.iter().any(|other| load.region.overlaps(other.region) || shares_file(other)) {
            return Err(ImageError::SegmentOrder);
        }
    }
    // The entry point is a virtual address; the vCPU starts with its MMU off, where physical ones count.
    let holds_entry = |load: &&Load| entry.checked_sub(load.vaddr).is_some_and(|offset| offset < load.region.size());
    let entry = match loads.iter().find(holds_entry) {
        Some(load) => load.region.start().checked_add(entry.wrapping_sub(load.vaddr)),
        None => loads
            .iter()
            .any(|load| load.region.start().get() <= entry && entry < load.region.end().get())
            .then_some(Ipa::new(entry)),
    }
    .ok_or(ImageError::Field { field: "ELF e_entry", value: entry })?;
    let size = end.offset_from(start).unwrap_or(0);
    let region = Region::new(start, size).ok_or(ImageError::NoSegments)?;
    Ok(Kernel { format: Format::Elf, region, entry, verbatim: None })
}
