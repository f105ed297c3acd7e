//! An FDT in a buffer with room to grow: the header's arithmetic (Devicetree 0.4, section 5.2).

use super::error::{Fault, FdtError};

/// Offsets of header fields.
const TOTAL_SIZE: usize = 4;
const STRUCTURE_AT: usize = 8;
const STRINGS_AT: usize = 12;
const STRINGS_SIZE: usize = 32;
const STRUCTURE_SIZE: usize = 36;

/// A file that `Fdt::new` has accepted or will be asked about again; the strings block follows the structure block.
pub struct Blob<'a> {
    room: &'a mut [u8],
}

fn broken() -> FdtError {
    FdtError::new("(file)", "header", Fault::Malformed)
}

impl<'a> Blob<'a> {
    /// The file at the start of `room`.
    pub fn new(room: &'a mut [u8]) -> Result<Self, FdtError> {
        let blob = Blob { room };
        if blob.field(TOTAL_SIZE)? > blob.room.len() {
            return Err(broken());
        }
        Ok(blob)
    }

    fn field(&self, at: usize) -> Result<usize, FdtError> {
        let bytes = self.room.get(at..).and_then(|tail| tail.first_chunk()).ok_or_else(broken)?;
        usize::try_from(u32::from_be_bytes(*bytes)).map_err(|_| broken())
    }

    fn add_to_field(&mut self, at: usize, more: usize, less: usize) -> Result<(), FdtError> {
        let value = self.field(at)?.checked_add(more).and_then(|sum| sum.checked_sub(less)).ok_or_else(broken)?;
        let value = u32::try_from(value).map_err(|_| broken())?;
        let bytes = self.room.get_mut(at..at + 4).ok_or_else(broken)?;
        bytes.copy_from_slice(&value.to_be_bytes());
        Ok(())
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        let length = self.field(TOTAL_SIZE).unwrap_or(0);
        self.room.get(..length).unwrap_or(&[])
    }

    /// The file, for changes that keep all lengths.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.field(TOTAL_SIZE).unwrap_or(0);
        self.room.get_mut(..length).unwrap_or_default()
    }

    /// Puts `new` in the place of the `old` bytes at `at`.
    fn replace(&mut self, at: usize, old: usize, new: &[u8]) -> Result<(), FdtError> {
        let length = self.field(TOTAL_SIZE)?;
        let too_long = || FdtError::new("(file)", "total size", Fault::TooLong);
        let behind = at.checked_add(old).filter(|behind| *behind <= length).ok_or_else(broken)?;
        if length - old + new.len() > self.room.len() {
            return Err(too_long());
        }
        self.room.copy_within(behind..length, at + new.len());
        self.room.get_mut(at..at + new.len()).ok_or_else(too_long)?.copy_from_slice(new);
        self.add_to_field(TOTAL_SIZE, new.len(), old)
    }

    /// Puts `new` in the place of `old` bytes of the structure block; `at` counts from the file's start.
    pub fn replace_structure(&mut self, at: usize, old: usize, new: &[u8]) -> Result<(), FdtError> {
        let start = self.field(STRUCTURE_AT)?;
        let end = start + self.field(STRUCTURE_SIZE)?;
        if at < start || at.checked_add(old).is_none_or(|behind| behind > end) {
            return Err(broken());
        }
        self.replace(at, old, new)?;
        self.add_to_field(STRUCTURE_SIZE, new.len(), old)?;
        self.add_to_field(STRINGS_AT, new.len(), old)
    }

    /// The number of a property's name, which is added if it is new.
    pub fn name(&mut self, name: &str) -> Result<u32, FdtError> {
        let start = self.field(STRINGS_AT)?;
        let size = self.field(STRINGS_SIZE)?;
        let strings = self.room.get(start..start + size).ok_or_else(broken)?;
        let mut at = 0;
        for string in strings.split(|byte| *byte == 0) {
            if string == name.as_bytes() {
                return u32::try_from(at).map_err(|_| broken());
            }
            at += string.len() + 1;
        }
        // In front of the strings' end, wherever the file puts more behind them.
        self.replace(start + size, 0, name.as_bytes())?;
        self.replace(start + size + name.len(), 0, &[0])?;
        self.add_to_field(STRINGS_SIZE, name.len() + 1, 0)?;
        u32::try_from(size).map_err(|_| broken())
    }
}
