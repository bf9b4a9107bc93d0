//! The cameras that need no device: files, patterns, and child processes that behave and misbehave.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fcam::camera::pipe::Stream;
use fcam::camera::{Camera, Error, Folder, Frame, Geometry, Pattern, Pipe, PixelFormat};
use fcam::clock::{self, Timestamp};
use fcam::preprocess::{Preprocessor, Roi};
use image::{ImageFormat, Rgb, RgbImage};
use skip::skip;

use crate::skip;

fn soon() -> Timestamp {
    clock::now() + Duration::from_secs(20)
}

fn within(milliseconds: u64) -> Timestamp {
    clock::now() + Duration::from_millis(milliseconds)
}

/// A smooth picture in colour, or in gray.
fn gradient(width: u32, height: u32, gray: bool) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (right, down) = ((x * 255 / width) as u8, (y * 255 / height) as u8);
        if gray { Rgb([right / 2 + down / 2; 3]) } else { Rgb([right, down, 255 - right]) }
    })
}

fn encode(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(vec![]);
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn write(path: PathBuf, bytes: &[u8]) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

// ---------------------------------------------------------------------------------------------------------- folder

/// What a folder delivers: names relative to `root`, broken ones with a `!`.
fn names(folder: &mut Folder, root: &Path, most: usize) -> Vec<String> {
    let mut names = vec![];
    while names.len() < most {
        let mark = match folder.next(soon()) {
            Ok(frame) => {
                assert_eq!(
                    frame.sequence(),
                    names.iter().filter(|name: &&String| !name.starts_with('!')).count() as u64
                );
                ""
            }
            Err(Error::Ended) => break,
            Err(_) => "!",
        };
        names.push(format!("{mark}{}", folder.current().strip_prefix(root).unwrap().display()));
    }
    names
}

#[test]
fn folders_are_read_in_the_order_of_their_paths() {
    let root = tempfile::tempdir().unwrap();
    let png = encode(&gradient(8, 8, false), ImageFormat::Png);
    let jpg = encode(&gradient(8, 8, false), ImageFormat::Jpeg);
    for (name, bytes) in [
        ("a/2.png", &png[..]),
        ("a/10.JPG", &jpg),
        ("a/deep/0.tiff", &encode(&gradient(8, 8, false), ImageFormat::Tiff)),
        ("a/.hidden.png", &png),
        ("a/.git/0.png", &png),
        ("a/notes.txt", b"no picture"),
        ("a/3.bmp", &encode(&gradient(8, 8, false), ImageFormat::Bmp)),
        ("a/2b.png", b"not a picture"),
        ("alone.raw", &png),
    ] {
        write(root.path().join(name), bytes);
    }
    std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/deep/back")).unwrap();
    let paths = [root.path().join("alone.raw"), root.path().join("a")];
    let expected = ["alone.raw", "a/10.JPG", "a/2.png", "!a/2b.png", "a/3.bmp", "a/deep/0.tiff"];
    let mut once = Folder::open(&paths).unwrap();
    assert_eq!(names(&mut once, root.path(), 100), expected);
    assert!(matches!(once.next(soon()), Err(Error::Ended)));
    let mut twice = Folder::open(&paths).unwrap().repeat(true);
    assert_eq!(names(&mut twice, root.path(), 12), [expected, expected].concat());
}

#[test]
fn pictures_that_cannot_be_read_are_errors_that_name_them() {
    let root = tempfile::tempdir().unwrap();
    let png = encode(&gradient(64, 64, false), ImageFormat::Png);
    write(root.path().join("0.png"), &png[..png.len() / 2]);
    write(root.path().join("1.png"), b"");
    let huge = std::fs::File::create(root.path().join("2.png")).unwrap();
    huge.set_len((512 << 20) + 1).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.path().join("3.png")).unwrap();
    std::os::unix::fs::symlink(root.path().join("gone"), root.path().join("4.png")).unwrap();
    write(root.path().join("5.png"), &png);
    let mut folder = Folder::open(&[root.path()]).unwrap();
    for (index, words) in ["cannot decode", "cannot decode", "512", "neither a file", "cannot open"].iter().enumerate()
    {
        let error = folder.next(soon()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(&format!("{index}.png")), "{error}");
    }
    assert_eq!(folder.next(soon()).unwrap().bytes(), gradient(64, 64, false).as_raw());
}

