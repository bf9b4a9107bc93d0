//! What the crate `v4l` and fcam's own camera use of the kernel's `linux/videodev2.h`. The registry's crate of this
//! name makes its bindings at each build, which needs libclang; these were made once by `bindings.sh`. Cargo.toml of
//! fcam puts this crate in the other's place.

#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("these bindings are for 64-bit Linux: build fcam without its feature v4l2, or make others with board/v4l2-sys-mit/bindings.sh");

include!("bindings.rs");
