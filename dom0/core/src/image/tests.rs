//! Images whole, in pieces, damaged and random: what is written is what the file says, or the error names the field.

use std::collections::BTreeMap;

use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;

use super::*;
use crate::addr::Ipa;

const RAM: u64 = 0x4000_0000;

/// An `Image` of `len` bytes that claims `image_size`.
fn image(text_offset: u64, image_size: u64, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0x08, 0, 0, 0, 0, 0, 3];
    file.extend_from_slice(b"Image\0");
    file.extend_from_slice(&compress_to_vec(bytes, 6));
    file.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    file.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
    file
}

/// One segment of an ELF file: physical address, virtual address, contents, size in memory.
type Load<'a> = (u64, u64, &'a [u8], u64);

fn elf(entry: u64, loads: &[Load<'_>]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    file[16..18].copy_from_slice(&2u16.to_le_bytes());
    file[18..20].copy_from_slice(&183u16.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&u16::try_from(loads.len()).unwrap().to_le_bytes());
    let mut offset = 64 + 56 * loads.len() as u64;
    for (paddr, vaddr, data, mem_size) in loads {
        file.extend_from_slice(&1u32.to_le_bytes());
        file.extend_from_slice(&7u32.to_le_bytes());
        for field in [offset, *vaddr, *paddr, data.len() as u64, *mem_size, 4096] {
            file.extend_from_slice(&field.to_le_bytes());
        }
        offset += data.len() as u64;
    }
    for (_, _, data, _) in loads {
        file.extend_from_slice(data);
    }
    file
}

/// Loads `file` in pieces of `piece` bytes into a sparse memory.
fn load(file: &[u8], piece: usize) -> Result<(Kernel, BTreeMap<u64, u8>), ImageError> {
    let mut loader = Loader::new(file.len() as u64);
    let mut memory = BTreeMap::new();
    for piece in file.chunks(piece) {
        let mut sink = |ipa: Ipa, bytes: &[u8]| {
            for (at, byte) in bytes.iter().enumerate() {
                assert_eq!(memory.insert(ipa.get() + at as u64, *byte), None, "written twice");
            }
            Ok::<(), ()>(())
        };
        match loader.feed(piece, &mut sink) {
            Ok(()) => {}
            Err(LoadError::Image(error)) => return Err(error),
            Err(LoadError::Sink(())) => unreachable!("the sink takes everything"),
        }
    }
    Ok((loader.finish()?, memory))
}

fn contents(memory: &BTreeMap<u64, u8>, start: u64) -> Vec<u8> {
    memory.range(start..).map(|(_, byte)| *byte).collect()
}

#[test]
fn an_image_goes_to_ram_plus_its_text_offset() {
    let file = image(0x8_0000, 0x20_0000, 5000);
    let (kernel, memory) = load(&file, 4096).unwrap();
    assert_eq!((kernel.format, kernel.entry.get()), (Format::Image, RAM + 0x8_0000));
    assert_eq!(kernel.region.size(), 0x20_0000);
    assert_eq!(kernel.verbatim, Some(kernel.entry));
    assert_eq!(contents(&memory, RAM), file);
}

#[test]
fn an_image_of_an_old_kernel_is_as_large_as_its_file() {
    let (kernel, _) = load(&image(0, 0, 5000), 4096).unwrap();
    assert_eq!((kernel.entry.get(), kernel.region.size()), (RAM + 0x8_0000, 5000));
}

#[test]
fn a_gzipped_image_loads_like_the_plain_one() {
    let plain = image(0, 0x10_0000, 200_000);
    for piece in [1, 7, 4096, 1 << 20] {
        let (kernel, memory) = load(&gzip(&plain), piece).unwrap();
        assert_eq!((kernel.entry.get(), kernel.verbatim), (RAM, None));
        assert!(contents(&memory, RAM) == plain, "pieces of {piece}");
    }
}

#[test]
fn elf_segments_go_to_their_physical_addresses_and_the_entry_is_physical() {
    let virt = 0xffff_0000_0000_0000;
    let file = elf(
        virt + 0x1004,
        &[(RAM + 0x1000, virt + 0x1000, b"text", 4), (RAM + 0x3000, virt + 0x3000, b"data", 0x1000)],
    );
    let file = [file, b"sections that follow".to_vec()].concat();
    for piece in [1, 13, 4096] {
        let file = elf(
            virt + 0x1000,
            &[(RAM + 0x1000, virt + 0x1000, b"text", 4), (RAM + 0x3000, virt + 0x3000, b"data", 0x1000)],
        );
        let (kernel, memory) = load(&file, piece).unwrap();
        assert_eq!((kernel.format, kernel.entry.get()), (Format::Elf, RAM + 0x1000));
        assert_eq!((kernel.region.start().get(), kernel.region.size()), (RAM + 0x1000, 0x3000));
        assert_eq!(contents(&memory, RAM + 0x1000)[..4], *b"text");
        assert_eq!(contents(&memory, RAM + 0x3000), b"data");
    }
    assert_eq!(load(&file, 64).unwrap_err(), ImageError::Field { field: "ELF e_entry", value: virt + 0x1004 });
}

#[test]
fn an_elf_kernel_with_unused_bytes_between_and_behind_segments_loads() {
    let mut file = elf(RAM, &[(RAM, RAM, b"code", 16)]);
    file.extend_from_slice(&[0xee; 300]);
    let (_, memory) = load(&file, 50).unwrap();
    assert_eq!(contents(&memory, 0), b"code");
}

#[test]
fn probing_the_head_gives_the_same_kernel() {
    let plain = image(0, 0x10_0000, 200_000);
    for file in [plain.clone(), gzip(&plain), elf(RAM, &[(RAM, RAM, b"code", 16)])] {
        let head = &file[..file.len().min(4096)];
        assert_eq!(Loader::probe(head, file.len() as u64), Ok(load(&file, 4096).unwrap().0));
    }
    assert_eq!(Loader::probe(&plain[..40], 40), Err(ImageError::UnknownFormat));
}

#[test]
fn bad_heads_name_the_field() {
    let field = |field, value| ImageError::Field { field, value };
    let patched = |mut file: Vec<u8>, at: usize, byte: u8| {
        file[at] = byte;
        load(&file, 4096).unwrap_err()
    };
    let one = || elf(RAM, &[(RAM, RAM, b"code", 16)]);
    assert_eq!(load(&image(0x20_0000, 0x1000, 100), 4096).unwrap_err(), field("Image text_offset", 0x20_0000));
    assert_eq!(load(&image(0, u64::MAX, 100), 4096).unwrap_err(), field("Image image_size", u64::MAX));
    assert_eq!(patched(one(), 4, 1), field("ELF EI_CLASS", 1));
    assert_eq!(patched(one(), 5, 2), field("ELF EI_DATA", 2));
    assert_eq!(patched(one(), 18, 62), field("ELF e_machine", 62));
    assert_eq!(patched(one(), 54, 32), field("ELF e_phentsize", 32));
    assert_eq!(patched(one(), 56, 0), field("ELF e_phnum", 0));
    assert_eq!(patched(one(), 35, 0x7f), field("ELF e_phoff", 0x7f00_0040));
    assert_eq!(patched(one(), 64 + 40, 1), field("ELF p_filesz", 4));
    assert_eq!(patched(gzip(&image(0, 4096, 100)), 2, 7), field("gzip CM", 7));
    assert_eq!(patched(gzip(&image(0, 4096, 100)), 3, 0xe0), field("gzip FLG", 0xe0));
    assert_eq!(load(&[0; 5000], 4096).unwrap_err(), ImageError::UnknownFormat);
    assert_eq!(load(b"", 4096).unwrap_err(), ImageError::UnknownFormat);
    assert_eq!(load(&elf(RAM, &[]), 4096).unwrap_err(), field("ELF e_phnum", 0));
}

#[test]
fn overlapping_segments_are_refused() {
    let file = elf(RAM, &[(RAM, RAM, b"code", 0x2000), (RAM + 0x1000, RAM + 0x1000, b"data", 16)]);
    assert_eq!(load(&file, 4096).unwrap_err(), ImageError::SegmentOrder);
}

#[test]
fn an_image_larger_than_it_claims_is_refused() {
    assert!(matches!(load(&image(0, 4096, 5000), 4096), Err(ImageError::Field { .. })));
    let error = load(&gzip(&image(0, 4096, 50_000)), 4096).unwrap_err();
    assert!(matches!(error, ImageError::Outside { .. }), "a compressed one is caught while it is written: {error}");
}

#[test]
fn truncated_files_say_where() {
    let plain = image(0, 0x10_0000, 100_000);
    let zipped = gzip(&plain);
    let truncated = |part| Err(ImageError::Truncated { part });
    let cut = |file: &[u8], len: usize| load(&file[..len], 4096).map(|_| ());
    assert_eq!(cut(&zipped, 12), truncated("the gzip header"));
    assert_eq!(cut(&zipped, zipped.len() / 2), truncated("the gzip data"));
    assert_eq!(cut(&zipped, zipped.len() - 3), truncated("the gzip trailer"));
    let elf = elf(RAM, &[(RAM, RAM, b"code", 16)]);
    assert_eq!(cut(&elf, 100), truncated("the ELF headers"));
    assert_eq!(cut(&elf, elf.len() - 1), truncated("an ELF segment"));
}

#[test]
fn damage_in_compressed_data_is_noticed() {
    let mut zipped = gzip(&image(0, 0x10_0000, 1000));
    let crc = zipped.len() - 8;
    zipped[crc] ^= 1;
    assert_eq!(load(&zipped, 4096).unwrap_err(), ImageError::Checksum);
}

#[test]
fn the_sinks_error_comes_through() {
    let file = image(0, 0x1000, 100);
    let mut loader = Loader::new(100);
    let error = loader.feed(&file, &mut |_, _| Err("no memory")).unwrap_err();
    assert_eq!(error, LoadError::Sink("no memory"));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..4, piece in 1usize..700) {
        let mut file = match kind {
            0 => vec![],
            1 => vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0],
            2 => image(0, 0x1000, 64),
            _ => b"\x7fELF\x02\x01\x01".to_vec(),
        };
        file.extend_from_slice(&bytes);
        let _ = load(&file, piece);
        let _ = Loader::probe(&file, file.len() as u64);
    }

    #[test]
    fn damaged_elf_headers_never_panic_nor_write_outside(at in 0usize..176, byte: u8, piece in 1usize..300) {
        let mut file = elf(RAM, &[(RAM, RAM, b"code", 16), (RAM + 4096, RAM + 4096, b"data", 64)]);
        file[at] = byte;
        if let Ok((kernel, memory)) = load(&file, piece) {
            let inside = |ipa: u64| kernel.region.start().get() <= ipa && ipa < kernel.region.end().get();
            prop_assert!(memory.keys().all(|&ipa| inside(ipa)));
        }
    }

    #[test]
    fn damaged_gzip_never_panics(at in 0usize..400, byte: u8, piece in 1usize..500) {
        let mut file = gzip(&image(0, 0x10_0000, 3000));
        let at = at % file.len();
        file[at] = byte;
        let _ = load(&file, piece);
    }

    #[test]
    fn the_size_of_pieces_does_not_matter(piece in 1usize..4000) {
        let plain = image(0, 0x10_0000, 3_000);
        prop_assert_eq!(load(&gzip(&plain), piece), load(&plain, 4096).map(|(kernel, memory)| {
            (Kernel { verbatim: None, ..kernel }, memory)
        }));
    }
}
