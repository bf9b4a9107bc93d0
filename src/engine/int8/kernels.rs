//! What a step computes, and who computes it: one file an instruction set, each with the same two dense kernels.
//!
//! A layer's numbers are laid out for its kernels when the network is loaded (`pack.rs`); here is the agreement between
//! the two. Kernels get raw pointers: the plan has computed every extent, and a bounds check a byte would cost more
//! than the arithmetic.

use std::ops::Range;

/// Repeats a block with a constant in place of a variable, so that arrays indexed by it live in registers.
macro_rules! unroll {
    ($i:ident in [$($value:literal)*] $body:block) => {
        $({
            const $i: usize = $value;
            $body
        })*
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod dotprod;
pub mod float;
pub mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Channels are stored in lanes: a pixel's bytes are rounded up to a multiple of this.
pub const LANES: usize = 16;

/// Input bytes that one dot-product step takes of a pixel.
pub const DEPTH: usize = 4;

/// An instruction set that the engine has kernels for.
///
/// ```
/// use fcam::engine::{Backend, Isa, Settings};
///
/// let settings = Settings { isa: Isa::Portable, ..Settings::default() }; // the definition, on any machine
/// assert_eq!(settings.isa.name(), "portable");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// The fastest one that this CPU has.
    #[default]
    Auto,
    /// Plain Rust: the definition that the others are held to.
    Portable,
    /// x86 with AVX2.
    Avx2,
    /// x86 with AVX-VNNI.
    Avxvnni,
    /// x86 with AVX-512 VNNI.
    Avx512vnni,
    /// Every 64-bit ARM.
    Neon,
    /// 64-bit ARM with dot products: Cortex-A76, Cortex-A78AE and most after them.
    Dotprod,
}

impl Isa {
    /// All by name, slowest first.
    pub const ALL: [Self; 6] = [Self::Portable, Self::Avx2, Self::Avxvnni, Self::Avx512vnni, Self::Neon, Self::Dotprod];

    /// Its name in the station file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avxvnni => "avxvnni",
            Self::Avx512vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::Dotprod => "dotprod",
        }
    }

    /// The kernels, if this CPU can execute them.
    pub fn kernels(self) -> Option<&'static Kernels> {
        match self {
            Self::Auto => Self::ALL.iter().rev().find_map(|isa| isa.kernels()),
            Self::Portable => Some(&portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::is_available().then_some(&avx2::plain::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Self::Avxvnni => avx2::has_vnni().then_some(&avx2::vnni::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512vnni => avx512::is_available().then_some(&avx512::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Some(&neon::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => dotprod::is_available().then_some(&dotprod::KERNELS),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avxvnni | Self::Avx512vnni => None,
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon | Self::Dotprod => None,
        }
    }
}

impl std::str::FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || std::iter::once(Self::Auto).chain(Self::ALL);
        known().find(|isa| isa.name() == text).ok_or_else(|| {
            let names: Vec<&str> = known().map(Self::name).collect();
            format!("unknown instruction set `{text}`: use {}", names.join(", "))
        })
    }
}

/// The AVX-VNNI kernels in the encoding of AVX-512, for tests.
#[cfg(all(test, target_arch = "x86_64"))]
pub use avx2::reencoded;

/// The kernels of one instruction set.
pub struct Kernels {
    /// Which one.
    pub isa: Isa,
    /// A value is stored as `value ^ flip`: 0x80 where the instruction wants unsigned activations, else 0.
    pub flip: u8,
    /// Multiples of [`LANES`] that a dense block may have, largest first; 1 is among them.
    pub widths: &'static [usize],
    /// Where in its block an accumulator's channel lies: (width of the block, accumulator) to channel.
    pub order: fn(usize, usize) -> usize,
    /// The same for depthwise blocks.
    pub depthwise_order: fn(usize, usize) -> usize,
    /// The multiples of [`LANES`] that a depthwise block may have, largest first; 1 is among them.
    pub depthwise_widths: &'static [usize],
    /// Taps that a depthwise step takes of a column at once.
    pub column: usize,
    /// True if products meet in 16-bit sums, as many as fit.
    pub int16_sums: bool,
    /// Dense convolution.
    ///
    /// # Safety
    /// The CPU has the instruction set; the span and the layer fit each other and the memory behind the span's
    /// pointers, see [`RowSpan`].
    pub dense: unsafe fn(&Dense, &RowSpan),
    /// Depthwise convolution.
    ///
    /// # Safety
    /// As `dense`.
    pub depthwise: unsafe fn(&Depthwise, &RowSpan),
    /// A convolution of one output channel, the head of a map; none where `dense` does it as well.
    ///
    /// # Safety
    /// As `dense`; each run of a tap is readable to the end of its last 64 bytes.
    pub one_channel: Option<unsafe fn(&OneChannel, &RowSpan)>,
    /// The steps that work lane by lane.
    pub lanes: lanes::Table,
    /// The float tail.
    pub float: float::Table,
    /// Runs this many rounds of independent dot products on registers alone, and says how many multiply-adds a round
    /// is: what the core can do at most.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    pub peak: unsafe fn(u64) -> u64,
}

/// The rows of its output that a call computes, and where they and their input lie.
///
/// Sound if for each output pixel (y, x) of `rows` x `width`, every tap of the layer at `input + y * in_row + x *
/// in_pixel`, and the 4 bytes after it, lie in memory that is initialised and that nobody writes meanwhile, and all
/// lanes of all blocks at `output + y * out_row + x * out_pixel` lie in memory that nobody else touches meanwhile.
#[derive(Debug, Clone)]
pub struct RowSpan {
    /// The first byte under the window's first tap for output pixel (0, 0).
    pub input: *const u8,
    /// Bytes that the window moves for one output row.
    pub in_row: usize,
    /// Bytes that the window moves for one output pixel.
    pub in_pixel: usize,
    /// Output pixel (0, 0).
    pub output: *mut u8,
    /// Bytes from output row to output row.
    pub out_row: usize,
    /// Bytes from output pixel to output pixel.
    pub out_pixel: usize,
    /// Output pixels a row.
    pub width: usize,
    /// Output rows to compute.
    pub rows: Range<usize>,
}

/// From accumulators to what is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Output {
    /// round(accumulator * scale + rest), half to even, clamped to these bounds.
    Int8 {
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
    },
    /// accumulator * scale + rest as f32, clamped; this many channels are stored.
    Float {
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
        /// Channels.
        channels: usize,
    },
}

