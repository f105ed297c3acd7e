//! From a linked ELF to the bytes that a boot loader copies into memory.

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// Where the arm64 `Image` header keeps its magic, and the magic (Linux Documentation/arm64/booting).
const MAGIC_AT: usize = 56;
const MAGIC: &[u8; 4] = b"ARM\x64";

/// No image of ours comes near this size; an ELF that asks for more has a segment at a stray address.
const LARGEST: u64 = 64 << 20;

/// Lays the loadable segments out by physical address; memory beyond the last file byte is left to the header.
pub fn from_elf(data: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(data).context("not a 64-bit ELF")?;
    let endian = header.endian()?;
    let loads: Vec<_> = header
        .program_headers(endian, data)?
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD && segment.p_filesz(endian) > 0)
        .collect();
    let Some(base) = loads.iter().map(|segment| segment.p_paddr(endian)).min() else {
        bail!("the ELF has nothing to load");
    };
    let mut flat = Vec::new();
    for segment in loads {
        let bytes = segment.data(endian, data).ok().context("a segment lies outside the ELF file")?;
        let start = segment.p_paddr(endian) - base;
        if start.saturating_add(segment.p_filesz(endian)) > LARGEST {
            bail!("a segment is loaded {start:#x} above the first one");
        }
        let start = usize::try_from(start)?;
        let end = start + bytes.len();
        if flat.len() < end {
            flat.resize(end, 0);
        }
        flat[start..end].copy_from_slice(bytes);
    }
    if flat.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) != Some(MAGIC) {
        bail!("the first segment does not begin with an arm64 Image header");
    }
    Ok(flat)
}

#[cfg(test)]
mod tests {
    use super::from_elf;

    /// An ELF header and one program header, with `body` loaded at `paddr`.
    fn elf(paddr: u64, body: &[u8]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for field in [2u16, 183] {
            file.extend(field.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        for field in [0u64, 64, 0] {
            file.extend(field.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for field in [64u16, 56, 1, 0, 0, 0] {
            file.extend(field.to_le_bytes());
        }
        for field in [1u32, 5] {
            file.extend(field.to_le_bytes());
        }
        let size = body.len() as u64;
        for field in [120u64, paddr, paddr, size, size, 8] {
            file.extend(field.to_le_bytes());
        }
        file.extend(body);
        file
    }

    #[test]
    fn the_flat_image_is_the_loaded_bytes_wherever_they_are_linked() -> anyhow::Result<()> {
        let mut body = vec![7; 64];
        body[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(from_elf(&elf(0x4020_0000, &body))?, body);
        Ok(())
    }

    #[test]
    fn an_elf_without_an_image_header_is_refused() {
        let refused = from_elf(&elf(0, &[7; 64])).map_err(|error| error.to_string());
        assert_eq!(refused, Err("the first segment does not begin with an arm64 Image header".to_owned()));
    }
}
