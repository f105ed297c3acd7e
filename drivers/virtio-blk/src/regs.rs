//! The register interface of a virtio-mmio transport (VIRTIO 1.2, 4.2.2 and 4.2.4) and its start-up sequence.

/// Access to one device's registers. A fake implements it in tests.
pub trait Registers {
    /// Reads an aligned 32-bit register.
    fn read32(&self, offset: usize) -> u32;

    /// Writes an aligned 32-bit register; earlier memory accesses reach the device first only if the caller
    /// put a barrier in between.
    fn write32(&self, offset: usize, value: u32);

    /// Reads one byte (of the configuration space).
    fn read8(&self, offset: usize) -> u8;
}

const MAGIC_VALUE: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SEL: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SEL: usize = 0x024;
/// Legacy only.
const GUEST_PAGE_SIZE: usize = 0x028;
const QUEUE_SEL: usize = 0x030;
const QUEUE_NUM_MAX: usize = 0x034;
const QUEUE_NUM: usize = 0x038;
/// Legacy only.
const QUEUE_ALIGN: usize = 0x03c;
/// Legacy only.
const QUEUE_PFN: usize = 0x040;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_STATUS: usize = 0x060;
const INTERRUPT_ACK: usize = 0x064;
const STATUS: usize = 0x070;
const QUEUE_DESC_LOW: usize = 0x080;
const QUEUE_DRIVER_LOW: usize = 0x090;
const QUEUE_DEVICE_LOW: usize = 0x0a0;
const CONFIG_GENERATION: usize = 0x0fc;
const CONFIG: usize = 0x100;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// Device type of a disk (5.2.1).
const TYPE_BLOCK: u32 = 2;
/// The page that legacy queue addresses count in.
pub const PAGE: u32 = 4096;

const STATUS_ACKNOWLEDGE: u32 = 1;
const STATUS_DRIVER: u32 = 2;
const STATUS_DRIVER_OK: u32 = 4;
const STATUS_FEATURES_OK: u32 = 8;
const STATUS_NEEDS_RESET: u32 = 64;
const STATUS_FAILED: u32 = 128;

/// Feature bit: not a legacy device.
pub const F_VERSION_1: u64 = 1 << 32;

/// Which register layout the device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Legacy,
    Modern,
}

/// What an interrupt told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Requests may be finished.
    Queue,
    /// The configuration changed, too.
    Configuration,
    /// The device has given up.
    NeedsReset,
}

/// Why a transport cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// There is no virtio transport here.
    NoTransport,
    /// The register layout has a version that is not known.
    Version(u32),
    /// The device is of another type; 0 means the slot is empty.
    NotADisk(u32),
    /// The device refused the features that it had offered.
    Features,
    /// The queue does not exist or is in use.
    Queue,
}

/// Where the parts of a queue stand, as bus addresses.
#[derive(Clone, Copy, Debug)]
pub struct QueueAddresses {
    /// The descriptor table; the two rings follow it as the legacy layout wants.
    pub descriptors: u64,
    /// What the driver writes: the available ring.
    pub driver: u64,
    /// What the device writes: the used ring.
    pub device: u64,
}

/// A transport that has been recognised.
#[derive(Debug)]
pub struct Transport<R> {
    regs: R,
    layout: Layout,
}

impl<R: Registers> Transport<R> {
    /// Recognises a disk and resets it.
    ///
    /// # Errors
    /// There is no transport, or another device.
    pub fn begin(regs: R) -> Result<Self, TransportError> {
        if regs.read32(MAGIC_VALUE) != MAGIC {
            return Err(TransportError::NoTransport);
        }
        let layout = match regs.read32(VERSION) {
            1 => Layout::Legacy,
            2 => Layout::Modern,
            other => return Err(TransportError::Version(other)),
        };
        match regs.read32(DEVICE_ID) {
            TYPE_BLOCK => {}
            other => return Err(TransportError::NotADisk(other)),
        }
        let transport = Self { regs, layout };
        transport.reset();
        transport.add_status(STATUS_ACKNOWLEDGE);
        transport.add_status(STATUS_DRIVER);
        Ok(transport)
    }

    /// Stops the device: it forgets its queue and touches memory no more.
    pub fn reset(&self) {
        self.regs.write32(STATUS, 0);
    }

    /// Takes those features of `wanted` that the device offers.
    ///
    /// # Errors
    /// The device does not accept its own offer.
    pub fn negotiate(&self, wanted: u64) -> Result<u64, TransportError> {
        let offered = u64::from(self.features_word(0)) | u64::from(self.features_word(1)) << 32;
        let wanted = match self.layout {
            Layout::Legacy => wanted & !F_VERSION_1,
            Layout::Modern => wanted | F_VERSION_1,
        };
        let taken = offered & wanted;
        let [a, b, c, d, e, f, g, h] = taken.to_le_bytes();
        self.set_features_word(0, u32::from_le_bytes([a, b, c, d]));
        self.set_features_word(1, u32::from_le_bytes([e, f, g, h]));
        if self.layout == Layout::Modern {
            self.add_status(STATUS_FEATURES_OK);
            let accepted = self.regs.read32(STATUS) & STATUS_FEATURES_OK != 0;
            if !accepted || taken & F_VERSION_1 == 0 {
                self.add_status(STATUS_FAILED);
                return Err(TransportError::Features);
            }
        }
        Ok(taken)
    }

