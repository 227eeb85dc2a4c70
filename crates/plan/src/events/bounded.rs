//! A map that forgets what was put in first.

use std::collections::{HashMap, VecDeque};

/// A map that forgets what was put in first, beyond so many entries.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
    most: usize,
}

impl<K: Clone + Eq + std::hash::Hash, V> Bounded<K, V> {
    pub fn new(most: usize) -> Self {
        Self { map: HashMap::new(), order: VecDeque::new(), most }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if !self.map.contains_key(&key) {
            self.order.push_back(key.clone());
            if self.order.len() > self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
        }
        self.map.entry(key).or_insert_with(new)
    }

    pub fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.order.retain(|own| own != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut bounded = Bounded::new(3);
        for key in 0..4 {
            bounded.entry(key, || key);
        }
        assert!(bounded.get(&0).is_none() && bounded.get(&3).is_some());
        bounded.remove(&2);
        bounded.entry(4, || 4);
        assert!(bounded.get(&1).is_some());
        assert_eq!((bounded.map.len(), bounded.order.len()), (3, 3));
    }
}
