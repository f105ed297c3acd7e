//! PSCI and SMCCC function numbers and results (Arm DEN0022F and DEN0028F), for `HVC #0`.
//!
//! Bit 30 of the number says that arguments are 64 bits wide.

wire_enum! {
    /// Functions of PSCI 1.1 and of SMCCC that a guest may call.
    PsciFn: u32 {
        /// `PSCI_VERSION`: `major << 16 | minor`.
        Version = 0x8400_0000,
        /// `CPU_SUSPEND`, 32 bits.
        CpuSuspend32 = 0x8400_0001,
        /// `CPU_OFF`.
        CpuOff = 0x8400_0002,
        /// `CPU_ON`, 32 bits.
        CpuOn32 = 0x8400_0003,
        /// `AFFINITY_INFO`, 32 bits.
        AffinityInfo32 = 0x8400_0004,
        /// `MIGRATE_INFO_TYPE`.
        MigrateInfoType = 0x8400_0006,
        /// `SYSTEM_OFF`.
        SystemOff = 0x8400_0008,
        /// `SYSTEM_RESET`.
        SystemReset = 0x8400_0009,
        /// `PSCI_FEATURES`.
        Features = 0x8400_000A,
        /// `SYSTEM_RESET2`, 32 bits.
        SystemReset2_32 = 0x8400_0012,
        /// `CPU_SUSPEND`, 64 bits.
        CpuSuspend64 = 0xC400_0001,
        /// `CPU_ON`, 64 bits.
        CpuOn64 = 0xC400_0003,
        /// `AFFINITY_INFO`, 64 bits.
        AffinityInfo64 = 0xC400_0004,
        /// `SYSTEM_RESET2`, 64 bits.
        SystemReset2_64 = 0xC400_0012,
        /// `SMCCC_VERSION`: `major << 16 | minor`.
        SmcccVersion = 0x8000_0000,
        /// `SMCCC_ARCH_FEATURES`.
        SmcccArchFeatures = 0x8000_0001,
    }
}

wire_enum! {
    /// Result of a PSCI call, in x0.
    PsciResult: i32 {
        /// `SUCCESS`.
        Success = 0,
        /// `NOT_SUPPORTED`; also SMCCC's unknown function.
        NotSupported = -1,
        /// `INVALID_PARAMETERS`.
        InvalidParameters = -2,
        /// `DENIED`.
        Denied = -3,
        /// `ALREADY_ON`.
        AlreadyOn = -4,
        /// `ON_PENDING`.
        OnPending = -5,
        /// `INTERNAL_FAILURE`.
        InternalFailure = -6,
        /// `NOT_PRESENT`.
        NotPresent = -7,
        /// `DISABLED`.
        Disabled = -8,
        /// `INVALID_ADDRESS`.
        InvalidAddress = -9,
    }
}

/// PSCI 1.1, as `PSCI_VERSION` returns it.
pub const PSCI_VERSION_1_1: u32 = 0x1_0001;
/// SMCCC 1.1, as `SMCCC_VERSION` returns it.
pub const SMCCC_VERSION_1_1: u32 = 0x1_0001;
/// `AFFINITY_INFO`: the CPU is on.
pub const AFFINITY_ON: u32 = 0;
/// `AFFINITY_INFO`: the CPU is off.
pub const AFFINITY_OFF: u32 = 1;
/// `AFFINITY_INFO`: the CPU is about to be on.
pub const AFFINITY_ON_PENDING: u32 = 2;
/// `MIGRATE_INFO_TYPE`: no trusted OS that would need migration.
pub const MIGRATE_NOT_REQUIRED: u32 = 2;
