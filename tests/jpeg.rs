//! JPEG pictures: pixels are those of libjpeg-turbo to the bit, and a picture that is not whole is none.

use fcam::camera::picture::{self, Picture};
use fcam::camera::{Error, PixelFormat};
use libjpeg::{DAMAGES, Damage, Pixels, case, cjpeg, damage, djpeg, first_scan, has_libjpeg, one_scan_a_component};
use proptest::prelude::*;
use random::Random;

use crate::{libjpeg, random};

fn decode(jpeg: &[u8]) -> Result<Pixels, Error> {
    let Picture { geometry, bytes } = picture::decode(jpeg, "it")?;
    let channels = if geometry.format == PixelFormat::Gray8 { 1 } else { 3 };
    Ok(Pixels { width: geometry.width as usize, height: geometry.height as usize, channels, bytes })
}

/// Sampling factors of luma and chroma that libjpeg decodes: all but those that are no whole multiples of each other.
const SAMPLINGS: [&str; 14] = [
    "1x1",
    "2x1",
    "1x2",
    "2x2",
    "4x1",
    "1x4",
    "4x2",
    "2x4",
    "3x1",
    "3x3,1x1",
    "1x1,2x2",
    "2x1,1x2",
    "2x2,2x1,1x2",
    "4x1,2x1,1x1",
];

#[derive(Debug, Clone)]
struct Kind {
    size: (usize, usize),
    sampling: &'static str,
    quality: u32,
    restart: usize,
    /// 1 gray, 3 colours.
    channels: usize,
    rgb: bool,
    optimize: bool,
    progressive: bool,
    separate: bool,
    noise: usize,
    seed: u64,
}

