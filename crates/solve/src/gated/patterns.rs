//! Activation patterns, packed as bits: one row of `n` bits a gate.

use std::collections::HashSet;

use faer::MatRef;

/// Bits of a word.
const WORD: usize = 64;
/// Samples handled at a time: one byte of a row.
const BYTE: usize = 8;

/// All ones or all zeros for every bit of a byte.
static LANES: [[u64; BYTE]; 256] = lanes();

const fn lanes() -> [[u64; BYTE]; 256] {
    let mut table = [[0; BYTE]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < BYTE {
            if byte >> bit & 1 == 1 {
                table[byte][bit] = u64::MAX;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

/// `P` patterns over `n` samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    samples: usize,
    bits: Vec<u64>,
}

impl Patterns {
    /// No pattern yet, over `samples` samples.
    pub fn new(samples: usize) -> Self {
        Self {
            samples,
            bits: Vec::new(),
        }
    }

    /// The patterns `1[X g > 0]` of the columns `g` of `gates` (`d x P`).
    pub fn of(x: MatRef<'_, f64>, gates: MatRef<'_, f64>) -> Self {
        let mut patterns = Self::new(x.nrows());
        let scores = x * gates;
        for i in 0..gates.ncols() {
            patterns.push((0..x.nrows()).map(|s| scores[(s, i)] > 0.0));
        }
        patterns
    }

    /// Adds the pattern `on`, one value a sample; samples beyond the last value are off.
    pub fn push(&mut self, on: impl IntoIterator<Item = bool>) {
        let start = self.bits.len();
        self.bits.resize(start + self.words(), 0);
        for (s, on) in on.into_iter().take(self.samples).enumerate() {
            self.bits[start + s / WORD] |= u64::from(on) << (s % WORD);
        }
    }

    /// `n`.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// `P`.
    pub fn len(&self) -> usize {
        self.bits.len() / self.words()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Whether `gate` is on for `sample`.
    pub fn get(&self, gate: usize, sample: usize) -> bool {
        self.row(gate)[sample / WORD] >> (sample % WORD) & 1 == 1
    }

    /// The bits of `gate`, sample 0 lowest; bits beyond the last sample are 0.
    pub fn row(&self, gate: usize) -> &[u64] {
        &self.bits[gate * self.words()..][..self.words()]
    }

    /// The number of samples for which `gate` is on.
    pub fn count(&self, gate: usize) -> usize {
        self.row(gate).iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The first gate of every pattern that is on anywhere, in order.
    pub fn distinct(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        (0..self.len())
            .filter(|i| self.count(*i) > 0 && seen.insert(self.row(*i)))
            .collect()
    }

    /// The patterns of `gates`, in that order.
    pub fn select(&self, gates: &[usize]) -> Self {
        Self {
            samples: self.samples,
            bits: gates.iter().flat_map(|i| self.row(*i)).copied().collect(),
        }
    }

    /// `out = D_gate r`; slices of length `n`.
    pub fn mask(&self, gate: usize, r: &[f64], out: &mut [f64]) {
        self.zip(gate, r, out, |masked, out| *out = masked);
    }

    /// `out += D_gate r`; slices of length `n`.
    pub fn add_masked(&self, gate: usize, r: &[f64], out: &mut [f64]) {
        self.zip(gate, r, out, |masked, out| *out += masked);
    }

    /// Calls `f(r_s or 0, out_s)` for all samples, eight at a time.
    fn zip(&self, gate: usize, r: &[f64], out: &mut [f64], f: impl Fn(f64, &mut f64)) {
        debug_assert!(r.len() == self.samples && out.len() == self.samples);
        let bytes = self.row(gate).iter().flat_map(|w| w.to_le_bytes());
        for ((r, out), byte) in r.chunks(BYTE).zip(out.chunks_mut(BYTE)).zip(bytes) {
            let lanes = &LANES[usize::from(byte)];
            for ((r, out), lane) in r.iter().zip(out).zip(lanes) {
                f(f64::from_bits(r.to_bits() & lane), out);
            }
        }
    }

    fn words(&self) -> usize {
        self.samples.div_ceil(WORD).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_equal_patterns_are_found() {
        let mut patterns = Patterns::new(70);
        patterns.push((0..70).map(|s| s % 3 == 0));
        patterns.push((0..70).map(|_| false));
        patterns.push((0..70).map(|s| s == 69));
        patterns.push((0..70).map(|s| s % 3 == 0));
        assert_eq!(patterns.len(), 4);
        assert!(patterns.get(0, 69) && !patterns.get(0, 68) && patterns.get(2, 69));
        assert_eq!(patterns.count(0), 24);
        assert_eq!(patterns.distinct(), [0, 2]);
        assert_eq!(patterns.select(&[2, 0]).row(1), patterns.row(3));
    }

    #[test]
    fn masking_keeps_what_is_on() {
        let mut patterns = Patterns::new(13);
        patterns.push((0..13).map(|s| s % 2 == 1));
        let r: Vec<f64> = (0..13).map(f64::from).collect();
        let (mut masked, mut sum) = (vec![9.0; 13], vec![1.0; 13]);
        patterns.mask(0, &r, &mut masked);
        patterns.add_masked(0, &r, &mut sum);
        for s in 0..13 {
            let kept = if s % 2 == 1 { s as f64 } else { 0.0 };
            assert!(
                (masked[s] - kept).abs() + (sum[s] - kept - 1.0).abs() < 1e-15,
                "{s}"
            );
        }
    }
}
