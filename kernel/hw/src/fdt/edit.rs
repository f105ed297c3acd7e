//! Dom0's FDT: the host's, with less RAM.

use dtoolkit::fdt::Fdt;
use heapless::Vec;
use kernel_core::machine::Range;

use super::cells::Cells;
use super::error::{Fault, FdtError};
use super::walk::Place;

/// Cuts the `/memory` nodes in `blob` down to `ram`, in place: the first entry becomes `ram`, all others empty.
pub fn restrict_memory(blob: &mut [u8], ram: Range) -> Result<(), FdtError> {
    let mut entries: Vec<(usize, usize, Cells), 16> = Vec::new();
    let base = blob.as_ptr() as usize;
    let fdt = Fdt::new(blob).map_err(|error| FdtError::new("(file)", "structure", Fault::Broken(error)))?;
    Place::root(fdt).walk(&mut |place| {
        let is_memory = place.name() == "memory" || place.text("device_type") == Some("memory");
        if let (true, Some(reg)) = (is_memory, place.bytes("reg")) {
            let entry = (reg.as_ptr() as usize - base, reg.len(), place.cells);
            entries.push(entry).map_err(|_| place.error("reg", Fault::TooMany))?;
        }
        Ok(false)
    })?;
    let mut value = Some((ram.start.raw(), ram.size));
    for (offset, length, cells) in entries {
        let mut rest = blob.get_mut(offset..offset + length).unwrap_or_default();
        while !rest.is_empty() {
            let (address, size) = value.take().unwrap_or_default();
            let broken = || FdtError::new("/memory", "reg", Fault::Malformed);
            rest = put(rest, cells.address, address).and_then(|tail| put(tail, cells.size, size)).ok_or_else(broken)?;
            if cells.address + cells.size == 0 {
                return Err(broken());
            }
        }
    }
    Ok(())
}

/// Writes `value` into `count` cells; `None` if it does not fit in them.
fn put(bytes: &mut [u8], count: usize, value: u64) -> Option<&mut [u8]> {
    let (number, rest) = bytes.split_at_mut_checked(count * 4)?;
    let wide = (u128::from(value)).to_be_bytes();
    let kept = wide.len().checked_sub(number.len())?;
    if wide[..kept].iter().any(|byte| *byte != 0) {
        return None;
    }
    number.copy_from_slice(&wide[kept..]);
    Some(rest)
}
