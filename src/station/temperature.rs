//! The processor's temperature, from the kernel: /sys/class/thermal/thermal_zone0/temp, thousandths of a degree Celsius
//! (Documentation/driver-api/thermal/sysfs-api.rst).

use std::fs::File;
use std::os::unix::fs::FileExt;

const ZONE: &str = "/sys/class/thermal/thermal_zone0/temp";

/// A sensor, where the machine has one.
pub(super) struct Sensor(Option<File>);

impl Default for Sensor {
    fn default() -> Self {
        Self(File::open(ZONE).ok())
    }
}

impl Sensor {
    /// 0.1 degrees Celsius.
    pub(super) fn read(&self) -> Option<i16> {
        let mut bytes = [0; 16];
        let count = self.0.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..count)?).ok()?;
        tenths(text)
    }
}

fn tenths(text: &str) -> Option<i16> {
    let thousandths: i32 = text.trim().parse().ok()?;
    (thousandths / 100).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::tenths;

    #[test]
    fn thousandths_to_tenths() {
        assert_eq!(tenths("48312\n"), Some(483));
        assert_eq!(tenths("-5000\n"), Some(-50));
        assert_eq!(tenths("n/a"), None);
    }
}
