//! Tells the build script of an image where the linker script is, and links this crate's own examples with it.

fn main() {
    println!("cargo::rerun-if-changed=image.ld");
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory");
    println!("cargo::metadata=LINKER_SCRIPT={root}/image.ld");
    for argument in ["-pie", "--no-dynamic-linker", "-znotext", "-zpack-relative-relocs", "--build-id=none"] {
        println!("cargo::rustc-link-arg-examples={argument}");
    }
    println!("cargo::rustc-link-arg-examples=-T{root}/image.ld");
}
