//! Things by their ids, sorted: few of them, looked up often, and replaced as a whole.

use std::ops::Index;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<I, T>(Vec<(I, T)>);

impl<I: Copy + Ord, T> Table<I, T> {
    /// What has this id, if there is anything.
    pub fn get(&self, id: I) -> Option<&T> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| &self.0[at].1)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (I, &T)> {
        self.0.iter().map(|(id, thing)| (*id, thing))
    }

    /// All of them without their ids, in the same order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|(_, thing)| thing)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of two things with the same id the first one stays.
impl<I: Copy + Ord, T> FromIterator<(I, T)> for Table<I, T> {
    fn from_iter<A: IntoIterator<Item = (I, T)>>(things: A) -> Table<I, T> {
        let mut things = Vec::from_iter(things);
        things.sort_by_key(|(id, _)| *id);
        things.dedup_by_key(|(id, _)| *id);
        things.shrink_to_fit();
        Table(things)
    }
}

/// What has this id, which must be there.
impl<I: Copy + Ord, T> Index<I> for Table<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        self.get(id).expect("it is there")
    }
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Table<I, T> {
        Table(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_found_by_its_id_alone() {
        let table = Table::from_iter([(7, "seven"), (2, "two"), (7, "another"), (9, "nine")]);
        for (id, thing) in [(1, None), (2, Some("two")), (3, None), (7, Some("seven")), (9, Some("nine")), (10, None)] {
            assert_eq!(table.get(id).copied(), thing, "{id}");
        }
        assert_eq!(table[2], "two");
        assert_eq!((table.len(), table.is_empty()), (3, false));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(2, &"two"), (7, &"seven"), (9, &"nine")]);
        assert!(Table::<u32, ()>::default().is_empty());
    }
}
