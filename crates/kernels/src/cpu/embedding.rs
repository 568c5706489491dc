//! Looks up rows of a table by number, and adds gradients to those rows.

use rayon::prelude::*;

use isa::vectorised;

/// Rows `ids [N]` of `table [V, C]`: `[N, C]`.
pub fn rows(table: &[f32], columns: usize, ids: &[u32]) -> Vec<f32> {
    let mut y = vec![0.0; ids.len() * columns];
    y.par_chunks_mut(columns).with_min_len(16).zip(ids).for_each(|(y, &id)| {
        y.copy_from_slice(&table[id as usize * columns..][..columns]);
    });
    y
}

vectorised! {
    /// Adds `dy [N, C]` to the rows `ids [N]` of `dtable [V, C]`, in the order of the ids.
    pub fn add_rows(dtable: &mut [f32], columns: usize, ids: &[u32], dy: &[f32]) {
        assert_eq!(dy.len(), ids.len() * columns, "a gradient of [N, C] for N ids");
        for (dy, &id) in dy.chunks_exact(columns).zip(ids) {
            let sums = &mut dtable[id as usize * columns..][..columns];
            for (sum, dy) in sums.iter_mut().zip(dy) {
                *sum += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isa::Isa;

    #[test]
    fn rows_go_out_and_their_gradients_come_back() {
        let table: Vec<f32> = (0..12).map(|x| x as f32).collect();
        assert_eq!(rows(&table, 3, &[2, 0, 2]), [6., 7., 8., 0., 1., 2., 6., 7., 8.]);
        for &isa in Isa::available() {
            let mut dtable = vec![1.0; 12];
            let dy: Vec<f32> = (1..10).map(|x| x as f32).collect();
            add_rows(isa, &mut dtable, 3, &[2, 0, 2], &dy);
            assert_eq!(dtable, [5., 6., 7., 1., 1., 1., 9., 11., 13., 1., 1., 1.]);
        }
    }
}
