//! Links the guest as an image: the library's layout, position-independent.

fn main() {
    let script = std::env::var("DEP_PV_GUEST_LIB_LINKER_SCRIPT").expect("pv-guest-lib names its linker script");
    println!("cargo::rerun-if-changed={script}");
    for argument in ["-pie", "--no-dynamic-linker", "-znotext", "-zpack-relative-relocs", "--build-id=none"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
