//! The input registers of one moment: every word is of the same status, and of the same mask.

use super::WordOrder;
use super::map::{INPUTS, REGION_WORDS, TABLE, Value};
use super::moment::Moment;
use crate::mask::Region;

/// The input registers.
///
/// ```
/// use fcam::handshake::Status;
/// use fcam::modbus::{Image, MaskPages, Moment, WordOrder};
///
/// let (status, mask) = (Status { job: 3, ..Status::default() }, MaskPages::default());
/// let moment = Moment { status: &status, mask: &mask, page: 0, deadline: 1200, config: 0 };
/// let image = Image::new(&moment, WordOrder::Big);
/// assert_eq!(image.get(7, 2), Some(&[1200, 3][..])); // DEADLINE in 0.1 ms, and JOB
/// assert_eq!(image.get(232, 2), None); // there are 233
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image([u16; INPUTS]);

impl Image {
    /// Writes every row of the map.
    pub fn new(moment: &Moment, order: WordOrder) -> Self {
        let mut image = Self([0; INPUTS]);
        for row in &TABLE {
            match row.value {
                Value::Bits(word) | Value::Word(word) => image.set(row.address, &[word(moment)]),
                Value::Signed(word) => image.set(row.address, &[word(moment) as u16]),
                Value::Long(long) => image.set(row.address, &order.split(long(moment))),
                Value::Regions => image.regions(row.address, moment, order),
                Value::Window => image.window(row.address, row.value.words(), moment),
            }
        }
        image
    }

    /// Registers from `address` on, if all of them exist.
    pub fn get(&self, address: usize, count: usize) -> Option<&[u16]> {
        self.0.get(address..address.checked_add(count)?)
    }

    fn set(&mut self, address: usize, words: &[u16]) {
        let room = self.0.iter_mut().skip(address);
        room.zip(words).for_each(|(word, value)| *word = *value);
    }

    fn regions(&mut self, address: usize, moment: &Moment, order: WordOrder) {
        let regions = moment.status.result.iter().flat_map(|result| result.regions());
        for (index, region) in regions.enumerate() {
            self.set(address + index * REGION_WORDS, &words(region, order));
        }
    }

    fn window(&mut self, address: usize, count: usize, moment: &Moment) {
        let first = usize::from(moment.page) * count;
        let room = self.0.iter_mut().skip(address).take(count);
        room.enumerate().for_each(|(index, word)| *word = moment.mask.word(first + index));
    }
}

/// A region as `map::REGION` has it.
fn words(region: &Region, order: WordOrder) -> [u16; REGION_WORDS] {
    let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let [high, low] = order.split(region.area_px.round() as u32);
    let [x, y] = region.centroid;
    // Float to integer saturates.
    [side(region.x), side(region.y), side(region.width), side(region.height), x as u16, y as u16, high, low]
}

#[cfg(test)]
mod tests {
    use super::super::MaskPages;
    use super::*;
    use crate::handshake::Status;

    #[test]
    fn the_table_has_no_gap_and_fills_the_image() {
        let mut next = 0;
        for row in &TABLE {
            assert_eq!(row.address, next, "{}", row.name);
            next += row.value.words();
        }
        assert_eq!(next, INPUTS);
    }

    #[test]
    fn nothing_yet_is_no_part() {
        let (status, mask) = (Status::default(), MaskPages::default());
        let moment = Moment { status: &status, mask: &mask, page: 3, deadline: 0, config: 0 };
        let image = Image::new(&moment, WordOrder::Big);
        let others = [4, 86, 87];
        for (address, word) in image.0.iter().enumerate().filter(|(address, _)| !others.contains(address)) {
            assert_eq!(*word, 0, "register {address}");
        }
        assert_eq!(others.map(|address| image.0[address]), [0xffff, 0x7fff, 1]);
        assert!(image.get(0, INPUTS).is_some() && image.get(1, INPUTS).is_none() && image.get(INPUTS, 1).is_none());
    }
}
