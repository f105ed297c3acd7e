//! `xen_version`: who the hypervisor is and what it offers (Xen public/version.h, features.h).
//!
//! `xen_version(cmd = x0, arg = x1)`.

wire_enum! {
    /// `XENVER_*`: the command of `xen_version`.
    VersionOp: u32 {
        /// Result: `major << 16 | minor`.
        Version = 0,
        /// Writes a string of [`EXTRAVERSION_LEN`] bytes.
        Extraversion = 1,
        /// Writes a structure of [`COMPILE_INFO_LEN`] bytes.
        CompileInfo = 2,
        /// Writes a string of [`CAPABILITIES_LEN`] bytes.
        Capabilities = 3,
        /// Writes a string of [`CHANGESET_LEN`] bytes.
        Changeset = 4,
        /// Writes a u64: start of the hypervisor's virtual range, 0 on Arm.
        PlatformParameters = 5,
        /// Fills in a [`FeatureInfo`].
        GetFeatures = 6,
        /// Result: the page size in bytes.
        Pagesize = 7,
        /// Writes the domain's UUID, 16 bytes.
        GuestHandle = 8,
        /// Writes a string of [`COMMANDLINE_LEN`] bytes; privileged.
        Commandline = 9,
        /// Writes the build id; result: its length.
        BuildId = 10,
    }
}

/// Bytes of `xen_extraversion_t`.
pub const EXTRAVERSION_LEN: usize = 16;
/// Bytes of `struct xen_compile_info`: compiler 64, by 16, domain 32, date 32.
pub const COMPILE_INFO_LEN: usize = 144;
/// Bytes of `xen_capabilities_info_t`.
pub const CAPABILITIES_LEN: usize = 1024;
/// Bytes of `xen_changeset_info_t`.
pub const CHANGESET_LEN: usize = 64;
/// Bytes of `xen_commandline_t`.
pub const COMMANDLINE_LEN: usize = 1024;

wire_struct! {
    /// `struct xen_feature_info`.
    FeatureInfo (8) {
        /// *in* which word of features; only 0 exists.
        0: submap_idx: u32,
        /// *out* one bit per feature, see `XENFEAT_*`.
        4: submap: u32,
    }
}

/// `XENFEAT_writable_page_tables`: set on Arm.
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// `XENFEAT_writable_descriptor_tables`.
pub const XENFEAT_WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// `XENFEAT_auto_translated_physmap`: frames are guest frames; always set on Arm.
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// `XENFEAT_supervisor_mode_kernel`.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// `XENFEAT_pae_pgdir_above_4gb`.
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// `XENFEAT_mmu_pt_update_preserve_ad`.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// `XENFEAT_gnttab_map_avail_bits`.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// `XENFEAT_hvm_callback_vector`.
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// `XENFEAT_hvm_safe_pvclock`.
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// `XENFEAT_hvm_pirqs`.
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// `XENFEAT_dom0`: the caller is the initial domain.
pub const XENFEAT_DOM0: u32 = 11;
/// `XENFEAT_memory_op_vnode_supported`.
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// `XENFEAT_ARM_SMCCC_supported`: `HVC #0` speaks SMCCC.
pub const XENFEAT_ARM_SMCCC_SUPPORTED: u32 = 14;
/// `XENFEAT_linux_rsdp_unrestricted`.
pub const XENFEAT_LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// `XENFEAT_not_direct_mapped`: IPA and PA differ.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// `XENFEAT_direct_mapped`: IPA equals PA.
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;
