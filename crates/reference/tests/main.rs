//! The tests of this crate from outside, as one program: it links once.

mod blockwise;
mod experts;
mod golden;
mod nano;
mod nano_sort;
mod properties;
mod random_weights;
mod stories;
mod test_data;
