//! Tells the build script of an image where the linker script is.

fn main() {
    println!("cargo::rerun-if-changed=image.ld");
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory");
    println!("cargo::metadata=LINKER_SCRIPT={root}/image.ld");
}
