//! Looks at the web chat again when it was built again.

fn main() {
    println!("cargo:rerun-if-changed=app/dist");
}
