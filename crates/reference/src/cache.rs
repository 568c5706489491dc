//! Keys and values of the positions read so far.

/// Keys and values of one layer.
pub(crate) struct LayerCache {
    /// `[capacity, K * D]`: the key of each position, heads side by side.
    pub keys: Vec<f32>,
    /// `[K * D, capacity]`: values, with time along the rows, so that the sum over time is a dot
    /// product of two contiguous rows.
    pub values: Vec<f32>,
}

/// Keys and values of all layers.
pub(crate) struct Cache {
    pub layers: Vec<LayerCache>,
    /// Positions for which memory is allocated.
    pub capacity: usize,
    /// Positions filled.
    pub len: usize,
}

impl Cache {
    /// A cache for `capacity` positions of `n_layer` layers, each `width` wide.
    pub fn new(n_layer: usize, width: usize, capacity: usize) -> Self {
        let layers = (0..n_layer).map(|_| LayerCache::new(width, capacity)).collect();
        Cache { layers, capacity, len: 0 }
    }

    /// Ensures a capacity of `positions` in total; if it has to increase, it at least doubles.
    pub fn reserve(&mut self, positions: usize) {
        if positions <= self.capacity {
            return;
        }
        let capacity = positions.max(2 * self.capacity);
        for layer in &mut self.layers {
            layer.grow(self.capacity, capacity);
        }
        self.capacity = capacity;
    }
}

impl LayerCache {
    /// A cache for `capacity` positions, each `width` wide.
    pub fn new(width: usize, capacity: usize) -> Self {
        let zeros = || vec![0.0; capacity * width];
        LayerCache { keys: zeros(), values: zeros() }
    }

    fn grow(&mut self, before: usize, after: usize) {
        let width = self.keys.len() / before;
        self.keys.resize(width * after, 0.0);
        let mut values = vec![0.0; width * after];
        for (new, old) in values.chunks_exact_mut(after).zip(self.values.chunks_exact(before)) {
            new[..before].copy_from_slice(old);
        }
        self.values = values;
    }

    /// Stores keys and values `[T, width]` of the positions from `first` on.
    pub fn put_rows(
        &mut self,
        first: usize,
        capacity: usize,
        width: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (i, (key, value)) in rows.enumerate() {
            self.put(first + i, capacity, key, value);
        }
    }

    /// Stores the key and the value of one position, each `[K * D]`.
    fn put(&mut self, position: usize, capacity: usize, key: &[f32], value: &[f32]) {
        let width = key.len();
        self.keys[position * width..(position + 1) * width].copy_from_slice(key);
        for (channel, &v) in value.iter().enumerate() {
            self.values[channel * capacity + position] = v;
        }
    }
}
