//! The device: raw bytes at a rate, RS-485 where the kernel has it, and no write that waits forever.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

use serial2::rs4xx::Rs485Config;
use serial2::{CharSize, FlowControl, SerialPort, Settings, StopBits};

use super::{Parity, SerialOptions};
use crate::clock;

/// A device that takes nothing for this long counts as cut.
const STUCK: Duration = Duration::from_millis(500);

/// One wait for it; after that it is looked at how long all of it has taken.
const WAIT: Duration = Duration::from_millis(100);

/// Before a device is asked again.
const PAUSE: Duration = Duration::from_millis(1);

/// After this much silence the reader looks around.
const SILENCE: Duration = Duration::from_millis(20);

/// Opens and sets up the device of a station's telegrams.
pub(super) fn open(options: &SerialOptions) -> Result<SerialPort> {
    let SerialOptions { port, line, parity, rs485, .. } = options;
    let mut port = configure(port, line.baud, *parity, rs485.then_some("serial.rs485"))?;
    port.set_read_timeout(SILENCE)?;
    Ok(port)
}

/// Opens and sets up any device; `rs485` is the key that asks for that mode.
pub(in crate::sink) fn configure(path: &Path, baud: u32, parity: Parity, rs485: Option<&str>) -> Result<SerialPort> {
    let mut port = SerialPort::open(path, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(baud)?;
        settings.set_char_size(CharSize::Bits8);
        settings.set_stop_bits(StopBits::One);
        settings.set_parity(match parity {
            Parity::None => serial2::Parity::None,
            Parity::Even => serial2::Parity::Even,
            Parity::Odd => serial2::Parity::Odd,
        });
        settings.set_flow_control(FlowControl::None);
        Ok(settings)
    })?;
    if let Some(key) = rs485 {
        enable_rs485(&port, key)?;
    }
    port.set_write_timeout(WAIT)?;
    port.set_read_timeout(Duration::ZERO)?;
    let _ = port.discard_buffers(); // what an earlier program left; not every driver can
    Ok(port)
}

/// Writes all bytes, which takes [`STUCK`] in all at most and one more wait for the device, however it dribbles. A
/// device that is ready and then takes nothing after all, as a full pseudo-terminal does, is asked again.
pub(in crate::sink) fn write(port: &SerialPort, mut bytes: &[u8]) -> Result<()> {
    let end = clock::now() + STUCK;
    while !bytes.is_empty() {
        if clock::now() > end {
            return Err(Error::new(ErrorKind::TimedOut, "it takes next to nothing"));
        }
        match port.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The kernel raises RTS for each transmission. Drivers may change what is asked for, so it is read back.
fn enable_rs485(port: &SerialPort, key: &str) -> Result<()> {
    let refused =
        |error: Error| Error::new(error.kind(), format!("its driver has no RS-485 mode ({error}); set {key} = false"));
    port.set_rs4xx_mode(Rs485Config::new()).map_err(refused)?;
    match port.get_rs4xx_mode().map_err(refused)? {
        serial2::rs4xx::TransceiverMode::Rs485(_) => Ok(()),
        _ => Err(refused(ErrorKind::Unsupported.into())),
    }
}
