//! How long to wait before the next try.

use std::time::Duration;

/// The first wait.
const LEAST: Duration = Duration::from_secs(1);
/// The longest wait.
const MOST: Duration = Duration::from_secs(60);
/// What lasted so long was healthy: the next waits begin anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Waits that double from 1 s to 60 s, each a quarter longer or shorter by chance, so that many clients
/// of one relay do not come at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// The next wait; `random` is from 0 to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(MOST);
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 };
        wait.mul_f64(0.75 + random / 2.0).clamp(LEAST, MOST)
    }

    /// What was tried for lasted so long.
    pub fn lasted(&mut self, time: Duration) {
        if time >= HEALTHY {
            *self = Self::default();
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: LEAST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.next(0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.lasted(Duration::from_secs(59));
        assert_eq!(backoff.next(0.5), MOST);
        backoff.lasted(HEALTHY);
        assert_eq!(backoff.next(0.5), LEAST);
    }

    #[test]
    fn chance_moves_a_wait_by_a_quarter_and_never_out_of_its_bounds() {
        for random in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.3, 1.0, 7.0] {
            let mut backoff = Backoff::default();
            for _ in 0..100 {
                let wait = backoff.next(random);
                assert!((LEAST..=MOST).contains(&wait), "{random}: {wait:?}");
            }
        }
        let mut backoff = Backoff { next: Duration::from_secs(8) };
        assert_eq!(backoff.clone().next(0.0), Duration::from_secs(6));
        assert_eq!(backoff.next(1.0), Duration::from_secs(10));
    }
}
