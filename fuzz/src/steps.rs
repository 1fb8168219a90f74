//! How the fuzzer changes lifecycles: by whole steps, so that what comes after a change stays the same.
//! Bytes that are put in or left out would make other steps of all that follow.

use harness::lifecycle::generate::STEP_BYTES;

/// Changes a lifecycle of `size` bytes in place, to at most `most`; its new size. `bytes` is the fuzzer's
/// own way, which knows the values that the code compares with, and gets every other turn.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    most: usize,
    seed: u32,
    bytes: impl Fn(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut dice = Dice(seed);
    let (steps, room) = (size / STEP_BYTES, most.min(data.len()) / STEP_BYTES);
    let changed = match dice.below(12) {
        0 => insert(data, steps, room, |dice, _| dice.step(), &mut dice),
        1 | 2 => insert(data, steps, room, |dice, data| copied(dice, data, steps), &mut dice),
        3 => leave_out(data, steps, &mut dice),
        4 => exchange(data, steps, &mut dice),
        5 => replace(data, steps, &mut dice),
        _ => None,
    };
    changed.map_or_else(|| bytes(data, size, most), |steps| steps * STEP_BYTES)
}

type Step = [u8; STEP_BYTES];

fn at(step: usize) -> std::ops::Range<usize> {
    step * STEP_BYTES..(step + 1) * STEP_BYTES
}

fn copied(dice: &mut Dice, data: &[u8], steps: usize) -> Step {
    let mut step = dice.step();
    if steps > 0 {
        let from = dice.below(steps);
        // What is done stays, and to whom; how it is done is new, or how soon the next step follows.
        let kept = 2 + dice.below(3);
        step[..kept].copy_from_slice(&data[at(from)][..kept]);
    }
    step
}

fn insert(
    data: &mut [u8],
    steps: usize,
    room: usize,
    step: impl FnOnce(&mut Dice, &[u8]) -> Step,
    dice: &mut Dice,
) -> Option<usize> {
    if steps >= room {
        return None;
    }
    let (step, place) = (step(dice, data), dice.below(steps + 1));
    data.copy_within(place * STEP_BYTES..steps * STEP_BYTES, (place + 1) * STEP_BYTES);
    data[at(place)].copy_from_slice(&step);
    Some(steps + 1)
}

fn leave_out(data: &mut [u8], steps: usize, dice: &mut Dice) -> Option<usize> {
    if steps < 2 {
        return None;
    }
    let place = dice.below(steps);
    data.copy_within((place + 1) * STEP_BYTES..steps * STEP_BYTES, place * STEP_BYTES);
    Some(steps - 1)
}

fn exchange(data: &mut [u8], steps: usize, dice: &mut Dice) -> Option<usize> {
    if steps < 2 {
        return None;
    }
    let (one, other) = (dice.below(steps), dice.below(steps));
    for byte in 0..STEP_BYTES {
        data.swap(one * STEP_BYTES + byte, other * STEP_BYTES + byte);
    }
    Some(steps)
}

fn replace(data: &mut [u8], steps: usize, dice: &mut Dice) -> Option<usize> {
    if steps == 0 {
        return None;
    }
    let (place, step) = (dice.below(steps), dice.step());
    data[at(place)].copy_from_slice(&step);
    Some(steps)
}

/// What chance says, the same for the same seed.
struct Dice(u32);

impl Dice {
    fn next(&mut self) -> u32 {
        // As in Steele and Vigna's mix for 32 bits.
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x21f0_aaad);
        mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735a_2d97);
        mixed ^ (mixed >> 15)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    fn step(&mut self) -> Step {
        self.next().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycles_stay_whole_steps_within_their_bounds_and_all_changes_happen() {
        let own = |_: &mut [u8], size: usize, _: usize| size;
        for steps in 0..5_usize {
            let before: Vec<u8> = (0..steps as u8).flat_map(|step| [step; STEP_BYTES]).collect();
            let mut sizes = std::collections::BTreeSet::new();
            for seed in 0..500 {
                let mut data = before.clone();
                data.resize(4 * STEP_BYTES + 1, 0xee);
                let most = data.len();
                let size = mutate(&mut data, before.len(), most, seed, own);
                sizes.insert(size / STEP_BYTES);
                let whole: Vec<&[u8]> = data[..size].chunks(STEP_BYTES).collect();
                let kept =
                    whole.iter().filter(|step| before.chunks(STEP_BYTES).any(|b| b == **step));
                assert!(size.is_multiple_of(STEP_BYTES) && size <= 4 * STEP_BYTES, "{size}");
                assert!(kept.count() + 2 >= steps, "one step at a time: {before:?} to {whole:?}");
            }
            let expected = steps.saturating_sub(1).max(steps.min(1))..=(steps + 1).min(4);
            assert_eq!(sizes, expected.collect(), "from {steps} steps");
        }
    }
}
