//! The bytes of a file, given the sectors that it has: unaligned reads and writes become sectors here.

use driver_api::{Extent, SECTOR_SIZE, Sectors};

use crate::error::FatError;
use crate::geometry::SECTOR;

/// Fills `data` from a file's bytes at `offset`; the caller keeps within the extents.
pub async fn get_bytes<S: Sectors>(disk: &S, extents: &[Extent], offset: u64, data: &mut [u8]) -> Result<(), FatError> {
    let (mut offset, mut rest) = (offset, data);
    while !rest.is_empty() {
        let (run, into) = place(extents, offset)?;
        let whole = whole_sectors(run, into, rest.len());
        let (now, later) = if whole != 0 {
            let (now, later) = rest.split_at_mut(whole);
            disk.read(run.start, now).await?;
            (whole, later)
        } else {
            let mut sector = [0; SECTOR];
            disk.read(run.start, &mut sector).await?;
            let now = rest.len().min(SECTOR - into);
            let (part, later) = rest.split_at_mut(now);
            part.copy_from_slice(sector.get(into..into + now).unwrap_or_default());
            (now, later)
        };
        offset += now as u64;
        rest = later;
    }
    Ok(())
}

/// Writes `data` to a file's bytes at `offset`; the caller keeps within the extents.
pub async fn put_bytes<S: Sectors>(disk: &S, extents: &[Extent], offset: u64, data: &[u8]) -> Result<(), FatError> {
    let (mut offset, mut rest) = (offset, data);
    while !rest.is_empty() {
        let (run, into) = place(extents, offset)?;
        let whole = whole_sectors(run, into, rest.len());
        let now = if whole != 0 {
            disk.write(run.start, rest.get(..whole).unwrap_or_default()).await?;
            whole
        } else {
            let mut sector = [0; SECTOR];
            disk.read(run.start, &mut sector).await?;
            let now = rest.len().min(SECTOR - into);
            if let (Some(to), Some(from)) = (sector.get_mut(into..into + now), rest.get(..now)) {
                to.copy_from_slice(from);
            }
            disk.write(run.start, &sector).await?;
            now
        };
        offset += now as u64;
        rest = rest.get(now..).unwrap_or_default();
    }
    Ok(())
}

/// Writes zeros from `from` up to `to`.
pub async fn zero<S: Sectors>(disk: &S, extents: &[Extent], from: u32, to: u32) -> Result<(), FatError> {
    let zeros = [0u8; 8 * SECTOR];
    let (mut at, end) = (u64::from(from), u64::from(to));
    while at < end {
        let now = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        put_bytes(disk, extents, at, zeros.get(..now).unwrap_or_default()).await?;
        at += now as u64;
    }
    Ok(())
}

/// Bytes in all extents together.
pub fn bytes_of(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.sectors).sum::<u64>() * u64::from(SECTOR_SIZE)
}

/// The run of sectors that begins with the `index`th.
pub fn sector_at(extents: &[Extent], index: u64) -> Option<Extent> {
    let mut left = index;
    for extent in extents {
        if left < extent.sectors {
            return Some(Extent { start: extent.start + left, sectors: extent.sectors - left });
        }
        left -= extent.sectors;
    }
    None
}

/// The run of sectors that begins with the one that holds byte `offset`, and that byte's place in it.
fn place(extents: &[Extent], offset: u64) -> Result<(Extent, usize), FatError> {
    let sector = u64::from(SECTOR_SIZE);
    let run = sector_at(extents, offset / sector).ok_or(FatError::Corrupt("a file ends before its size"))?;
    let into = usize::try_from(offset % sector).unwrap_or(0);
    Ok((run, into))
}

/// How many bytes can be moved as whole sectors from the start of `run`.
fn whole_sectors(run: Extent, into: usize, len: usize) -> usize {
    if into != 0 {
        return 0;
    }
    let sectors = usize::try_from(run.sectors).unwrap_or(usize::MAX).min(len / SECTOR);
    sectors * SECTOR
}
