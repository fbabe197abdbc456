//! Counts of things of a few kinds, each with a number from 0 on, and perhaps a word for the metrics.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many there were of each kind. It only grows.
#[derive(Debug)]
pub struct Counts<const KINDS: usize>([AtomicU64; KINDS]);

/// A kind with a word.
pub trait Worded<const KINDS: usize>: Copy + 'static {
    /// All of them, each with its word, in the order of their numbers.
    const ALL: [(Self, &'static str); KINDS];

    /// Its place among all of them, from 0 on.
    fn number(self) -> usize;
}

/// How many there were of each kind, by their words.
#[derive(Debug)]
pub struct WordedCounts<K, const KINDS: usize> {
    counts: Counts<KINDS>,
    kind: PhantomData<K>,
}

impl<const KINDS: usize> Counts<KINDS> {
    /// Counts one of the kind with this number.
    pub fn count(&self, kind: usize) {
        self.0[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Those of each kind, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

impl<K: Worded<KINDS>, const KINDS: usize> WordedCounts<K, KINDS> {
    /// Counts one of this kind.
    pub fn count(&self, kind: K) {
        self.counts.count(kind.number());
    }

    /// Those of each kind with its word, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        K::ALL.into_iter().map(|(_, word)| word).zip(self.counts.all())
    }
}

impl<const KINDS: usize> Default for Counts<KINDS> {
    fn default() -> Counts<KINDS> {
        Counts([const { AtomicU64::new(0) }; KINDS])
    }
}

impl<K, const KINDS: usize> Default for WordedCounts<K, KINDS> {
    fn default() -> WordedCounts<K, KINDS> {
        WordedCounts { counts: Counts::default(), kind: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::auth_failures::AuthFailure;
    use crate::shared::handshake_failures::Failure;
    use crate::shared::refused::Cause;

    fn each_is_counted_by_itself<K: Worded<KINDS>, const KINDS: usize>() {
        let counts = WordedCounts::<K, KINDS>::default();
        for (place, (kind, _)) in K::ALL.into_iter().enumerate() {
            assert_eq!(kind.number(), place);
            (0..place).for_each(|_| counts.count(kind));
        }
        let (words, numbers): (Vec<_>, Vec<_>) = counts.all().unzip();
        assert!(numbers.into_iter().eq(0..KINDS as u64) && words.into_iter().eq(K::ALL.map(|(_, word)| word)));
    }

    #[test]
    fn l2_each_kind_is_counted_by_itself_under_its_word() {
        each_is_counted_by_itself::<AuthFailure, _>();
        each_is_counted_by_itself::<Failure, _>();
        each_is_counted_by_itself::<Cause, _>();
    }
}
