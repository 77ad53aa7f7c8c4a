//! When an agent renews a leaf.

/// How long after its arrival an agent renews a leaf that has `left_millis` to live then: at half of that, give or take a tenth,
/// as a random number says.
pub fn renew_after_millis(left_millis: i64, draw: u32) -> i64 {
    let permille = 450 + i64::from(draw % 101);
    left_millis.max(0).saturating_mul(permille) / 1_000
}
