//! The C interface of board/jetson/trt_shim.cc. In: the path of a compiled shim. Out: its calls as safe functions, its
//! codes as [`Refusal`]s.
//!
//! The number of the interface is read before anything else is called. A shim that was opened stays open: what TensorRT
//! has started in a process cannot be taken back.

use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::told::{Facts, Kind, Progress, Refusal};
use crate::engine::Shape;

/// The interface that this program speaks.
pub(super) const ABI: i32 = 1;

const OK: i32 = 0;
const FLAG_INT8: u32 = 1;

/// Bytes of a message at most.
const ROOM: usize = 4096;

impl Kind {
    fn of(code: i32) -> Self {
        match code {
            1 | 2 => Self::Device,
            3 | 4 => Self::Library,
            6 => Self::Cancelled,
            _ => Self::Other,
        }
    }
}

/// `struct fcam_trt_facts`.
#[repr(C)]
struct RawFacts {
    driver: i32,
    cudart: i32,
    devices: i32,
    header: [i32; 3],
    library: [i32; 4],
    capability: [i32; 2],
    integrated: i32,
    typed: i32,
    memory: i64,
    name: [u8; 128],
}

/// `struct fcam_trt_shape`.
#[repr(C)]
struct RawShape {
    width: i32,
    height: i32,
    classes: i32,
}

/// `struct fcam_trt_ports`.
#[repr(C)]
struct RawPorts {
    input: *mut f32,
    logits: *const f32,
    map: *const f32,
    zero_copy: i32,
    graph: i32,
}

type Log = extern "C" fn(i32, *const c_char);
type Step = extern "C" fn(*mut c_void, *const c_char, i32, i32) -> i32;
type SetLog = unsafe extern "C" fn(Option<Log>);
type Probe = unsafe extern "C" fn(*mut RawFacts, *mut c_char, usize) -> i32;
type Build = unsafe extern "C" fn(
    *const c_void,
    usize,
    u32,
    Option<Step>,
    *mut c_void,
    *mut *mut c_void,
    *mut usize,
    *mut c_char,
    usize,
) -> i32;
type Free = unsafe extern "C" fn(*mut c_void);
type Load = unsafe extern "C" fn(
    *const c_void,
    usize,
    *const RawShape,
    *mut *mut c_void,
    *mut RawPorts,
    *mut c_char,
    usize,
) -> i32;
type Run = unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> i32;
type Unload = unsafe extern "C" fn(*mut c_void);

impl From<&RawFacts> for Facts {
    fn from(raw: &RawFacts) -> Self {
        let dotted = |numbers: &[i32]| numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(".");
        let cuda = |number: i32| if number == 0 { String::new() } else { dotted(&[number / 1000, number % 1000 / 10]) };
        let known = |numbers: &[i32]| if numbers.iter().all(|n| *n == 0) { String::new() } else { dotted(numbers) };
        let name = raw.name.split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            driver: cuda(raw.driver),
            cuda: cuda(raw.cudart),
            devices: raw.devices,
            header: known(&raw.header),
            tensorrt: known(&raw.library),
            gpu: String::from_utf8_lossy(name).escape_debug().to_string(),
            capability: known(&raw.capability),
            integrated: raw.integrated != 0,
            typed: raw.typed != 0,
            memory: raw.memory,
        }
    }
}

/// An opened shim of the right interface.
#[derive(Debug)]
pub(super) struct Shim {
    path: PathBuf,
    probe: Symbol<Probe>,
    build: Symbol<Build>,
    free: Symbol<Free>,
    load: Symbol<Load>,
    run: Symbol<Run>,
    unload: Symbol<Unload>,
}

/// All that were opened.
static OPEN: Mutex<Vec<&'static Shim>> = Mutex::new(Vec::new());