#[test]
fn paths_without_pictures_are_refused() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(Folder::open(&[root.path()]), Err(Error::NoPictures(_))));
    assert!(matches!(Folder::open::<&Path>(&[]), Err(Error::NoPictures(_))));
    let missing = root.path().join("missing");
    match Folder::open(&[&missing]) {
        Err(Error::Open { path, .. }) => assert_eq!(path, missing),
        other => panic!("{other:?}"),
    }
}

#[test]
fn folders_keep_a_pace_and_a_deadline() {
    let root = tempfile::tempdir().unwrap();
    write(root.path().join("0.png"), &encode(&gradient(8, 8, false), ImageFormat::Png));
    let mut folder = Folder::open(&[root.path()]).unwrap().repeat(true).pace(20.0);
    let start = clock::now();
    for _ in 0..4 {
        folder.next(soon()).unwrap();
    }
    assert!(clock::now() - start >= Duration::from_millis(149));
    assert!(matches!(folder.next(within(5)), Err(Error::Timeout { .. })));
    assert_eq!(folder.next(soon()).unwrap().sequence(), 4);
}

// --------------------------------------------------------------------------------------------------------- pattern

#[test]
fn patterns_come_in_turn_at_one_size() {
    let (first, second) = (gradient(32, 16, false), gradient(64, 64, true));
    let gray = image::DynamicImage::from(second).into_luma8();
    let mut encoded = std::io::Cursor::new(vec![]);
    gray.write_to(&mut encoded, ImageFormat::Png).unwrap();
    let (one, two) = (encode(&first, ImageFormat::Png), encoded.into_inner());
    let samples = [("one", &one[..]), ("two", &two[..])];
    let mut pattern = Pattern::open(samples, None).unwrap().limit(3);
    let geometry = Geometry::packed(32, 16, PixelFormat::Rgb8).unwrap();
    let mut frames = vec![];
    for sequence in 0..3 {
        let frame = pattern.next(soon()).unwrap();
        assert_eq!((frame.sequence(), frame.geometry()), (sequence, geometry));
        frames.push(frame.bytes().to_vec());
    }
    assert!(matches!(pattern.next(soon()), Err(Error::Ended)));
    assert_eq!(frames[0], first.into_raw());
    assert!(frames[1].chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    assert_eq!(frames[0], frames[2]);
    let mut sized = Pattern::open(samples, Some((100, 50))).unwrap();
    assert_eq!(sized.next(soon()).unwrap().geometry(), Geometry::packed(100, 50, PixelFormat::Rgb8).unwrap());
    assert!(matches!(Pattern::open([], None), Err(Error::NoPictures(_))));
    assert!(matches!(Pattern::open([("it", &b"x"[..])], None), Err(Error::Decode { .. })));
}

// ------------------------------------------------------------------------------------------------------------ pipe

/// A camera whose command is a shell script; frames are 4 x 2 gray unless told otherwise.
fn script(text: &str) -> Pipe {
    raw(&["sh", "-c", text], small(), false)
}

fn small() -> Geometry {
    Geometry::packed(4, 2, PixelFormat::Gray8).unwrap()
}

fn raw(command: &[&str], geometry: Geometry, restart: bool) -> Pipe {
    Pipe::new(command.iter().map(ToString::to_string).collect(), Stream::Raw(geometry), restart)
}

fn mjpeg(file: &Path) -> Pipe {
    Pipe::new(vec!["cat".into(), file.display().to_string()], Stream::Mjpeg, false)
}

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        skip("pictures beside ffmpeg's (it is not installed)");
    }
    found
}

fn tensor(frame: &Frame) -> Vec<i8> {
    let geometry = frame.geometry();
    Preprocessor::new(geometry, Roi::whole(&geometry), 64, 64).unwrap().run(frame).values.to_vec()
}

fn assert_near(a: &[i8], b: &[i8], most: u8, what: &str) {
    let worst = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(a.len() == b.len() && worst <= most, "{what}: {worst} grey levels apart");
}

