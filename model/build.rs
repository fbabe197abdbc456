//! Sets the one flag by which the gateway's own files know that they are compiled for the model.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(wsgate_model)");
    println!("cargo::rustc-cfg=wsgate_model");
    println!("cargo::rerun-if-changed=build.rs");
}