impl Kind {
    fn encode(&self) -> Option<Vec<u8>> {
        let Self { size, channels, noise, seed, .. } = *self;
        let picture = Pixels::draw(size.0, size.1, channels, noise, &mut Random(seed));
        let (quality, restart) = (self.quality.to_string(), format!("{}B", self.restart));
        let mut args = vec!["-quality", &quality, "-restart", &restart, "-dct", "int"];
        if channels == 3 {
            args.extend(["-sample", self.sampling]);
        }
        for (wanted, arg) in
            [(self.rgb && channels == 3, "-rgb"), (self.optimize, "-optimize"), (self.progressive, "-progressive")]
        {
            if wanted {
                args.push(arg);
            }
        }
        let jpeg = cjpeg(&args, &picture)?;
        if self.separate && !self.progressive { one_scan_a_component(&jpeg, channels) } else { Some(jpeg) }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    let picture = ((1usize..90, 1usize..90), prop::sample::select(vec![1usize, 3, 3, 3]), 0usize..80, any::<u64>());
    let coding =
        (prop::sample::select(SAMPLINGS.to_vec()), 1u32..=100, prop::sample::select(vec![0usize, 0, 1, 2, 3, 7, 30]));
    (picture, coding, any::<[bool; 4]>()).prop_map(
        |((size, channels, noise, seed), (sampling, quality, restart), flags)| {
            let [rgb, optimize, progressive, separate] = flags;
            Kind { size, sampling, quality, restart, channels, rgb, optimize, progressive, separate, noise, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every kind of picture that libjpeg's programs can make.
    #[test]
    fn pixels_are_those_of_libjpeg(kind in kinds()) {
        if !has_libjpeg() {
            return Ok(());
        }
        // None: a combination that the programs refuse, such as MCUs of more than ten blocks.
        if let Some(jpeg) = kind.encode() && let Some(expected) = djpeg(&jpeg) {
            prop_assert_eq!(decode(&jpeg).map_err(|error| error.to_string()), Ok(expected));
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ whole

/// Where each restart marker of a picture's scan stands, then its end marker.
fn restarts(jpeg: &[u8]) -> Vec<usize> {
    let at = |index: &usize| jpeg[*index] == 0xFF && matches!(jpeg[index + 1], 0xD0..=0xD7 | 0xD9);
    (first_scan(jpeg)..jpeg.len() - 1).filter(at).collect()
}

fn insert(jpeg: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&jpeg[..at], bytes, &jpeg[at..]].concat()
}

fn refusal(jpeg: &[u8]) -> String {
    decode(jpeg).expect_err("it must be refused").to_string()
}

#[test]
fn a_picture_that_ends_early_is_none_whatever_its_end_marker_says() {
    for name in ["whole.jpg", "rst_whole.jpg", "separate_scans_420.jpg", "one_scan_420.jpg"] {
        let jpeg = case(name);
        let start = first_scan(&jpeg);
        for cut in (start..jpeg.len() - 2).step_by(337).chain(jpeg.len() - 12..jpeg.len() - 2) {
            let mut bytes = jpeg[..cut].to_vec();
            assert!(decode(&bytes).is_err(), "{name} cut at {cut}");
            bytes.extend([0xFF, 0xD9]);
            assert!(decode(&bytes).is_err(), "{name} cut at {cut}, and ended");
        }
    }
    assert_eq!(refusal(&case("empty_scan.jpg")), "cannot decode it: MCU 0 of 2048 has too few bytes");
    let words = "cannot decode it: at MCU 128 of 2048 comes restart marker 6, and not restart marker 3";
    assert_eq!(refusal(&case("rst_lost_rows.jpg")), words);
}

#[test]
fn restart_intervals_that_are_lost_doubled_emptied_or_exchanged_are_seen() {
    let jpeg = case("rst_whole.jpg");
    let marks = restarts(&jpeg);
    let starts: Vec<usize> = [first_scan(&jpeg)].into_iter().chain(marks.iter().map(|at| at + 2)).collect();
    for index in 0..marks.len() - 1 {
        // With the marker behind it.
        let (start, end, next) = (starts[index], marks[index] + 2, marks[index + 1] + 2);
        let interval = &jpeg[start..end];
        let with = |middle: &[u8], rest: usize| [&jpeg[..start], middle, &jpeg[rest..]].concat();
        let zeros = [&vec![0; end - 2 - start][..], &jpeg[end - 2..end]].concat();
        for (what, bytes) in [
            ("lost", with(&[], end)),
            ("doubled", with(&[interval, interval].concat(), end)),
            ("emptied", with(&jpeg[end - 2..end], end)),
            ("zeros", with(&zeros, end)),
            ("exchanged", with(&[&jpeg[end..next], interval].concat(), next)),
        ] {
            assert!(decode(&bytes).is_err(), "interval {index} is {what}");
        }
    }
    // The marker's number comes again after eight: then only the count of MCUs tells.
    let eight = [&jpeg[..starts[3]], &jpeg[starts[11]..]].concat();
    assert!(refusal(&eight).contains("comes the end marker, and not restart marker 7"), "{}", refusal(&eight));
}

/// As lost packets do it, 1 to 5 KiB. A picture has nothing that tells a picture from another, so that some damage
/// leaves a picture: an exchange keeps the number of bits, and often that of MCUs. All other kinds change it, but by
/// chance of less than one in a hundred.
#[test]
fn damage_of_the_size_of_packets_is_seen() {
    for name in ["whole.jpg", "rst_whole.jpg", "one_scan_420.jpg", "dent_whole.jpg"] {
        let jpeg = case(name);
        let whole = decode(&jpeg).unwrap();
        for kind in DAMAGES {
            let mut passed = 0;
            for seed in 0..100 {
                let mut random = Random(seed);
                let bytes = loop {
                    let bytes = damage(&jpeg, kind, 5 << 10, &mut random);
                    let changed = bytes.iter().zip(&jpeg).filter(|(a, b)| a != b).count();
                    if changed >= 1000 || bytes.len().abs_diff(jpeg.len()) >= 1000 {
                        break bytes;
                    }
                };
                passed += u32::from(decode(&bytes).is_ok_and(|pixels| pixels != whole));
            }
            let most = match kind {
                Damage::Swap => 20,
                Damage::Truncate => 0,
                _ => 1,
            };
            assert!(passed <= most, "{name}: {passed} of 100 with {kind:?} passed");
        }
    }
}

#[test]
fn what_cameras_write_between_is_no_damage() {
    let jpeg = case("rst_whole.jpg");
    let (whole, marks) = (decode(&jpeg).unwrap(), restarts(&jpeg));
    for (what, bytes) in [
        ("stray bytes", insert(&jpeg, marks[3], &[0x12, 0x34])),
        ("more of them", insert(&jpeg, marks[62], &[0xA5; 16])),
        ("many zeros", insert(&jpeg, marks[7], &[0; 600])),
        ("fill bytes", insert(&jpeg, marks[0], &[0xFF; 5])),
        ("fill bytes at the end", insert(&jpeg, marks[63], &[0xFF; 3])),
        ("fill bytes between segments", insert(&jpeg, 2, &[0xFF; 2])),
        ("a restart marker after the last MCU", insert(&jpeg, marks[63], &[0xFF, 0xD7])),
        ("a comment", insert(&jpeg, 2, &[0xFF, 0xFE, 0, 6, 0xFF, 0xD9, 0xFF, 0xD8])),
        ("bytes behind the end", insert(&jpeg, jpeg.len(), &[0xFF, 0xD8, 0xFF, 1, 2, 3])),
    ] {
        assert_eq!(decode(&bytes).map_err(|error| error.to_string()), Ok(whole.clone()), "{what}");
    }
    let thumbnail = case("dent_whole.jpg");
    let exif = [&[0xFF, 0xE1][..], &(thumbnail.len() as u16 + 8).to_be_bytes(), b"Exif\0\0", &thumbnail].concat();
    assert_eq!(decode(&insert(&jpeg, 2, &exif)).unwrap(), whole);
}

#[test]
fn what_no_encoder_writes_is_refused() {
    let jpeg = case("rst_whole.jpg");
    let (marks, cut) = (restarts(&jpeg), &jpeg[..jpeg.len() / 2]);
    for (bytes, words) in [
        ([cut, &jpeg].concat(), "it is cut short: another picture begins at byte"),
        (insert(&jpeg, marks[63], &[0x12]), "1 bytes too many after MCU 2048 of 2048"),
        (insert(&jpeg, marks[5], &[0x5A; 40]), "40 bytes too many after MCU 192 of 2048"),
        (insert(&jpeg, marks[63], &[0xFF, 0xD7, 1, 2]), "there is a restart marker after MCU 2048"),
        (insert(&case("whole.jpg"), 9000, &[0xFF, 0xD0]), "of 2048 has too few bytes"),
        (insert(&jpeg, 3, &[1]), "there is no marker at byte 2"),
        (insert(&jpeg, 2, &[0xFF, 0xD8]), "another picture begins at byte 2"),
        (jpeg[..jpeg.len() - 1].to_vec(), "the file is truncated"),
        (vec![0xFF, 0xD8, 0xFF, 0xD9], "its scans are none"),
    ] {
        let refused = refusal(&bytes);
        assert!(refused.contains(words), "{refused}");
    }
}

/// Other kinds of JPEG, by changing the header of a picture.
#[test]
fn kinds_that_are_not_read_are_named() {
    let jpeg = case("whole.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    for (offset, value, words) in [
        (1, 0xC3, "it is lossless JPEG"),
        (1, 0xC5, "it is hierarchical JPEG"),
        (1, 0xC9, "it is arithmetic-coded JPEG"),
        (4, 12, "it is JPEG with other than 8 bits a sample"),
        (9, 4, "its segment SOF is too short"),
        (11, 0x51, "has a sampling factor or table that there is not"),
        (11, 0x31, "its components are sampled at fractions of each other"),
        (12, 3, "a quantisation table is not defined"),
    ] {
        let mut bytes = jpeg.clone();
        bytes[frame + offset] = value;
        if words.contains("fractions") {
            bytes[frame + 14] = 0x21; // 3 beside 2
        }
        let refused = refusal(&bytes);
        assert!(refused.contains(words), "{refused}");
    }
    let mut bytes = jpeg.clone();
    bytes[frame + 5..frame + 7].fill(0);
    assert!(refusal(&bytes).contains("(DNL)"));
    bytes[frame + 5..frame + 9].fill(0xFF);
    assert!(refusal(&bytes).contains("65535 x 65535 pixels: more than 16384 a side"));
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    bytes[frame + 11] = 0x11;
    assert!(refusal(&bytes).contains("16384 x 16384 pixels: over the limit of 512 MiB"));
}

// ------------------------------------------------------------------------------------------------------------- fuzz

/// Bytes of any kind: an error or a picture, and soon. `FCAM_FUZZ_SECONDS` goes on for longer.
#[test]
fn any_bytes_are_a_picture_or_an_error() {
    let seconds = std::env::var("FCAM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut seeds: Vec<Vec<u8>> = ["dent_whole.jpg", "rst_whole.jpg", "separate_scans_420.jpg"].map(case).into();
    if has_libjpeg() {
        let picture = Pixels::draw(50, 37, 3, 9, &mut Random(1));
        let kinds: [&[&str]; 4] =
            [&["-progressive"], &["-progressive", "-restart", "3B"], &["-sample", "4x1"], &["-rgb"]];
        seeds.extend(kinds.iter().filter_map(|args| cjpeg(args, &picture)));
    }
    let start = std::time::Instant::now();
    let (mut seed, mut slowest) = (0, std::time::Duration::ZERO);
    while start.elapsed().as_secs() < seconds {
        let mut random = Random(seed);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(8) {
            let at = random.below(bytes.len());
            // Headers are a small part of the bytes, and the larger part of what can go wrong.
            let at = if random.once_in(2) { at % 700 % bytes.len() } else { at };
            match random.below(5) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => drop(bytes.drain(at..(at + random.below(30)).min(bytes.len()))),
                3 => {
                    bytes =
                        insert(&bytes, at, &[0xFF, random.pick(&[0xC0, 0xC2, 0xC4, 0xD3, 0xDA, 0xDB, 0xDD, 0xD9, 0])])
                }
                _ => bytes.truncate(at.max(4)),
            }
            if bytes.len() < 4 {
                break;
            }
        }
        let began = std::time::Instant::now();
        drop(decode(&bytes));
        slowest = slowest.max(began.elapsed());
        seed += 1;
    }
    println!("{seed} pictures, the slowest took {slowest:?}");
    assert!(slowest.as_secs() < 10, "{slowest:?}");
}