#[test]
fn every_pixel_format_gives_the_same_tensor() {
    if !has_ffmpeg() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (width, height) = (320, 200);
    for (name, format, pixel_format, gray, most) in [
        ("rgb24", "rgb24", PixelFormat::Rgb8, false, 0),
        ("gray", "gray", PixelFormat::Gray8, true, 1),
        ("yuyv", "yuyv422", PixelFormat::Yuyv, false, 5),
        ("nv12", "nv12", PixelFormat::Nv12, false, 5),
        ("i420", "yuv420p", PixelFormat::I420, false, 5),
    ] {
        let picture = gradient(width, height, gray);
        let path = write(root.path().join(format!("{name}.png")), &encode(&picture, ImageFormat::Png));
        let path = path.to_str().unwrap();
        let command =
            ["ffmpeg", "-v", "error", "-loop", "1", "-i", path, "-frames:v", "3", "-f", "rawvideo", "-pix_fmt"];
        let geometry = Geometry::packed(width, height, pixel_format).unwrap();
        let mut camera = raw(&[&command[..], &[format, "-"]].concat(), geometry, false);
        let plain = Geometry::packed(width, height, PixelFormat::Rgb8).unwrap();
        let expected = tensor(&Frame::new(0, Duration::ZERO, plain, &picture).unwrap());
        for sequence in 0..3 {
            let frame = camera.next(soon()).unwrap();
            assert_eq!(frame.sequence(), sequence);
            assert_near(&tensor(&frame), &expected, most, name);
        }
        assert!(matches!(camera.next(soon()), Err(Error::Ended)), "{name}");
        assert!(matches!(camera.next(soon()), Err(Error::Ended)), "{name}");
    }
}

#[test]
fn motion_jpeg_of_ffmpeg() {
    if !has_ffmpeg() {
        return;
    }
    let source = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10", "-frames:v", "20"];
    let command = [&source[..], &["-q:v", "2", "-f", "mjpeg", "-"]].concat();
    let mut camera = Pipe::new(command.iter().map(ToString::to_string).collect(), Stream::Mjpeg, false);
    for sequence in 0..20 {
        let frame = camera.next(soon()).unwrap();
        assert_eq!(frame.sequence(), sequence);
        let Geometry { width, height, stride, format, .. } = frame.geometry();
        assert_eq!((width, height, stride, format), (320, 240, 320, PixelFormat::Yuvj420));
    }
    assert!(matches!(camera.next(soon()), Err(Error::Ended)));
}

/// A JPEG with `content` in an APP1 segment.
fn jpeg_with_segment(picture: &RgbImage, content: &[u8]) -> Vec<u8> {
    let jpeg = encode(picture, ImageFormat::Jpeg);
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, content, &jpeg[2..]].concat()
}

#[test]
fn motion_jpeg_is_cut_at_its_markers() {
    let root = tempfile::tempdir().unwrap();
    let thumbnail = encode(&gradient(16, 8, true), ImageFormat::Jpeg);
    let plain = encode(&gradient(64, 48, false), ImageFormat::Jpeg);
    let nested = jpeg_with_segment(&gradient(64, 48, false), &[b"Exif\0\0", &thumbnail[..]].concat());
    let tricky = jpeg_with_segment(&gradient(64, 48, false), &[0xFF, 0xD9, 0xFF, 0xD8, 0xFF, 0xD9]);
    let garbage = b"\r\n--boundary\r\nContent-Length: 12\xFF\xD9\xFF\xD8\0\r\n\r\n";
    let stream = [&garbage[..], &plain, &nested, garbage, garbage, &tricky, &plain].concat();
    let mut camera = mjpeg(&write(root.path().join("stream"), &stream));
    for sequence in 0..4 {
        let frame = camera.next(soon()).unwrap();
        assert_eq!(
            (frame.sequence(), frame.geometry().width, frame.geometry().format),
            (sequence, 64, PixelFormat::Yuvj444)
        );
    }
    assert!(matches!(camera.next(soon()), Err(Error::Ended)));
}

