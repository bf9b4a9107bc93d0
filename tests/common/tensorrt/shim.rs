//! The mock of TensorRT's shim (mock.c), compiled: in place of the one that is compiled on a Jetson.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The shims of all tests, compiled once: the good one, and one that is no shim of fcam's.
pub fn shims() -> &'static (PathBuf, PathBuf) {
    static SHIMS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    SHIMS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tensorrt-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // The interface is the real shim's own text, so that the two cannot differ.
        let real = fs::read_to_string(root.join("board/jetson/trt_shim.cc")).unwrap();
        let (start, end) = (real.find("/* --- ABI").unwrap(), real.find("/* --- end of the ABI").unwrap());
        fs::write(folder.join("trt_abi.h"), &real[start..end]).unwrap();
        let compile = |name: &str, define: &str| {
            let file = folder.join(name);
            let mut cc = Command::new("cc");
            cc.args(["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-O1", "-shared", "-fPIC", define]);
            cc.arg("-I").arg(&folder).arg("-o").arg(&file).arg(root.join("tests/common/tensorrt/mock.c")).arg("-lm");
            let output = cc.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            file
        };
        (compile("good.so", "-DGOOD"), compile("foreign.so", "-DFOREIGN"))
    })
}
