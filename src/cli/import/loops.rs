//! Ways on which messages would go from link to link and come back.

use std::collections::BTreeMap;

/// Links by which each such way leads, each with a way that leads back to it. `to` has, for each link, the links that get
/// its messages. It takes one walk, however many ways there are: of links that all send to each other it is all but one.
pub(super) fn to_allow(to: &[Vec<usize>]) -> BTreeMap<usize, Vec<usize>> {
    let mut walk = Walk { to, place: vec![None; to.len()], done: vec![false; to.len()], found: BTreeMap::new() };
    for link in 0..to.len() {
        walk.from(link);
    }
    walk.found
}

struct Walk<'t> {
    to: &'t [Vec<usize>],
    /// The place of a link on the way from the start to here.
    place: Vec<Option<usize>>,
    done: Vec<bool>,
    found: BTreeMap<usize, Vec<usize>>,
}

impl Walk<'_> {
    fn from(&mut self, start: usize) {
        if self.done[start] {
            return;
        }
        // Each link of the way, and how many of those behind it are behind us. No recursion: flows are as long as they like.
        let mut way = vec![(start, 0)];
        self.place[start] = Some(0);
        while let Some((link, next)) = way.last_mut() {
            let (link, at) = (*link, *next);
            *next += 1;
            match self.to[link].get(at).copied() {
                Some(target) => match self.place[target] {
                    Some(place) => self.find(target, way[place..].iter().map(|(link, _)| *link).collect()),
                    None if !self.done[target] => {
                        self.place[target] = Some(way.len());
                        way.push((target, 0));
                    }
                    None => {}
                },
                None => {
                    self.done[link] = true;
                    self.place[link] = None;
                    way.pop();
                }
            }
        }
    }

    /// Keeps the shortest way that leads back to a link.
    fn find(&mut self, link: usize, way: Vec<usize>) {
        let known = self.found.get(&link);
        if known.is_none_or(|known| known.len() > way.len()) {
            self.found.insert(link, way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b36_each_way_round_leads_by_a_link_that_is_found() {
        let mesh: Vec<Vec<usize>> = (0..5).map(|own| (0..5).filter(|other| *other != own).collect()).collect();
        for (to, expected) in [
            (vec![], vec![]),
            (vec![vec![1], vec![2], vec![]], vec![]),
            (vec![vec![1], vec![0]], vec![(0, vec![0, 1])]),
            (vec![vec![1], vec![2], vec![0]], vec![(0, vec![0, 1, 2])]),
            (vec![vec![1, 2], vec![3], vec![3], vec![]], vec![]),
            (vec![vec![1], vec![2], vec![1, 0]], vec![(0, vec![0, 1, 2]), (1, vec![1, 2])]),
            (mesh, vec![(0, vec![0, 1]), (1, vec![1, 2]), (2, vec![2, 3]), (3, vec![3, 4])]),
        ] {
            assert_eq!(to_allow(&to), BTreeMap::from_iter(expected), "{to:?}");
        }
    }
}