    /// The most entries that queue 0 may have.
    ///
    /// # Errors
    /// There is no such queue.
    pub fn queue_max(&self) -> Result<u32, TransportError> {
        self.regs.write32(QUEUE_SEL, 0);
        let in_use = match self.layout {
            Layout::Legacy => self.regs.read32(QUEUE_PFN),
            Layout::Modern => self.regs.read32(QUEUE_READY),
        };
        match (in_use, self.regs.read32(QUEUE_NUM_MAX)) {
            (0, max) if max != 0 => Ok(max),
            _ => Err(TransportError::Queue),
        }
    }

    /// Hands queue 0 to the device and starts it.
    ///
    /// # Errors
    /// The addresses do not fit the legacy layout.
    pub fn start(&self, size: u16, queue: QueueAddresses) -> Result<(), TransportError> {
        self.regs.write32(QUEUE_SEL, 0);
        self.regs.write32(QUEUE_NUM, size.into());
        match self.layout {
            Layout::Legacy => {
                let page = u32::try_from(queue.descriptors / u64::from(PAGE)).map_err(|_| TransportError::Queue)?;
                self.regs.write32(GUEST_PAGE_SIZE, PAGE);
                self.regs.write32(QUEUE_ALIGN, PAGE);
                self.regs.write32(QUEUE_PFN, page);
            }
            Layout::Modern => {
                self.write_address(QUEUE_DESC_LOW, queue.descriptors);
                self.write_address(QUEUE_DRIVER_LOW, queue.driver);
                self.write_address(QUEUE_DEVICE_LOW, queue.device);
                self.regs.write32(QUEUE_READY, 1);
            }
        }
        self.add_status(STATUS_DRIVER_OK);
        Ok(())
    }

    /// Tells the device that queue 0 has new entries.
    pub fn notify(&self) {
        self.regs.write32(QUEUE_NOTIFY, 0);
    }

    /// Takes the interrupt back, and says what it told.
    pub fn acknowledge(&self) -> Told {
        let pending = self.regs.read32(INTERRUPT_STATUS);
        self.regs.write32(INTERRUPT_ACK, pending);
        // Bit 1: the configuration changed, which is also how a device says that it needs a reset.
        match pending & 2 {
            0 => Told::Queue,
            _ if self.regs.read32(STATUS) & STATUS_NEEDS_RESET != 0 => Told::NeedsReset,
            _ => Told::Configuration,
        }
    }

    /// Reads from the configuration space again if a change came in between. A device that changes it without end
    /// gets the last try; nothing here relies on the fields agreeing with each other.
    pub fn config<T>(&self, mut read: impl FnMut(&Self) -> T) -> T {
        let mut before = self.generation();
        let mut value = read(self);
        for _ in 0..8 {
            let now = self.generation();
            if now == before {
                break;
            }
            before = now;
            value = read(self);
        }
        value
    }

    /// A 32-bit field of the configuration space.
    pub fn config32(&self, offset: usize) -> u32 {
        self.regs.read32(CONFIG + offset)
    }

    /// A 64-bit field of the configuration space.
    pub fn config64(&self, offset: usize) -> u64 {
        u64::from(self.config32(offset)) | u64::from(self.config32(offset + 4)) << 32
    }

    /// An 8-bit field of the configuration space.
    pub fn config8(&self, offset: usize) -> u8 {
        self.regs.read8(CONFIG + offset)
    }

    fn generation(&self) -> u32 {
        match self.layout {
            Layout::Legacy => 0,
            Layout::Modern => self.regs.read32(CONFIG_GENERATION),
        }
    }

    fn add_status(&self, bit: u32) {
        let status = self.regs.read32(STATUS);
        self.regs.write32(STATUS, status | bit);
    }

    fn features_word(&self, word: u32) -> u32 {
        self.regs.write32(DEVICE_FEATURES_SEL, word);
        self.regs.read32(DEVICE_FEATURES)
    }

    fn set_features_word(&self, word: u32, value: u32) {
        self.regs.write32(DRIVER_FEATURES_SEL, word);
        self.regs.write32(DRIVER_FEATURES, value);
    }

    fn write_address(&self, low: usize, address: u64) {
        let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
        self.regs.write32(low, u32::from_le_bytes([a, b, c, d]));
        self.regs.write32(low + 4, u32::from_le_bytes([e, f, g, h]));
    }
}
