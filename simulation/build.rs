//! Tells the compiler that a setting of tokio is known here, which `cargo xtask simulate` sets.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(tokio_unstable)");
}