impl Shim {
    /// Opens the file once; an error says what is wrong with it.
    pub(super) fn open(path: &Path) -> Result<&'static Self, String> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|shim| shim.path == path) {
            return Ok(known);
        }
        // SAFETY: opening runs the file's constructors. It is a shim that an administrator has put into a place of the
        // list, or has named.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| format!("it cannot be opened: {}", in_one_line(&error.to_string())))?;
        let shim = Self::new(path, &library);
        std::mem::forget(library);
        let shim: &'static Self = Box::leak(Box::new(shim?));
        open.push(shim);
        Ok(shim)
    }

    fn new(path: &Path, library: &Library) -> Result<Self, String> {
        // SAFETY: the first function of every version of the interface.
        let abi = unsafe { library.get::<unsafe extern "C" fn() -> i32>(b"fcam_trt_abi\0") };
        let abi = abi.map_err(|_| "it is no shim of fcam's: it has no `fcam_trt_abi`".to_owned())?;
        // SAFETY: it takes nothing and returns a number.
        let number = unsafe { abi() };
        if number != ABI {
            return Err(format!(
                "it speaks interface {number} and this fcam {ABI}: compile the shim that came with it"
            ));
        }
        let lacks = |name: &str| format!("it has no `{name}`: compile it again");
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is that of the interface whose number was read.
                unsafe { library.get(concat!($name, "\0").as_bytes()) }.map_err(|_| lacks($name))?
            };
        }
        let set_log: Symbol<SetLog> = symbol!("fcam_trt_set_log");
        // SAFETY: `log` lives as long as the program.
        unsafe { set_log(Some(log)) };
        Ok(Self {
            path: path.to_owned(),
            probe: symbol!("fcam_trt_probe"),
            build: symbol!("fcam_trt_build"),
            free: symbol!("fcam_trt_free"),
            load: symbol!("fcam_trt_load"),
            run: symbol!("fcam_trt_run"),
            unload: symbol!("fcam_trt_unload"),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the machine has; and whether TensorRT can be used on it. What was found out is there in any case.
    pub(super) fn probe(&self) -> (Facts, Result<(), Refusal>) {
        let mut raw = RawFacts {
            driver: 0,
            cudart: 0,
            devices: 0,
            header: [0; 3],
            library: [0; 4],
            capability: [0; 2],
            integrated: 0,
            typed: 0,
            memory: 0,
            name: [0; 128],
        };
        // SAFETY: the struct is the interface's and lives through the call.
        let usable = call(&mut room(), |message, room| unsafe { (self.probe)(&mut raw, message, room) });
        (Facts::from(&raw), usable)
    }

    /// The bytes of an engine for an ONNX file. Takes minutes; `progress` tells how far it is.
    pub(super) fn build(&self, onnx: &[u8], int8: bool, progress: &Progress) -> Result<Vec<u8>, Refusal> {
        let (mut plan, mut bytes) = (ptr::null_mut(), 0);
        let flags = if int8 { FLAG_INT8 } else { 0 };
        let context = ptr::from_ref(progress).cast_mut().cast();
        // SAFETY: all of it lives through the call, and `step` reads `context` as what it is.
        call(&mut room(), |message, room| unsafe {
            let onnx = (onnx.as_ptr().cast(), onnx.len());
            (self.build)(onnx.0, onnx.1, flags, Some(step), context, &mut plan, &mut bytes, message, room)
        })?;
        let Some(plan) = NonNull::new(plan.cast::<u8>()).filter(|_| bytes > 0) else {
            return Err(Refusal {
                kind: Kind::Other,
                message: "the shim says that it built an engine, and gives none".into(),
            });
        };
        // SAFETY: the shim gives as many bytes, until they are freed.
        let copy = unsafe { std::slice::from_raw_parts(plan.as_ptr(), bytes) }.to_vec();
        // SAFETY: it is the shim's, and not used after this.
        unsafe { (self.free)(plan.as_ptr().cast()) };
        Ok(copy)
    }

    /// Makes an engine's bytes ready to run.
    pub(super) fn load(&'static self, plan: &[u8], shape: Shape) -> Result<Session, Refusal> {
        let side = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let wanted = RawShape { width: side(shape.width), height: side(shape.height), classes: side(shape.classes) };
        let mut engine = ptr::null_mut();
        let mut ports =
            RawPorts { input: ptr::null_mut(), logits: ptr::null(), map: ptr::null(), zero_copy: 0, graph: 0 };
        let mut room = room();
        // SAFETY: all of it lives through the call.
        call(&mut room, |message, room| unsafe {
            (self.load)(plan.as_ptr().cast(), plan.len(), &wanted, &mut engine, &mut ports, message, room)
        })?;
        let missing =
            || Refusal { kind: Kind::Other, message: "the shim says that it loaded an engine, and gives none".into() };
        let engine = NonNull::new(engine).ok_or_else(missing)?;
        let session = Session { shim: self, engine, ports, shape, room };
        if session.ports.input.is_null() || session.ports.logits.is_null() || session.ports.map.is_null() {
            return Err(missing());
        }
        Ok(session)
    }
}

/// A loaded engine; unloaded when dropped.
pub(super) struct Session {
    shim: &'static Shim,
    engine: NonNull<c_void>,
    ports: RawPorts,
    shape: Shape,
    /// For the message of a run: a part allocates nothing.
    room: Box<[u8]>,
}

// SAFETY: the interface allows calls from any thread, one at a time; `&mut self` sees to that.
unsafe impl Send for Session {}

impl Session {
    /// True if the GPU works on the CPU's own bytes.
    pub(super) fn zero_copy(&self) -> bool {
        self.ports.zero_copy != 0
    }

    /// True if a run is one CUDA graph.
    pub(super) fn graph(&self) -> bool {
        self.ports.graph != 0
    }

    /// Where the next picture goes: planes of (pixel - 128) / 128.
    pub(super) fn input(&mut self) -> &mut [f32] {
        let values = 3 * self.shape.width * self.shape.height;
        // SAFETY: the shim keeps as many for the shape that it was loaded with, until it is unloaded, and does not
        // touch them between runs.
        unsafe { std::slice::from_raw_parts_mut(self.ports.input, values) }
    }

    /// Runs the network on what is in `input`.
    pub(super) fn run(&mut self) -> Result<(), Refusal> {
        // SAFETY: the engine is loaded.
        call(&mut self.room, |message, room| unsafe { (self.shim.run)(self.engine.as_ptr(), message, room) })
    }

    /// What the last run gave.
    pub(super) fn logits(&self) -> &[f32] {
        // SAFETY: as `input`.
        unsafe { std::slice::from_raw_parts(self.ports.logits, self.shape.classes) }
    }

    /// What the last run gave.
    pub(super) fn map(&self) -> &[f32] {
        // SAFETY: as `input`.
        unsafe { std::slice::from_raw_parts(self.ports.map, self.shape.width * self.shape.height) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: loaded, and not used after this.
        unsafe { (self.shim.unload)(self.engine.as_ptr()) };
    }
}

/// For a call's message.
fn room() -> Box<[u8]> {
    vec![0; ROOM].into()
}

/// Makes a call with room for its message; its code as a result.
fn call(room: &mut [u8], work: impl FnOnce(*mut c_char, usize) -> i32) -> Result<(), Refusal> {
    room.fill(0); // what the call before it said is not what this one says
    let code = work(room.as_mut_ptr().cast(), room.len());
    if code == OK {
        return Ok(());
    }
    let text = CStr::from_bytes_until_nul(room).map(CStr::to_string_lossy).unwrap_or_default();
    let message = if text.is_empty() { format!("code {code} and no word") } else { in_one_line(&text) };
    Err(Refusal { kind: Kind::of(code), message })
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// TensorRT's own words: its errors come again in the message of the call that fails.
extern "C" fn log(severity: i32, text: *const c_char) {
    if text.is_null() {
        return;
    }
    let level = match severity {
        ..=2 => log::Level::Debug,
        _ => log::Level::Trace,
    };
    if log::log_enabled!(level) {
        // SAFETY: the interface gives a string that ends.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        log::log!(level, "TensorRT: {}", in_one_line(&text));
    }
}

extern "C" fn step(context: *mut c_void, phase: *const c_char, step: i32, steps: i32) -> i32 {
    if context.is_null() {
        return 0;
    }
    // SAFETY: `build` gives a `Progress` that outlives the call, and shares it.
    let progress = unsafe { &*context.cast::<Progress>() };
    if !phase.is_null() {
        // SAFETY: the interface gives a string that ends.
        let phase = in_one_line(&unsafe { CStr::from_ptr(phase) }.to_string_lossy());
        progress.write(phase, step, steps);
    }
    i32::from(progress.cancelled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_readable() {
        let mut raw = RawFacts {
            driver: 12060,
            cudart: 12020,
            devices: 1,
            header: [10, 3, 0],
            library: [10, 7, 0, 23],
            capability: [8, 7],
            integrated: 1,
            typed: 0,
            memory: 8 << 30,
            name: [0; 128],
        };
        raw.name[..4].copy_from_slice(b"Orin");
        let facts = Facts::from(&raw);
        assert_eq!([&facts.driver, &facts.cuda, &facts.header], ["12.6", "12.2", "10.3.0"]);
        assert_eq!([&facts.tensorrt, &facts.gpu, &facts.capability], ["10.7.0.23", "Orin", "8.7"]);
        raw.library = [0; 4];
        raw.name = [b'x'; 128]; // no end
        let facts = Facts::from(&raw);
        assert_eq!((facts.tensorrt.as_str(), facts.gpu.len()), ("", 128));
    }

    #[test]
    fn a_call_that_says_nothing_has_its_code() {
        let mut room = *b"the words of a call before it\0";
        let refusal = call(&mut room, |_, _| 9).unwrap_err();
        assert_eq!((refusal.kind, refusal.message.as_str()), (Kind::Other, "code 9 and no word"));
    }
}