/// What the range of a layer's values, known at load, leaves to do between rounding and storing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrow {
    /// Saturate to int16, to int8, and clamp.
    Any,
    /// Every value fits int16 and the clamp is int8's own: take 16 bits, saturate to int8.
    Short,
    /// Every value fits int16 and the clamp starts at 0: take 16 bits, saturate to unsigned, and clamp above.
    Relu,
}

/// Output channels that a dense kernel computes together.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Lanes / [`LANES`].
    pub width: usize,
    /// First output lane.
    pub lane: usize,
    /// Added to each tap's offset: the group's first input lane.
    pub input: usize,
    /// Where its weights start.
    pub weights: usize,
    /// Runs of 8 bytes under the window by whether the products of their four steps fit one 16-bit sum: in all
    /// channels, in the first 8 of the block, in the last 8, in neither. They lie in this order.
    pub by_four: [usize; 4],
    /// Where its moves start.
    pub moves: usize,
}

/// A dense convolution as its kernel wants it.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Byte offset of each tap.
    pub taps: Vec<usize>,
    /// Dot-product steps a tap.
    pub depth: usize,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// `[block][tap][depth][width * LANES accumulators][DEPTH]`; with [`Kernels::int16_sums`], unless the layer is
    /// extreme, `[block][run of 8 bytes][accumulator / 8][4 steps][8 accumulators][2 bytes]`.
    pub weights: super::arena::Bytes,
    /// With [`Kernels::int16_sums`]: by block, the offset of its first run of 8 bytes, then how far it is from each run
    /// to the next.
    pub moves: Vec<i32>,
    /// Start of each accumulator, by output lane in the kernel's order.
    pub bias: Vec<i32>,
    /// Multiplier of each accumulator, in the same order.
    pub scale: Vec<f32>,
    /// Added after the multiplication: what rounding the bias to an integer has left.
    pub rest: Vec<f32>,
    /// What is stored.
    pub output: Output,
    /// True if an accumulator times its scale can leave the range of i32.
    pub wide: bool,
    /// How values become bytes.
    pub narrow: Narrow,
    /// True if a weight is -128: the sum of two products may not fit int16 then.
    pub extreme: bool,
}

/// A convolution of one output channel to a float tensor: the dot product runs along the bytes of the window's rows.
#[derive(Debug, Clone)]
pub struct OneChannel {
    /// Byte offset of each run of bytes under the window.
    pub taps: Vec<usize>,
    /// Pieces of 64 bytes a run.
    pub pieces: usize,
    /// `[tap][piece][64]`, zero past a run's end.
    pub weights: super::arena::Bytes,
    /// Start of the accumulator.
    pub bias: i32,
    /// Its multiplier.
    pub scale: f32,
    /// Added after the multiplication.
    pub rest: f32,
    /// Clamp bounds.
    pub low: f32,
    /// Clamp bounds.
    pub high: f32,
}

/// How many products of a depthwise window fit one 16-bit sum, whatever the activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// All.
    All,
    /// Those of the rows whose bits are set, and any two.
    Rows(u32),
}

/// A depthwise convolution as its kernel wants it.
#[derive(Debug, Clone)]
pub struct Depthwise {
    /// Kernel rows.
    pub rows: usize,
    /// Kernel columns.
    pub columns: usize,
    /// Byte offset from tap row to tap row.
    pub row: usize,
    /// Byte offset from tap column to tap column.
    pub column: usize,
    /// Columns from output pixel to output pixel; 0 where dilation keeps pixels from sharing columns.
    pub stride: usize,
    /// `width` and first lane of each block.
    pub blocks: Vec<Block>,
    /// By vector of lanes.
    pub together: Vec<Together>,
    /// `[block][group of Kernels::column rows][column][width * LANES accumulators][Kernels::column]`.
    pub weights: super::arena::Bytes,
    /// As in [`Dense`].
    pub bias: Vec<i32>,
    /// As in [`Dense`].
    pub scale: Vec<f32>,
    /// As in [`Dense`].
    pub rest: Vec<f32>,
    /// Clamp bounds.
    pub low: f32,
    /// Clamp bounds.
    pub high: f32,
    /// As in [`Dense`].
    pub wide: bool,
    /// As in [`Dense`].
    pub narrow: Narrow,
    /// As in [`Dense`].
    pub extreme: bool,
}