#[test]
fn broken_pictures_of_motion_jpeg_are_errors_and_the_next_one_comes() {
    let root = tempfile::tempdir().unwrap();
    let whole = encode(&gradient(64, 48, false), ImageFormat::Jpeg);
    let cut = &whole[..whole.len() - 20]; // in the compressed pixels, most of a picture of useful size
    let hollow = [0xFF, 0xD8, 0xFF, 0xD9]; // markers as they should be, and no picture
    let mut camera =
        mjpeg(&write(root.path().join("stream"), &[&whole[..], cut, &whole, &hollow, &whole, cut].concat()));
    let mut next = || camera.next(soon()).map(|frame| frame.sequence());
    assert_eq!(next().unwrap(), 0);
    assert!(matches!(next(), Err(Error::Decode { .. })));
    assert_eq!(next().unwrap(), 1);
    assert!(matches!(next(), Err(Error::Decode { .. })));
    assert_eq!(next().unwrap(), 2);
    match next() {
        Err(Error::ChildEnded { status, frames: 3, .. }) => assert!(status.contains("middle of a frame"), "{status}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(next().unwrap(), 3); // cat starts anew
}

#[test]
fn motion_jpeg_of_another_size_is_an_error_and_the_next_picture_comes() {
    let root = tempfile::tempdir().unwrap();
    let [right, wrong] =
        [(64, 48), (48, 64)].map(|(width, height)| encode(&gradient(width, height, false), ImageFormat::Jpeg));
    let mut camera =
        mjpeg(&write(root.path().join("stream"), &[&right[..], &wrong, &right].concat())).sized(Some((64, 48)));
    let mut next = || camera.next(soon()).map(|frame| frame.geometry().width);
    assert_eq!(next().unwrap(), 64);
    assert!(matches!(next(), Err(Error::OtherSize { has: (48, 64), set: (64, 48), .. })));
    assert_eq!(next().unwrap(), 64);
    assert!(matches!(next(), Err(Error::Ended)));
}

#[test]
fn gray_motion_jpeg_stays_gray() {
    let root = tempfile::tempdir().unwrap();
    let mut gray = std::io::Cursor::new(vec![]);
    image::DynamicImage::from(gradient(30, 32, true)).into_luma8().write_to(&mut gray, ImageFormat::Jpeg).unwrap();
    let mut camera = mjpeg(&write(root.path().join("stream"), &gray.into_inner()));
    // Blocks are written whole.
    let expected = Geometry::new(30, 32, 32, PixelFormat::Gray8).unwrap();
    assert_eq!(camera.next(soon()).unwrap().geometry(), expected);
}

/// Pictures that are not whole are errors, and those that are have the pixels that a file of them has.
#[test]
fn motion_jpeg_is_whole_or_an_error() {
    let root = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/jpeg");
    let cases = [
        ("whole", true),
        ("lost_mid_1k", false),
        ("rst_whole", true),
        ("rst_lost_rows", false),
        ("empty_scan", false),
        ("separate_scans_420", true),
        ("dent_quarter", false),
        ("no_huffman_tables", true),
        ("lost_tail_half", false),
        ("dent_whole", true),
    ];
    let pictures = cases.map(|(name, _)| std::fs::read(folder.join(name).with_extension("jpg")).unwrap());
    let mut camera = mjpeg(&write(root.path().join("stream"), &pictures.concat()));
    for ((name, whole), picture) in cases.into_iter().zip(&pictures) {
        match camera.next(soon()) {
            Ok(frame) => {
                assert!(whole, "{name}");
                let file = fcam::camera::picture::decode(picture, name).unwrap();
                let expected = tensor(&Frame::new(0, Duration::ZERO, file.geometry, &file.bytes).unwrap());
                // Files are converted to RGB before they are resized, streams after: to the bit the same samples, up to
                // roundings.
                let apart = tensor(&frame).iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(apart <= Some(4), "{name}: {apart:?} levels apart");
            }
            Err(error) => assert!(!whole && matches!(error, Error::Decode { .. }), "{name}: {error}"),
        }
    }
    assert!(matches!(camera.next(soon()), Err(Error::Ended)));
}

#[test]
fn a_stream_of_garbage_is_left_at_the_deadline() {
    let mut camera = Pipe::new(vec!["cat".into(), "/dev/zero".into()], Stream::Mjpeg, false);
    let (asked, result) = (clock::now(), camera.next(within(200)).map(|_| ()));
    assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    assert!(clock::now() - asked < Duration::from_millis(250));
}

#[test]
fn a_killed_child_is_an_error_and_comes_back() {
    let mut camera = script("printf aaaabbbbccccddddee; echo 'the sensor is gone' >&2; kill -9 $$");
    for round in 0..2 {
        for sequence in 0..2 {
            let frame = camera.next(soon()).unwrap();
            assert_eq!(frame.sequence(), round * 2 + sequence);
            assert_eq!(frame.bytes(), if sequence == 0 { b"aaaabbbb" } else { b"ccccdddd" });
        }
        let error = camera.next(soon()).unwrap_err();
        let words = error.to_string();
        match error {
            Error::ChildEnded { status, frames, stderr, .. } => {
                assert_eq!((frames, stderr.as_str()), (2, "the sensor is gone"));
                assert!(status.contains("SIGKILL") && status.contains("middle of a frame"), "{status}");
            }
            other => panic!("{other:?}"),
        }
        assert!(words.contains("sh -c"), "{words}");
    }
}

#[test]
fn a_clean_end_is_the_end_unless_it_restarts() {
    let mut once = script("printf aaaabbbb");
    assert_eq!(once.next(soon()).unwrap().sequence(), 0);
    assert!(matches!(once.next(soon()), Err(Error::Ended)));
    let mut again = raw(&["printf", "aaaabbbb"], small(), true);
    for sequence in 0..3 {
        assert_eq!(again.next(soon()).unwrap().sequence(), sequence);
        assert!(matches!(again.next(soon()), Err(Error::ChildEnded { frames: 1, .. })));
    }
}

#[test]
fn pauses_double_until_a_frame_comes() {
    let mut camera = script("exit 3");
    let mut pauses = vec![];
    for _ in 0..4 {
        let asked = clock::now();
        assert!(matches!(camera.next(soon()), Err(Error::ChildEnded { .. })));
        pauses.push((clock::now() - asked).as_millis());
    }
    assert!(pauses[1] >= 99 && pauses[2] >= 199 && pauses[3] >= 399, "{pauses:?}");
    let asked = clock::now();
    assert!(matches!(camera.next(within(20)), Err(Error::Timeout { .. })));
    assert!(clock::now() - asked < Duration::from_millis(70));
}

#[test]
fn silence_is_a_timeout_and_what_has_arrived_is_kept() {
    let mut camera = script("printf aaaabb; sleep 0.6; printf bb; sleep 60");
    for _ in 0..2 {
        let (asked, result) = (clock::now(), camera.next(within(150)).map(|_| ()));
        let took = clock::now() - asked;
        assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
        assert!((150..200).contains(&took.as_millis()), "{took:?}");
    }
    assert_eq!(camera.next(soon()).unwrap().bytes(), b"aaaabbbb");
}

#[test]
fn a_child_that_floods_its_errors_is_not_blocked() {
    let mut camera =
        script("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; printf aaaabbbb; echo last >&2; exit 7");
    assert_eq!(camera.next(soon()).unwrap().bytes(), b"aaaabbbb");
    match camera.next(soon()) {
        Err(Error::ChildEnded { status, stderr, .. }) => {
            assert_eq!(stderr, "last");
            assert!(status.contains('7'), "{status}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_is_not_there_is_said() {
    let mut camera = raw(&["no-such-camera-program", "--fast"], small(), true);
    match camera.next(soon()) {
        Err(Error::Spawn { command, source }) => {
            assert_eq!(command, "no-such-camera-program --fast");
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(raw(&[], small(), true).next(soon()), Err(Error::Spawn { .. })));
}

/// Waits for a process to be gone altogether: not running, and no zombie.
fn gone(pid: &str) -> bool {
    let proc = Path::new("/proc").join(pid);
    (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !proc.exists()
    })
}

#[test]
fn nothing_is_left_when_the_camera_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let pids = root.path().join("pids");
    // The shell ignores the polite signal, and has a child of its own.
    let text = format!("trap '' TERM; sleep 61 & echo $$ $! > {}; printf aaaabbbb; wait; sleep 61", pids.display());
    let mut camera = script(&text);
    camera.next(soon()).unwrap();
    let asked = clock::now();
    drop(camera);
    assert!(clock::now() - asked < Duration::from_secs(2));
    let pids = std::fs::read_to_string(pids).unwrap();
    let mut pids = pids.split_whitespace();
    let shell = pids.next().unwrap();
    assert!(!Path::new("/proc").join(shell).exists(), "the child is reaped before the camera is gone");
    // The grandchild belongs to init now, which reaps it; where init does not, a zombie is all that may be left.
    let sleeper = pids.next().unwrap();
    let is_zombie = || {
        let stat = std::fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
    };
    assert!(gone(sleeper) || is_zombie());
}

#[test]
fn a_polite_child_is_not_waited_for() {
    let mut camera = script("printf aaaabbbb; exec sleep 61");
    camera.next(soon()).unwrap();
    let asked = clock::now();
    drop(camera);
    assert!(clock::now() - asked < Duration::from_millis(300));
}

#[test]
fn a_child_that_closes_its_output_and_stays_is_ended() {
    let mut camera = script("printf aaaabbbb; exec 1>&-; sleep 61");
    camera.next(soon()).unwrap();
    assert!(matches!(camera.next(within(50)), Err(Error::Timeout { .. })));
    assert!(matches!(camera.next(soon()), Err(Error::ChildEnded { .. })));
}
