//! Random choices that a seed repeats.

/// Small random numbers, by xorshift: the same for the same seed, which is not 0.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below this bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
